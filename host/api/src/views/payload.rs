//! Payloads and attributes as JSON shows them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType};
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Exactly one of the three: `payload_json` for JSON that parses, `payload` for other text in UTF-8,
/// `payload_base64` for the rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PayloadView {
    /// The JSON itself, as it came.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload_json: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl PayloadView {
    pub fn of(content_type: &ContentType, bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok();
        let json = text.filter(|_| content_type.is_json()).and_then(|text| serde_json::from_str(text).ok());
        match (json, text) {
            (Some(json), _) => Self { payload_json: Some(Json(json)), ..Self::default() },
            (None, Some(text)) => Self { payload: Some(text.to_owned()), ..Self::default() },
            (None, None) => Self { payload_base64: Some(STANDARD.encode(bytes)), ..Self::default() },
        }
    }

    /// The bytes again; none if no field is set, or if `payload_base64` is not base 64.
    pub fn bytes(&self) -> Option<Bytes> {
        if let Some(json) = &self.payload_json {
            return Some(json.0.get().to_owned().into());
        }
        if let Some(text) = &self.payload {
            return Some(text.clone().into());
        }
        STANDARD.decode(self.payload_base64.as_ref()?).ok().map(Bytes::from)
    }
}

/// Any JSON, written as it came: numbers keep their digits.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Json(#[schemars(with = "serde_json::Value")] pub Box<RawValue>);

/// Text by way of a value, because a raw value cannot be read out of a flattened field. Only clients read it.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        serde_json::value::to_raw_value(&value).map(Self).map_err(D::Error::custom)
    }
}

/// A field that is there is `Some`, also when it is `null`.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// What a protocol says beside the payload: `{"mqtt.qos": "1"}`; an attribute that occurs more than once
/// is a list.
pub type AttributesView = BTreeMap<String, Values>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub enum Values {
    One(String),
    More(Vec<String>),
}

pub(crate) fn attributes_view(attributes: &Attributes) -> AttributesView {
    let mut by_key = AttributesView::new();
    for (key, value) in attributes.iter() {
        by_key
            .entry(key.to_owned())
            .and_modify(|values| match values {
                Values::One(first) => *values = Values::More(vec![std::mem::take(first), value.to_owned()]),
                Values::More(values) => values.push(value.to_owned()),
            })
            .or_insert_with(|| Values::One(value.to_owned()));
    }
    by_key
}

pub(crate) fn attributes_of(view: AttributesView) -> Attributes {
    let mut attributes = Attributes::new();
    for (key, values) in view {
        match values {
            Values::One(value) => attributes.add(key, value),
            Values::More(values) => values.into_iter().for_each(|value| attributes.add(key.as_str(), value)),
        }
    }
    attributes.remove_reserved();
    attributes
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "reads like the other checks")]
    fn check(content_type: &str, payload: &[u8], expected: Expect) {
        let view = PayloadView::of(&content_type.parse().unwrap(), payload);
        let json = serde_json::to_string(&view).unwrap();
        expected.assert_eq(&json);
        let read: PayloadView = serde_json::from_str(&json).unwrap();
        assert_eq!(view.bytes().unwrap(), payload);
        assert!(read.bytes().is_some());
    }

    #[test]
    fn json_is_shown_as_it_came_text_as_text_and_the_rest_in_base_64() {
        check(
            "application/json",
            br#"{"a": 12345678901234567890123}"#,
            expect![[r#"{"payload_json":{"a": 12345678901234567890123}}"#]],
        );
        check("application/json", b"null", expect![[r#"{"payload_json":null}"#]]);
        check("application/json", b"{", expect![[r#"{"payload":"{"}"#]]);
        check("application/octet-stream", b"abc", expect![[r#"{"payload":"abc"}"#]]);
        check("text/plain", b"\xff\x00", expect![[r#"{"payload_base64":"/wA="}"#]]);
    }

    #[test]
    fn attributes_that_repeat_are_lists() {
        let attributes = Attributes::new().with("a", "1").with("b", "2").with("a", "3");
        let view = attributes_view(&attributes);
        assert_eq!(serde_json::to_string(&view).unwrap(), r#"{"a":["1","3"],"b":"2"}"#);
        assert_eq!(attributes_of(view), Attributes::new().with("a", "1").with("a", "3").with("b", "2"));
    }
}
