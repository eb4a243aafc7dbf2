//! Messages over WebSocket: to a server elsewhere, or to who is connected to this host.

pub(crate) mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex as Lock;
use sandbar_reading::{Attributes, ConfigError, ContentType, Delivery, Message, Name, Secret};
use sandbar_tls::{ClientTls, Renewed};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use self::socket::{Answer, Far, Socket};
use crate::{Cause, DeliveryError, OwnHost, Progress, Sink, Unsent, encode};

/// Sends messages over WebSocket: with `url`, over one connection to a server, which is kept open and made again when
/// it is lost; with `ingress`, to those who are connected to a `subscribe` path of this host's own WebSocket ingress at
/// that moment. A server has a message once it answers the ping that follows it, or with `await_answer` once it
/// answers the message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// `ws://example.com:8080/feed`, or `wss:` with TLS. Either this or `ingress`.
    #[serde(default)]
    url: Option<String>,
    /// The name of a WebSocket ingress of this host.
    #[serde(default)]
    ingress: Option<String>,
    /// What a message consists of, with `url`: `payload` or `json`. (The ingress has a setting of its own.)
    #[serde(default)]
    body: Body,
    /// Headers of the opening request. Values may be secrets by reference:
    /// `Authorization = { file = "/run/secrets/token" }`, which is read again when it changes, for the next connection.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// The sub-protocol to ask for; a server that does not speak it is an error.
    #[serde(default)]
    sub_protocol: Option<String>,
    /// Waits for a message back after every one, before the next. Where the route says `reply` with this sink's name,
    /// it goes to the sender of the reading.
    #[serde(default)]
    await_answer: bool,
    /// Connecting, and sending one message with its answer, may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// Whom to trust with `wss:`.
    #[serde(default)]
    tls: Option<ClientTls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Body {
    /// The payload as it is: JSON and text as a text message, the rest as a binary one.
    #[default]
    Payload,
    /// A JSON object: time, topic, device, content_type, attributes, payload (or payload_base64), route, reading, id.
    /// The id is the same at every attempt.
    Json,
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

pub(crate) struct WebSocket {
    to: To,
    own: Lock<Option<Arc<dyn OwnHost>>>,
}

enum To {
    Server(Box<Server>),
    Ingress(Name),
}

struct Server {
    far: Far,
    body: Body,
    await_answer: bool,
    timeout: Duration,
    /// Taken while it is in use: dropped half-way, it is not used again.
    socket: Mutex<Option<Socket>>,
}

impl Sink for WebSocket {
    const NAME: &'static str = "websocket";
    const EXAMPLE: &'static str = r#"url = "ws://example.com:8080/feed"
headers = { Authorization = "Bearer change-me" }
body = "json"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let to = match (&config.url, &config.ingress) {
            (Some(url), None) => To::Server(Box::new(Server::new(url, &config)?)),
            (None, Some(name)) => {
                To::Ingress(name.parse().map_err(|error| ConfigError::at("ingress", format!("{error}")))?)
            }
            _ => return Err(ConfigError::at("url", "set either this or `ingress`")),
        };
        Ok(Self { to, own: Lock::default() })
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        *self.own.lock() = Some(Arc::clone(own));
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let own = self.own.lock().clone();
        match &self.to {
            To::Server(server) => server.deliver(batch, progress, own.as_deref()).await,
            To::Ingress(ingress) => {
                let own = own.ok_or_else(|| Unsent::Unreachable.at(0))?;
                own.publish(ingress, batch, progress).await
            }
        }
    }
}

impl Server {
    fn new(url: &str, config: &Config) -> Result<Self, ConfigError> {
        let secrets = config.headers.clone();
        let files: Vec<PathBuf> = secrets.values().filter_map(Secret::file).collect();
        let headers: Renewed<HeaderMap> = Renewed::new(files, move || secrets.iter().map(header).collect())?;
        Ok(Self {
            far: Far::new(url, headers, config.sub_protocol.as_deref(), config.tls.as_ref())?,
            body: config.body,
            await_answer: config.await_answer,
            timeout: Duration::from_millis(config.timeout_ms.get()),
            socket: Mutex::new(None),
        })
    }

    async fn deliver(
        &self,
        batch: &[Delivery],
        progress: &Progress,
        own: Option<&dyn OwnHost>,
    ) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut kept = self.socket.lock().await;
        let retry = |delivered, cause| DeliveryError::Retry { delivered, after: None, cause };
        let mut socket = match kept.take().and_then(Socket::still_open) {
            Some(socket) => socket,
            None => {
                let opening = self.in_time("connecting to", self.far.connect());
                opening.await.map_err(|cause| retry(0, cause))?
            }
        };
        for (index, delivery) in batch.iter().enumerate() {
            let sent = async {
                let (content_type, payload) = self.message(delivery);
                socket.send(&content_type, payload).await?;
                if self.await_answer {
                    socket.answer().await.map(Some)
                } else {
                    socket.pong().await.map(|()| None)
                }
            };
            match self.in_time("sending to", sent.boxed()).await {
                Ok(Some(answer)) => {
                    if let Some(own) = own {
                        own.reply(delivery, reply(delivery, answer));
                    }
                }
                Ok(None) => {}
                Err(cause) => return Err(retry(index, cause)),
            }
            progress.reached(index + 1);
        }
        *kept = Some(socket);
        Ok(())
    }

    fn message(&self, delivery: &Delivery) -> (ContentType, bytes::Bytes) {
        match self.body {
            Body::Payload => (delivery.message.content_type.clone(), delivery.message.payload.clone()),
            Body::Json => {
                let mut object = Vec::new();
                encode::json(delivery, &mut object);
                (ContentType::JSON, object.into())
            }
        }
    }

    async fn in_time<T>(
        &self,
        doing: &str,
        future: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, Cause> {
        let whom = || format!("{doing} {}", self.far.whom());
        match tokio::time::timeout(self.timeout, future).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(cause)) => Err(Cause::new(format!("{}: {cause}", whom()))),
            Err(_) => Err(Cause::new(format!("{}: no answer in time", whom()))),
        }
    }
}

fn header((name, value): (&String, &Secret)) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let setting = format!("headers.{name}");
    let bad = |problem: &str| ConfigError::at(&*setting, problem);
    let name: HeaderName = name.parse().map_err(|_| bad("is not a header's name"))?;
    let value = value.resolve(&setting, |path| std::fs::read_to_string(path))?;
    let mut value = HeaderValue::try_from(value).map_err(|_| bad("is not a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn reply(delivery: &Delivery, answer: Answer) -> Message {
    Message {
        topic: delivery.message.topic.clone(),
        device: delivery.message.device.clone(),
        content_type: answer.content_type,
        attributes: Attributes::new(),
        payload: answer.payload,
    }
}
