//! Messages to a broker of someone else's (MQTT 3.1.1 and 5.0).

mod courier;
mod message;
#[cfg(test)]
mod tests;

use std::num::NonZeroU16;
use std::sync::OnceLock;

use sandbar_mqtt_client::{Broker, BrokerConfig, Qos, QosLevel, Template};
use sandbar_reading::{Clock, ConfigError, Delivery, SystemClock};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use self::courier::{Courier, Offer, Parcel};
use crate::{Cause, DeliveryError, Progress, Sink};

/// One link to the broker, kept open, with many messages on their way at once.
pub(crate) struct Mqtt {
    plan: Plan,
    /// What drives the link; started by the first delivery, since that is when a runtime is there.
    courier: OnceLock<mpsc::Sender<Offer>>,
}

/// Publishes every message at an MQTT broker. With QoS 1 a message counts as delivered once the broker's PUBACK
/// is there, with QoS 2 once its PUBCOMP is, with QoS 0 once it was sent. A broker that refuses a topic's name or a
/// payload's format makes that message a dead letter; anything else, a lost connection too, is tried again
/// later.
///
/// With MQTT 5 a message carries its content type, its attributes as user properties (`mqtt.property.NAME` as
/// `NAME`, no other that begins with `mqtt.`), the attributes `mqtt.response_topic`, `mqtt.correlation_data`
/// (base64) and `mqtt.expiry_s` as what they are called after, and as user properties of its own `id` (the same at
/// every attempt), `sandbar-reading`, `sandbar-time` and, where it has one, `sandbar-device`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The broker, and who we are there.
    broker: BrokerConfig,
    /// Where messages are published, with `{topic}`, `{device}` and `{route}` of the message. One that has no
    /// device, where that is asked for, becomes a dead letter.
    #[serde(default = "default_topic")]
    topic: String,
    /// 0, 1 or 2. With 2 a message arrives exactly once as long as the broker keeps the session and this host
    /// runs; after a restart of this host a message may come again, with the same `id`.
    #[serde(default = "default_qos")]
    qos: QosLevel,
    /// The broker keeps the last message of each topic for those who subscribe later. It also keeps messages with the
    /// attribute `mqtt.retain`, unless it keeps none at all.
    #[serde(default)]
    retain: bool,
    /// After so many seconds since it was put out a message is not passed on by the broker any more (MQTT 5); the
    /// attribute `mqtt.expiry_s` of a message counts more.
    #[serde(default)]
    expiry_s: Option<u32>,
    /// So many messages may be on their way at once; a broker that allows fewer is believed. With MQTT 3.1.1, where it
    /// cannot say, 20 at most.
    #[serde(default = "default_window")]
    window: NonZeroU16,
    /// How long the broker keeps our session once the link is lost, for what is on its way with QoS 2.
    #[serde(default = "default_session_expiry_s")]
    session_expiry_s: u32,
}

/// The settings, checked.
#[derive(Clone)]
struct Plan {
    broker: Broker,
    topic: Template,
    qos: Qos,
    retain: bool,
    expiry_s: Option<u32>,
    window: u16,
    session_expiry_s: u32,
}

fn default_topic() -> String {
    "{topic}".to_owned()
}

const fn default_qos() -> QosLevel {
    QosLevel(Qos::AtLeastOnce)
}

const fn default_window() -> NonZeroU16 {
    NonZeroU16::new(100).expect("not 0")
}

const fn default_session_expiry_s() -> u32 {
    3600
}

impl Sink for Mqtt {
    const NAME: &'static str = "mqtt";
    const EXAMPLE: &'static str = r#"broker = { url = "mqtt://broker.example.com", client_id = "sandbar" }
topic = "site/{topic}"
qos = 1
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let topic = Template::parse(&config.topic, &["topic", "device", "route"])
            .map_err(|error| ConfigError::at("topic", error.to_string()))?;
        if config.topic.contains(['+', '#', '\0']) || config.topic.is_empty() {
            return Err(ConfigError::at("topic", "is a topic, with at least one character and no wildcards"));
        }
        let plan = Plan {
            broker: Broker::new(&config.broker).map_err(|error| error.within("broker"))?,
            topic,
            qos: config.qos.0,
            retain: config.retain,
            expiry_s: config.expiry_s,
            window: config.window.get(),
            session_expiry_s: config.session_expiry_s,
        };
        Ok(Self { plan, courier: OnceLock::new() })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let now = SystemClock.now();
        let mut parcels = Vec::with_capacity(batch.len());
        let mut unfit = None;
        for delivery in batch {
            match message::publish(delivery, &self.plan, now) {
                Ok(publish) => parcels.push(Parcel { id: delivery.id, publish }),
                Err(cause) => {
                    unfit = Some(cause);
                    break;
                }
            }
        }
        let fit = parcels.len();
        self.send(parcels, progress.clone()).await?;
        match unfit {
            None => Ok(()),
            Some(cause) => Err(DeliveryError::Reject { rejected: fit, cause }),
        }
    }
}

impl Mqtt {
    async fn send(&self, parcels: Vec<Parcel>, progress: Progress) -> Result<(), DeliveryError> {
        let courier = self.courier.get_or_init(|| Courier::start(self.plan.clone()));
        let (done, result) = oneshot::channel();
        let gone = || DeliveryError::Retry {
            delivered: 0,
            after: None,
            cause: Cause::new("the link to the broker is being closed"),
        };
        courier.send(Offer { parcels, progress, done }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}
