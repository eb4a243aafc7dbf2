//! What parameters stand for, and their values in a message. Pure.

use std::collections::BTreeMap;

use sandbar_reading::{ConfigError, Delivery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::value::{Type, Value, convert, parse};
use crate::{Cause, encode};

/// One further parameter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ParameterConfig {
    /// A value in a JSON payload, as a JSON pointer (RFC 6901): `/room/celsius`.
    #[serde(default)]
    pointer: Option<String>,
    /// Or the first value of an attribute: `mqtt.qos`.
    #[serde(default)]
    attribute: Option<String>,
    /// What it is to the database.
    #[serde(default)]
    r#type: Type,
    /// Whether a message without it becomes a dead letter; else the value is NULL.
    #[serde(default)]
    required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Id,
    Reading,
    Route,
    Topic,
    Device,
    Time,
    TimeMs,
    ContentType,
    Attributes,
    Payload,
    PayloadText,
    PayloadJson,
    Further { name: String, place: Place, wanted: Type, required: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Pointer(String),
    Attribute(String),
}

/// Every parameter by its name: those that are always there, and the configured ones.
pub(super) fn sources(
    configured: BTreeMap<String, ParameterConfig>,
) -> Result<BTreeMap<String, Source>, ConfigError> {
    let mut sources: BTreeMap<String, Source> = [
        ("id", Source::Id),
        ("reading", Source::Reading),
        ("route", Source::Route),
        ("topic", Source::Topic),
        ("device", Source::Device),
        ("time", Source::Time),
        ("time_ms", Source::TimeMs),
        ("content_type", Source::ContentType),
        ("attributes", Source::Attributes),
        ("payload", Source::Payload),
        ("payload_text", Source::PayloadText),
        ("payload_json", Source::PayloadJson),
    ]
    .map(|(name, source)| (name.to_owned(), source))
    .into();
    for (name, config) in configured {
        let error = |problem: &str| ConfigError::at(format!("parameters.{name}"), problem);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(error("a name has letters a-z, digits and _, and begins with no digit"));
        }
        let place = match (config.pointer, config.attribute) {
            (Some(pointer), None) if pointer.is_empty() || pointer.starts_with('/') => {
                Place::Pointer(pointer)
            }
            (Some(_), None) => {
                return Err(error("a pointer begins with `/`").within_setting("pointer"));
            }
            (None, Some(attribute)) => Place::Attribute(attribute),
            _ => return Err(error("set either pointer or attribute")),
        };
        let source =
            Source::Further { name: name.clone(), place, wanted: config.r#type, required: config.required };
        if sources.insert(name.clone(), source).is_some() {
            return Err(error("there is a parameter of this name already: choose another"));
        }
    }
    Ok(sources)
}

trait WithinSetting {
    fn within_setting(self, inner: &str) -> Self;
}

impl WithinSetting for ConfigError {
    fn within_setting(self, inner: &str) -> Self {
        Self { setting: format!("{}.{inner}", self.setting), ..self }
    }
}

/// The values of one message, in order; the cause names the parameter that has none.
pub(super) fn row(sources: &[Source], delivery: &Delivery) -> Result<Vec<Value>, Cause> {
    let mut payload = Payload { delivery, json: None };
    sources.iter().map(|source| payload.value(source)).collect()
}

/// Reads the payload as JSON once, if anybody asks.
struct Payload<'a> {
    delivery: &'a Delivery,
    json: Option<Result<Json, String>>,
}

impl Payload<'_> {
    fn value(&mut self, source: &Source) -> Result<Value, Cause> {
        let Delivery { id, reading, route, time, message } = self.delivery;
        Ok(match source {
            Source::Id => Value::Text(id.to_string()),
            Source::Reading => Value::Text(reading.to_string()),
            Source::Route => Value::Text(route.to_string()),
            Source::Topic => Value::Text(message.topic.to_string()),
            Source::Device => match &message.device {
                Some(device) => Value::Text(device.to_string()),
                None => Value::Null(Type::Text),
            },
            Source::Time => Value::Time(*time),
            Source::TimeMs => Value::Integer(i64::try_from(time.millis()).unwrap_or(i64::MAX)),
            Source::ContentType => Value::Text(message.content_type.to_string()),
            Source::Attributes => Value::Json(encode::attributes_json(&message.attributes)),
            Source::Payload => Value::Bytes(message.payload.clone()),
            Source::PayloadText => match std::str::from_utf8(&message.payload) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(error) => return Err(Cause::of(":payload_text: the payload is no text", &error)),
            },
            Source::PayloadJson => {
                match std::str::from_utf8(&message.payload).map(|text| parse(text, Type::Json)) {
                    Ok(Ok(json)) => json,
                    _ => return Err(Cause::new(":payload_json: the payload is no JSON")),
                }
            }
            Source::Further { name, place, wanted, required } => {
                let found = match place {
                    Place::Pointer(pointer) => self.at(pointer, *wanted),
                    Place::Attribute(attribute) => {
                        message.attributes.get(attribute).map(|text| parse(text, *wanted)).transpose()
                    }
                };
                let found = found.map_err(|problem| Cause::new(format!(":{name}: {problem}")))?;
                match found.filter(|value| !matches!(value, Value::Null(_))) {
                    Some(value) => value,
                    None if *required => {
                        return Err(Cause::new(format!(":{name}: the message has no {}", place.shown())));
                    }
                    None => Value::Null(*wanted),
                }
            }
        })
    }

    fn at(&mut self, pointer: &str, wanted: Type) -> Result<Option<Value>, String> {
        let payload = &self.delivery.message.payload;
        let json = self.json.get_or_insert_with(|| {
            serde_json::from_slice(payload).map_err(|error| format!("the payload is no JSON: {error}"))
        });
        match json {
            Ok(json) => json.pointer(pointer).map(|found| convert(found, wanted)).transpose(),
            Err(problem) => Err(problem.clone()),
        }
    }
}

impl Place {
    fn shown(&self) -> String {
        match self {
            Self::Pointer(pointer) => format!("value at `{pointer}`"),
            Self::Attribute(attribute) => format!("attribute `{attribute}`"),
        }
    }
}
