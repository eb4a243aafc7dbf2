//! The payloads that a message can become. Pure.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Address, DateTime, Encoding, Message, MessagePart, MimeHeaders, PartType};
use sandbar_reading::{ContentType, Timestamp};
use serde::Serialize;

use super::decode::{Envelope, content_type};

/// The keys are the interface: Kraken Collector's.
#[derive(Serialize)]
struct Json<'a> {
    ipaddr: String,
    from: &'a str,
    to: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc: Vec<&'a str>,
    subject: &'a str,
    body: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    html_body: String,
    timestamp: String,
    message_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
}

#[derive(Serialize)]
struct Attachment {
    name: String,
    mime_type: String,
    size: usize,
    data: String,
}

/// The object, and how many attachments were too large for it. Who was written to without being named in the
/// message stands under `bcc`, or under `to` if nobody is named.
pub(super) fn json(envelope: &Envelope, message: &Message<'_>, attachment_max: usize) -> (Bytes, usize) {
    let mut to = addresses(message.to());
    let cc = addresses(message.cc());
    let mut bcc = addresses(message.bcc());
    let is_named =
        |address: &str| to.iter().chain(&cc).chain(&bcc).any(|named| named.eq_ignore_ascii_case(address));
    let unnamed: Vec<&str> = envelope
        .mail
        .recipients
        .iter()
        .map(|recipient| &**recipient)
        .filter(|address| !is_named(address))
        .collect();
    match to.is_empty() && cc.is_empty() && bcc.is_empty() {
        true => to = unnamed,
        false => bcc.extend(unnamed),
    }
    let (attachments, skipped) = attachments(message, attachment_max);
    let json = Json {
        ipaddr: envelope.peer.to_string(),
        from: message
            .from()
            .and_then(Address::first)
            .and_then(|from| from.address())
            .unwrap_or(&envelope.mail.sender),
        to,
        cc,
        bcc,
        subject: message.subject().unwrap_or_default(),
        body: text(message),
        html_body: html(message),
        timestamp: offset_form(message.date().and_then(timestamp).unwrap_or(envelope.time)),
        message_id: message.message_id().map(|id| format!("<{id}>")).unwrap_or_default(),
        attachments,
    };
    (serde_json::to_vec(&json).expect("strings, written to memory").into(), skipped)
}

/// Addresses without names; of a group, its members (RFC 5322, section 3.4).
fn addresses<'a>(header: Option<&'a Address<'_>>) -> Vec<&'a str> {
    header.map(|header| header.iter().filter_map(|address| address.address()).collect()).unwrap_or_default()
}

/// What is to be read of the message; of one in HTML alone, its text.
fn text(message: &Message<'_>) -> String {
    let texts: Vec<_> = (0..message.text_body_count()).filter_map(|index| message.body_text(index)).collect();
    texts.join("\n")
}

fn html(message: &Message<'_>) -> String {
    let parts = message.html_bodies().filter_map(|part| match &part.body {
        PartType::Html(html) => Some(&**html),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn attachments(message: &Message<'_>, max: usize) -> (Vec<Attachment>, usize) {
    let (mut taken, mut skipped) = (Vec::new(), 0);
    for (index, part) in message.attachments().enumerate() {
        let data = attached(message, part);
        if data.len() > max {
            skipped += 1;
            continue;
        }
        taken.push(Attachment {
            name: name(part, index + 1),
            mime_type: mime_type(part),
            size: data.len(),
            data: STANDARD.encode(data),
        });
    }
    (taken, skipped)
}

/// The file's name, without a path that it might be made to leave a folder with.
fn name(part: &MessagePart<'_>, number: usize) -> String {
    let named = part.attachment_name().and_then(|name| name.rsplit(['/', '\\']).next()).map(str::trim);
    match named {
        Some(name) if !name.is_empty() && name != "." && name != ".." => {
            name.chars().filter(|c| !c.is_control()).collect()
        }
        _ => format!("attachment-{number}"),
    }
}

fn mime_type(part: &MessagePart<'_>) -> String {
    let declared = part.content_type().map(|declared| {
        let subtype = declared.subtype().unwrap_or("octet-stream");
        format!("{}/{subtype}", declared.ctype()).to_ascii_lowercase()
    });
    declared.unwrap_or_else(|| {
        if part.is_message() { "message/rfc822" } else { "application/octet-stream" }.to_owned()
    })
}

/// An attachment's bytes as they were sent: a table in an encoding that was not declared stays what it is.
fn attached<'a>(message: &'a Message<'_>, part: &'a MessagePart<'_>) -> Cow<'a, [u8]> {
    let raw = message.raw_message.get(part.offset_body as usize..part.offset_end as usize);
    let decoded = match (&part.body, part.encoding, raw) {
        (PartType::Text(_) | PartType::Html(_) | PartType::Message(_), Encoding::None, Some(raw)) => {
            Some(raw.into())
        }
        (PartType::Text(_) | PartType::Html(_), Encoding::Base64, Some(raw)) => {
            base64_decode(raw).map(Cow::Owned)
        }
        (PartType::Text(_) | PartType::Html(_), Encoding::QuotedPrintable, Some(raw)) => {
            quoted_printable_decode(raw).map(Cow::Owned)
        }
        _ => None,
    };
    decoded.unwrap_or_else(|| part.contents().into())
}

/// The first text, or what the message consists of if it has none, with its content type.
pub(super) fn body(message: &Message<'_>) -> (ContentType, Bytes) {
    let is_leaf = |part: &&MessagePart<'_>| !part.is_multipart();
    let first = message.text_bodies().next().or_else(|| message.parts.iter().find(is_leaf));
    let Some(part) = first else { return (ContentType::TEXT, Bytes::new()) };
    let mut bytes = match &part.body {
        PartType::Message(_) => attached(message, part),
        _ => Cow::Borrowed(part.contents()),
    };
    // Texts are UTF-8 by now, whatever they came in; and every message ends in a line break, every text does not.
    let content_type = match &part.body {
        PartType::Text(_) => {
            let text = part.contents();
            bytes = Cow::Borrowed(text.strip_suffix(b"\r\n").unwrap_or(text));
            match mime_type(part).as_str() {
                "text/plain" | "application/octet-stream" => ContentType::TEXT,
                other => content_type(other),
            }
        }
        PartType::Html(_) => content_type("text/html"),
        _ => content_type(&mime_type(part)),
    };
    (content_type, Bytes::from(bytes.into_owned()))
}

/// `None` for what is no date, or before 1970.
pub(super) fn timestamp(date: &DateTime) -> Option<Timestamp> {
    let seconds = date.is_valid().then(|| u64::try_from(date.to_timestamp()).ok()).flatten()?;
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?)).filter(|time| *time <= Timestamp::MAX)
}

/// RFC 3339 in seconds, with `+00:00` in place of `Z`: so it was, and so some compare it.
fn offset_form(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}+00:00"),
        None => text.replace('Z', "+00:00"),
    }
}
