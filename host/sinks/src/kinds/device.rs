//! Messages as commands to devices of this host.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{Command, ConfigError, Delivery};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Cause, DeliveryError, OwnHost, Progress, Sink, Unsent};

/// Has a device carry out every message as a command, through whichever ingress reaches it. A device that is not
/// connected is waited for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which device; the message's own by default.
    #[serde(default)]
    device: Option<String>,
    /// The command's name; the last level of the message's topic by default: `set` of `rooms/kitchen/set`.
    #[serde(default)]
    name: Option<String>,
}

pub(crate) struct Device {
    device: Option<Box<str>>,
    name: Option<Box<str>>,
    own: Mutex<Option<Arc<dyn OwnHost>>>,
}

impl Sink for Device {
    const NAME: &'static str = "device";
    const EXAMPLE: &'static str = r#"name = "set"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, text) in [("device", &config.device), ("name", &config.name)] {
            if text.as_ref().is_some_and(String::is_empty) {
                return Err(ConfigError::at(setting, "must have at least one character"));
            }
        }
        Ok(Self {
            device: config.device.map(Into::into),
            name: config.name.map(Into::into),
            own: Mutex::default(),
        })
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        *self.own.lock() = Some(Arc::clone(own));
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let own = self.own.lock().clone();
        for (index, delivery) in batch.iter().enumerate() {
            let command =
                self.command(delivery).map_err(|cause| DeliveryError::Reject { rejected: index, cause })?;
            let Some(own) = &own else { return Err(Unsent::Unreachable.at(index)) };
            own.command(command, delivery.id).await.map_err(|unsent| unsent.at(index))?;
            progress.reached(index + 1);
        }
        Ok(())
    }
}

impl Device {
    fn command(&self, delivery: &Delivery) -> Result<Command, Cause> {
        let message = &delivery.message;
        let Some(device) = self.device.as_ref().or(message.device.as_ref()) else {
            return Err(Cause::new("the message names no device"));
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                message.topic.levels().last().filter(|level| !level.is_empty()).map(Into::into).ok_or_else(
                    || Cause::new(format!("the topic `{}` ends in no command's name", message.topic)),
                )?
            }
        };
        Ok(Command {
            device: device.clone(),
            name,
            content_type: message.content_type.clone(),
            payload: message.payload.clone(),
        })
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
        const ONE_BY_ONE: bool = true;

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

    #[test]
    fn device_and_name_come_from_the_settings_or_the_message() {
        let command = |settings: Value, change: fn(&mut Delivery)| {
            let sink = Device::new(sandbar_reading::settings(settings).unwrap()).unwrap();
            let mut delivery = delivery(1);
            change(&mut delivery);
            sink.command(&delivery).map(|command| format!("{} {}", command.device, command.name))
        };
        assert_eq!(command(json!({}), |_| {}).unwrap(), "k1 kitchen");
        assert_eq!(command(json!({ "device": "d", "name": "set" }), |_| {}).unwrap(), "d set");
        assert!(command(json!({}), |delivery| delivery.message.device = None).is_err());
        assert!(command(json!({}), |delivery| delivery.message.topic = "a/".parse().unwrap()).is_err());
    }
}
