//! TCP connections of sinks, encrypted or not.

use std::io;
use std::time::Duration;

use sandbar_reading::ConfigError;
use sandbar_tls::{ClientTls, Connector};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Cause;

/// Any stream of bytes, both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) type Wire = Box<dyn Stream>;

/// Where to connect to.
pub(crate) struct Place {
    /// Host and port.
    pub(crate) address: String,
    tls: Option<Connector>,
}

impl Place {
    /// `setting` is the address's; errors of TLS name theirs within `tls`.
    pub(crate) fn new(setting: &str, address: &str, tls: Option<&ClientTls>) -> Result<Self, ConfigError> {
        let parts =
            address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let Some((host, _)) = parts else {
            return Err(ConfigError::at(setting, "must be a host and a port, such as example.com:9000"));
        };
        let tls = tls.map(|tls| tls.connector(host.trim_matches(['[', ']']))).transpose();
        Ok(Self { address: address.to_owned(), tls: tls.map_err(|error| error.within("tls"))? })
    }

    pub(crate) async fn connect(&self, timeout: Duration) -> Result<Wire, Cause> {
        match tokio::time::timeout(timeout, self.open()).await {
            Ok(Ok(wire)) => Ok(wire),
            Ok(Err(error)) => Err(Cause::of(&self.connecting(), &error)),
            Err(_) => Err(Cause::new(format!("{}: no answer in time", self.connecting()))),
        }
    }

    pub(crate) async fn open(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let (connector, name) = tls.current();
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }

    fn connecting(&self) -> String {
        format!("connecting to {}", self.address)
    }
}
