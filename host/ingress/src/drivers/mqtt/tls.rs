//! TLS of a listener: its certificate, and those of its clients.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sandbar_reading::ConfigError;

use super::config::TlsConfig;

pub(super) fn server(config: &TlsConfig) -> Result<Arc<ServerConfig>, ConfigError> {
    let chain = certificates("certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| ConfigError::at("key", format!("{}: {error}", config.key.display())))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::at("", error.to_string()))?;
    let builder = match &config.client_ca {
        None if config.client_required => {
            return Err(ConfigError::at(
                "client_required",
                "needs `client_ca`: whose certificates are taken",
            ));
        }
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca", path)? {
                roots.add(certificate).map_err(|error| ConfigError::at("client_ca", error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if config.client_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier =
                verifier.build().map_err(|error| ConfigError::at("client_ca", error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let server = builder
        .with_single_cert(chain, key)
        .map_err(|error| ConfigError::at("certificate", format!("does not go with the key: {error}")))?;
    Ok(Arc::new(server))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let problem = |text: String| ConfigError::at(setting, format!("{}: {text}", path.display()));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(problem("holds no certificate".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(problem(error.to_string())),
    }
}
