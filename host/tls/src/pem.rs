//! PEM files (RFC 7468).

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sandbar_reading::ConfigError;

/// The certificates of a file, at least one.
pub fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(bad(setting, path, "holds no PEM certificate")),
        Err(error) => Err(bad(setting, path, &error.to_string())),
    }
}

/// The certificates of a file, as those whose word is taken.
pub fn roots(setting: &str, path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        roots.add(certificate).map_err(|error| bad(setting, path, &error.to_string()))?;
    }
    Ok(roots)
}

pub fn private_key(setting: &str, path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| bad(setting, path, &error.to_string()))
}

fn bad(setting: &str, path: &Path, problem: &str) -> ConfigError {
    ConfigError::at(setting, format!("{}: {problem}", path.display()))
}
