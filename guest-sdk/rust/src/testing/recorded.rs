//! Recorded readings and what is expected of them: the files that `sandbar test` reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Harness, reading, seconds};
use crate::{Failure, Handler, Message, Output, Reading};

/// When `sandbar test` begins: the first of January 2026.
const BEGINNING: u64 = seconds(1_767_225_600);

/// Hands every reading of `readings.jsonl` in `folder` to a handler with these settings, and compares what comes of
/// it with `expected.jsonl`. What is put out must be text; for other payloads, and for attempts after a failure, there
/// is `sandbar test`, which reads the same files.
///
/// A line of the first is a reading: `{topic, device?, time?, ingress?, content_type?, attributes?}` and one of
/// `payload` (JSON as it stands, or a string for any other text), `payload_json` and `payload_base64`; `sandbar record`
/// writes such lines. Without a time it came a second after the one before. A line of the second is what one reading
/// brings about, in order: `{reading, message|reply|command: {…}}` or `{reading, reject|retry: "why"}`, where `reading`
/// counts those of the first from 1. Empty lines are passed over.
///
/// # Panics
/// When something else happens than is expected, or a file is not what it should be.
pub fn recorded<H: Handler>(folder: &str, settings: &[(&str, &str)]) {
    recorded_keyed::<H>(folder, settings, |reading| reading.subject().to_owned());
}

/// As [`recorded`], for a route with another `key` than the device.
///
/// # Panics
/// As [`recorded`].
pub fn recorded_keyed<H: Handler>(folder: &str, settings: &[(&str, &str)], key: fn(&Reading) -> String) {
    let harness = Harness::<H>::new(settings).unwrap_or_else(|refused| panic!("configure: {refused}"));
    let mut harness = harness.keyed_by(key);
    let mut happened = Vec::new();
    for (at, reading) in readings(&read(folder, "readings.jsonl")).into_iter().enumerate() {
        let of = at + 1;
        match harness.handle(reading.clone()) {
            Ok(outputs) => happened.extend(outputs.iter().map(|output| show(of, &reading, output))),
            Err(Failure::Reject(cause)) => happened.push(json!({"reading": of, "reject": cause})),
            Err(Failure::Retry(cause)) => happened.push(json!({"reading": of, "retry": cause})),
        }
    }
    let text = read(folder, "expected.jsonl");
    let expected: Vec<Value> = lines(&text).map(parse).collect();
    for (happened, expected) in happened.iter().zip(&expected) {
        assert_eq!(happened, expected, "this happened (left), that was expected (right)");
    }
    assert_eq!(happened.len(), expected.len(), "so many happened (left), so many were expected (right)");
}

/// As the host has it (`host/src/recording.rs`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    topic: String,
    device: Option<String>,
    time: Option<String>,
    ingress: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, Values>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    payload_json: Option<&'a RawValue>,
    payload_base64: Option<String>,
    // What the API says beside, and a reading that is made anew does not keep.
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "parent")]
    _parent: Option<IgnoredAny>,
    #[serde(rename = "depth")]
    _depth: Option<IgnoredAny>,
}

/// One value, or several of one name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    More(Vec<String>),
}

fn readings(text: &str) -> Vec<Reading> {
    let mut now = BEGINNING;
    lines(text).map(|line| parse::<Line<'_>>(line).reading(&mut now)).collect()
}

impl Line<'_> {
    fn reading(self, now: &mut u64) -> Reading {
        let (payload, natural) = self.bytes();
        let time = match &self.time {
            Some(time) => crate::time::parse(time).expect("a time is RFC 3339, in UTC"),
            None => *now + seconds(1),
        };
        *now = time.max(*now);
        let attributes = self.attributes.into_iter().flat_map(|(key, values)| {
            let values = match values {
                Values::One(value) => vec![value],
                Values::More(values) => values,
            };
            values.into_iter().map(move |value| (key.clone(), value))
        });
        Reading {
            ingress: self.ingress.unwrap_or_else(|| "recorded".to_owned()),
            device: self.device,
            time,
            content_type: self.content_type.unwrap_or_else(|| natural.to_owned()),
            attributes: attributes.collect(),
            ..reading(&self.topic, payload)
        }
    }

    /// The payload, and the content type if none is said.
    fn bytes(&self) -> (Vec<u8>, &'static str) {
        match (self.payload, self.payload_json, self.payload_base64.as_deref()) {
            (Some(text), None, None) if text.get().starts_with('"') => {
                (parse::<String>(text.get()).into_bytes(), "text/plain")
            }
            (Some(json), None, None) | (None, Some(json), None) => (json.get().into(), "application/json"),
            (None, None, Some(text)) => {
                (decode(text).expect("payload_base64 is base64"), "application/octet-stream")
            }
            (None, None, None) => (vec![], "application/octet-stream"),
            _ => panic!("give one of payload, payload_json, payload_base64"),
        }
    }
}

/// Base64 (RFC 4648, section 4).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

fn show(number: usize, reading: &Reading, output: &Output) -> Value {
    match output {
        Output::Message(message) => json!({"reading": number, "message": show_message(reading, message)}),
        Output::Reply(message) => json!({"reading": number, "reply": show_message(reading, message)}),
        Output::Command(command) => json!({"reading": number, "command": {
            "device": command.device,
            "name": command.name,
            "content_type": command.content_type,
            "payload": payload_value(&command.content_type, &command.payload),
        }}),
    }
}

/// Without the device that it has from its reading.
fn show_message(reading: &Reading, message: &Message) -> Value {
    let mut shown = json!({
        "topic": message.topic,
        "content_type": message.content_type,
        "payload": payload_value(&message.content_type, &message.payload),
    });
    if message.device.is_some() && message.device != reading.device {
        shown["device"] = json!(message.device);
    }
    if !message.attributes.is_empty() {
        let mut attributes = serde_json::Map::new();
        for (key, value) in &message.attributes {
            match attributes.get_mut(key) {
                None => drop(attributes.insert(key.clone(), json!(value))),
                Some(Value::Array(values)) => values.push(json!(value)),
                Some(one) => *one = json!([one.clone(), value]),
            }
        }
        shown["attributes"] = Value::Object(attributes);
    }
    shown
}

fn payload_value(content_type: &str, payload: &[u8]) -> Value {
    let essence = content_type.split(';').next().unwrap_or_default().trim_end();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    let json = is_json.then(|| serde_json::from_slice(payload).ok()).flatten();
    json.unwrap_or_else(|| match std::str::from_utf8(payload) {
        Ok(text) => text.into(),
        Err(_) => panic!("a payload that is put out is no text: `sandbar test` compares such ones"),
    })
}

fn read(folder: &str, file: &str) -> String {
    let path = Path::new(folder).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty())
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_those_that_sandbar_test_plays() {
        let readings = readings(
            r#"{"topic":"a","payload_json":{"b":1.50, "a":1},"id":"x","ingress":"web","depth":0}

{"topic":"a","time":"2026-01-05T08:00:00.000000Z","payload":"text","attributes":{"k":["1","2"]}}
{"topic":"a","payload_base64":"/wBhYg=="}
{"topic":"a"}"#,
        );
        let payloads: Vec<&[u8]> = readings.iter().map(|reading| &reading.payload[..]).collect();
        assert_eq!(payloads, [&br#"{"b":1.50, "a":1}"#[..], b"text", b"\xff\0ab", b""]);
        let fifth = seconds(1_767_600_000);
        let times: Vec<u64> = readings.iter().map(|reading| reading.time).collect();
        assert_eq!(times, [BEGINNING + seconds(1), fifth, fifth + seconds(1), fifth + seconds(2)]);
        assert_eq!((readings[0].ingress.as_str(), readings[1].attributes.len()), ("web", 2));
        assert_eq!(readings[3].content_type, "application/octet-stream");
    }

    #[test]
    fn a_device_is_shown_where_it_is_another_than_the_readings() {
        let of = Reading { device: Some("d".to_owned()), ..reading("t", "") };
        let shown = |device: &str| show_message(&of, &Message::text("m", "").with_device(device));
        assert_eq!(shown("d")["device"], Value::Null);
        assert_eq!(shown("e")["device"], "e");
    }
}
