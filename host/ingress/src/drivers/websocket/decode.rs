//! A message to an inbound. Pure.

use bytes::Bytes;
use sandbar_reading::{ContentType, Inbound, TopicError};

use super::paths::Opened;
use crate::naming::device_in;

/// What a message is, by the opcode of its frames (RFC 6455, section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// UTF-8, checked.
    Text,
    Binary,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the message names no device at {pointer}")]
    NoDevice { pointer: Box<str> },
    #[error("the message makes no topic: {0}")]
    Topic(TopicError),
}

/// Text is JSON if it is.
pub(crate) fn decode(opened: &Opened, kind: Kind, payload: Bytes) -> Result<Inbound, DecodeError> {
    let device = match opened.device_pointer() {
        None => opened.device.clone(),
        Some(pointer) => match device_in(&payload, pointer).or_else(|| opened.device.clone()) {
            Some(device) => Some(device),
            None => return Err(DecodeError::NoDevice { pointer: pointer.into() }),
        },
    };
    let content_type = match kind {
        Kind::Binary => ContentType::OCTETS,
        Kind::Text if is_json(&payload) => ContentType::JSON,
        Kind::Text => ContentType::TEXT,
    };
    let topic = opened.topic(device.as_deref()).map_err(DecodeError::Topic)?;
    let attributes = opened.attributes().clone();
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type, payload) })
}

fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}
