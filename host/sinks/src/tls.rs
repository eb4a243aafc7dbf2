//! What every sink that speaks TLS shares.

use std::path::Path;

use reqwest::Certificate;
use sandbar_reading::ConfigError;

/// Makes ring the provider of every TLS connection of this process, unless it has one.
pub(crate) fn install_provider() {
    // An error says that one is installed: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(setting: &str, path: &Path) -> Result<Vec<Certificate>, ConfigError> {
    read(setting, path).map(|(_, certificates)| certificates)
}

/// A PEM file that holds at least one certificate, as it is.
pub(crate) fn read_pem(setting: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    read(setting, path).map(|(pem, _)| pem)
}

fn read(setting: &str, path: &Path) -> Result<(Vec<u8>, Vec<Certificate>), ConfigError> {
    let problem = |text: String| ConfigError::at(setting, format!("{}: {text}", path.display()));
    let pem = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok((pem, certificates)),
        _ => Err(problem("holds no PEM certificate".to_owned())),
    }
}
