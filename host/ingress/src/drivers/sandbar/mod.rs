//! Readings of other hosts, which their `sandbar` sinks send.

mod config;
mod connection;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Name, relay};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::sync::CancellationToken;

pub(crate) use self::config::Config;
use self::config::Settings;
use crate::complaints::Complaints;
use crate::devices::Devices;
use crate::{Driver, LinkError, Session, listener};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at once: each host has one, and perhaps one that is ending.
const CONNECTIONS_MAX: usize = 1024;

pub(crate) struct Sandbar {
    listen: SocketAddr,
    settings: Arc<Settings>,
}

/// What all connections of a session share.
struct Shared {
    session: Session,
    settings: Arc<Settings>,
    devices: Arc<Devices>,
    complaints: Complaints,
    links: Mutex<HashMap<Name, Link>>,
}

/// A host's place: it has one connection, the last that it opened.
#[derive(Default)]
struct Link {
    /// Ends the one that has the place.
    replaced: CancellationToken,
    /// Whoever has this has the place: the one before it has settled what it had taken.
    place: Arc<tokio::sync::Mutex<()>>,
}

impl Driver for Sandbar {
    const NAME: &'static str = "sandbar";
    const EXAMPLE: &'static str = r#"
listen = "0.0.0.0:7878"
topic = "{host}/{topic}"
device = "{host}.{device}"

[hosts]
harbour = { token = "change-me" }
quarry = { token = "change-me-too" }
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { listen: config.listen, settings: Arc::new(config.settings()?) })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listener = listener::listen(self.listen, &session).await?;
        let shared = Arc::new(Shared {
            settings: Arc::clone(&self.settings),
            devices: Devices::new(session.clone()),
            complaints: Complaints::new(session.ingress().clone()),
            links: Mutex::default(),
            session: session.clone(),
        });
        listener::serve(listener, &session, CONNECTIONS_MAX, |stream, peer| {
            let shared = Arc::clone(&shared);
            async move {
                let acceptor = shared.settings.tls.as_ref().map(|tls| tls.at(shared.session.now()));
                let Some(acceptor) = acceptor else { return connection(&shared, stream, peer).await };
                tokio::select! {
                    () = shared.session.stopped() => {}
                    shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => match shaken {
                        Ok(Ok(stream)) => connection(&shared, stream, peer).await,
                        Ok(Err(error)) => shared.complain("tls", peer, &error),
                        Err(_) => shared.complain("slow", peer, &"no TLS in time"),
                    },
                }
            }
        })
        .await;
        shared.devices.closed().await;
        Ok(())
    }
}

impl Shared {
    fn complain(&self, kind: &'static str, peer: SocketAddr, about: &dyn std::fmt::Display) {
        self.complaints.note(kind, peer, about, self.session.now());
    }

    /// Ends the host's connection before this one, and waits until it has.
    async fn replace(&self, host: &Name) -> (CancellationToken, tokio::sync::OwnedMutexGuard<()>) {
        let replaced = CancellationToken::new();
        let place = {
            let mut links = self.links.lock();
            let link = links.entry(host.clone()).or_default();
            link.replaced.cancel();
            link.replaced = replaced.clone();
            Arc::clone(&link.place)
        };
        (replaced, place.lock_owned().await)
    }
}

/// From the first byte of HTTP to the end.
async fn connection<S>(shared: &Shared, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::select! {
        () = shared.session.stopped() => {}
        opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(shared, stream)) => match opened {
            Ok(Ok((socket, host))) => connection::serve(shared, socket, host, peer).await,
            Ok(Err(error)) => shared.complain("handshake", peer, &error),
            Err(_) => shared.complain("slow", peer, &"no handshake in time"),
        },
    }
}

async fn shake<S>(
    shared: &Shared,
    stream: S,
) -> Result<(WebSocketStream<S>, Name), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limit = shared.session.reading_max() + relay::HEAD_MAX;
    let config = WebSocketConfig::default()
        .write_buffer_size(0)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let mut host = None;
    #[allow(clippy::result_large_err, reason = "the library's own signature")]
    let opening = |request: &Request, mut response: Response| {
        let speaks = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
        if speaks.is_none_or(|name| name != relay::SUB_PROTOCOL) {
            return Err(unwelcome(
                StatusCode::BAD_REQUEST,
                "another version of this protocol is spoken here",
            ));
        }
        host = shared.settings.host(request.headers()).cloned();
        if host.is_none() {
            return Err(unwelcome(StatusCode::UNAUTHORIZED, "no host has this token"));
        }
        let spoken = HeaderValue::from_static(relay::SUB_PROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, spoken);
        Ok(response)
    };
    let socket = accept_hdr_async_with_config(stream, opening, Some(config)).await?;
    match host {
        Some(host) => Ok((socket, host)),
        None => Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed),
    }
}

fn unwelcome(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(why.to_owned()));
    *response.status_mut() = status;
    response
}
