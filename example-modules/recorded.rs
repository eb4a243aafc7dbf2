//! Runs a handler natively over `readings.jsonl` and compares with `expected.jsonl`; part of the examples' tests.
//!
//! A line of the first is a reading: `{topic, device?, content_type, payload}`. A line of the second is what one
//! reading brings about, in order: `{reading, message|reply|command: {…}}` or `{reading, reject|retry: "why"}`,
//! where `reading` counts the lines of the first from 1. A payload is JSON, or a string for any other text.

use std::fs;
use std::path::Path;

use sandbar_guest::serde_json::{self, Value, json};
use sandbar_guest::{Failure, Message, Output, Reading};

/// A reading of nothing in particular with that payload.
#[allow(dead_code, reason = "not every example needs a reading of its own")]
pub fn reading(payload: &str) -> Reading {
    Reading {
        id: "01J00000000000000000000000".to_owned(),
        ingress: "recorded".to_owned(),
        topic: "a/topic".to_owned(),
        device: None,
        time: 0,
        content_type: "application/json".to_owned(),
        attributes: vec![],
        payload: payload.into(),
    }
}

/// Hands every reading of `folder` to `handle` and compares what comes of it with what was recorded.
pub fn check(folder: &str, mut handle: impl FnMut(Reading) -> Result<Vec<Output>, Failure>) {
    let mut happened = Vec::new();
    for (at, line) in lines(folder, "readings.jsonl").into_iter().enumerate() {
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        let result = handle(Reading {
            topic: text("topic").expect("every reading has a topic"),
            device: text("device"),
            content_type: text("content_type").expect("every reading has a content type"),
            ..reading(&payload_text(&line["payload"]))
        });
        let of = at + 1;
        match result {
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

fn show(reading: usize, output: &Output) -> Value {
    match output {
        Output::Message(message) => json!({"reading": reading, "message": show_message(message)}),
        Output::Reply(message) => json!({"reading": reading, "reply": show_message(message)}),
        Output::Command(command) => json!({"reading": reading, "command": {
            "device": command.device,
            "name": command.name,
            "content_type": command.content_type,
            "payload": payload_value(&command.payload),
        }}),
    }
}

fn show_message(message: &Message) -> Value {
    let mut shown = json!({
        "topic": message.topic,
        "content_type": message.content_type,
        "payload": payload_value(&message.payload),
    });
    if let Some(device) = &message.device {
        shown["device"] = json!(device);
    }
    if !message.attributes.is_empty() {
        shown["attributes"] = json!(message.attributes);
    }
    shown
}

fn payload_text(payload: &Value) -> String {
    payload.as_str().map_or_else(|| payload.to_string(), str::to_owned)
}

fn payload_value(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| String::from_utf8_lossy(payload).into())
}

fn lines(folder: &str, file: &str) -> Vec<Value> {
    let path = Path::new(folder).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
