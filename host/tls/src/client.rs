//! Whom to trust, and as whom to connect.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsConnector;

use crate::Renewed;
use crate::pem::{certificates, private_key, roots};

/// TLS of what connects. Without any setting, the system's certificates are trusted. Files are read again when they
/// change: a renewed certificate needs no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// A PEM file with certificates to trust in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name that the far end's certificate must be for; the host's of the address by default.
    #[serde(default)]
    pub server_name: Option<String>,
    /// A PEM file with a certificate to show to the far end. Needs `key_file`.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with that certificate's private key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

impl ClientTls {
    /// Reads the files.
    pub fn config(&self) -> Result<ClientConfig, ConfigError> {
        let roots = match &self.ca_file {
            Some(path) => roots("ca_file", path)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::at("ca_file", error.to_string()))?
            .with_root_certificates(roots);
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(
                    certificates("certificate_file", certificate)?,
                    private_key("key_file", key)?,
                )
                .map_err(|error| ConfigError::at("key_file", error.to_string())),
            (Some(_), None) => Err(ConfigError::at("key_file", "is needed with certificate_file")),
            (None, Some(_)) => Err(ConfigError::at("certificate_file", "is needed with key_file")),
        }
    }

    /// The same, and the name to ask for; `host` is the one of the address.
    pub fn connector(&self, host: &str) -> Result<Connector, ConfigError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            ConfigError::at("server_name", format!("`{name}` is neither a host name nor an address"))
        })?;
        let tls = self.clone();
        let connector = Renewed::new(self.files(), move || {
            tls.config().map(|config| TlsConnector::from(Arc::new(config)))
        })?;
        Ok(Connector { name, connector })
    }

    /// All that `config` reads, but for the system's certificates.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.ca_file, &self.certificate_file, &self.key_file].into_iter().flatten().cloned().collect()
    }
}

/// Connects with TLS by files that may be renewed meanwhile.
pub struct Connector {
    name: ServerName<'static>,
    connector: Renewed<TlsConnector>,
}

impl Connector {
    /// What to make the next connection with, and the name to ask for.
    pub fn current(&self) -> (TlsConnector, ServerName<'static>) {
        (TlsConnector::clone(&self.connector.current()), self.name.clone())
    }
}

/// The system's; one that cannot be read is none.
fn system_roots() -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(ConfigError::at("ca_file", "this system has no certificates to trust: name some")),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_setting_that_cannot_work() {
        let missing = Some(PathBuf::from("/nowhere.pem"));
        let setting = |tls: ClientTls| tls.config().unwrap_err().setting;
        assert_eq!(setting(ClientTls { ca_file: missing.clone(), ..ClientTls::default() }), "ca_file");
        assert_eq!(
            setting(ClientTls { key_file: missing.clone(), ..ClientTls::default() }),
            "certificate_file"
        );
        assert_eq!(setting(ClientTls { certificate_file: missing, ..ClientTls::default() }), "key_file");
        let named = ClientTls { server_name: Some("not a name".to_owned()), ..ClientTls::default() };
        assert_eq!(named.connector("localhost").err().unwrap().setting, "server_name");
    }

    #[test]
    fn a_renewed_file_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let renew = || {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(&path, made.cert.pem()).unwrap();
        };
        renew();
        let tls = ClientTls { ca_file: Some(path.clone()), ..ClientTls::default() };
        let connector = tls.connector("localhost").unwrap();
        let config = || Arc::clone(connector.current().0.config());
        let first = config();
        assert!(Arc::ptr_eq(&first, &config()));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(Arc::ptr_eq(&first, &config()));
        renew();
        assert!(!Arc::ptr_eq(&first, &config()));
    }
}
