//! `sandbar send`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::read_bytes;
use crate::client::Client;
use crate::output::{self, at, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Such as sensors/boiler/temperature
    topic: String,
    /// What is sent; - reads standard input [default: nothing]
    payload: Option<String>,
    /// What the reading is about
    #[arg(long)]
    device: Option<String>,
    /// [default: application/json, text/plain or application/octet-stream, as the payload looks]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let payload = match options.payload.as_deref() {
        Some("-") => read_bytes(Path::new("-"))?,
        Some(text) => text.as_bytes().to_vec(),
        None => Vec::new(),
    };
    let body = body(options.topic, options.device, options.content_type, payload);
    let answer = client.post(&["readings"], &body).await?;
    match options.json {
        true => output::json(&answer)?,
        false => line(at(&answer, "/id"))?,
    }
    Ok(())
}

fn body(topic: String, device: Option<String>, content_type: Option<String>, payload: Vec<u8>) -> Value {
    let content_type = content_type.unwrap_or_else(|| guess(&payload).to_owned());
    let mut body = Map::new();
    body.insert("topic".into(), topic.into());
    body.insert("content_type".into(), content_type.into());
    if let Some(device) = device {
        body.insert("device".into(), device.into());
    }
    // As text, not as JSON: what is sent arrives byte for byte.
    match String::from_utf8(payload) {
        Ok(text) => body.insert("payload".into(), text.into()),
        Err(error) => body.insert("payload_base64".into(), STANDARD.encode(error.as_bytes()).into()),
    };
    Value::Object(body)
}

fn guess(payload: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok() {
        return "application/json";
    }
    match std::str::from_utf8(payload) {
        Ok(_) => "text/plain",
        Err(_) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_stay_as_they_are_and_are_called_what_they_look_like() {
        for (payload, expected) in [
            (
                &b"{ \"a\": 1.0 }"[..],
                json!({ "topic": "t", "content_type": "application/json", "payload": "{ \"a\": 1.0 }" }),
            ),
            (b"hello", json!({ "topic": "t", "content_type": "text/plain", "payload": "hello" })),
            (b"", json!({ "topic": "t", "content_type": "text/plain", "payload": "" })),
            (
                b"\xff\xd8",
                json!({ "topic": "t", "content_type": "application/octet-stream", "payload_base64": "/9g=" }),
            ),
        ] {
            assert_eq!(body("t".into(), None, None, payload.to_vec()), expected);
        }
    }

    #[test]
    fn what_is_said_is_kept() {
        let body = body("t".into(), Some("boiler".into()), Some("text/csv".into()), b"1".to_vec());
        let expected =
            json!({ "topic": "t", "device": "boiler", "content_type": "text/csv", "payload": "1" });
        assert_eq!(body, expected);
    }
}
