//! The configuration, checked, in the form in which it is used.

use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{ConfigError, Topic};

use super::access::Access;
use super::config::Config;
use super::inbound::Mapping;
use super::outgoing::Room;
use super::users::Users;

pub(super) struct Settings {
    pub(super) access: Access,
    pub(super) users: Arc<Users>,
    /// `None`: only from this machine.
    pub(super) anonymous: Option<bool>,
    pub(super) mapping: Mapping,
    pub(super) command_topic: Option<TopicPattern>,
    pub(super) reply_topic: Option<TopicPattern>,
    pub(super) journal_qos0: bool,
    pub(super) room: Room,
    pub(super) absent_bytes: usize,
    pub(super) session_expiry_max_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) send_maximum: u16,
    pub(super) topic_alias_max: u16,
    pub(super) packet_max: Option<u32>,
    pub(super) keep_alive_max_s: Option<u16>,
    pub(super) connections_max: usize,
    pub(super) sessions_max: usize,
    pub(super) retained: Room,
    /// Of one session.
    pub(super) subscriptions: Room,
    pub(super) rate_max: Option<u32>,
    pub(super) connect_timeout: Duration,
}

/// The least that a packet may be limited to: a CONNECT must fit.
const PACKET_MAX_LEAST: usize = 1024;

/// What the format can say (MQTT 5.0, section 2.1.4).
pub(super) const PACKET_MAX_MOST: usize = 268_435_455;

impl Settings {
    pub(super) fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, value, least) in [
            ("queue_max", config.queue_max, 1),
            ("queue_bytes", config.queue_bytes, 1),
            ("receive_maximum", config.receive_maximum.into(), 1),
            ("send_maximum", config.send_maximum.into(), 1),
            ("connections_max", config.connections_max, 1),
            ("sessions_max", config.sessions_max, 1),
            ("subscriptions_max", config.subscriptions_max, 1),
            ("rate_max", config.rate_max.map_or(1, |rate| rate as usize), 1),
            ("keep_alive_max_s", config.keep_alive_max_s.unwrap_or(1).into(), 1),
            ("connect_timeout_ms", usize::from(config.connect_timeout_ms > 0), 1),
            ("packet_max", config.packet_max.map_or(PACKET_MAX_LEAST, |max| max as usize), PACKET_MAX_LEAST),
        ] {
            if value < least {
                return Err(ConfigError::at(setting, format!("must be at least {least}")));
            }
        }
        if config.packet_max.is_some_and(|max| max as usize > PACKET_MAX_MOST) {
            return Err(ConfigError::at("packet_max", format!("must be at most {PACKET_MAX_MOST}")));
        }
        let pattern = |setting: &str, text: &Option<String>, names: &[&str]| {
            text.as_deref().map(|text| TopicPattern::parse(setting, text, names)).transpose()
        };
        Ok(Self {
            command_topic: pattern("command_topic", &config.command_topic, &["device", "command"])?,
            reply_topic: pattern("reply_topic", &config.reply_topic, &["device", "client", "topic"])?,
            mapping: Mapping::new(config.device, &config.device_topics, &config.content_type)?,
            access: Access::new(config.allow, config.deny)?,
            users: Arc::new(Users::new(config.users, config.users_file)?),
            anonymous: config.anonymous,
            journal_qos0: config.journal_qos0,
            room: Room { count: config.queue_max, bytes: config.queue_bytes },
            absent_bytes: config.absent_bytes,
            session_expiry_max_s: config.session_expiry_max_s,
            receive_maximum: config.receive_maximum,
            send_maximum: config.send_maximum,
            topic_alias_max: config.topic_alias_max,
            packet_max: config.packet_max,
            keep_alive_max_s: config.keep_alive_max_s,
            connections_max: config.connections_max,
            sessions_max: config.sessions_max,
            retained: Room { count: config.retained_max, bytes: config.retained_bytes },
            subscriptions: Room { count: config.subscriptions_max, bytes: config.subscriptions_bytes },
            rate_max: config.rate_max,
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
        })
    }
}

/// A topic with names in braces: `devices/{device}/commands/{command}`.
#[derive(Debug)]
pub(super) struct TopicPattern(String);

impl TopicPattern {
    fn parse(setting: &str, text: &str, names: &[&str]) -> Result<Self, ConfigError> {
        let filled =
            names.iter().fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), "x"));
        if filled.contains(['{', '}']) || filled.parse::<Topic>().is_err() {
            let names: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
            let problem = format!("`{text}` is not a topic, with {} where they belong", names.join(", "));
            return Err(ConfigError::at(setting, problem));
        }
        Ok(Self(text.to_owned()))
    }

    /// `None` if a value makes it no topic.
    pub(super) fn fill(&self, values: &[(&str, &str)]) -> Option<Topic> {
        let fill = |text: String, (name, value): &(&str, &str)| text.replace(&format!("{{{name}}}"), value);
        values.iter().fold(self.0.clone(), fill).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn refuses_what_cannot_work_by_name() {
        for (table, setting) in [
            (json!({ "queue_max": 0 }), "queue_max"),
            (json!({ "packet_max": 10 }), "packet_max"),
            (json!({ "command_topic": "a/{devise}" }), "command_topic"),
            (json!({ "reply_topic": "a/#" }), "reply_topic"),
            (json!({ "content_type": "json" }), "content_type"),
            (json!({ "users_file": "/not/there" }), "users_file"),
        ] {
            let error = settings::<Config>(table).and_then(Settings::new).err().unwrap();
            assert_eq!(error.setting, setting);
        }
    }

    #[test]
    fn a_device_cannot_name_itself_a_filter() {
        let pattern =
            TopicPattern::parse("command_topic", "d/{device}/{command}", &["device", "command"]).unwrap();
        assert_eq!(pattern.fill(&[("device", "x"), ("command", "set")]).unwrap().as_str(), "d/x/set");
        assert!(pattern.fill(&[("device", "#"), ("command", "set")]).is_none());
    }
}
