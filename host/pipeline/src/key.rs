//! What keeps readings of a route in order: those with one key are handled one after the other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sandbar_reading::Inbound;
use serde::{Deserialize, Serialize};

/// Where a reading's key is. In text: `device`, `topic`, `none`, `attribute:NAME`, `pointer:/json/pointer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Key {
    /// The device; for a reading without one, its topic.
    #[default]
    Device,
    Topic,
    /// The value of an attribute; for a reading without it, the empty key.
    Attribute(Box<str>),
    /// A value in a JSON payload (RFC 6901); for a reading without it, the empty key.
    Pointer(Box<str>),
    /// One key for all: the route handles one reading at a time.
    None,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a key: device, topic, none, attribute:NAME or pointer:/path/in/json")]
pub struct KeyError {
    text: String,
}

impl Key {
    pub fn of(&self, inbound: &Inbound) -> Arc<str> {
        match self {
            Self::Device => inbound.device.as_deref().unwrap_or(inbound.topic.as_str()).into(),
            Self::Topic => inbound.topic.as_str().into(),
            Self::Attribute(name) => inbound.attributes.get(name).unwrap_or_default().into(),
            Self::Pointer(pointer) => at_pointer(&inbound.payload, pointer).into(),
            Self::None => "".into(),
        }
    }
}

fn at_pointer(payload: &[u8], pointer: &str) -> String {
    let payload: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    match payload.as_ref().and_then(|payload| payload.pointer(pointer)) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            None if text == "device" => Ok(Self::Device),
            None if text == "topic" => Ok(Self::Topic),
            None if text == "none" => Ok(Self::None),
            Some(("attribute", name)) if !name.is_empty() => Ok(Self::Attribute(name.into())),
            Some(("pointer", path)) if path.starts_with('/') => Ok(Self::Pointer(path.into())),
            _ => Err(KeyError { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Topic => f.write_str("topic"),
            Self::Attribute(name) => write!(f, "attribute:{name}"),
            Self::Pointer(path) => write!(f, "pointer:{path}"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{Attributes, ContentType};

    use super::*;

    fn key(text: &str, device: Option<&str>, payload: &'static str) -> String {
        let inbound = Inbound {
            device: device.map(Into::into),
            attributes: Attributes::new().with("line", "7"),
            ..Inbound::new("a/b".parse().unwrap(), ContentType::JSON, payload.into())
        };
        text.parse::<Key>().unwrap().of(&inbound).to_string()
    }

    #[test]
    fn is_found_where_the_route_says() {
        assert_eq!(key("device", Some("d1"), ""), "d1");
        assert_eq!(key("device", None, ""), "a/b");
        assert_eq!(key("topic", Some("d1"), ""), "a/b");
        assert_eq!(key("attribute:line", None, ""), "7");
        assert_eq!(key("attribute:other", None, ""), "");
        assert_eq!(key("pointer:/site/id", None, r#"{"site":{"id":12}}"#), "12");
        assert_eq!(key("pointer:/site/id", None, r#"{"site":{"id":"x"}}"#), "x");
        assert_eq!(key("pointer:/site/id", None, "no json"), "");
        assert_eq!(key("none", Some("d1"), ""), "");
    }

    #[test]
    fn survives_its_text_form() {
        for text in ["device", "topic", "none", "attribute:a:b", "pointer:/a/0"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        for bad in ["", "devices", "attribute:", "pointer:a"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
