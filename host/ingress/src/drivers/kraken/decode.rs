//! A collector's message to an inbound. Pure.

use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Topic, TopicError};
use serde_json::{Map, Value};

use super::proto::KrakenRequest;

/// How readings get their topic and device.
#[derive(Debug)]
pub(crate) struct Naming {
    /// With `{collector}` in it, perhaps.
    topic: String,
    devices: Vec<String>,
}

/// What stands in for the collector's name in a topic.
const COLLECTOR: &str = "{collector}";

/// More than any collector says of itself.
const METADATA_MAX: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("collector_name `{name}` makes no topic: {error}")]
    Collector { name: String, error: TopicError },
    #[error("content_type `{text}` is no content type, such as application/json")]
    ContentType { text: String },
    #[error("metadata has {size} bytes, more than {METADATA_MAX}")]
    Metadata { size: usize },
}

impl Naming {
    /// Errors name the setting.
    pub(crate) fn new(topic: &str, devices: &[String]) -> Result<Self, ConfigError> {
        let rest = topic.replace(COLLECTOR, "x");
        if rest.contains(['{', '}']) {
            return Err(ConfigError::at("topic", "may have {collector} in it, and no other braces"));
        }
        rest.parse::<Topic>().map_err(|error| ConfigError::at("topic", error.to_string()))?;
        Ok(Self { topic: topic.to_owned(), devices: devices.to_vec() })
    }
}

/// `peer` is the collector's address. The metadata becomes attributes: `kraken.metadata`, as it came, and what an
/// object has in it, `kraken.metadata.<key>`.
pub(crate) fn decode(naming: &Naming, request: KrakenRequest, peer: &str) -> Result<Inbound, DecodeError> {
    let KrakenRequest { collector_name, content_type, metadata, payload } = request;
    let topic = naming
        .topic
        .replace(COLLECTOR, &collector_name)
        .parse::<Topic>()
        .map_err(|error| DecodeError::Collector { name: shown(&collector_name), error })?;
    let content_type = match content_type.as_str() {
        "" => ContentType::OCTETS,
        text => text.parse().map_err(|_| DecodeError::ContentType { text: shown(text) })?,
    };
    if metadata.len() > METADATA_MAX {
        return Err(DecodeError::Metadata { size: metadata.len() });
    }
    let mut attributes = Attributes::new().with("kraken.collector", collector_name).with("peer", peer);
    let mut device = None;
    // Collectors that have nothing to say send an empty object; what is no object at all is kept as it came.
    let fields = serde_json::from_str::<Map<String, Value>>(&metadata).unwrap_or_default();
    if !metadata.is_empty() && metadata != "{}" {
        attributes.add("kraken.metadata", metadata);
    }
    for (key, value) in &fields {
        attributes.add(format!("kraken.metadata.{key}"), text(value));
    }
    for key in &naming.devices {
        device = fields.get(key).map(text).filter(|name| !name.is_empty());
        if device.is_some() {
            break;
        }
    }
    Ok(Inbound { device: device.map(Into::into), attributes, ..Inbound::new(topic, content_type, payload) })
}

/// A text is itself; anything else is JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Bytes that claim to be a collector's message.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Inbound, String> {
    use prost::Message;
    let naming = Naming::new("kraken/{collector}", &["device_name".to_owned()]).map_err(|e| e.to_string())?;
    let request = KrakenRequest::decode(bytes).map_err(|error| error.to_string())?;
    decode(&naming, request, "peer").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn request(collector: &str, content_type: &str, metadata: &str) -> KrakenRequest {
        KrakenRequest {
            collector_name: collector.to_owned(),
            content_type: content_type.to_owned(),
            metadata: metadata.to_owned(),
            payload: Bytes::from_static(b"21.5"),
        }
    }

    fn naming() -> Naming {
        Naming::new("kraken/{collector}", &["device_name".to_owned(), "camera_name".to_owned()]).unwrap()
    }

    fn check(request: KrakenRequest, expected: &Expect) {
        match decode(&naming(), request, "10.0.0.7:5") {
            Ok(inbound) => {
                let attributes: Vec<_> = inbound.attributes.iter().collect();
                expected.assert_eq(&format!(
                    "{} {:?} {} {attributes:?}",
                    inbound.topic, inbound.device, inbound.content_type
                ));
            }
            Err(error) => expected.assert_eq(&format!("Err({error})")),
        }
    }

    #[test]
    fn what_each_collector_sends_is_a_reading() {
        check(
            request("webhook", "application/json", "{}"),
            &expect![[
                r#"kraken/webhook None application/json [("kraken.collector", "webhook"), ("peer", "10.0.0.7:5")]"#
            ]],
        );
        check(
            request("serial", "application/octet-stream", r#"{"device_name":"press"}"#),
            &expect![[
                r#"kraken/serial Some("press") application/octet-stream [("kraken.collector", "serial"), ("peer", "10.0.0.7:5"), ("kraken.metadata", "{\"device_name\":\"press\"}"), ("kraken.metadata.device_name", "press")]"#
            ]],
        );
        check(
            request("camera", "image/jpeg", r#"{"camera_name":"gate","width":640,"height":480}"#),
            &expect![[
                r#"kraken/camera Some("gate") image/jpeg [("kraken.collector", "camera"), ("peer", "10.0.0.7:5"), ("kraken.metadata", "{\"camera_name\":\"gate\",\"width\":640,\"height\":480}"), ("kraken.metadata.camera_name", "gate"), ("kraken.metadata.height", "480"), ("kraken.metadata.width", "640")]"#
            ]],
        );
        check(
            request("", "", "no JSON"),
            &expect![[
                r#"kraken/ None application/octet-stream [("kraken.collector", ""), ("peer", "10.0.0.7:5"), ("kraken.metadata", "no JSON")]"#
            ]],
        );
    }

    #[test]
    fn says_what_makes_no_reading() {
        check(
            request("a/#", "text/plain", ""),
            &expect!["Err(collector_name `a/#` makes no topic: a topic cannot contain '#' (at byte 9))"],
        );
        check(
            request("tcp", "json", ""),
            &expect!["Err(content_type `json` is no content type, such as application/json)"],
        );
        check(
            request("tcp", "", &"x".repeat(20_000)),
            &expect!["Err(metadata has 20000 bytes, more than 16384)"],
        );
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        for topic in ["", "a/#", "a/{device}"] {
            assert_eq!(Naming::new(topic, &[]).unwrap_err().setting, "topic");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_decoded_or_refused(bytes: Vec<u8>, collector: String, kind: String, metadata: String) {
            let _ = decode_bytes(&bytes);
            let request = KrakenRequest {
                collector_name: collector,
                content_type: kind,
                metadata,
                payload: Bytes::from(bytes.clone()),
            };
            if let Ok(inbound) = decode(&naming(), request, "peer") {
                prop_assert_eq!(inbound.payload, bytes);
            }
        }
    }
}
