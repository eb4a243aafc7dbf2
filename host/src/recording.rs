//! Recorded readings, and what came of them: one JSON object a line.
//!
//! A reading: `{topic, device?, time?, ingress?, content_type?, attributes?}` and one payload: `payload`, which is text
//! if it is a string and else JSON as it stands; or `payload_json`; or `payload_base64`. So the API's own readings
//! are such lines.
//!
//! What came of it, in order: `{reading: N, message|reply|command: {…}}`, `{reading: N, reject|retry: "why"}` or
//! `{reading: N, fault: "timed_out", cause: "…"}`, where N counts the readings from 1.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_control::{Fault, Played};
use sandbar_reading::{Attributes, ContentType, Failure, Inbound, Message, Name, Output, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Where readings come from that do not say so.
const INGRESS: &str = "recorded";

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
    _id: Option<String>,
    #[serde(rename = "parent")]
    _parent: Option<String>,
    #[serde(rename = "depth")]
    _depth: Option<u8>,
}

/// One value, or several of one name.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Values {
    One(String),
    More(Vec<String>),
}

impl Values {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value],
            Self::More(values) => values,
        }
    }
}

/// The three ways to write bytes into a line, of which one is taken.
pub(crate) struct Payload<'a> {
    pub(crate) payload: Option<&'a RawValue>,
    pub(crate) payload_json: Option<&'a RawValue>,
    pub(crate) payload_base64: Option<&'a str>,
}

/// The readings of a file's text.
pub(crate) fn readings(text: &str) -> anyhow::Result<Vec<(Name, Inbound)>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| reading(line).with_context(|| format!("line {}", at + 1))).collect()
}

fn reading(line: &str) -> anyhow::Result<(Name, Inbound)> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let payload = Payload {
        payload: line.payload,
        payload_json: line.payload_json,
        payload_base64: line.payload_base64.as_deref(),
    };
    let (payload, natural) = payload.read()?;
    let content_type = line.content_type.map(|text| text.parse()).transpose()?.unwrap_or(natural);
    let mut attributes = Attributes::new();
    for (key, values) in line.attributes {
        values.into_vec().into_iter().for_each(|value| attributes.add(key.as_str(), value));
    }
    let inbound = Inbound {
        device: line.device.map(Into::into),
        time: line.time.map(|time| time.parse()).transpose()?,
        attributes,
        ..Inbound::new(line.topic.parse()?, content_type, payload.into())
    };
    Ok((Name::parse_ingress(line.ingress.as_deref().unwrap_or(INGRESS))?, inbound))
}

impl Payload<'_> {
    /// The bytes, and the content type if none is said.
    pub(crate) fn read(self) -> anyhow::Result<(Vec<u8>, ContentType)> {
        Ok(match (self.payload, self.payload_json, self.payload_base64) {
            (Some(text), None, None) if text.get().starts_with('"') => {
                (serde_json::from_str::<String>(text.get())?.into_bytes(), ContentType::TEXT)
            }
            (Some(json), None, None) | (None, Some(json), None) => {
                (json.get().as_bytes().to_vec(), ContentType::JSON)
            }
            (None, None, Some(text)) => {
                (STANDARD.decode(text).context("payload_base64")?, ContentType::OCTETS)
            }
            (None, None, None) => (Vec::new(), ContentType::OCTETS),
            _ => bail!("give one of payload, payload_json, payload_base64"),
        })
    }
}

/// The line of a reading that passed by; `None` for one without a payload.
pub(crate) fn recorded(reading: &Value) -> Option<Value> {
    let mut line = reading.as_object()?.clone();
    for key in ["id", "parent", "depth", "event"] {
        line.remove(key);
    }
    line.retain(|_, value| !value.is_null());
    Some(Value::Object(line))
}

/// The lines of what came of reading `number`.
pub(crate) fn happened(number: usize, played: &Played) -> Vec<Value> {
    match &played.result {
        Ok(outputs) => outputs.iter().map(|output| show(number, &played.reading, output)).collect(),
        Err(Fault::Failure(Failure::Reject(cause))) => vec![json!({ "reading": number, "reject": cause })],
        Err(Fault::Failure(Failure::Retry(cause))) => vec![json!({ "reading": number, "retry": cause })],
        Err(fault) => vec![json!({ "reading": number, "fault": fault.code(), "cause": fault.to_string() })],
    }
}

/// Whether a line is what was expected. The causes of faults are the host's words: an expectation may leave them out.
pub(crate) fn is_as_expected(happened: &Value, expected: &Value) -> bool {
    if expected.get("fault").is_some() && expected.get("cause").is_none() {
        return happened["reading"] == expected["reading"] && happened["fault"] == expected["fault"];
    }
    happened == expected
}

fn show(number: usize, reading: &Reading, output: &Output) -> Value {
    match output {
        Output::Message(message) => json!({ "reading": number, "message": show_message(reading, message) }),
        Output::Reply(message) => {
            let mut shown = show_message(reading, message);
            // A reply's topic is nobody's but the driver's: handlers leave it empty.
            if message.topic == reading.topic {
                shown.insert("topic".into(), "".into());
            }
            json!({ "reading": number, "reply": shown })
        }
        Output::Command(command) => {
            let mut shown = Map::new();
            shown.insert("device".into(), (*command.device).into());
            shown.insert("name".into(), (*command.name).into());
            shown.insert("content_type".into(), command.content_type.as_str().into());
            add_payload(&mut shown, &command.content_type, &command.payload);
            json!({ "reading": number, "command": shown })
        }
    }
}

/// Without what it has from its reading.
fn show_message(reading: &Reading, message: &Message) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("topic".into(), message.topic.as_str().into());
    if message.device != reading.device {
        shown.insert("device".into(), message.device.as_deref().into());
    }
    shown.insert("content_type".into(), message.content_type.as_str().into());
    if !message.attributes.is_empty() {
        let mut attributes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        message.attributes.iter().for_each(|(key, value)| attributes.entry(key).or_default().push(value));
        let attributes = attributes.into_iter().map(|(key, values)| match &values[..] {
            [value] => (key.to_owned(), Value::from(*value)),
            values => (key.to_owned(), Value::from(values)),
        });
        shown.insert("attributes".into(), Value::Object(attributes.collect()));
    }
    add_payload(&mut shown, &message.content_type, &message.payload);
    shown
}

fn add_payload(shown: &mut Map<String, Value>, content_type: &ContentType, payload: &[u8]) {
    let json = content_type.is_json().then(|| serde_json::from_slice::<Value>(payload).ok()).flatten();
    match (json, std::str::from_utf8(payload)) {
        (Some(json), _) => shown.insert("payload".into(), json),
        (None, Ok(text)) => shown.insert("payload".into(), text.into()),
        (None, Err(_)) => shown.insert("payload_base64".into(), STANDARD.encode(payload).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Inbound {
        readings(line).unwrap().remove(0).1
    }

    #[test]
    fn payloads_are_taken_as_they_stand() {
        for (line, bytes, content_type) in [
            (
                r#"{"topic":"a","payload":{"b":1.50, "a":1e400}}"#,
                &br#"{"b":1.50, "a":1e400}"#[..],
                "application/json",
            ),
            (r#"{"topic":"a","payload":"\"q\" ü"}"#, "\"q\" ü".as_bytes(), "text/plain"),
            (r#"{"topic":"a","payload_json":"q","id":"x","depth":0}"#, br#""q""#, "application/json"),
            (r#"{"topic":"a","payload_base64":"/wA=","content_type":"image/x"}"#, b"\xff\0", "image/x"),
            (r#"{"topic":"a"}"#, b"", "application/octet-stream"),
        ] {
            let inbound = one(line);
            assert_eq!(&inbound.payload[..], bytes, "{line}");
            assert_eq!(inbound.content_type.as_str(), content_type, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (line, says) in [
            ("{\"topic\":\"a\"}\n\n{\"topic\":\"a/+\"}", "line 3"),
            (r#"{"topic":"a","payload":1,"payload_json":1}"#, "give one of"),
            (r#"{"topic":"a","paylaod":1}"#, "paylaod"),
            (r#"{"topic":"a","time":"noon"}"#, "noon"),
        ] {
            let error = format!("{:#}", readings(line).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn attributes_may_repeat_and_what_passed_by_can_be_played() {
        let seen = json!({ "event": "reading", "id": "01J", "ingress": "web", "topic": "a", "device": null, "depth": 0,
            "time": "2026-01-31T12:00:00.000000Z", "content_type": "text/plain", "attributes": { "k": ["1", "2"] },
            "payload": "x" });
        let line = recorded(&seen).unwrap().to_string();
        let (ingress, inbound) = readings(&line).unwrap().remove(0);
        assert_eq!((ingress.as_str(), inbound.attributes.len()), ("web", 2));
        assert_eq!(inbound.time.unwrap().to_string(), "2026-01-31T12:00:00.000000Z");
    }

    #[test]
    fn a_fault_may_be_expected_without_its_words() {
        let happened = json!({ "reading": 1, "fault": "trap", "cause": "unreachable" });
        assert!(is_as_expected(&happened, &json!({ "reading": 1, "fault": "trap" })));
        assert!(!is_as_expected(&happened, &json!({ "reading": 1, "fault": "timed_out" })));
        assert!(!is_as_expected(&happened, &json!({ "reading": 1, "fault": "trap", "cause": "x" })));
    }
}
