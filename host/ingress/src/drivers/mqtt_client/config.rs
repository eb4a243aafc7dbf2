//! Settings of an MQTT client, and what is refused of them.

use std::num::NonZeroU16;

use sandbar_mqtt_client::codec::Filter;
use sandbar_mqtt_client::{Broker, BrokerConfig, Qos, QosLevel, Template, Version};
use sandbar_reading::{ConfigError, ContentType, TopicFilter};
use schemars::JsonSchema;
use serde::Deserialize;

use super::decode::{Pattern, Reader};

/// Subscribes at an MQTT broker of someone else's (3.1.1 and 5.0). A message of QoS 1 or 2 is acknowledged once it
/// is on disk, not before; one of QoS 2 becomes exactly one reading, also across a crash of this host.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The broker, and who we are there.
    pub(super) broker: BrokerConfig,
    /// Topic filters to subscribe to: `sensors/#`; `$share/GROUP/sensors/#` shares the messages with the other
    /// subscribers of the group.
    pub(super) filters: Vec<String>,
    /// The most that messages are sent with: 0, 1 or 2.
    #[serde(default = "default_qos")]
    pub(super) qos: QosLevel,
    /// Begins anew at every connection: what was published in between is lost. Otherwise the broker keeps the
    /// session, and with it the messages of QoS 1 and 2.
    #[serde(default)]
    pub(super) clean_start: bool,
    /// How long the broker keeps the session while we are away, in seconds (MQTT 5; with 3.1.1 it has no end).
    #[serde(default = "default_session_expiry_s")]
    pub(super) session_expiry_s: u32,
    /// Takes the broker's retained messages too, at every subscription (MQTT 5; 3.1.1 always does).
    #[serde(default = "default_true")]
    pub(super) retained: bool,
    /// So many messages may be on their way to the disk at once.
    #[serde(default = "default_window")]
    pub(super) window: NonZeroU16,
    /// Names the device by a level of the topic: `sensors/{device}/#`, `+/{device}`. The first that fits is taken.
    #[serde(default)]
    pub(super) device: Vec<String>,
    /// What readings are without a content type of their own; 3.1.1 knows none.
    #[serde(default = "default_content_type")]
    pub(super) content_type: String,
    /// Where replies go if the message had no response topic, with `{topic}` and `{device}` of the message.
    /// Without it they are dropped.
    #[serde(default)]
    pub(super) reply_topic: Option<String>,
    /// Where commands go, with `{device}` and `{command}`: `devices/{device}/commands/{command}`. Without it, devices
    /// cannot be commanded through this ingress. A device can be once it has sent something.
    #[serde(default)]
    pub(super) command_topic: Option<String>,
    /// The quality of service of commands, 0 or 1. With 0 one counts as carried out once it was sent, with 1 once
    /// the broker has it.
    #[serde(default = "default_qos")]
    pub(super) command_qos: QosLevel,
    /// So many devices can be commanded, those seen first.
    #[serde(default = "default_devices_max")]
    pub(super) devices_max: usize,
}

const fn default_qos() -> QosLevel {
    QosLevel(Qos::AtLeastOnce)
}

const fn default_true() -> bool {
    true
}

const fn default_session_expiry_s() -> u32 {
    7 * 24 * 3600
}

const fn default_window() -> NonZeroU16 {
    NonZeroU16::new(100).expect("not 0")
}

const fn default_devices_max() -> usize {
    10_000
}

fn default_content_type() -> String {
    "application/octet-stream".to_owned()
}

/// The settings, checked.
pub(super) struct Plan {
    pub(super) broker: Broker,
    pub(super) filters: Vec<Filter>,
    pub(super) clean_start: bool,
    pub(super) session_expiry_s: u32,
    pub(super) window: u16,
    pub(super) reader: Reader,
    pub(super) reply_topic: Option<Template>,
    pub(super) command_topic: Option<Template>,
    pub(super) command_qos: Qos,
    pub(super) devices_max: usize,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let broker = Broker::new(&config.broker).map_err(|error| error.within("broker"))?;
        if config.command_qos.0 == Qos::ExactlyOnce {
            // It would need the state of an exchange to outlive the link; commands have an id to be known by.
            return Err(ConfigError::at("command_qos", "must be 0 or 1"));
        }
        if config.filters.is_empty() {
            return Err(ConfigError::at("filters", "must name at least one"));
        }
        let mut filters = Vec::new();
        for (index, text) in config.filters.iter().enumerate() {
            check_filter(text, broker.version())
                .map_err(|problem| ConfigError::at(format!("filters[{index}]"), problem))?;
            // 1: not again when a session goes on.
            let retain_handling = if config.retained { 1 } else { 2 };
            filters.push(Filter { retain_handling, ..Filter::new(text.as_str(), config.qos.0) });
        }
        let patterns = config.device.iter().enumerate().map(|(index, text)| {
            Pattern::parse(text).map_err(|problem| ConfigError::at(format!("device[{index}]"), problem))
        });
        let content_type: ContentType =
            config.content_type.parse().map_err(|error: sandbar_reading::ContentTypeError| {
                ConfigError::at("content_type", error.to_string())
            })?;
        Ok(Self {
            filters,
            clean_start: config.clean_start,
            session_expiry_s: config.session_expiry_s,
            window: config.window.get(),
            reader: Reader { patterns: patterns.collect::<Result<_, _>>()?, content_type },
            reply_topic: template("reply_topic", config.reply_topic.as_deref(), &["topic", "device"])?,
            command_topic: template(
                "command_topic",
                config.command_topic.as_deref(),
                &["device", "command"],
            )?,
            command_qos: config.command_qos.0,
            devices_max: config.devices_max,
            broker,
        })
    }
}

fn template(setting: &str, text: Option<&str>, names: &[&str]) -> Result<Option<Template>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err(ConfigError::at(setting, "is a topic, with at least one character and no wildcards"));
    }
    Template::parse(text, names).map(Some).map_err(|error| ConfigError::at(setting, error.to_string()))
}

/// MQTT 5.0, sections 4.7 and 4.8.2.
fn check_filter(text: &str, version: Version) -> Result<(), String> {
    let filter = match text.strip_prefix("$share/") {
        None => text,
        Some(rest) => match rest.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => filter,
            _ => return Err("must be `$share/GROUP/FILTER`".to_owned()),
        },
    };
    if filter.len() != text.len() && version == Version::V3 {
        return Err("shared subscriptions need MQTT 5".to_owned());
    }
    filter.parse::<TopicFilter>().map(drop).map_err(|error| error.to_string())
}
