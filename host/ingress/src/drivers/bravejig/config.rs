//! Settings of a BraveJIG router, and what is refused of them.

use std::time::Duration;

use sandbar_reading::{ConfigError, Topic};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::pattern::Template;
use crate::serial_port::{FlowControl, SerialPort};

/// Takes what BraveJIG sensor modules measure, by way of their USB router, and carries commands out on the modules and
/// the router. No other program is run. The router is started when the port is opened; when no module is heard for a
/// while it is stopped and started again, and a reading says so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The router's serial port: `/dev/ttyACM0`, or its USB id.
    pub(super) port: String,
    /// Bits a second.
    #[serde(default = "default::baud")]
    pub(super) baud: u32,
    /// What a reading is.
    #[serde(default)]
    pub(super) payload: Payload,
    /// Topic of the readings. `{device}` is the module's id (16 digits) or `router_device`, `{sensor}` the sensor:
    /// `illuminance`, `acceleration`, `temperature_humidity`, `pressure`, `distance`, `dry_contact`, `wet_contact`,
    /// `contact_output`; `parameters`, `answer`, `progress` and `alert` for what else is said.
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// The device that commands for the router itself are for, and that its answers and alerts are of.
    #[serde(default = "default::router_device")]
    pub(super) router_device: String,
    /// Milliseconds without an uplink after which the router is stopped and started again.
    #[serde(default = "default::data_timeout_ms")]
    pub(super) data_timeout_ms: u64,
    /// Milliseconds between that stop and that start.
    #[serde(default = "default::restart_wait_ms")]
    pub(super) restart_wait_ms: u64,
    /// Milliseconds after a command in which no other is carried out: it is offered again later.
    #[serde(default = "default::cooldown_ms")]
    pub(super) cooldown_ms: u64,
    /// Milliseconds within which the router has to answer.
    #[serde(default = "default::answer_timeout_ms")]
    pub(super) answer_timeout_ms: u64,
    /// Milliseconds after which a handler's reply is not waited for any more. A reply that is an object with `command` is
    /// carried out as one.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    /// One reading for each sample, as a JSON object with units.
    #[default]
    Json,
    /// One for each uplink, as it came over the line.
    Raw,
}

mod default {
    pub(super) fn baud() -> u32 {
        38_400
    }

    pub(super) fn topic() -> String {
        "bravejig/{device}/{sensor}".to_owned()
    }

    pub(super) fn router_device() -> String {
        "bravejig-router".to_owned()
    }

    pub(super) fn data_timeout_ms() -> u64 {
        300_000
    }

    pub(super) fn restart_wait_ms() -> u64 {
        10_000
    }

    pub(super) fn cooldown_ms() -> u64 {
        30_000
    }

    pub(super) fn answer_timeout_ms() -> u64 {
        10_000
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        30_000
    }
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(super) port: SerialPort,
    pub(super) payload: Payload,
    pub(super) topic: Template,
    pub(super) router_device: Box<str>,
    pub(super) data_timeout: Duration,
    pub(super) restart_wait: Duration,
    pub(super) cooldown: Duration,
    pub(super) answer_timeout: Duration,
    pub(super) reply_timeout: Duration,
}

impl Config {
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        for (setting, is_zero) in [
            ("data_timeout_ms", self.data_timeout_ms == 0),
            ("answer_timeout_ms", self.answer_timeout_ms == 0),
            ("reply_timeout_ms", self.reply_timeout_ms == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        let topic = Template::parse(&self.topic, &["device", "sensor"].map(Box::from));
        let topic = topic.map_err(|error| ConfigError::at("topic", error.to_string()))?;
        let router = self.router_device.as_str();
        // Whatever a sensor or a notice is called, it has no wildcards, and is no longer than this.
        let sensor = "x".repeat(64);
        for device in ["2468002401234567", router] {
            let filled = topic.fill(&[device.into(), sensor.as_str().into()]).parse::<Topic>();
            let setting = if device == router { "router_device" } else { "topic" };
            filled.map_err(|error| ConfigError::at(setting, error.to_string()))?;
        }
        if router.is_empty() || router.parse::<super::wire::Id>().is_ok() {
            return Err(ConfigError::at("router_device", "must be a name that no module's id can be"));
        }
        Ok(Settings {
            port: SerialPort::new(&self.port, self.baud, "8N1", FlowControl::default())?,
            payload: self.payload,
            topic,
            router_device: router.into(),
            data_timeout: Duration::from_millis(self.data_timeout_ms),
            restart_wait: Duration::from_millis(self.restart_wait_ms),
            cooldown: Duration::from_millis(self.cooldown_ms),
            answer_timeout: Duration::from_millis(self.answer_timeout_ms),
            reply_timeout: Duration::from_millis(self.reply_timeout_ms),
        })
    }
}
