//! A connection to a WebSocket server.

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Uri};
use sandbar_reading::{ConfigError, ContentType};
use sandbar_tls::{ClientTls, Renewed};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::Cause;
use crate::wire::{Place, Wire};

/// An answer that is longer is not one.
const ANSWER_MAX: usize = 16 << 20;

/// What is read at once.
const READ_BUFFER: usize = 8 << 10;

/// A server, and how to ask it.
pub(crate) struct Far {
    place: Place,
    url: Uri,
    headers: Renewed<HeaderMap>,
    sub_protocol: Option<HeaderValue>,
}

/// What a server says to a message.
pub(super) struct Answer {
    pub(super) content_type: ContentType,
    pub(super) payload: Bytes,
}

pub(super) struct Socket {
    stream: WebSocketStream<Wire>,
    /// Counts the pings, so that each is told from the one before.
    pings: u64,
}

impl Far {
    pub(crate) fn new(
        url: &str,
        headers: Renewed<HeaderMap>,
        sub_protocol: Option<&str>,
        tls: Option<&ClientTls>,
    ) -> Result<Self, ConfigError> {
        let bad = |problem: &str| ConfigError::at("url", problem);
        let uri: Uri = url.parse().map_err(|error| bad(&format!("{error}")))?;
        let is_secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(bad("must begin with ws:// or wss://")),
        };
        let host = uri.host().ok_or_else(|| bad("names no host"))?;
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        if tls.is_some() && !is_secure {
            return Err(ConfigError::at("tls", "is of no use without wss:"));
        }
        let standard = ClientTls::default();
        let tls = is_secure.then(|| tls.unwrap_or(&standard));
        let sub_protocol = sub_protocol.map(str::parse::<HeaderValue>).transpose();
        let sub_protocol = sub_protocol.map_err(|_| ConfigError::at("sub_protocol", "is not a name"))?;
        let place = Place::new("url", &format!("{host}:{port}"), tls)?;
        Ok(Self { place, url: uri, headers, sub_protocol })
    }

    /// `example.com:443`: path and query may be secrets.
    pub(crate) fn whom(&self) -> &str {
        &self.place.address
    }

    pub(super) async fn connect(&self) -> Result<Socket, Cause> {
        Ok(Socket { stream: self.open(ANSWER_MAX).await?, pings: 0 })
    }

    /// `message_max` is the most bytes that the server may send at once.
    pub(crate) async fn open(&self, message_max: usize) -> Result<WebSocketStream<Wire>, Cause> {
        let mut request = self.url.clone().into_client_request().map_err(|error| cause(&error))?;
        request.headers_mut().extend(HeaderMap::clone(&self.headers.current()));
        if let Some(sub_protocol) = &self.sub_protocol {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, sub_protocol.clone());
        }
        let wire = self.place.open().await.map_err(|error| Cause::new(error.to_string()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(message_max))
            .max_frame_size(Some(message_max));
        let opened = client_async_with_config(request, wire, Some(config)).await;
        let (stream, _) = opened.map_err(|error| cause(&error))?;
        Ok(stream)
    }
}

impl Socket {
    /// JSON and text are text messages if they are UTF-8.
    pub(super) async fn send(&mut self, content_type: &ContentType, payload: Bytes) -> Result<(), Cause> {
        let text = (content_type.is_json() || content_type.is_in("text/*"))
            .then(|| Utf8Bytes::try_from(payload.clone()).ok())
            .flatten();
        let frame = text.map_or(Frame::Binary(payload), Frame::Text);
        self.stream.send(frame).await.map_err(|error| cause(&error))
    }

    /// Frames are handled in order: who answers a ping has read what came before it.
    pub(super) async fn pong(&mut self) -> Result<(), Cause> {
        self.pings += 1;
        let ping = Bytes::copy_from_slice(&self.pings.to_be_bytes());
        self.stream.send(Frame::Ping(ping.clone())).await.map_err(|error| cause(&error))?;
        loop {
            if let Frame::Pong(pong) = self.next().await?
                && pong == ping
            {
                return Ok(());
            }
        }
    }

    pub(super) async fn answer(&mut self) -> Result<Answer, Cause> {
        loop {
            match self.next().await? {
                Frame::Text(text) => {
                    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                    let content_type = if is_json { ContentType::JSON } else { ContentType::TEXT };
                    return Ok(Answer { content_type, payload: text.into() });
                }
                Frame::Binary(payload) => return Ok(Answer { content_type: ContentType::OCTETS, payload }),
                _ => {}
            }
        }
    }

    /// An error also when the server closes.
    async fn next(&mut self) -> Result<Frame, Cause> {
        match self.stream.next().await {
            Some(Ok(Frame::Close(frame))) => Err(Cause::new(match frame {
                Some(frame) => format!("closed with {}: {}", frame.code, frame.reason),
                None => "closed".to_owned(),
            })),
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => Err(cause(&error)),
            None => Err(Cause::new("closed")),
        }
    }

    /// Takes in what came in the meantime, which also answers pings. `None` if it is closed.
    pub(super) fn still_open(mut self) -> Option<Self> {
        loop {
            match self.stream.next().now_or_never() {
                None => return Some(self),
                Some(Some(Ok(frame))) if !frame.is_close() => {}
                Some(_) => return None,
            }
        }
    }
}

fn cause(error: &Error) -> Cause {
    match error {
        Error::Http(response) if matches!(response.status().as_u16(), 401 | 403) => {
            Cause::new(format!("{}: check the credentials", response.status()))
        }
        Error::Http(response) => Cause::new(response.status().to_string()),
        error => Cause::new(error.to_string()),
    }
}
