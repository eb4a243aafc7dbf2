//! Messages to the subscribers of this host's own MQTT broker.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Delivery, Name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Cause, DeliveryError, OwnHost, Progress, Sink, Unsent};

/// Publishes to the subscribers of an `mqtt` ingress of this host; sessions that are not connected find the
/// message when they are.
pub(crate) struct LocalMqtt {
    ingress: Name,
    topic: Option<Pattern>,
    qos: Option<u8>,
    retain: Option<bool>,
    own: Mutex<Option<Arc<dyn OwnHost>>>,
}

/// Publishes to the subscribers of an `mqtt` ingress of this host. A message's attributes `mqtt.qos`,
/// `mqtt.retain`, `mqtt.expiry_s`, `mqtt.response_topic`, `mqtt.correlation_data` (base64) and
/// `mqtt.property.NAME` say how it is published.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The ingress whose subscribers get the messages.
    ingress: String,
    /// Topic to publish to, with `{topic}` and `{device}` of the message: `out/{topic}`. The default is the
    /// message's own.
    #[serde(default)]
    topic: Option<String>,
    /// Quality of service of messages that do not name one: 0, 1 or 2. The default is 1.
    #[serde(default)]
    qos: Option<u8>,
    /// Whether messages that do not say it are retained.
    #[serde(default)]
    retain: Option<bool>,
}

/// A topic with `{topic}` and `{device}` in it.
struct Pattern(String);

impl Sink for LocalMqtt {
    const NAME: &'static str = "local-mqtt";
    const EXAMPLE: &'static str = "ingress = \"broker\"\ntopic = \"out/{topic}\"\nqos = 1\n";
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let ingress =
            config.ingress.parse().map_err(|error| ConfigError::at("ingress", format!("{error}")))?;
        if config.qos.is_some_and(|qos| qos > 2) {
            return Err(ConfigError::at("qos", "must be 0, 1 or 2"));
        }
        let topic = config.topic.map(Pattern::new).transpose()?;
        Ok(Self { ingress, topic, qos: config.qos, retain: config.retain, own: Mutex::new(None) })
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        *self.own.lock() = Some(Arc::clone(own));
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let own = self.own.lock().clone();
        let Some(own) = own else { return Err(Unsent::Unreachable.at(0)) };
        let mut addressed = Vec::with_capacity(batch.len());
        let mut end = Ok(());
        for delivery in batch {
            match self.addressed(delivery) {
                Ok(delivery) => addressed.push(delivery),
                Err(cause) => {
                    end = Err(DeliveryError::Reject { rejected: addressed.len(), cause });
                    break;
                }
            }
        }
        own.publish(&self.ingress, &addressed, progress).await?;
        end
    }
}

impl LocalMqtt {
    fn addressed(&self, delivery: &Delivery) -> Result<Delivery, Cause> {
        let mut delivery = delivery.clone();
        let message = &mut delivery.message;
        if let Some(pattern) = &self.topic {
            let device = message.device.as_deref();
            let filled = pattern.fill(message.topic.as_str(), device);
            message.topic =
                filled.parse().map_err(|error| Cause::new(format!("the topic {filled:?}: {error}")))?;
        }
        if let Some(qos) = self.qos
            && message.attributes.get("mqtt.qos").is_none()
        {
            message.attributes.add("mqtt.qos", qos.to_string());
        }
        if self.retain == Some(true) && message.attributes.get("mqtt.retain").is_none() {
            message.attributes.add("mqtt.retain", "true");
        }
        Ok(delivery)
    }
}

impl Pattern {
    fn new(text: String) -> Result<Self, ConfigError> {
        let pattern = Self(text);
        match pattern.fill("x", Some("x")).parse::<sandbar_reading::Topic>() {
            Ok(topic) if !topic.as_str().contains(['{', '}']) => Ok(pattern),
            _ => Err(ConfigError::at("topic", "is not a topic, with {topic} and {device} where they belong")),
        }
    }

    fn fill(&self, topic: &str, device: Option<&str>) -> String {
        // A topic may have braces itself: it is put in last.
        self.0.replace("{device}", device.unwrap_or("")).replace("{topic}", topic)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use sandbar_reading::{Command, DeliveryId, Message};
    use serde_json::{Value, json};

    use super::*;
    use crate::Order;
    use crate::contract::{self, Behaviour, FarEnd, OwnFarEnd};

    /// The host, with a broker that takes everything.
    #[derive(Default)]
    struct Host(Mutex<Vec<Message>>);

    impl OwnHost for Host {
        fn publish<'a>(
            &'a self,
            ingress: &'a Name,
            batch: &'a [Delivery],
            progress: &'a Progress,
        ) -> BoxFuture<'a, Result<(), DeliveryError>> {
            assert_eq!(ingress.as_str(), "broker");
            self.0.lock().extend(batch.iter().map(|delivery| delivery.message.clone()));
            progress.reached(batch.len());
            std::future::ready(Ok(())).boxed()
        }

        fn command(&self, _: Command, _: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
            async { Err(Unsent::Unreachable) }.boxed()
        }

        fn order<'a>(&'a self, _: Vec<Order<'a>>, _: usize) -> BoxFuture<'a, Result<(), DeliveryError>> {
            async { Err(Unsent::Unreachable.at(0)) }.boxed()
        }

        fn reply(&self, _: &Delivery, _: Message) {}
    }

    /// What was published of it, and what came of it.
    async fn sent(settings: Value, batch: &[Delivery]) -> (Vec<Message>, Result<(), DeliveryError>) {
        let host = Arc::new(Host::default());
        let sink = sink(settings);
        sink.connect(&(Arc::clone(&host) as _));
        let result = sink.deliver(batch, &Progress::default()).await;
        (std::mem::take(&mut *host.0.lock()), result)
    }

    fn sink(table: Value) -> LocalMqtt {
        LocalMqtt::new(sandbar_reading::settings(table).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn says_where_and_how_to_publish() {
        let settings =
            json!({ "ingress": "broker", "topic": "out/{device}/{topic}", "qos": 2, "retain": true });
        let (messages, result) = sent(settings, &[contract::delivery(1)]).await;
        result.unwrap();
        assert_eq!(messages[0].topic.as_str(), "out/k1/sensors/kitchen");
        let attributes: Vec<_> = messages[0].attributes.iter().collect();
        assert_eq!(attributes, [("mqtt.qos", "1"), ("mqtt.retain", "true")], "the message's own comes first");
    }

    #[tokio::test]
    async fn waits_for_a_host_and_refuses_what_is_no_topic() {
        let unconnected = sink(json!({ "ingress": "broker" }));
        let error = unconnected.deliver(&[contract::delivery(1)], &Progress::default()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Retry { delivered: 0, .. }));
        let mut batch = contract::deliveries(0..3);
        batch[1].message.device = Some("#".into());
        let (messages, result) = sent(json!({ "ingress": "broker", "topic": "{device}" }), &batch).await;
        assert!(matches!(result, Err(DeliveryError::Reject { rejected: 1, .. })));
        assert_eq!(messages.len(), 1, "the one before it");
        for (table, setting) in [
            (json!({ "ingress": "Not a name" }), "ingress"),
            (json!({ "ingress": "broker", "qos": 3 }), "qos"),
            (json!({ "ingress": "broker", "topic": "a/#" }), "topic"),
        ] {
            let error = LocalMqtt::new(sandbar_reading::settings(table).unwrap()).err().unwrap();
            assert_eq!(error.setting, setting);
        }
    }

    struct Far(Arc<OwnFarEnd>);

    impl FarEnd for Far {
        type Sink = LocalMqtt;
        const ONE_BY_ONE: bool = true;

        fn settings(&self) -> Value {
            json!({ "ingress": "broker" })
        }

        fn own(&self) -> Option<Arc<dyn OwnHost>> {
            Some(Arc::clone(&self.0) as _)
        }

        fn behave(&self, behaviour: Behaviour) {
            self.0.behave(behaviour);
        }

        fn taken(&self) -> Vec<DeliveryId> {
            self.0.taken()
        }

        async fn reached(&self) {
            self.0.reached().await;
        }
    }

    #[tokio::test]
    async fn keeps_the_contract_of_sinks() {
        contract::check(&Far(OwnFarEnd::new())).await;
    }
}
