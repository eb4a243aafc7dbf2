//! What stands in paths and queries: text with a meaning.

use std::borrow::Cow;

use sandbar_control::{LogLevel, Presence};
use sandbar_reading::{DeadLetterId, DeliveryId, Name, ReadingId, Target, Timestamp, TopicFilter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{0,62}$";
pub(crate) const ID_PATTERN: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident($value:ty) = $read:expr, $schema:tt;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name(pub(crate) $value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(from)?;
                let read: fn(&str) -> Result<$value, String> = $read;
                read(&text).map(Self).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

params! {
    /// The name of a route, a sink, a module, an ingress.
    NameParam(Name) = |text| parse(text), { "type": "string", "pattern": NAME_PATTERN };
    /// The name of an ingress, or `route/NAME`.
    IngressParam(Name) = |text| Name::parse_ingress(text).map_err(|error| error.to_string()),
        { "type": "string", "pattern": "^(route/)?[a-z0-9][a-z0-9_-]{0,62}$" };
    ReadingParam(ReadingId) = |text| parse(text), { "type": "string", "pattern": ID_PATTERN };
    DeadLetterParam(DeadLetterId) = |text| parse(text), { "type": "string", "pattern": ID_PATTERN };
    FilterParam(TopicFilter) = |text| parse(text),
        { "type": "string", "minLength": 1, "maxLength": 1000, "examples": ["sensors/+/temperature", "sensors/#"] };
    DeviceParam(Box<str>) = |text| sized(text, 255), { "type": "string", "minLength": 1, "maxLength": 255 };
    /// Labels, each `key` or `key:value`, separated by commas.
    LabelParam(Labels) = labels, { "type": "string", "minLength": 1, "maxLength": 1000, "examples": ["room:cellar"] };
    PresenceParam(Presence) = presence, { "type": "string", "enum": ["online", "offline", "lost"] };
    CommandParam(DeliveryId) = |text| parse(text), { "type": "string", "pattern": ID_PATTERN };
    /// The name of a resource of a device.
    ResourceParam(Box<str>) = |text| sized(text, 255), { "type": "string", "minLength": 1, "maxLength": 255 };
    SinceParam(Timestamp) = |text| parse(text), { "type": "string", "format": "date-time" };
    TargetParam(Target) = target, { "type": "string", "pattern": "^(sink/[a-z0-9][a-z0-9_-]{0,62}|device/.{1,255})$" };
    /// Where the part before ended; opaque.
    CursorParam(String) = |text| sized(text, 1000).map(Into::into), { "type": "string", "minLength": 1, "maxLength": 1000 };
    /// The number of a module's version.
    VersionParam(u32) = version, { "type": "integer", "minimum": 1, "maximum": 4_294_967_295_u64 };
    ReplayParam(String) = replay, { "type": "string", "pattern": ID_PATTERN };
    LevelParam(LogLevel) = level,
        { "type": "string", "enum": ["trace", "debug", "info", "warn", "error", "critical"] };
    FlagParam(bool) = |text| parse(text), { "type": "boolean", "default": false };
    /// At most so many; none, unless said otherwise.
    LastParam(usize) = limit, { "type": "integer", "minimum": 1, "maximum": LIMIT_MAX };
    LimitParam(usize) = limit, { "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": 100 };
}

const LIMIT_MAX: usize = 1000;

/// Keys, some with the value that they must have.
pub(crate) type Labels = Vec<(Box<str>, Option<Box<str>>)>;

fn labels(text: &str) -> Result<Labels, String> {
    let label = |label: &str| {
        let (key, value) =
            label.split_once(':').map_or((label, None), |(key, value)| (key, Some(value.into())));
        Ok((sized(key, 255)?, value))
    };
    text.split(',').map(label).collect()
}

impl Default for LimitParam {
    fn default() -> Self {
        Self(100)
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn sized(text: &str, most: usize) -> Result<Box<str>, String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        length if length > most => Err(format!("must have at most {most} bytes")),
        _ => Ok(text.into()),
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be a number from 1 to {LIMIT_MAX}"))
}

fn version(text: &str) -> Result<u32, String> {
    let version = text.parse().ok().filter(|version| *version > 0);
    version.ok_or_else(|| "must be a number from 1".to_owned())
}

fn replay(text: &str) -> Result<String, String> {
    parse::<ReadingId>(text).map(|id| id.to_string())
}

fn presence(text: &str) -> Result<Presence, String> {
    Ok(match text {
        "online" => Presence::Online,
        "offline" => Presence::Offline,
        "lost" => Presence::Lost,
        _ => return Err("must be online, offline or lost".to_owned()),
    })
}

fn level(text: &str) -> Result<LogLevel, String> {
    Ok(match text {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "critical" => LogLevel::Critical,
        _ => return Err("must be trace, debug, info, warn, error or critical".to_owned()),
    })
}

/// `sink/NAME` or `device/ID`.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    match text.split_once('/') {
        Some(("sink", name)) => parse(name).map(Target::Sink),
        Some(("device", device)) => sized(device, 255).map(Target::Device),
        _ => Err("must be sink/NAME or device/ID".to_owned()),
    }
}

pub(crate) fn target_text(target: &Target) -> String {
    match target {
        Target::Sink(name) => format!("sink/{name}"),
        Target::Device(device) => format!("device/{device}"),
    }
}
