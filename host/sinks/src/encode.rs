//! A delivery as JSON, for every sink that writes JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_reading::{Attributes, Delivery, Message};
use serde::Serialize;
use serde_json::value::RawValue;

/// One object on one line, without a newline at its end:
///
/// ```json
/// {"time":"2026-11-20T21:40:00.000250Z","topic":"sensors/kitchen","device":"k1","content_type":"application/json",
///  "attributes":{"mqtt.qos":"1"},"payload":{"celsius":21.5},"route":"kitchen","reading":"01…","id":"01…"}
/// ```
///
/// `payload` is the JSON itself for JSON, byte for byte but for line breaks between its tokens, and a string
/// for `text/…` in UTF-8; anything else is `payload_base64`. An attribute that occurs more than once is an array.
///
/// `id` stands last, and is the only place where a line can end in it: a line that was cut off has no id.
pub(crate) fn json(delivery: &Delivery, into: &mut Vec<u8>) {
    let message = &delivery.message;
    let (payload, payload_base64) = payload(message);
    let line = Line {
        time: delivery.time.to_string(),
        topic: message.topic.as_str(),
        device: message.device.as_deref(),
        content_type: message.content_type.as_str(),
        attributes: attributes(&message.attributes),
        payload,
        payload_base64,
        route: delivery.route.as_str(),
        reading: delivery.reading.to_string(),
        id: delivery.id.to_string(),
    };
    serde_json::to_writer(into, &line).expect("strings and valid JSON, written to memory");
}

/// `{"mqtt.qos":"1"}`: as they stand in a line.
pub(crate) fn attributes_json(given: &Attributes) -> String {
    serde_json::to_string(&attributes(given)).expect("strings, written to memory")
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    topic: &'a str,
    device: Option<&'a str>,
    content_type: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'a str, Values<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    route: &'a str,
    reading: String,
    id: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    More(Vec<&'a str>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(Cow<'a, RawValue>),
    Text(&'a str),
}

fn attributes(attributes: &Attributes) -> BTreeMap<&str, Values<'_>> {
    let mut by_key: BTreeMap<&str, Values<'_>> = BTreeMap::new();
    for (key, value) in attributes.iter() {
        by_key
            .entry(key)
            .and_modify(|values| match values {
                Values::One(first) => *values = Values::More(vec![first, value]),
                Values::More(values) => values.push(value),
            })
            .or_insert(Values::One(value));
    }
    by_key
}

fn payload(message: &Message) -> (Option<Payload<'_>>, Option<String>) {
    let bytes = &message.payload;
    let readable = if message.content_type.is_json() {
        on_one_line(bytes).map(Payload::Json)
    } else if message.content_type.is_in("text/*") {
        std::str::from_utf8(bytes).ok().map(Payload::Text)
    } else {
        None
    };
    match readable {
        Some(payload) => (Some(payload), None),
        None => (None, Some(STANDARD.encode(bytes))),
    }
}

/// `None` if it is not JSON after all.
fn on_one_line(bytes: &[u8]) -> Option<Cow<'_, RawValue>> {
    let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
    if !raw.get().contains(['\n', '\r']) {
        return Some(Cow::Borrowed(raw));
    }
    // Strings cannot contain bare line breaks: all there are stand between tokens.
    let line = raw.get().replace(['\n', '\r'], " ");
    RawValue::from_string(line).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::delivery;
    use expect_test::{Expect, expect};

    fn check(content_type: &str, payload: &'static [u8], expected: &Expect) {
        let mut delivery = delivery(7);
        delivery.message.content_type = content_type.parse().unwrap();
        delivery.message.payload = payload.into();
        delivery.message.attributes =
            Attributes::new().with("mqtt.qos", "1").with("tag", "a").with("tag", "b");
        let mut line = Vec::new();
        json(&delivery, &mut line);
        expected.assert_eq(std::str::from_utf8(&line).unwrap());
    }

    #[test]
    fn json_stays_as_it_came_but_on_one_line() {
        check(
            "application/json",
            b"{\n  \"big\": 12345678901234567890123, \"text\": \"a\\nb\"\r\n}\n",
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.007000Z","topic":"sensors/kitchen","device":"k1","content_type":"application/json","attributes":{"mqtt.qos":"1","tag":["a","b"]},"payload":{   "big": 12345678901234567890123, "text": "a\nb"  },"route":"kitchen","reading":"01H5XXK1000000000000000007","id":"01HF7YAT000000000000000007"}"#
            ]],
        );
    }

    #[test]
    fn text_is_a_string() {
        check(
            "text/plain; charset=utf-8",
            "21 °C\n".as_bytes(),
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.007000Z","topic":"sensors/kitchen","device":"k1","content_type":"text/plain; charset=utf-8","attributes":{"mqtt.qos":"1","tag":["a","b"]},"payload":"21 °C\n","route":"kitchen","reading":"01H5XXK1000000000000000007","id":"01HF7YAT000000000000000007"}"#
            ]],
        );
    }

    #[test]
    fn anything_else_is_base64() {
        check(
            "image/jpeg",
            b"\xff\xd8\xff",
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.007000Z","topic":"sensors/kitchen","device":"k1","content_type":"image/jpeg","attributes":{"mqtt.qos":"1","tag":["a","b"]},"payload_base64":"/9j/","route":"kitchen","reading":"01H5XXK1000000000000000007","id":"01HF7YAT000000000000000007"}"#
            ]],
        );
    }

    #[test]
    fn what_only_claims_to_be_json_or_text_is_base64() {
        check(
            "application/json",
            b"{\"half\":",
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.007000Z","topic":"sensors/kitchen","device":"k1","content_type":"application/json","attributes":{"mqtt.qos":"1","tag":["a","b"]},"payload_base64":"eyJoYWxmIjo=","route":"kitchen","reading":"01H5XXK1000000000000000007","id":"01HF7YAT000000000000000007"}"#
            ]],
        );
        check(
            "text/plain",
            b"\xff",
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.007000Z","topic":"sensors/kitchen","device":"k1","content_type":"text/plain","attributes":{"mqtt.qos":"1","tag":["a","b"]},"payload_base64":"/w==","route":"kitchen","reading":"01H5XXK1000000000000000007","id":"01HF7YAT000000000000000007"}"#
            ]],
        );
    }
}
