//! Messages as frames over a TCP connection.

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use sandbar_reading::{ConfigError, Delivery, Framing, Octets};
use sandbar_tls::ClientTls;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::wire::{Place, Wire};
use crate::{Cause, DeliveryError, Progress, Sink, encode};

/// Sends messages as frames over one TCP connection, which is kept open and made again when it is lost. With
/// `acknowledgement`, a message is delivered once the far end has answered it; without it, once it is written: what
/// was on its way when a connection broke may be lost.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Host and port: `historian.local:9000`.
    address: String,
    /// How messages become frames: `lines` (the default), `length`, `fixed`, `delimiter` or `raw`; see the table
    /// below. A message that makes no frame, such as text of two lines as a line, is a dead letter.
    #[serde(default)]
    framing: Framing,
    /// What a frame consists of: `payload` or `json`.
    #[serde(default)]
    body: Body,
    /// What the far end answers to every frame that it took: a text such as `"OK\n"`, or bytes such as
    /// `{ hex = "06" }`.
    #[serde(default)]
    acknowledgement: Option<Octets>,
    /// What it answers to one that it never will take, which becomes a dead letter: `{ hex = "15" }`.
    #[serde(default)]
    refusal: Option<Octets>,
    /// Connecting, and sending one message with its answer, may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// Encrypts: `tls = {}` trusts the system's certificates.
    #[serde(default)]
    tls: Option<ClientTls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Body {
    /// The payload as it is.
    #[default]
    Payload,
    /// A JSON object on one line: time, topic, device, content_type, attributes, payload (or payload_base64), route,
    /// reading, id. The id is the same at every attempt.
    Json,
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

pub(crate) struct Tcp {
    place: Place,
    framing: Framing,
    body: Body,
    acknowledgement: Option<Octets>,
    refusal: Option<Octets>,
    timeout: Duration,
    /// Taken while it is in use: dropped half-way, it is not used again.
    wire: Mutex<Option<Wire>>,
}

/// What became of one message.
enum Sent {
    Taken,
    Refused,
}

impl Sink for Tcp {
    const NAME: &'static str = "tcp";
    const EXAMPLE: &'static str = r#"address = "historian.local:9000"
framing = { kind = "lines" }
body = "json"
acknowledgement = "OK\n"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        config.framing.check().map_err(|error| error.within("framing"))?;
        let is_empty =
            |octets: &Option<Octets>| octets.as_ref().is_some_and(|octets| octets.as_slice().is_empty());
        for (setting, octets) in [("acknowledgement", &config.acknowledgement), ("refusal", &config.refusal)]
        {
            if is_empty(octets) {
                return Err(ConfigError::at(setting, "must be at least one byte"));
            }
        }
        if config.refusal.is_some() && config.acknowledgement.is_none() {
            return Err(ConfigError::at("refusal", "is of no use without `acknowledgement`"));
        }
        Ok(Self {
            place: Place::new("address", &config.address, config.tls.as_ref())?,
            framing: config.framing,
            body: config.body,
            acknowledgement: config.acknowledgement,
            refusal: config.refusal,
            timeout: Duration::from_millis(config.timeout_ms.get()),
            wire: Mutex::new(None),
        })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut kept = self.wire.lock().await;
        let retry = |delivered, cause| DeliveryError::Retry { delivered, after: None, cause };
        let mut wire = match kept.take().and_then(still_open) {
            Some(wire) => wire,
            None => self.place.connect(self.timeout).await.map_err(|cause| retry(0, cause))?,
        };
        for (index, delivery) in batch.iter().enumerate() {
            let frame = match self.frame(delivery) {
                Ok(frame) => frame,
                Err(cause) => {
                    *kept = Some(wire);
                    return Err(DeliveryError::Reject { rejected: index, cause });
                }
            };
            match self.send(&mut wire, &frame).await {
                Ok(Sent::Taken) => progress.reached(index + 1),
                Ok(Sent::Refused) => {
                    *kept = Some(wire);
                    let cause = Cause::new(format!("{} refused it", self.place.address));
                    return Err(DeliveryError::Reject { rejected: index, cause });
                }
                Err(cause) => return Err(retry(index, cause)),
            }
        }
        *kept = Some(wire);
        Ok(())
    }
}

impl Tcp {
    fn frame(&self, delivery: &Delivery) -> Result<Bytes, Cause> {
        let framed = match self.body {
            Body::Payload => self.framing.encode(&delivery.message.payload),
            Body::Json => {
                let mut line = Vec::new();
                encode::json(delivery, &mut line);
                self.framing.encode(&line)
            }
        };
        framed.map_err(|error| Cause::new(error.to_string()))
    }

    async fn send(&self, wire: &mut Wire, frame: &[u8]) -> Result<Sent, Cause> {
        let sending = async {
            wire.write_all(frame).await?;
            wire.flush().await?;
            match &self.acknowledgement {
                None => Ok(Ok(Sent::Taken)),
                Some(taken) => self.answer(wire, taken.as_slice()).await,
            }
        };
        let whom = format!("sending to {}", self.place.address);
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => Err(Cause::of(&whom, &error)),
            Err(_) => Err(Cause::new(format!("{whom}: no answer in time"))),
        }
    }

    /// Reads until it is clear what the answer is.
    async fn answer(&self, wire: &mut Wire, taken: &[u8]) -> std::io::Result<Result<Sent, Cause>> {
        let refused = self.refusal.as_ref().map_or(&b""[..], Octets::as_slice);
        let mut answer = Vec::with_capacity(taken.len().max(refused.len()));
        loop {
            answer.push(wire.read_u8().await?);
            if answer == taken {
                return Ok(Ok(Sent::Taken));
            }
            if answer == refused {
                return Ok(Ok(Sent::Refused));
            }
            if !taken.starts_with(&answer) && !refused.starts_with(&answer) {
                let answer = String::from_utf8_lossy(&answer);
                return Ok(Err(Cause::new(format!("{} answered {answer:?}", self.place.address))));
            }
        }
    }
}

/// A far end that has hung up, or says what it was not asked, is connected to anew.
fn still_open(mut wire: Wire) -> Option<Wire> {
    let said = wire.read_u8().now_or_never();
    said.is_none().then_some(wire)
}
