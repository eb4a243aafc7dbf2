//! A connection to an address that was looked at before.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::Failed;
use super::permission::bare;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// To the first of `addresses` that answers; with TLS if the scheme says so.
pub(super) async fn open(uri: &Uri, addresses: &[SocketAddr]) -> Result<Box<dyn Stream>, Failed> {
    let stream = TcpStream::connect(addresses).await.map_err(Error::Connect)?;
    // Without it a request waits for the far end's delayed acknowledgement.
    stream.set_nodelay(true).map_err(Error::Connect)?;
    if uri.scheme_str() != Some("https") {
        return Ok(Box::new(stream));
    }
    let host = bare(uri.host().unwrap_or_default());
    let name = ServerName::try_from(host).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(tls()).connect(name, stream).await.map_err(Error::Tls)?;
    Ok(Box::new(stream))
}

/// Trusts what the machine trusts.
fn tls() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring does what the default versions of TLS need");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}
