//! Messages as commands to devices of this host.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Delivery, Topic};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Cause, DeliveryError, Order, OwnHost, Progress, Sink, Unsent};

/// Has a device carry out every message as a command, through whichever ingress reaches it. A device that is not
/// connected is waited for, and nobody else waits with it.
///
/// A message is delivered once it is a command in the outbox, as one of the API or of a handler is: listed
/// with its device, where its state can be read and it can be cancelled. From there on a device gets its
/// commands in their order, and each device at its own pace. A command that its device refuses, or that
/// waits for it for a week, becomes a dead letter of the device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which device; the message's own by default.
    #[serde(default)]
    device: Option<String>,
    /// The command's name; the last level of the message's topic by default: `set` of `rooms/kitchen/set`.
    #[serde(default)]
    name: Option<String>,
    /// A command that was not carried out so many seconds after it was queued expires, which is no dead
    /// letter.
    #[serde(default)]
    expires_s: Option<NonZeroU64>,
    /// How many commands may wait for one device, 1 to 100000. A message that would be one more becomes a
    /// dead letter of the sink.
    #[serde(default = "default_waiting_max")]
    waiting_max: NonZeroU32,
}

/// Each costs a row to be looked at whenever another one comes.
const WAITING_MAX: u32 = 100_000;

/// For a week, one a minute.
const fn default_waiting_max() -> NonZeroU32 {
    NonZeroU32::new(10_000).expect("not 0")
}

pub(crate) struct Device {
    device: Option<Box<str>>,
    name: Option<Topic>,
    within: Option<Duration>,
    waiting_max: usize,
    own: Mutex<Option<Arc<dyn OwnHost>>>,
}

impl Sink for Device {
    const NAME: &'static str = "device";
    const EXAMPLE: &'static str = r#"name = "set"
expires_s = 3600
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, text) in [("device", &config.device), ("name", &config.name)] {
            if text.as_ref().is_some_and(String::is_empty) {
                return Err(ConfigError::at(setting, "must have at least one character"));
            }
        }
        let name = config.name.map(|name| {
            name.parse::<Topic>().map_err(|error| ConfigError::at("name", format!("as a topic: {error}")))
        });
        if config.waiting_max.get() > WAITING_MAX {
            return Err(ConfigError::at("waiting_max", format!("must be at most {WAITING_MAX}")));
        }
        Ok(Self {
            device: config.device.map(Into::into),
            name: name.transpose()?,
            within: config.expires_s.map(|seconds| Duration::from_secs(seconds.get())),
            waiting_max: config.waiting_max.get() as usize,
            own: Mutex::default(),
        })
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        *self.own.lock() = Some(Arc::clone(own));
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let own = self.own.lock().clone();
        let Some(own) = own else { return Err(Unsent::Unreachable.at(0)) };
        let mut orders = Vec::with_capacity(batch.len());
        let mut end = Ok(());
        for delivery in batch {
            match self.order(delivery) {
                Ok(order) => orders.push(order),
                Err(cause) => {
                    end = Err(DeliveryError::Reject { rejected: orders.len(), cause });
                    break;
                }
            }
        }
        let count = orders.len();
        own.order(orders, self.waiting_max).await?;
        progress.reached(count);
        end
    }
}

impl Device {
    fn order<'a>(&self, delivery: &'a Delivery) -> Result<Order<'a>, Cause> {
        let message = &delivery.message;
        let Some(device) = self.device.as_ref().or(message.device.as_ref()) else {
            return Err(Cause::new("the message names no device"));
        };
        let last = || message.topic.levels().last().and_then(|level| level.parse::<Topic>().ok());
        let name =
            self.name.clone().or_else(last).ok_or_else(|| {
                Cause::new(format!("the topic `{}` ends in no command's name", message.topic))
            })?;
        Ok(Order { delivery, device: device.clone(), name, within: self.within })
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::DeliveryId;
    use serde_json::{Value, json};

    use super::*;
    use crate::contract::{self, Behaviour, FarEnd, OwnFarEnd, delivery};

    struct Devices(Arc<OwnFarEnd>);

    impl FarEnd for Devices {
        type Sink = Device;

        fn settings(&self) -> Value {
            json!({ "name": "set" })
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
    async fn keeps_the_contract() {
        contract::check(&Devices(OwnFarEnd::new())).await;
    }

    #[tokio::test]
    async fn what_comes_before_a_message_that_is_no_command_is_ordered() {
        let far = Devices(OwnFarEnd::new());
        let sink = contract::sink::<Devices>(json!({}));
        sink.connect(&far.own().unwrap());
        let mut batch = contract::deliveries(0..3);
        batch[1].message.device = None;
        let refused = sink.deliver(&batch, &Progress::default()).await;
        assert!(matches!(refused, Err(DeliveryError::Reject { rejected: 1, .. })), "{refused:?}");
        assert_eq!(far.taken(), [batch[0].id]);
    }

    #[test]
    fn device_and_name_come_from_the_settings_or_the_message() {
        let command = |settings: Value, change: fn(&mut Delivery)| {
            let sink = Device::new(sandbar_reading::settings(settings).unwrap()).unwrap();
            let mut delivery = delivery(1);
            change(&mut delivery);
            sink.order(&delivery).map(|order| format!("{} {}", order.device, order.name))
        };
        assert_eq!(command(json!({}), |_| {}).unwrap(), "k1 kitchen");
        assert_eq!(command(json!({ "device": "d", "name": "set" }), |_| {}).unwrap(), "d set");
        assert!(command(json!({}), |delivery| delivery.message.device = None).is_err());
        assert!(command(json!({}), |delivery| delivery.message.topic = "a/".parse().unwrap()).is_err());
    }

    #[test]
    fn what_cannot_be_a_commands_name_is_refused_with_the_setting() {
        let refused = |settings: Value| {
            Device::new(sandbar_reading::settings(settings).unwrap()).err().unwrap().to_string()
        };
        assert_eq!(refused(json!({ "name": "" })), "name: must have at least one character");
        assert_eq!(
            refused(json!({ "name": "a+" })),
            "name: as a topic: a topic cannot contain '+' (at byte 1)"
        );
        assert_eq!(refused(json!({ "waiting_max": 100_001 })), "waiting_max: must be at most 100000");
    }
}
