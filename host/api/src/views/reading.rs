//! Readings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{ConfigError, ContentType, Inbound, Reading, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::payload::{AttributesView, Json, PayloadView, attributes_of, attributes_view, present};

/// Bytes of a device's id.
const DEVICE_MAX: usize = 255;

/// A reading of the journal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReadingView {
    /// 26 characters, sortable by the time of acceptance.
    pub id: String,
    /// The ingress it came in through; `route/NAME` for a message of a route.
    pub ingress: String,
    pub topic: String,
    pub device: Option<String>,
    /// When it was measured, or else accepted. RFC 3339.
    pub time: String,
    pub content_type: String,
    #[serde(default, skip_serializing_if = "AttributesView::is_empty")]
    pub attributes: AttributesView,
    /// The reading whose handling put it out as a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How many routes it came through.
    #[serde(default)]
    pub depth: u8,
    #[serde(flatten)]
    pub payload: PayloadView,
}

impl From<&Reading> for ReadingView {
    fn from(reading: &Reading) -> Self {
        Self {
            id: reading.id.to_string(),
            ingress: reading.ingress.to_string(),
            topic: reading.topic.to_string(),
            device: reading.device.as_deref().map(str::to_owned),
            time: reading.time.to_string(),
            content_type: reading.content_type.to_string(),
            attributes: attributes_view(&reading.attributes),
            parent: reading.lineage.parent.map(|parent| parent.to_string()),
            depth: reading.lineage.depth,
            payload: PayloadView::of(&reading.content_type, &reading.payload),
        }
    }
}

/// A reading to hand over, with at most one of the three payloads; without one it is empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReading {
    /// 1 to 65,535 bytes without `+`, `#` and NUL: `sensors/kitchen`.
    #[schemars(length(min = 1, max = 65535), regex(pattern = r"^[^+#\x00]+$"))]
    pub topic: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub device: Option<String>,
    /// By default `application/json` for `payload_json`, `text/plain` for `payload`, else
    /// `application/octet-stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "AttributesView::is_empty")]
    pub attributes: AttributesView,
    /// Any JSON; handed over byte for byte.
    #[serde(default, deserialize_with = "raw", skip_serializing_if = "Option::is_none")]
    pub payload_json: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Standard alphabet, with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9+/]*={0,2}$"))]
    pub payload_base64: Option<String>,
}

impl NewReading {
    /// The error names the field.
    pub fn inbound(self) -> Result<Inbound, ConfigError> {
        let given = [self.payload_json.is_some(), self.payload.is_some(), self.payload_base64.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(ConfigError::at("payload", "give one of payload, payload_json, payload_base64"));
        }
        let natural = match given {
            [true, ..] => ContentType::JSON,
            [_, true, _] => ContentType::TEXT,
            _ => ContentType::OCTETS,
        };
        let at = |field: &str, error: &dyn std::fmt::Display| ConfigError::at(field, error.to_string());
        let topic = self.topic.parse::<Topic>().map_err(|error| at("topic", &error))?;
        let content_type = match &self.content_type {
            Some(text) => text.parse().map_err(|error| at("content_type", &error))?,
            None => natural,
        };
        if self.device.as_ref().is_some_and(|device| device.is_empty() || device.len() > DEVICE_MAX) {
            return Err(ConfigError::at("device", format!("must have 1 to {DEVICE_MAX} bytes")));
        }
        let payload = match (self.payload_json, self.payload, self.payload_base64) {
            (Some(json), ..) => Box::<str>::from(json.0).into_string().into(),
            (_, Some(text), _) => text.into(),
            (.., Some(text)) => STANDARD.decode(&text).map_err(|error| at("payload_base64", &error))?.into(),
            (None, None, None) => Bytes::new(),
        };
        Ok(Inbound {
            device: self.device.map(Into::into),
            attributes: attributes_of(self.attributes),
            ..Inbound::new(topic, content_type, payload)
        })
    }
}

/// Byte for byte, and `Some` also when it is `null`.
fn raw<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    present(from).map(|raw| raw.map(Json))
}

/// A reading that is on disk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedView {
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(json: &str) -> Result<Inbound, ConfigError> {
        serde_json::from_str::<NewReading>(json).unwrap().inbound()
    }

    #[test]
    fn the_payload_is_handed_over_byte_for_byte_and_says_its_type() {
        let reading = inbound(r#"{"topic":"a","payload_json":{"n": 1e400, "b":[ ]}}"#).unwrap();
        assert_eq!(&reading.payload[..], br#"{"n": 1e400, "b":[ ]}"#);
        assert_eq!(reading.content_type, ContentType::JSON);
        let reading = inbound(r#"{"topic":"a","payload_json":null}"#).unwrap();
        assert_eq!((&reading.payload[..], reading.content_type), (&b"null"[..], ContentType::JSON));
        let reading = inbound(r#"{"topic":"a","payload":"x","content_type":"text/csv"}"#).unwrap();
        assert_eq!((&reading.payload[..], reading.content_type.as_str()), (&b"x"[..], "text/csv"));
        let reading = inbound(r#"{"topic":"a","payload_base64":"/wA="}"#).unwrap();
        assert_eq!((&reading.payload[..], reading.content_type), (&b"\xff\x00"[..], ContentType::OCTETS));
    }

    #[test]
    fn the_field_that_cannot_work_is_named() {
        for (json, field) in [
            (r#"{"topic":""}"#, "topic"),
            (r#"{"topic":"a/+"}"#, "topic"),
            (r#"{"topic":"a","device":""}"#, "device"),
            (r#"{"topic":"a","content_type":"json"}"#, "content_type"),
            (r#"{"topic":"a","payload_base64":"?"}"#, "payload_base64"),
            (r#"{"topic":"a","payload":"","payload_json":1}"#, "payload"),
        ] {
            assert_eq!(inbound(json).unwrap_err().setting, field, "{json}");
        }
    }
}
