//! TLS for sinks that open connections of their own, with verification that is real.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsConnector;

/// Whom to trust, and as whom to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTls {
    /// A PEM file with certificates to trust in place of the system's.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// The name that the far end's certificate must be for; the host's of the address by default.
    #[serde(default)]
    pub(crate) server_name: Option<String>,
    /// A PEM file with a certificate to show to the far end. Needs `key_file`.
    #[serde(default)]
    pub(crate) certificate_file: Option<PathBuf>,
    /// A PEM file with that certificate's private key.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
}

impl ClientTls {
    /// `host` is the one of the address. The error names the setting.
    pub(crate) fn connector(&self, host: &str) -> Result<(TlsConnector, ServerName<'static>), ConfigError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            ConfigError::at("server_name", format!("`{name}` is neither a host name nor an address"))
        })?;
        Ok((TlsConnector::from(Arc::new(self.config()?)), name))
    }

    fn config(&self) -> Result<ClientConfig, ConfigError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::at("ca_file", error.to_string()))?
            .with_root_certificates(self.roots()?);
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => {
                let chain = certificates("certificate_file", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| bad("key_file", key, &error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| ConfigError::at("key_file", error.to_string()))
            }
            (Some(_), None) => Err(ConfigError::at("key_file", "is needed with certificate_file")),
            (None, Some(_)) => Err(ConfigError::at("certificate_file", "is needed with key_file")),
        }
    }

    fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            // One of the system's that cannot be read is none.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(path) => {
                for certificate in certificates("ca_file", path)? {
                    roots.add(certificate).map_err(|error| bad("ca_file", path, &error.to_string()))?;
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(bad(setting, path, "holds no PEM certificate")),
        Err(error) => Err(bad(setting, path, &error.to_string())),
    }
}

fn bad(setting: &str, path: &Path, problem: &str) -> ConfigError {
    ConfigError::at(setting, format!("{}: {problem}", path.display()))
}
