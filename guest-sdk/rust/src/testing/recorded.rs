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
/// A line of the first is a reading: `{topic, device?, time?, content_type, attributes?, payload}`. A line of the
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
    let pair =
        |pair: &Value| (pair[0].as_str().unwrap_or("").to_owned(), pair[1].as_str().unwrap_or("").to_owned());
    let payload = match &line["payload"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Reading {
        device: text("device"),
        time: line["time"].as_str().map_or(0, nanoseconds),
        content_type: text("content_type").expect("every reading has a content type"),
        attributes: line["attributes"]
            .as_array()
            .map(|pairs| pairs.iter().map(pair).collect())
            .unwrap_or_default(),
        ..reading(&text("topic").expect("every reading has a topic"), payload)
    }
}

/// Of `2026-01-31T12:00:00Z`, with or without a fraction; the one form that the host writes.
fn nanoseconds(time: &str) -> u64 {
    let wrong = || panic!("{time:?} is no time such as 2026-01-31T12:00:00Z");
    let number = |range: std::ops::Range<usize>| time.get(range).and_then(|part| part.parse::<u64>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return wrong();
    };
    let (Some(hour), Some(minute), Some(second)) = (number(11..13), number(14..16), number(17..19)) else {
        return wrong();
    };
    let Some(rest) = time[19..].strip_suffix('Z') else { return wrong() };
    let fraction = rest
        .strip_prefix('.')
        .map_or(0, |digits| format!("{digits:0<9}")[..9].parse().unwrap_or_else(|_| wrong()));
    // Days before this March-based year, so that the leap day is the last of it.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + fraction
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(nanoseconds("1970-01-01T00:00:01Z"), 1_000_000_000);
        assert_eq!(nanoseconds("2024-02-29T12:34:56.5Z"), 1_709_210_096_500_000_000);
        assert_eq!(nanoseconds("2026-01-31T12:00:00.000250Z"), 1_769_860_800_000_250_000);
    }
}
