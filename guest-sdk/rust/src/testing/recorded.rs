//! Recorded readings and what is expected of them: the files that `sandbar test` reads.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Harness, reading};
use crate::{Failure, Handler, Message, Output, Reading};

/// Hands every reading of `readings.jsonl` in `folder` to a handler with these settings, and compares what comes of
/// it with `expected.jsonl`. Payloads must be text; for others, and for attempts after a failure, there is
/// `sandbar test`, which reads the same files.
///
/// A line of the first is a reading: `{topic, device?, time?, content_type?, attributes?, payload}`. A line of the
/// second is what one reading brings about, in order: `{reading, message|reply|command: {…}}` or
/// `{reading, reject|retry: "why"}`, where `reading` counts the lines of the first from 1. A payload is JSON, or a
/// string for any other text.
///
/// # Panics
/// When something else happens than is expected, or a file is not what it should be.
pub fn recorded<H: Handler>(folder: &str, settings: &[(&str, &str)]) {
    let mut harness = Harness::<H>::new(settings).unwrap_or_else(|refused| panic!("configure: {refused}"));
    let mut happened = Vec::new();
    for (at, line) in lines(folder, "readings.jsonl").into_iter().enumerate() {
        let of = at + 1;
        match harness.handle(parse(&line)) {
            Ok(outputs) => happened.extend(outputs.iter().map(|output| show(of, output))),
            Err(Failure::Reject(cause)) => happened.push(json!({"reading": of, "reject": cause})),
            Err(Failure::Retry(cause)) => happened.push(json!({"reading": of, "retry": cause})),
        }
    }
    let expected = lines(folder, "expected.jsonl");
    for (happened, expected) in happened.iter().zip(&expected) {
        assert_eq!(happened, expected, "this happened (left), that was expected (right)");
    }
    assert_eq!(happened.len(), expected.len(), "so many happened (left), so many were expected (right)");
}

fn parse(line: &Value) -> Reading {
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    let time = |time: &str| crate::time::parse(time).expect("a time is RFC 3339, in UTC");
    let values = |value: &Value| match value {
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    };
    let attributes = line["attributes"].as_object().into_iter().flatten();
    let attributes =
        attributes.flat_map(|(key, value)| values(value).into_iter().map(|value| (key.clone(), value)));
    let (payload, natural) = match &line["payload"] {
        Value::String(text) => (text.clone(), "text/plain"),
        other => (other.to_string(), "application/json"),
    };
    Reading {
        device: text("device"),
        time: line["time"].as_str().map_or(0, time),
        content_type: text("content_type").unwrap_or_else(|| natural.to_owned()),
        attributes: attributes
            .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        ..reading(&text("topic").expect("every reading has a topic"), payload)
    }
}

fn show(reading: usize, output: &Output) -> Value {
    match output {
        Output::Message(message) => json!({"reading": reading, "message": show_message(message)}),
        Output::Reply(message) => json!({"reading": reading, "reply": show_message(message)}),
        Output::Command(command) => json!({"reading": reading, "command": {
            "device": command.device,
            "name": command.name,
            "content_type": command.content_type,
            "payload": payload_value(&command.content_type, &command.payload),
        }}),
    }
}

fn show_message(message: &Message) -> Value {
    let mut shown = json!({
        "topic": message.topic,
        "content_type": message.content_type,
        "payload": payload_value(&message.content_type, &message.payload),
    });
    if let Some(device) = &message.device {
        shown["device"] = json!(device);
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
    json.unwrap_or_else(|| String::from_utf8_lossy(payload).into())
}

fn lines(folder: &str, file: &str) -> Vec<Value> {
    let path = Path::new(folder).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
