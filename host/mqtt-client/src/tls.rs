//! TLS as a client: verified against a CA file or the system's roots, optionally with a certificate of our own.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sandbar_reading::ConfigError;

/// `ca_file` alone is trusted if there is one.
pub(crate) fn client(
    ca_file: Option<&Path>,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::at("url", format!("preparing TLS: {error}")))?
        .with_root_certificates(roots(ca_file)?);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client_certificate_file", certificate)?;
            let problem = |text: String| ConfigError::at("client_key_file", text);
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| problem(format!("{}: {error}", key.display())))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| problem(error.to_string()))?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates("ca_file", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| ConfigError::at("ca_file", format!("{}: {error}", path.display())))?;
            }
        }
        None => {
            // Single certificates that cannot be read are the system's matter, as long as there are others.
            let (_added, _ignored) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConfigError::at("ca_file", "this system has no root certificates: name some"));
            }
        }
    }
    Ok(roots)
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let problem = |text: String| ConfigError::at(setting, format!("{}: {text}", path.display()));
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(error.to_string()))?;
    match read.is_empty() {
        true => Err(problem("holds no PEM certificate".to_owned())),
        false => Ok(read),
    }
}
