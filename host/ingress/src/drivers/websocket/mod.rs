//! Readings over WebSocket, and what the host has to say back over the same connections.

mod config;
mod connection;
pub(crate) mod decode;
mod handshake;
pub(crate) mod paths;
mod subscribers;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Octets};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub(crate) use self::config::Config;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) use self::config::PathConfig;
use self::config::PublicationForm;
use self::handshake::Door;
use self::paths::{Opened, Path};
use self::subscribers::Subscribers;
use crate::bearer::Bearer;
use crate::complaints::Complaints;
use crate::devices::Devices;
use crate::phrase::Phrase;
use crate::tls::{Acceptor, common_name};
use crate::written::CommandForm;
use crate::{Connection as Listed, Driver, LinkError, PeerInfo, Session, listener};

/// From the first byte to the end of the opening handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of the opening request's head.
const HEAD_MAX: usize = 16 << 10;

/// What is read at once, and filled with zeros before; a connection keeps it.
const READ_BUFFER: usize = 4 << 10;

pub(crate) struct WebSocket {
    listen: SocketAddr,
    connections_max: usize,
    settings: Arc<Settings>,
}

/// The settings, checked.
struct Settings {
    door: Door,
    tls: Option<Acceptor>,
    message_max: usize,
    greeting: Option<Utf8Bytes>,
    acknowledge: Option<Phrase>,
    refuse: Option<Phrase>,
    commands: CommandForm,
    publications: PublicationForm,
    ping_interval: Duration,
    idle_timeout: Duration,
    reply_timeout: Duration,
}

/// What all connections of a session share.
struct Shared {
    session: Session,
    settings: Arc<Settings>,
    devices: Arc<Devices>,
    subscribers: Subscribers,
    complaints: Complaints,
}

impl Driver for WebSocket {
    const NAME: &'static str = "websocket";
    const EXAMPLE: &'static str = r#"
listen = "127.0.0.1:8081"
greeting = '{"kraken":"hello"}'
acknowledge = '{"accepted":"{id}"}'

[[paths]]
path = "/ws/{device}"
topic = "sensors/{device}"
headers = ["User-Agent"]

[[paths]]
path = "/live"
subscribe = true
readings = false
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, is_zero) in [
            ("connections_max", config.connections_max == 0),
            ("message_max", config.message_max == Some(0)),
            ("paths", config.paths.is_empty()),
            ("ping_interval_ms", config.ping_interval_ms == 0),
            ("reply_timeout_ms", config.reply_timeout_ms == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be at least 1"));
            }
        }
        if config.idle_timeout_ms <= config.ping_interval_ms {
            return Err(ConfigError::at("idle_timeout_ms", "must be above ping_interval_ms"));
        }
        let certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        let path = |(index, path)| {
            Path::new(path, certificates).map_err(|error| error.within(&format!("paths[{index}]")))
        };
        let phrase = |text: &String| Phrase::parse(&Octets::from(text.clone().into_bytes()));
        let tls = config.tls.map(Acceptor::new).transpose();
        let settings = Settings {
            door: Door {
                paths: config.paths.iter().enumerate().map(path).collect::<Result<_, _>>()?,
                token: config.token.as_ref().map(Bearer::new).transpose()?,
                origins: config.origins.into_iter().map(Into::into).collect(),
                sub_protocols: config.sub_protocols.into_iter().map(Into::into).collect(),
            },
            tls: tls.map_err(|error| error.within("tls"))?,
            message_max: config.message_max.unwrap_or(usize::MAX),
            greeting: config.greeting.map(Utf8Bytes::from),
            acknowledge: config.acknowledge.as_ref().map(phrase),
            refuse: config.refuse.as_ref().map(phrase),
            commands: config.commands,
            publications: config.publications,
            ping_interval: Duration::from_millis(config.ping_interval_ms),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
            reply_timeout: Duration::from_millis(config.reply_timeout_ms),
        };
        Ok(Self {
            listen: config.listen,
            connections_max: config.connections_max,
            settings: Arc::new(settings),
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listener = listener::listen(self.listen, &session).await?;
        let shared = Arc::new(Shared {
            settings: Arc::clone(&self.settings),
            devices: Devices::new(session.clone()),
            subscribers: Subscribers::default(),
            complaints: Complaints::new(session.ingress().clone()),
            session: session.clone(),
        });
        let serving = listener::serve(listener, &session, self.connections_max, |stream, peer| {
            let shared = Arc::clone(&shared);
            async move {
                // In a box, whose room is given back: a connection lives far longer than its handshakes.
                let Some(shaken) = Box::pin(shake(&shared, stream, peer)).await else { return };
                connection::serve(&shared, shaken).await;
            }
        });
        tokio::join!(serving, shared.subscribers.serve(&session));
        shared.devices.closed().await;
        Ok(())
    }
}

/// What the handshake leads to.
struct Upgrading {
    opened: Opened,
    peer: PeerInfo,
    upgrade: OnUpgrade,
}

/// What the handshakes led to.
struct Shaken<S = TokioIo<Upgraded>> {
    socket: WebSocketStream<S>,
    opened: Opened,
    listed: Listed,
}

/// The handshakes: that of TLS, if it is spoken here, and the opening one.
async fn shake(shared: &Shared, stream: TcpStream, peer: SocketAddr) -> Option<Shaken> {
    let acceptor = shared.settings.tls.as_ref().map(|tls| tls.at(shared.session.now()));
    let Some(acceptor) = acceptor else { return open(shared, stream, peer, None).await };
    let complain = |kind, about: &dyn std::fmt::Display| {
        shared.complaints.note(kind, peer, about, shared.session.now());
        None
    };
    tokio::select! {
        () = shared.session.stopped() => None,
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => match shaken {
            Ok(Ok(stream)) => {
                let certificate = common_name(stream.get_ref().1);
                open(shared, stream, peer, certificate).await
            }
            Ok(Err(error)) => complain("tls", &error),
            Err(_) => complain("slow", &"no TLS in time"),
        },
    }
}

/// The opening handshake, from the first byte of HTTP on.
async fn open<S>(
    shared: &Shared,
    stream: S,
    peer: SocketAddr,
    certificate: Option<Box<str>>,
) -> Option<Shaken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrading = Mutex::new(None);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let answer = match shared.settings.door.open(&parts, (&peer.to_string(), certificate.as_deref())) {
            Ok((opened, answer)) => {
                let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
                let peer = PeerInfo {
                    remote: Some(peer),
                    device: opened.device.clone(),
                    client: None,
                    agent: agent.map(Into::into),
                };
                *upgrading.lock() = Some(Upgrading { opened, peer, upgrade });
                answer
            }
            Err(unwelcome) => unwelcome.into_response(),
        };
        async { Ok::<_, Infallible>(answer) }
    });
    let shaking = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = shared.session.stopped() => return None,
        // Who is not done by then gets no answer: it did not ask anything.
        _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking) => {}
    }
    let Upgrading { opened, peer, upgrade } = upgrading.lock().take()?;
    let stream = upgrade.await.ok()?;
    let limit = shared.settings.message_max.min(shared.session.reading_max());
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
    Some(Shaken { socket, opened, listed: shared.session.connected(peer) })
}
