//! A message (RFC 5322, MIME) to an inbound. Pure.

use std::borrow::Cow;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mail_parser::{Address, HeaderValue, Message, MessageParser, MessagePart, PartType};
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Timestamp, Topic};

use super::config::{Config, PayloadForm};
use super::dialogue::{Mail, Sender};
use super::payload;
use crate::pattern::Template;

/// What readings are made of, and named after.
pub(super) struct Form {
    payload: PayloadForm,
    topic: Template,
    device: Option<Template>,
    device_header: Option<Box<str>>,
    /// Headers, and the attribute names for them.
    headers: Vec<(Box<str>, Box<str>)>,
    attachment_max: usize,
}

/// How a message came.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) peer: IpAddr,
    pub(super) sender: Sender,
    pub(super) mail: Mail,
    /// When it came.
    pub(super) time: Timestamp,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("the message cannot be read")]
    Unreadable,
    #[error("the message has no header {0}, which names the device")]
    NoDevice(Box<str>),
    #[error("its topic would be `{topic}`: {error}")]
    Topic { topic: String, error: sandbar_reading::TopicError },
}

/// What templates may name, in the order of [`Form::values`].
const PARTS: [&str; 8] = [
    "sender",
    "sender_user",
    "sender_domain",
    "recipient",
    "recipient_user",
    "recipient_domain",
    "header",
    "device",
];

const DEVICE_MAX: usize = 255;

impl Form {
    /// The error names the setting.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let names = PARTS.map(Box::<str>::from);
        let template = |setting: &str, text: &str, names: &[Box<str>]| {
            Template::parse(text, names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let topic = template("topic", &config.topic, &names)?;
        topic
            .fill(&["x"; PARTS.len()].map(Cow::Borrowed))
            .parse::<Topic>()
            .map_err(|error| ConfigError::at("topic", error.to_string()))?;
        let device =
            config.device.as_deref().map(|text| template("device", text, &names[..7])).transpose()?;
        let uses_header = [Some(&config.topic), config.device.as_ref()]
            .into_iter()
            .flatten()
            .any(|t| t.contains("{header}"));
        if uses_header && config.device_header.is_none() {
            return Err(ConfigError::at("device_header", "must say which header `{header}` stands for"));
        }
        let device_header =
            config.device_header.as_deref().map(|name| header_name("device_header", name)).transpose()?;
        let headers = config.headers.iter().enumerate().map(|(index, name)| {
            let name = header_name(&format!("headers[{index}]"), name)?;
            let attribute = format!("email.header.{}", name.to_ascii_lowercase()).into();
            Ok((name, attribute))
        });
        Ok(Self {
            payload: config.payload,
            topic,
            device,
            device_header,
            headers: headers.collect::<Result<_, _>>()?,
            attachment_max: config.attachment_max,
        })
    }

    /// The reading of a message. What is no MIME at all is a text.
    pub(super) fn decode(&self, envelope: &Envelope, raw: &Bytes) -> Result<Inbound, DecodeError> {
        // A parser that panics must not have the sender try the same message for ever.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_message(envelope, raw)));
        decoded.unwrap_or(Err(DecodeError::Unreadable))
    }

    fn decode_message(&self, envelope: &Envelope, raw: &Bytes) -> Result<Inbound, DecodeError> {
        let headless;
        let message = match parse(raw) {
            Some(message) => message,
            // Without headers, all of it is the text.
            None => {
                headless = [b"\r\n", &raw[..]].concat();
                parse(&headless).unwrap_or_else(empty)
            }
        };
        let (topic, device) = self.name(envelope, &message)?;
        let (content_type, payload, skipped) = match self.payload {
            PayloadForm::Json => {
                let (json, skipped) = payload::json(envelope, &message, self.attachment_max);
                (ContentType::JSON, json, skipped)
            }
            PayloadForm::Raw => (content_type("message/rfc822"), raw.clone(), 0),
            PayloadForm::Body => {
                let (content_type, body) = payload::body(&message);
                (content_type, body, 0)
            }
        };
        let mut attributes = self.attributes(envelope, &message);
        if skipped > 0 {
            attributes.add("email.attachments_skipped", skipped.to_string());
        }
        let time = message.date().and_then(payload::timestamp);
        Ok(Inbound { device, time, attributes, ..Inbound::new(topic, content_type, payload) })
    }

    fn name(
        &self,
        envelope: &Envelope,
        message: &Message<'_>,
    ) -> Result<(Topic, Option<Box<str>>), DecodeError> {
        let header = match &self.device_header {
            Some(name) => {
                let value = header(message, name)
                    .map(|value| value.trim().to_owned())
                    .filter(|value| !value.is_empty());
                value.ok_or_else(|| DecodeError::NoDevice(name.clone()))?
            }
            None => String::new(),
        };
        let mut values = Self::values(envelope, &header);
        let device = self.device.as_ref().map(|template| template.fill(&values));
        // A bounce has no sender (RFC 5321, section 4.5.5).
        let device = device.filter(|device| !device.is_empty()).map(|device| {
            let end = device.floor_char_boundary(DEVICE_MAX.min(device.len()));
            Box::<str>::from(&device[..end])
        });
        values.push(Cow::Borrowed(device.as_deref().unwrap_or_default()));
        // A sender's address must not reach into other topics.
        let values: Vec<_> = values.into_iter().map(one_level).collect();
        let topic = self.topic.fill(&values);
        match topic.parse() {
            Ok(topic) => Ok((topic, device)),
            Err(error) => Err(DecodeError::Topic { topic, error }),
        }
    }

    /// Of all [`PARTS`] but the last.
    fn values<'a>(envelope: &'a Envelope, header: &'a str) -> Vec<Cow<'a, str>> {
        let recipient = envelope.mail.recipients.first().map_or("", |recipient| recipient);
        let mut values = Vec::with_capacity(PARTS.len());
        for address in [&*envelope.mail.sender, recipient] {
            let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
            values.extend([address, user, domain].map(Cow::Borrowed));
        }
        values.push(Cow::Borrowed(header));
        values
    }

    fn attributes(&self, envelope: &Envelope, message: &Message<'_>) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.add("peer", envelope.peer.to_string());
        attributes.add("email.helo", envelope.sender.hello.clone());
        attributes.add("email.sender", envelope.mail.sender.clone());
        for recipient in &envelope.mail.recipients {
            attributes.add("email.recipient", recipient.clone());
        }
        if let Some(user) = &envelope.sender.user {
            attributes.add("email.user", user.clone());
        }
        attributes.add("email.tls", if envelope.sender.is_secured { "true" } else { "false" });
        if let Some(name) = message.from().and_then(Address::first).and_then(|from| from.name()) {
            attributes.add("email.from_name", name);
        }
        for (name, attribute) in &self.headers {
            if let Some(value) = header(message, name) {
                attributes.add(attribute.clone(), value);
            }
        }
        attributes
    }
}

/// `None` for what has no part: the parser's own queries expect one.
fn parse(raw: &[u8]) -> Option<Message<'_>> {
    MessageParser::default().parse(raw).filter(|message| !message.parts.is_empty())
}

fn empty<'a>() -> Message<'a> {
    let part = MessagePart { body: PartType::Text(Cow::Borrowed("")), ..MessagePart::default() };
    Message { text_body: vec![0], parts: vec![part], ..Message::default() }
}

/// Levels of a topic are the configuration's; so are wildcards.
fn one_level(value: Cow<'_, str>) -> Cow<'_, str> {
    let is_forbidden = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
    match value.contains(is_forbidden) {
        true => Cow::Owned(value.chars().map(|c| if is_forbidden(c) { '_' } else { c }).collect()),
        false => value,
    }
}

fn header_name(setting: &str, name: &str) -> Result<Box<str>, ConfigError> {
    // RFC 5322, section 3.6.8.
    match !name.is_empty() && name.bytes().all(|byte| (33..=126).contains(&byte) && byte != b':') {
        true => Ok(name.into()),
        false => Err(ConfigError::at(setting, "is not a header's name")),
    }
}

/// Decoded (RFC 2047), on one line.
fn header(message: &Message<'_>, name: &str) -> Option<String> {
    let header = message.headers().iter().rfind(|header| header.name.as_str().eq_ignore_ascii_case(name))?;
    Some(match &header.value {
        HeaderValue::Text(text) => text.trim().to_owned(),
        HeaderValue::TextList(list) => list.join(", "),
        HeaderValue::Empty => String::new(),
        // What has a structure stands there as it came.
        _ => {
            let raw = message.raw_message.get(header.offset_start as usize..header.offset_end as usize)?;
            String::from_utf8_lossy(raw).split_whitespace().collect::<Vec<_>>().join(" ")
        }
    })
}

pub(super) fn content_type(text: &str) -> ContentType {
    text.parse().unwrap_or(ContentType::OCTETS)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
