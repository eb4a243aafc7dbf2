//! Where clients arrive: TCP, TLS and WebSockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sandbar_reading::ConfigError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::ORIGIN;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::broker::Broker;
use super::config::{ListenerConfig, Transport};
use super::handshake::{self, Link};
use super::io::{Io, OverWebSocket, Stranger};
use crate::LinkError;
use crate::complaints::Complaints;
use crate::tls::{Acceptor, common_name};

/// Bytes that a WebSocket's client may send until its CONNECT is taken.
const STRANGER_MAX: usize = 192 << 10;

/// A listener as configured.
pub(super) struct Listen {
    address: SocketAddr,
    transport: Transport,
    tls: Option<Acceptor>,
}

/// Who got through the handshakes below MQTT.
struct Arrived {
    io: Box<dyn Io>,
    link: Link,
    /// A browser brings it, from a page of elsewhere.
    is_foreign: bool,
    is_known: Arc<AtomicBool>,
}

/// One that listens.
pub(super) struct Listener {
    listener: TcpListener,
    listen: Arc<Listen>,
}

impl Listen {
    pub(super) const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp, tls: None }
    }

    pub(super) fn new(config: &ListenerConfig) -> Result<Self, ConfigError> {
        let tls = config.tls.clone().map(Acceptor::new).transpose().map_err(|error| error.within("tls"))?;
        Ok(Self { address: config.listen, transport: config.protocol, tls })
    }

    pub(super) async fn bind(self: Arc<Self>) -> Result<Listener, LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", self.address), error);
        let listener = TcpListener::bind(self.address).await.map_err(listening)?;
        Ok(Listener { listener, listen: self })
    }

    /// The handshakes below MQTT. `None` if the far end does not get through them.
    async fn welcome(&self, stream: TcpStream, remote: SocketAddr, broker: &Broker) -> Option<Arrived> {
        crate::listener::prepare(&stream);
        let mut link = Link { remote, certificate: None, gateway: None };
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(stream),
            Some(acceptor) => {
                let stream = acceptor.at(broker.session.now()).accept(stream).await.ok()?;
                link.certificate = common_name(stream.get_ref().1);
                Box::new(stream)
            }
        };
        if self.transport == Transport::Tcp {
            return Some(Arrived { io, link, is_foreign: false, is_known: Arc::default() });
        }
        let limit = broker.packet_max.max(64 << 10);
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let io = Stranger::new(io, STRANGER_MAX);
        let (is_known, mut is_foreign) = (Arc::clone(&io.is_known), false);
        #[allow(clippy::result_large_err, reason = "tungstenite asks for this type")]
        let answer = |request: &Request, response: Response| {
            let origin = request.headers().get(ORIGIN);
            is_foreign = origin.is_some_and(|origin| origin.to_str().map_or(true, is_elsewhere));
            upgrade(request, response)
        };
        let socket = accept_hdr_async_with_config(io, answer, Some(config)).await.ok()?;
        Some(Arrived { io: Box::new(OverWebSocket::new(socket)), link, is_foreign, is_known })
    }
}

/// Whether the page of this origin (RFC 6454) is not of this machine, though a browser on it may show it.
fn is_elsewhere(origin: &str) -> bool {
    let place = origin.split_once("://").map_or("", |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => place.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let is_here = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !is_here
}

/// The path must be `/mqtt`, and the sub-protocol `mqtt` (MQTT 5.0, section 6.0.0-3).
#[expect(clippy::result_large_err, reason = "tungstenite asks for this type")]
fn upgrade(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode| {
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/mqtt" {
        return Err(refuse(StatusCode::NOT_FOUND));
    }
    let offered = request.headers().get_all("Sec-WebSocket-Protocol").iter();
    let offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    // 3.1 was called `mqttv3.1` there.
    let chosen = offered.map(str::trim).find(|name| matches!(*name, "mqtt" | "mqttv3.1"));
    match chosen.map(HeaderValue::from_str) {
        Some(Ok(chosen)) => {
            response.headers_mut().insert("Sec-WebSocket-Protocol", chosen);
            Ok(response)
        }
        _ => Err(refuse(StatusCode::BAD_REQUEST)),
    }
}

impl Listener {
    pub(super) fn address(&self) -> Result<SocketAddr, LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", self.listen.address), error);
        self.listener.local_addr().map_err(listening)
    }

    /// Until the session stops and every connection has ended.
    pub(super) async fn run(self, broker: Arc<Broker>, places: Arc<Semaphore>) {
        let Self { listener, listen } = self;
        let complaints = Complaints::new(broker.session.ingress().clone());
        let mut connections = JoinSet::new();
        loop {
            // When there are enough, further ones wait in the kernel's backlog.
            let place = async { Arc::clone(&places).acquire_owned().await };
            let accepted = async {
                let place = place.await.ok()?;
                Some((listener.accept().await, place))
            };
            tokio::select! {
                () = broker.session.stopped() => break,
                Some(ended) = connections.join_next() => log_panic(ended),
                Some((accepted, place)) = accepted => match accepted {
                    Ok((stream, remote)) => {
                        connections.spawn(serve(Arc::clone(&broker), Arc::clone(&listen), stream, remote, place));
                    }
                    Err(error) => crate::listener::pause(&error, &complaints, &broker.session).await,
                }
            }
        }
        drop(listener);
        broker.stop();
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    }
}

async fn serve(
    broker: Arc<Broker>,
    listen: Arc<Listen>,
    stream: TcpStream,
    remote: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let arriving = arrive(&broker, &listen, stream, remote);
    let connection = tokio::select! {
        connection = Box::pin(arriving) => connection,
        () = broker.session.stopped() => None,
    };
    drop(broker);
    if let Some(connection) = connection {
        Box::pin(connection.run()).await;
    }
}

async fn arrive(
    broker: &Arc<Broker>,
    listen: &Listen,
    stream: TcpStream,
    remote: SocketAddr,
) -> Option<super::connection::Connection> {
    let welcome = listen.welcome(stream, remote, broker);
    let arrived = tokio::time::timeout(broker.settings.connect_timeout, welcome).await.ok()??;
    let Arrived { io, link, is_foreign, is_known } = arrived;
    let connection = handshake::greet_page(broker, io, link, is_foreign).await?;
    is_known.store(true, Ordering::Relaxed);
    Some(connection)
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "bug in the mqtt driver: a connection was lost");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use serde_json::json;

    use super::super::broker::testing::broker;
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_not_of_elsewhere() {
        for origin in
            ["http://localhost", "https://LOCALHOST:8443", "http://127.0.0.1:3000", "http://[::1]:80"]
        {
            assert!(!is_elsewhere(origin), "{origin}");
        }
        for origin in ["null", "", "https://example.org", "http://localhost.example.org", "http://192.0.2.7"]
        {
            assert!(is_elsewhere(origin), "{origin}");
        }
    }

    #[tokio::test]
    async fn who_vanished_without_a_word_is_asked_for() {
        let broker = broker(json!({}));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _far = TcpStream::connect(address).await.unwrap();
        let (stream, remote) = listener.accept().await.unwrap();
        let same = socket2::Socket::from(stream.as_fd().try_clone_to_owned().unwrap());
        let _welcomed = Listen::tcp(address).welcome(stream, remote, &broker).await.unwrap();
        assert!(same.keepalive().unwrap() && same.tcp_nodelay().unwrap());
    }
}
