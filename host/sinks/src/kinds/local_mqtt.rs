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
        for (at, delivery) in batch.iter().enumerate() {
            let Some(own) = &own else { return Err(Unsent::Unreachable.at(at)) };
            let delivery =
                self.addressed(delivery).map_err(|cause| DeliveryError::Reject { rejected: at, cause })?;
            own.publish(&self.ingress, &delivery).await.map_err(|unsent| unsent.at(at))?;
            progress.reached(at + 1);
        }
        Ok(())
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
    use tokio::sync::Notify;

    use super::*;
    use crate::Order;
    use crate::contract::{self, Behaviour, FarEnd};

    /// The host, with a broker that does as told.
    #[derive(Default)]
    struct Host {
        taken: Mutex<Vec<Delivery>>,
        behaviour: Mutex<Option<Behaviour>>,
        reached: Notify,
    }

    impl OwnHost for Host {
        fn publish<'a>(
            &'a self,
            ingress: &'a Name,
            delivery: &'a Delivery,
        ) -> BoxFuture<'a, Result<(), Unsent>> {
            assert_eq!(ingress.as_str(), "broker");
            async move {
                let behaviour = *self.behaviour.lock();
                match behaviour {
                    Some(Behaviour::FailAfter(0)) => return Err(Unsent::Unreachable),
                    Some(Behaviour::FailAfter(more)) => {
                        *self.behaviour.lock() = Some(Behaviour::FailAfter(more - 1));
                    }
                    Some(Behaviour::Refuse(id)) if id == delivery.id => {
                        return Err(Unsent::Reject("no".to_owned()));
                    }
                    Some(Behaviour::Stall) => {
                        self.reached.notify_one();
                        std::future::pending::<()>().await;
                    }
                    _ => {}
                }
                self.taken.lock().push(delivery.clone());
                Ok(())
            }
            .boxed()
        }

        fn command(&self, _: Command, _: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
            async { Err(Unsent::Unreachable) }.boxed()
        }

        fn order<'a>(&'a self, _: Vec<Order<'a>>, _: usize) -> BoxFuture<'a, Result<(), DeliveryError>> {
            async { Err(Unsent::Unreachable.at(0)) }.boxed()
        }

        fn reply(&self, _: &Delivery, _: Message) {}
    }

    async fn sent(settings: Value, delivery: Delivery) -> Result<Message, DeliveryError> {
        let host = Arc::new(Host::default());
        let sink = contract_sink(settings);
        sink.connect(&(Arc::clone(&host) as _));
        sink.deliver(&[delivery], &Progress::default()).await?;
        let taken = host.taken.lock().pop().unwrap();
        Ok(taken.message)
    }

    fn contract_sink(table: Value) -> LocalMqtt {
        LocalMqtt::new(sandbar_reading::settings(table).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn says_where_and_how_to_publish() {
        let settings =
            json!({ "ingress": "broker", "topic": "out/{device}/{topic}", "qos": 2, "retain": true });
        let message = sent(settings, contract::delivery(1)).await.unwrap();
        assert_eq!(message.topic.as_str(), "out/k1/sensors/kitchen");
        let attributes: Vec<_> = message.attributes.iter().collect();
        assert_eq!(attributes, [("mqtt.qos", "1"), ("mqtt.retain", "true")], "the message's own comes first");
    }

    #[tokio::test]
    async fn waits_for_a_host_and_refuses_what_is_no_topic() {
        let sink = contract_sink(json!({ "ingress": "broker" }));
        let error = sink.deliver(&[contract::delivery(1)], &Progress::default()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Retry { delivered: 0, .. }));
        let mut delivery = contract::delivery(1);
        delivery.message.device = Some("#".into());
        let error = sent(json!({ "ingress": "broker", "topic": "{device}" }), delivery).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Reject { rejected: 0, .. }));
        for (table, setting) in [
            (json!({ "ingress": "Not a name" }), "ingress"),
            (json!({ "ingress": "broker", "qos": 3 }), "qos"),
            (json!({ "ingress": "broker", "topic": "a/#" }), "topic"),
        ] {
            let error = LocalMqtt::new(sandbar_reading::settings(table).unwrap()).err().unwrap();
            assert_eq!(error.setting, setting);
        }
    }

    struct Far(Arc<Host>);

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
            *self.0.behaviour.lock() = Some(behaviour);
        }

        fn taken(&self) -> Vec<DeliveryId> {
            self.0.taken.lock().iter().map(|delivery| delivery.id).collect()
        }

        async fn reached(&self) {
            self.0.reached.notified().await;
        }
    }

    #[tokio::test]
    async fn keeps_the_contract_of_sinks() {
        contract::check(&Far(Arc::default())).await;
    }
}
