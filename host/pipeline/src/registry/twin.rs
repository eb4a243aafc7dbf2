//! Which resources of a device a reading has values of. Pure.
//!
//! A resource is named by what follows the device in the reading's topic, and by the JSON key in its payload:
//!
//! | topic | device | payload | resources |
//! |---|---|---|---|
//! | `sensors/d1` | `d1` | `{"t":21.5,"on":true}` | `t` = 21.5, `on` = true |
//! | `sensors/d1/motor` | `d1` | `{"speed":3}` | `motor/speed` = 3 |
//! | `node/d1/led` | `d1` | `{"value":1}` | `led` = 1 |
//! | `sensors/d1/temp` | `d1` | `21.5` | `temp` = 21.5 |
//! | `hall/door` | `d1` | `open` | `door` = "open" |
//!
//! Where the device is not in the topic, keys stand alone and other payloads have the topic's last level as name.

use bytes::Bytes;
use sandbar_reading::{ContentType, DeliveryId, Timestamp, Topic};
use sandbar_store::Resource;
use serde_json::{Map, Value, json};

/// The most bytes of a value as JSON text; of a larger one only its size is kept.
const VALUE_MAX: usize = 4096;

/// Payloads beyond this are not looked into.
const PAYLOAD_MAX: usize = 64 << 10;

/// The most resources that a reading has values of: the first by name.
const KEYS_MAX: usize = 256;

/// The most bytes of a resource's name.
const NAME_MAX: usize = 255;

pub(super) fn resources(
    topic: &Topic,
    device: &str,
    content_type: &ContentType,
    payload: &[u8],
    time: Timestamp,
) -> Vec<Resource> {
    let within = within(topic.as_str(), device);
    let alone = || within.unwrap_or_else(|| topic.as_str().rsplit('/').next().unwrap_or_default());
    let values = match read(content_type, payload) {
        Value::Object(mut keys) => match (within, keys.len(), keys.remove("value")) {
            (Some(within), 1, Some(value)) => vec![(within.to_owned(), value)],
            (_, _, value) => {
                keys.extend(value.map(|value| ("value".to_owned(), value)));
                of_keys(within, keys)
            }
        },
        value => vec![(alone().to_owned(), value)],
    };
    let resource = |(name, value): (String, Value)| {
        let is_one = (1..=NAME_MAX).contains(&name.len()) && !is_echo(&name, &value);
        is_one.then(|| resource(&name, &value, time))
    };
    values.into_iter().filter_map(resource).collect()
}

/// The id of a command that it answers is nothing of the device's.
fn is_echo(name: &str, value: &Value) -> bool {
    name == "id" && value.as_str().is_some_and(|text| text.parse::<DeliveryId>().is_ok())
}

/// One that a driver names.
pub(super) fn resource(name: &str, value: &Value, time: Timestamp) -> Resource {
    let text = value.to_string();
    let text = if text.len() > VALUE_MAX { json!({ "bytes": text.len() }).to_string() } else { text };
    Resource { name: name.into(), time, value: text.into() }
}

/// What follows the device in the topic.
fn within<'a>(topic: &'a str, device: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(at) = topic[from..].find(device) {
        let (begin, end) = (from + at, from + at + device.len());
        let begins = begin == 0 || topic.as_bytes()[begin - 1] == b'/';
        match topic.as_bytes().get(end) {
            Some(b'/') if begins => return Some(&topic[end + 1..]).filter(|rest| !rest.is_empty()),
            _ => from = end.max(begin + 1),
        }
        if device.is_empty() || !topic.is_char_boundary(from) {
            return None;
        }
    }
    None
}

fn of_keys(within: Option<&str>, keys: Map<String, Value>) -> Vec<(String, Value)> {
    let name = |key: String| match within {
        Some(within) => format!("{within}/{key}"),
        None => key,
    };
    keys.into_iter().take(KEYS_MAX).map(|(key, value)| (name(key), value)).collect()
}

/// JSON as it is, other text as a text, of the rest the size.
fn read(content_type: &ContentType, payload: &[u8]) -> Value {
    let size = || json!({ "bytes": payload.len(), "content_type": content_type.as_str() });
    if payload.len() > PAYLOAD_MAX {
        return Value::Array(vec![size()]);
    }
    match std::str::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        Err(_) => Value::Array(vec![size()]),
    }
}

/// What is sent to give a resource this value: a text as it is, everything else as JSON.
pub(super) fn payload(value: &str) -> (ContentType, Bytes) {
    match serde_json::from_str(value) {
        Ok(Value::String(text)) => (ContentType::TEXT, text.into()),
        _ => (ContentType::JSON, value.to_owned().into()),
    }
}

/// Whether a resource that was reported is what it should be: the same JSON, the same number, or the same as text.
pub fn is_same(reported: &str, desired: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (reported, desired) = (parse(reported), parse(desired));
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.trim().to_owned(),
        value => value.to_string(),
    };
    reported == desired
        || number(&reported).zip(number(&desired)).is_some_and(|(one, other)| one == other)
        || text(&reported) == text(&desired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topic: &str, device: &str, payload: &str, expected: &[(&str, &str)]) {
        let topic = topic.parse().unwrap();
        let found =
            resources(&topic, device, &ContentType::JSON, payload.as_bytes(), Timestamp::from_nanos(1));
        let found: Vec<_> = found.iter().map(|found| (&*found.name, &*found.value)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn resources_are_named_by_topic_and_key() {
        check("sensors/d1", "d1", r#"{"t":21.5,"on":true}"#, &[("on", "true"), ("t", "21.5")]);
        check("sensors/d1/motor", "d1", r#"{"speed":3}"#, &[("motor/speed", "3")]);
        check("node/d1/led", "d1", r#"{"value":1}"#, &[("led", "1")]);
        check("node/d1/led", "d1", r#"{"value":1,"u":2}"#, &[("led/u", "2"), ("led/value", "1")]);
        check("sensors/d1/temp", "d1", "21.5", &[("temp", "21.5")]);
        check("hall/door", "d1", "open", &[("door", "\"open\"")]);
        check("hall/door", "d1", r#"{"value":1}"#, &[("value", "1")]);
        check("d1/d1/x", "d1", "1", &[("d1/x", "1")]);
        check("sensors/d12/x", "d1", "1", &[("x", "1")]);
        check("a", "d1", "{}", &[]);
        check("a", "", "1", &[("a", "1")]);
        check("a", "d1", r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","on":1}"#, &[("on", "1")]);
        check("a", "d1", r#"{"id":"d1"}"#, &[("id", "\"d1\"")]);
        check("d/é/é/t", "é", "1", &[("é/t", "1")]);
    }

    #[test]
    fn of_what_is_large_or_no_text_the_size_is_kept() {
        let topic = "pictures/d1".parse().unwrap();
        let of = |payload: &[u8]| {
            let kind = "image/png".parse().unwrap();
            resources(&topic, "d1", &kind, payload, Timestamp::from_nanos(1))[0].value.to_string()
        };
        assert_eq!(of(&[0xff, 0]), r#"[{"bytes":2,"content_type":"image/png"}]"#);
        assert_eq!(of(&vec![b'a'; 70_000]), r#"[{"bytes":70000,"content_type":"image/png"}]"#);
        assert_eq!(of(&vec![b'a'; 5000]), r#"{"bytes":5002}"#);
    }

    #[test]
    fn of_very_many_keys_the_first_are_resources() {
        let keys = (0..5000).map(|key| (format!("{key:04}"), json!(1)));
        let payload = Value::Object(keys.collect()).to_string();
        let topic = "sensors/d1".parse().unwrap();
        let time = Timestamp::from_nanos(1);
        let found = resources(&topic, "d1", &ContentType::JSON, payload.as_bytes(), time);
        assert_eq!(found.len(), KEYS_MAX);
        assert_eq!(found.last().map(|last| &*last.name), Some("0255"));
    }

    #[test]
    fn a_desired_value_is_reached_in_whatever_form_it_is_reported() {
        for (reported, desired) in
            [("1", "1"), ("\"1\"", "1"), ("1.0", "1"), ("\"on\"", "\"on\""), ("true", "\"true\"")]
        {
            assert!(is_same(reported, desired), "{reported} {desired}");
        }
        for (reported, desired) in
            [("0", "1"), ("\"off\"", "\"on\""), ("{\"a\":1}", "{\"a\":2}"), ("null", "0")]
        {
            assert!(!is_same(reported, desired), "{reported} {desired}");
        }
    }
}
