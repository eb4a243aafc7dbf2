//! How commands are written to peers whose protocol has no commands. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{Command, ContentType, DeliveryId, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CommandForm {
    /// Its payload alone.
    #[default]
    Payload,
    /// An object on one line: `{"command":"set","id":"01…","content_type":"application/json","payload":{"on":true}}`;
    /// what is neither JSON nor text is `payload_base64`.
    Json,
}

#[derive(Serialize)]
struct Written<'a> {
    command: &'a str,
    id: String,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
struct Published<'a> {
    topic: &'a str,
    device: Option<&'a str>,
    id: String,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(Box<RawValue>),
    Text(&'a str),
}

impl CommandForm {
    pub(crate) fn write(self, id: DeliveryId, command: &Command) -> Bytes {
        match self {
            Self::Payload => command.payload.clone(),
            Self::Json => json(id, command),
        }
    }
}

fn json(id: DeliveryId, command: &Command) -> Bytes {
    let body = Body::of(&command.content_type, &command.payload);
    line(&Written { command: &command.name, id: id.to_string(), body })
}

/// A message as an object on one line: `{"topic":"a/b","device":null,"id":"01…","content_type":"…","payload":…}`.
pub(crate) fn publication(id: DeliveryId, message: &Message) -> Bytes {
    let body = Body::of(&message.content_type, &message.payload);
    let (topic, device) = (message.topic.as_str(), message.device.as_deref());
    line(&Published { topic, device, id: id.to_string(), body })
}

fn line(object: &impl Serialize) -> Bytes {
    serde_json::to_vec(object).expect("texts and valid JSON, written to memory").into()
}

impl<'a> Body<'a> {
    fn of(content_type: &'a ContentType, bytes: &'a [u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok();
        let value = text.filter(|_| content_type.is_json()).and_then(|text| serde_json::from_str(text).ok());
        let payload = match value {
            Some(value) => Some(Payload::Json(value_on_one_line(value))),
            None => text.filter(|_| content_type.is_in("text/*")).map(Payload::Text),
        };
        let payload_base64 = payload.is_none().then(|| STANDARD.encode(bytes));
        Self { content_type: content_type.as_str(), payload, payload_base64 }
    }
}

/// Without the line breaks that it may have between its tokens.
fn value_on_one_line(value: Box<RawValue>) -> Box<RawValue> {
    match value.get().contains(['\n', '\r']) {
        false => value,
        true => {
            // No line break is inside a text: JSON writes those as \n.
            let line = value.get().replace(['\n', '\r'], " ");
            RawValue::from_string(line).unwrap_or(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_of_json() {
        let written = |content_type: &str, payload: &'static [u8]| {
            let command = Command {
                device: "d".into(),
                name: "set".into(),
                content_type: content_type.parse().unwrap(),
                payload: payload.into(),
            };
            assert_eq!(CommandForm::Payload.write(DeliveryId::from_u128(1), &command), payload);
            String::from_utf8(CommandForm::Json.write(DeliveryId::from_u128(1), &command).to_vec()).unwrap()
        };
        let head = r#"{"command":"set","id":"00000000000000000000000001","content_type":"#;
        let json = written("application/json", b"{\n\"on\": 1.0}");
        assert_eq!(json, format!(r#"{head}"application/json","payload":{{ "on": 1.0}}}}"#));
        assert_eq!(written("text/plain", b"on"), format!(r#"{head}"text/plain","payload":"on"}}"#));
        assert_eq!(
            written("text/plain", b"\xff"),
            format!(r#"{head}"text/plain","payload_base64":"/w=="}}"#)
        );
        let bad = written("application/json", b"{");
        assert_eq!(bad, format!(r#"{head}"application/json","payload_base64":"ew=="}}"#));
    }
}
