//! Readings from TCP connections, by listening or by connecting, in frames of many kinds.

mod config;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::ConfigError;
use sandbar_tls::Connector;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub(crate) use self::config::Config;
use self::config::Side;
use crate::complaints::Complaints;
use crate::devices::Devices;
use crate::stream::{Ended, Far, Settings, Shared, serve};
use crate::{Driver, LinkError, Session, listener, tls};

/// For a connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Tcp {
    side: Side,
    connections_max: usize,
    settings: Arc<Settings>,
}

impl Driver for Tcp {
    const NAME: &'static str = "tcp";
    const EXAMPLE: &'static str = r#"
listen = "0.0.0.0:9000"
framing = { kind = "lines" }
topic = "machines/{ip}"
device = "{ip}"
acknowledge = "OK {id}\n"
refuse = "ERROR {reason}\n"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            side: config.side()?,
            connections_max: config.connections_max,
            settings: Arc::new(config.settings()?),
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let shared = Arc::new(Shared {
            settings: Arc::clone(&self.settings),
            devices: Devices::new(session.clone()),
            complaints: Complaints::new(session.ingress().clone()),
            session: session.clone(),
        });
        let ended = match &self.side {
            Side::Listen { address, .. } => {
                let listener = listener::listen(*address, &session).await?;
                listener::serve(listener, &session, self.connections_max, |stream, peer| {
                    self.accepted(&shared, stream, peer)
                })
                .await;
                Ok(())
            }
            Side::Connect { address, tls } => self.connected(&shared, address, tls.as_ref()).await,
        };
        shared.devices.closed().await;
        ended
    }
}

impl Tcp {
    fn accepted(
        &self,
        shared: &Arc<Shared>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(shared);
        let acceptor = match &self.side {
            Side::Listen { tls: Some(tls), .. } => Some(tls.at(shared.session.now())),
            _ => None,
        };
        async move {
            match acceptor {
                None => {
                    serve(&shared, stream, Far::at(peer)).await;
                }
                // In a box: a connection without TLS has no room for it.
                Some(acceptor) => Box::pin(encrypted(&shared, &acceptor, stream, peer)).await,
            }
        }
    }

    async fn connected(
        &self,
        shared: &Shared,
        address: &str,
        tls: Option<&Connector>,
    ) -> Result<(), LinkError> {
        let Some(stream) = self.opened(shared, address, TcpStream::connect(address)).await? else {
            return Ok(());
        };
        listener::prepare(&stream);
        let peer = stream.peer_addr().map_err(|error| LinkError::new(connecting(address), error))?;
        let ended = match tls {
            None => {
                shared.session.ready();
                serve(shared, stream, Far::at(peer)).await
            }
            Some(tls) => {
                let (connector, name) = tls.current();
                let shaking = connector.connect(name, stream);
                let Some(stream) = self.opened(shared, address, shaking).await? else { return Ok(()) };
                shared.session.ready();
                serve(shared, stream, Far::at(peer)).await
            }
        };
        match ended {
            Ended::Stopped => Ok(()),
            Ended::ByPeer => Err(LinkError::ended(format!("{address} closed the connection"))),
            Ended::Closed(reason) => {
                Err(LinkError::ended(format!("closed the connection to {address}: {reason}")))
            }
        }
    }

    /// `None` if the session stopped first.
    async fn opened<S>(
        &self,
        shared: &Shared,
        address: &str,
        opening: impl Future<Output = std::io::Result<S>>,
    ) -> Result<Option<S>, LinkError> {
        tokio::select! {
            () = shared.session.stopped() => Ok(None),
            opened = tokio::time::timeout(CONNECT_TIMEOUT, opening) => match opened {
                Ok(Ok(stream)) => Ok(Some(stream)),
                Ok(Err(error)) => Err(LinkError::new(connecting(address), error)),
                Err(_) => Err(LinkError::ended(format!("{}: no answer in time", connecting(address)))),
            },
        }
    }
}

/// Serves a connection with TLS.
async fn encrypted(shared: &Shared, acceptor: &TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    tokio::select! {
        () = shared.session.stopped() => {}
        shaken = tokio::time::timeout(CONNECT_TIMEOUT, acceptor.accept(stream)) => match shaken {
            Ok(Ok(stream)) => {
                let mut far = Far::at(peer);
                if let Some(name) = tls::common_name(stream.get_ref().1) {
                    far.attributes.add(tls::CERTIFICATE, name);
                }
                serve(shared, stream, far).await;
            }
            Ok(Err(error)) => shared.complaints.note("tls", peer, error, shared.session.now()),
            Err(_) => shared.complaints.note("slow", peer, "no TLS in time", shared.session.now()),
        },
    }
}

fn connecting(address: &str) -> String {
    format!("connecting to {address}")
}
