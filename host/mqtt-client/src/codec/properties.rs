//! Properties (2.2.2) that a client has use for; others are read over.

use bytes::Bytes;

use super::Malformed;
use super::wire::{Fields, put_binary, put_text, put_variable};

/// Those of one packet. Which of them may be in which packet is the sender's to know; a receiver takes them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The payload is UTF-8.
    pub is_text: bool,
    /// Seconds.
    pub message_expiry: Option<u32>,
    pub content_type: Option<Box<str>>,
    pub response_topic: Option<Box<str>>,
    pub correlation_data: Option<Bytes>,
    pub subscription_ids: Vec<u32>,
    /// Seconds; the largest number is no end.
    pub session_expiry: Option<u32>,
    pub assigned_client_id: Option<Box<str>>,
    pub server_keep_alive: Option<u16>,
    pub reason: Option<Box<str>>,
    pub receive_maximum: Option<u16>,
    pub topic_alias_maximum: Option<u16>,
    pub topic_alias: Option<u16>,
    pub maximum_qos: Option<u8>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub user: Vec<(Box<str>, Box<str>)>,
}

const IS_TEXT: u32 = 0x01;
const MESSAGE_EXPIRY: u32 = 0x02;
const CONTENT_TYPE: u32 = 0x03;
const RESPONSE_TOPIC: u32 = 0x08;
const CORRELATION_DATA: u32 = 0x09;
const SUBSCRIPTION_ID: u32 = 0x0b;
const SESSION_EXPIRY: u32 = 0x11;
const ASSIGNED_CLIENT_ID: u32 = 0x12;
const SERVER_KEEP_ALIVE: u32 = 0x13;
const REASON: u32 = 0x1f;
const RECEIVE_MAXIMUM: u32 = 0x21;
const TOPIC_ALIAS_MAXIMUM: u32 = 0x22;
const TOPIC_ALIAS: u32 = 0x23;
const MAXIMUM_QOS: u32 = 0x24;
const RETAIN_AVAILABLE: u32 = 0x25;
const USER: u32 = 0x26;
const MAXIMUM_PACKET_SIZE: u32 = 0x27;

impl Properties {
    pub(super) fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        let length = fields.variable()?;
        let mut fields = Fields(fields.take(length as usize)?);
        let mut found = Self::default();
        let mut seen_text = None;
        while !fields.is_empty() {
            let id = fields.variable()?;
            let fresh = match id {
                IS_TEXT => seen_text.replace(fields.byte()?).is_none(),
                MESSAGE_EXPIRY => found.message_expiry.replace(fields.four()?).is_none(),
                CONTENT_TYPE => found.content_type.replace(fields.text()?).is_none(),
                RESPONSE_TOPIC => found.response_topic.replace(fields.text()?).is_none(),
                CORRELATION_DATA => found.correlation_data.replace(fields.binary()?).is_none(),
                SUBSCRIPTION_ID => {
                    found.subscription_ids.push(fields.variable()?);
                    true
                }
                SESSION_EXPIRY => found.session_expiry.replace(fields.four()?).is_none(),
                ASSIGNED_CLIENT_ID => found.assigned_client_id.replace(fields.text()?).is_none(),
                SERVER_KEEP_ALIVE => found.server_keep_alive.replace(fields.two()?).is_none(),
                REASON => found.reason.replace(fields.text()?).is_none(),
                // 0 is a protocol error for these (3.2.2.3.3, 3.2.2.3.6, 3.3.2.3.4).
                RECEIVE_MAXIMUM => match fields.two()? {
                    0 => false,
                    value => found.receive_maximum.replace(value).is_none(),
                },
                MAXIMUM_PACKET_SIZE => match fields.four()? {
                    0 => false,
                    value => found.maximum_packet_size.replace(value).is_none(),
                },
                TOPIC_ALIAS => match fields.two()? {
                    0 => false,
                    value => found.topic_alias.replace(value).is_none(),
                },
                TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum.replace(fields.two()?).is_none(),
                MAXIMUM_QOS => found.maximum_qos.replace(fields.byte()?).is_none(),
                RETAIN_AVAILABLE => found.retain_available.replace(fields.byte()? != 0).is_none(),
                USER => {
                    found.user.push((fields.text()?, fields.text()?));
                    true
                }
                other => read_over(other, &mut fields)?,
            };
            if !fresh {
                return Err(Malformed::Property(id));
            }
        }
        found.is_text = seen_text == Some(1);
        Ok(found)
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let mut own = Vec::new();
        self.encode_each(&mut own);
        put_variable(own.len(), into);
        into.append(&mut own);
    }

    fn encode_each(&self, into: &mut Vec<u8>) {
        if self.is_text {
            into.extend_from_slice(&[IS_TEXT as u8, 1]);
        }
        for (id, value) in [
            (MESSAGE_EXPIRY, self.message_expiry),
            (SESSION_EXPIRY, self.session_expiry),
            (MAXIMUM_PACKET_SIZE, self.maximum_packet_size),
        ] {
            if let Some(value) = value {
                into.push(id as u8);
                into.extend_from_slice(&value.to_be_bytes());
            }
        }
        for (id, value) in [
            (SERVER_KEEP_ALIVE, self.server_keep_alive),
            (RECEIVE_MAXIMUM, self.receive_maximum),
            (TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum),
            (TOPIC_ALIAS, self.topic_alias),
        ] {
            if let Some(value) = value {
                into.push(id as u8);
                into.extend_from_slice(&value.to_be_bytes());
            }
        }
        for (id, value) in
            [(MAXIMUM_QOS, self.maximum_qos), (RETAIN_AVAILABLE, self.retain_available.map(u8::from))]
        {
            if let Some(value) = value {
                into.extend_from_slice(&[id as u8, value]);
            }
        }
        for (id, text) in [
            (CONTENT_TYPE, &self.content_type),
            (RESPONSE_TOPIC, &self.response_topic),
            (ASSIGNED_CLIENT_ID, &self.assigned_client_id),
            (REASON, &self.reason),
        ] {
            if let Some(text) = text {
                into.push(id as u8);
                put_text(text, into);
            }
        }
        if let Some(data) = &self.correlation_data {
            into.push(CORRELATION_DATA as u8);
            put_binary(data, into);
        }
        for id in &self.subscription_ids {
            into.push(SUBSCRIPTION_ID as u8);
            put_variable(*id as usize, into);
        }
        for (key, value) in &self.user {
            into.push(USER as u8);
            put_text(key, into);
            put_text(value, into);
        }
    }
}

/// Those that a client has no use for.
fn read_over(id: u32, fields: &mut Fields) -> Result<bool, Malformed> {
    match id {
        // Request problem and response information; wildcards, subscription ids and shares available.
        0x17 | 0x19 | 0x28 | 0x29 | 0x2a => drop(fields.byte()?),
        // Will delay.
        0x18 => drop(fields.four()?),
        // Authentication method and data, response information, server reference.
        0x15 | 0x16 | 0x1a | 0x1c => drop(fields.binary()?),
        _ => return Ok(false),
    }
    Ok(true)
}
