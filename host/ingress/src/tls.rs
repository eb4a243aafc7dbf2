//! TLS for drivers that listen: certificates from PEM files, renewed while they run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use sandbar_reading::{ConfigError, Timestamp};
use sandbar_tls::{Renewed, certificates, private_key, roots};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;
use x509_parser::parse_x509_certificate;

/// TLS of an ingress that listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTls {
    /// A PEM file with the certificate, and after it those of who issued it. It, the key and `client_ca_file` are read
    /// again when they change: a renewed certificate needs no restart.
    pub(crate) certificate_file: PathBuf,
    /// A PEM file with the certificate's private key.
    pub(crate) key_file: PathBuf,
    /// A PEM file with certificates of who may issue a peer's own: asks every peer for one. It is read again when it
    /// changes.
    #[serde(default)]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Takes peers that show no certificate, too. Needs `client_ca_file`.
    #[serde(default)]
    pub(crate) client_optional: bool,
}

/// Attribute of readings whose peer showed a certificate: its common name.
pub(crate) const CERTIFICATE: &str = "tls.certificate";

/// The common name of the peer's certificate, which has been verified.
pub(crate) fn common_name(connection: &ServerConnection) -> Option<Box<str>> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| name.into())
}

/// How often the files of an acceptor are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Accepts TLS with certificates that may be renewed while it runs.
pub(crate) struct Acceptor {
    renewed: Renewed<TlsAcceptor>,
    current: Mutex<Current>,
}

struct Current {
    acceptor: Arc<TlsAcceptor>,
    looked: Timestamp,
}

impl Acceptor {
    /// Reads the files; the error names the setting.
    pub(crate) fn new(settings: ServerTls) -> Result<Self, ConfigError> {
        Self::speaking(settings, &[])
    }

    /// The same, for protocols that peers ask for by name: `h2`.
    pub(crate) fn speaking(settings: ServerTls, protocols: &[&[u8]]) -> Result<Self, ConfigError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let renewed = Renewed::new(settings.files(), move || settings.acceptor(&protocols))?;
        let current = Current { acceptor: renewed.current(), looked: Timestamp::default() };
        Ok(Self { renewed, current: Mutex::new(current) })
    }

    /// What to accept the next connection with.
    pub(crate) fn at(&self, now: Timestamp) -> TlsAcceptor {
        let mut current = self.current.lock();
        if now.since(current.looked) >= LOOK_EVERY || now < current.looked {
            *current = Current { acceptor: self.renewed.current(), looked: now };
        }
        TlsAcceptor::clone(&current.acceptor)
    }
}

impl ServerTls {
    fn files(&self) -> Vec<PathBuf> {
        let own = [&self.certificate_file, &self.key_file];
        own.into_iter().chain(&self.client_ca_file).cloned().collect()
    }

    /// The error names the setting.
    pub(crate) fn config(&self) -> Result<ServerConfig, ConfigError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::at("tls", error.to_string()))?;
        let builder = match &self.client_ca_file {
            None if self.client_optional => {
                return Err(ConfigError::at(
                    "client_optional",
                    "needs client_ca_file: whose certificates are taken",
                ));
            }
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots("client_ca_file", path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if self.client_optional { verifier.allow_unauthenticated() } else { verifier };
                let verifier =
                    verifier.build().map_err(|error| ConfigError::at("client_ca_file", error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates("certificate_file", &self.certificate_file)?;
        let key = private_key("key_file", &self.key_file)?;
        builder.with_single_cert(chain, key).map_err(|error| ConfigError::at("key_file", error.to_string()))
    }

    fn acceptor(&self, protocols: &[Vec<u8>]) -> Result<TlsAcceptor, ConfigError> {
        let mut config = self.config()?;
        config.alpn_protocols = protocols.to_vec();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A certificate for `localhost` that signs itself, and its key.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::*;

    pub(crate) fn self_signed(folder: &Path) -> ServerTls {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let settings = ServerTls {
            certificate_file: folder.join("cert.pem"),
            key_file: folder.join("key.pem"),
            client_ca_file: None,
            client_optional: false,
        };
        std::fs::write(&settings.certificate_file, made.cert.pem()).unwrap();
        std::fs::write(&settings.key_file, made.signing_key.serialize_pem()).unwrap();
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::testing::self_signed;
    use super::*;

    #[test]
    fn names_the_setting_that_cannot_work() {
        let folder = tempfile::tempdir().unwrap();
        let right = self_signed(folder.path());
        assert!(right.config().is_ok());
        let setting = |settings: ServerTls| settings.config().unwrap_err().setting;
        let missing = folder.path().join("missing.pem");
        assert_eq!(
            setting(ServerTls { certificate_file: missing.clone(), ..right.clone() }),
            "certificate_file"
        );
        assert_eq!(
            setting(ServerTls { key_file: right.certificate_file.clone(), ..right.clone() }),
            "key_file"
        );
        assert_eq!(setting(ServerTls { client_ca_file: Some(missing), ..right.clone() }), "client_ca_file");
        assert_eq!(setting(ServerTls { client_optional: true, ..right }), "client_optional");
    }

    #[test]
    fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let settings = self_signed(folder.path());
        let acceptor = Acceptor::new(settings.clone()).unwrap();
        let at = |seconds: u64| acceptor.at(Timestamp::from_millis(seconds * 1000));
        let first = at(100);
        let same = |a: &TlsAcceptor, b: &TlsAcceptor| Arc::ptr_eq(a.config(), b.config());
        std::fs::write(&settings.key_file, "no key").unwrap();
        assert!(same(&first, &at(105)), "it is not looked at that often");
        assert!(same(&first, &at(110)));
        self_signed(folder.path());
        assert!(!same(&first, &at(120)));
    }

    #[test]
    fn renewed_certificates_of_who_may_issue_those_of_peers_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, renewed) = (folder.path().join("ca.pem"), folder.path().join("renewed.pem"));
        let settings = ServerTls { client_ca_file: Some(ca.clone()), ..self_signed(folder.path()) };
        std::fs::copy(&settings.certificate_file, &ca).unwrap();
        let acceptor = Acceptor::new(settings).unwrap();
        let first = acceptor.at(Timestamp::from_millis(100_000));
        let made = rcgen::generate_simple_self_signed(["peers".to_owned()]).unwrap();
        std::fs::write(&renewed, made.cert.pem()).unwrap();
        std::fs::rename(&renewed, &ca).unwrap();
        assert!(!Arc::ptr_eq(first.config(), acceptor.at(Timestamp::from_millis(120_000)).config()));
    }
}
