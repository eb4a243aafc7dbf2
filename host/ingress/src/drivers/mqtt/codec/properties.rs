//! Properties (MQTT 5.0, section 2.2.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::Wrong;
use super::cursor::Cursor;

/// Those that a broker reads or writes; what a packet does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Properties {
    pub(in super::super) payload_format: Option<u8>,
    pub(in super::super) message_expiry: Option<u32>,
    pub(in super::super) content_type: Option<Box<str>>,
    pub(in super::super) response_topic: Option<Box<str>>,
    pub(in super::super) correlation_data: Option<Bytes>,
    pub(in super::super) subscription_id: Option<u32>,
    pub(in super::super) session_expiry: Option<u32>,
    pub(in super::super) authentication_method: Option<Box<str>>,
    pub(in super::super) will_delay: Option<u32>,
    pub(in super::super) receive_maximum: Option<u16>,
    pub(in super::super) topic_alias_maximum: Option<u16>,
    pub(in super::super) topic_alias: Option<u16>,
    pub(in super::super) maximum_packet_size: Option<u32>,
    pub(in super::super) request_problem: Option<bool>,
    pub(in super::super) user: Vec<(Box<str>, Box<str>)>,
}

/// As they are numbered.
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 1;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 2;
    pub(in super::super) const CONTENT_TYPE: u8 = 3;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 8;
    pub(in super::super) const CORRELATION_DATA: u8 = 9;
    pub(in super::super) const SUBSCRIPTION_ID: u8 = 11;
    pub(in super::super) const SESSION_EXPIRY: u8 = 17;
    pub(in super::super) const ASSIGNED_CLIENT: u8 = 18;
    pub(in super::super) const SERVER_KEEP_ALIVE: u8 = 19;
    pub(in super::super) const AUTHENTICATION_METHOD: u8 = 21;
    pub(in super::super) const AUTHENTICATION_DATA: u8 = 22;
    pub(in super::super) const REQUEST_PROBLEM: u8 = 23;
    pub(in super::super) const WILL_DELAY: u8 = 24;
    pub(in super::super) const REQUEST_RESPONSE: u8 = 25;
    pub(in super::super) const REASON_STRING: u8 = 31;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 33;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub(in super::super) const TOPIC_ALIAS: u8 = 35;
    pub(in super::super) const USER: u8 = 38;
    pub(in super::super) const MAXIMUM_PACKET_SIZE: u8 = 39;
}

const fn set(ids: &[u8]) -> u64 {
    let (mut set, mut at) = (0, 0);
    while at < ids.len() {
        set |= 1 << ids[at];
        at += 1;
    }
    set
}

/// Which properties a packet may have.
pub(super) const OF_CONNECT: u64 = set(&[
    id::SESSION_EXPIRY,
    id::AUTHENTICATION_METHOD,
    id::AUTHENTICATION_DATA,
    id::REQUEST_PROBLEM,
    id::REQUEST_RESPONSE,
    id::RECEIVE_MAXIMUM,
    id::TOPIC_ALIAS_MAXIMUM,
    id::USER,
    id::MAXIMUM_PACKET_SIZE,
]);
pub(super) const OF_WILL: u64 = OF_MESSAGE | set(&[id::WILL_DELAY]);
pub(super) const OF_PUBLISH: u64 = OF_MESSAGE | set(&[id::TOPIC_ALIAS]);
pub(super) const OF_ACK: u64 = set(&[id::REASON_STRING, id::USER]);
pub(super) const OF_SUBSCRIBE: u64 = set(&[id::SUBSCRIPTION_ID, id::USER]);
pub(super) const OF_UNSUBSCRIBE: u64 = set(&[id::USER]);
pub(super) const OF_DISCONNECT: u64 = set(&[id::SESSION_EXPIRY, id::REASON_STRING, id::USER]);
pub(super) const OF_AUTH: u64 =
    set(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON_STRING, id::USER]);
const OF_MESSAGE: u64 = set(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::USER,
]);

impl Properties {
    /// Reads the length and what it counts. `allowed` is one of the sets above.
    pub(super) fn read(cursor: &mut Cursor, allowed: u64) -> Result<Self, Wrong> {
        let length = cursor.variable()?;
        let mut properties = Self::default();
        if length == 0 {
            return Ok(properties);
        }
        let length =
            usize::try_from(length).map_err(|_| Wrong::Malformed("a length beyond the packet's end"))?;
        let mut cursor = Cursor::new(cursor.take(length)?);
        let mut seen = 0;
        while !cursor.is_empty() {
            let id = cursor.u8()?;
            let bit = 1_u64.checked_shl(id.into()).unwrap_or(0);
            if allowed & bit == 0 {
                return Err(Wrong::Malformed("a property that does not belong there"));
            }
            if id != id::USER && seen & bit != 0 {
                return Err(Wrong::Protocol("a property twice"));
            }
            seen |= bit;
            properties.read_one(id, &mut cursor)?;
        }
        if seen & set(&[id::AUTHENTICATION_DATA]) != 0 && properties.authentication_method.is_none() {
            return Err(Wrong::Protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    fn read_one(&mut self, id: u8, cursor: &mut Cursor) -> Result<(), Wrong> {
        match id {
            id::PAYLOAD_FORMAT => self.payload_format = Some(u8::from(flag(cursor)?)),
            id::MESSAGE_EXPIRY => self.message_expiry = Some(cursor.u32()?),
            id::CONTENT_TYPE => self.content_type = Some(cursor.text()?),
            id::RESPONSE_TOPIC => self.response_topic = Some(topic(cursor.text()?)?),
            id::CORRELATION_DATA => self.correlation_data = Some(cursor.binary()?),
            id::SUBSCRIPTION_ID => self.subscription_id = Some(above_zero(cursor.variable()?)?),
            id::SESSION_EXPIRY => self.session_expiry = Some(cursor.u32()?),
            id::AUTHENTICATION_METHOD => self.authentication_method = Some(cursor.text()?),
            id::AUTHENTICATION_DATA => drop(cursor.binary()?),
            id::REQUEST_PROBLEM => self.request_problem = Some(flag(cursor)?),
            id::WILL_DELAY => self.will_delay = Some(cursor.u32()?),
            id::REQUEST_RESPONSE => drop(flag(cursor)?),
            id::REASON_STRING => drop(cursor.text()?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(above_zero(cursor.u16()?)?),
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(cursor.u16()?),
            id::TOPIC_ALIAS => self.topic_alias = Some(cursor.u16()?),
            id::USER => self.user.push((cursor.text()?, cursor.text()?)),
            id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(above_zero(cursor.u32()?)?),
            _ => return Err(Wrong::Malformed("an unknown property")),
        }
        Ok(())
    }
}

fn flag(cursor: &mut Cursor) -> Result<bool, Wrong> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Wrong::Protocol("a property that is neither 0 nor 1")),
    }
}

fn above_zero<T: Default + PartialEq>(value: T) -> Result<T, Wrong> {
    if value == T::default() { Err(Wrong::Protocol("a property that must not be 0")) } else { Ok(value) }
}

fn topic(topic: Box<str>) -> Result<Box<str>, Wrong> {
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Wrong::Protocol("a response topic that cannot be published to"));
    }
    Ok(topic)
}

/// The properties that go to subscribers as they came, encoded (section 3.3.2.3). The time a message has
/// left, subscription identifiers and aliases are of each delivery.
pub(in super::super) fn forwardable(properties: &Properties) -> Bytes {
    let mut out = BytesMut::new();
    if let Some(format) = properties.payload_format {
        out.put_slice(&[id::PAYLOAD_FORMAT, format]);
    }
    if let Some(content_type) = &properties.content_type {
        put_text(&mut out, id::CONTENT_TYPE, content_type);
    }
    if let Some(topic) = &properties.response_topic {
        put_text(&mut out, id::RESPONSE_TOPIC, topic);
    }
    if let Some(data) = &properties.correlation_data {
        out.put_u8(id::CORRELATION_DATA);
        put_binary(&mut out, data);
    }
    for (name, value) in &properties.user {
        put_text(&mut out, id::USER, name);
        put_binary(&mut out, value.as_bytes());
    }
    out.freeze()
}

pub(super) fn put_text(out: &mut BytesMut, id: u8, text: &str) {
    out.put_u8(id);
    put_binary(out, text.as_bytes());
}

/// What is longer than 65,535 bytes cannot be said in MQTT, and is cut; texts that come from elsewhere are
/// checked where they come in.
pub(super) fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&bytes[..length.into()]);
}
