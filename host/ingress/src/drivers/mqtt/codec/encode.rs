//! Packets of the broker, written to the end of a buffer.

use bytes::{BufMut, BytesMut};

use super::properties::{id, put_binary, put_text};
use super::reason::connect_return_code;
use super::{Qos, Version};

/// What the broker says of a connection that it takes, or why it does not.
#[derive(Debug, Default)]
pub(in super::super) struct ConnAck<'a> {
    pub(in super::super) reason: u8,
    pub(in super::super) session_present: bool,
    pub(in super::super) text: Option<&'a str>,
    pub(in super::super) session_expiry: Option<u32>,
    pub(in super::super) receive_maximum: Option<u16>,
    pub(in super::super) maximum_packet_size: Option<u32>,
    pub(in super::super) assigned_client: Option<&'a str>,
    pub(in super::super) topic_alias_maximum: Option<u16>,
    pub(in super::super) server_keep_alive: Option<u16>,
}

/// MQTT 5.0, section 3.2; 3.1.1 likewise.
pub(in super::super) fn connack(out: &mut BytesMut, version: Version, connack: &ConnAck<'_>) {
    let flags = u8::from(connack.session_present);
    if version == Version::V3 {
        out.put_slice(&[0x20, 2, flags, connect_return_code(connack.reason)]);
        return;
    }
    let mut properties = BytesMut::new();
    let u32s = [
        (id::SESSION_EXPIRY, connack.session_expiry),
        (id::MAXIMUM_PACKET_SIZE, connack.maximum_packet_size),
    ];
    for (id, value) in u32s {
        if let Some(value) = value {
            properties.put_u8(id);
            properties.put_u32(value);
        }
    }
    let u16s = [
        (id::RECEIVE_MAXIMUM, connack.receive_maximum),
        (id::TOPIC_ALIAS_MAXIMUM, connack.topic_alias_maximum),
        (id::SERVER_KEEP_ALIVE, connack.server_keep_alive),
    ];
    for (id, value) in u16s {
        if let Some(value) = value {
            properties.put_u8(id);
            properties.put_u16(value);
        }
    }
    for (id, value) in [(id::ASSIGNED_CLIENT, connack.assigned_client), (id::REASON_STRING, connack.text)] {
        if let Some(value) = value {
            put_text(&mut properties, id, value);
        }
    }
    out.put_u8(0x20);
    put_variable(out, 2 + counted(properties.len()));
    out.put_slice(&[flags, connack.reason]);
    put_variable(out, properties.len());
    out.put_slice(&properties);
}

/// A PUBLISH to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Outgoing<'a> {
    pub(in super::super) qos: Qos,
    pub(in super::super) retain: bool,
    pub(in super::super) again: bool,
    /// Empty if `alias` stands for it.
    pub(in super::super) topic: &'a str,
    /// Not 0 above quality of service 0.
    pub(in super::super) id: u16,
    pub(in super::super) alias: Option<u16>,
    /// Seconds that are left.
    pub(in super::super) expiry: Option<u32>,
    pub(in super::super) subscription_ids: &'a [u32],
    /// As [`super::forwardable`] makes them.
    pub(in super::super) properties: &'a [u8],
    pub(in super::super) payload_length: usize,
}

impl Outgoing<'_> {
    fn properties_length(&self) -> usize {
        let ids = self.subscription_ids.iter().map(|id| 1 + variable_length(*id as usize));
        self.alias.map_or(0, |_| 3)
            + self.expiry.map_or(0, |_| 5)
            + ids.sum::<usize>()
            + self.properties.len()
    }

    fn remaining(&self, version: Version) -> usize {
        let id = if self.qos == Qos::AtMostOnce { 0 } else { 2 };
        let properties = match version {
            Version::V3 => 0,
            Version::V5 => counted(self.properties_length()),
        };
        2 + self.topic.len() + id + properties + self.payload_length
    }

    /// Bytes of the whole packet.
    pub(in super::super) fn size(&self, version: Version) -> usize {
        1 + counted(self.remaining(version))
    }
}

/// MQTT 5.0, section 3.3, up to the payload, which the caller adds.
pub(in super::super) fn publish(out: &mut BytesMut, version: Version, message: &Outgoing<'_>) {
    out.put_u8(0x30 | u8::from(message.again) << 3 | (message.qos as u8) << 1 | u8::from(message.retain));
    put_variable(out, message.remaining(version));
    put_binary(out, message.topic.as_bytes());
    if message.qos != Qos::AtMostOnce {
        out.put_u16(message.id);
    }
    if version == Version::V3 {
        return;
    }
    put_variable(out, message.properties_length());
    if let Some(alias) = message.alias {
        out.put_u8(id::TOPIC_ALIAS);
        out.put_u16(alias);
    }
    if let Some(expiry) = message.expiry {
        out.put_u8(id::MESSAGE_EXPIRY);
        out.put_u32(expiry);
    }
    for subscription_id in message.subscription_ids {
        out.put_u8(id::SUBSCRIPTION_ID);
        put_variable(out, *subscription_id as usize);
    }
    out.put_slice(message.properties);
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP: `first` is the first byte. A reason is said in 5.0 only.
pub(in super::super) fn ack(out: &mut BytesMut, version: Version, first: u8, packet_id: u16, reason: u8) {
    match (version, reason) {
        (Version::V5, 1..) => out.put_slice(&[first, 3]),
        _ => out.put_slice(&[first, 2]),
    }
    out.put_u16(packet_id);
    if version == Version::V5 && reason > 0 {
        out.put_u8(reason);
    }
}

pub(in super::super) fn suback(out: &mut BytesMut, version: Version, packet_id: u16, reasons: &[u8]) {
    let properties = usize::from(version == Version::V5);
    out.put_u8(0x90);
    put_variable(out, 2 + properties + reasons.len());
    out.put_u16(packet_id);
    if version == Version::V5 {
        out.put_u8(0);
    }
    // 3.1.1 knows one failure.
    out.extend(reasons.iter().map(|reason| match version {
        Version::V3 if *reason > 0x80 => 0x80,
        _ => *reason,
    }));
}

pub(in super::super) fn unsuback(out: &mut BytesMut, version: Version, packet_id: u16, reasons: &[u8]) {
    out.put_u8(0xB0);
    match version {
        Version::V3 => {
            out.put_u8(2);
            out.put_u16(packet_id);
        }
        Version::V5 => {
            put_variable(out, 3 + reasons.len());
            out.put_u16(packet_id);
            out.put_u8(0);
            out.put_slice(reasons);
        }
    }
}

pub(in super::super) fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xD0, 0]);
}

/// In 5.0 only: a 3.1.1 broker closes without a word.
pub(in super::super) fn disconnect(out: &mut BytesMut, version: Version, reason: u8, text: Option<&str>) {
    if version == Version::V3 {
        return;
    }
    let mut properties = BytesMut::new();
    if let Some(text) = text {
        put_text(&mut properties, id::REASON_STRING, text);
    }
    out.put_u8(0xE0);
    put_variable(out, 1 + counted(properties.len()));
    out.put_u8(reason);
    put_variable(out, properties.len());
    out.put_slice(&properties);
}

const fn variable_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// The length's own bytes, and what it counts.
const fn counted(length: usize) -> usize {
    variable_length(length) + length
}

/// A variable byte integer (section 1.5.5): below 268,435,456, as a packet's size limit sees to.
fn put_variable(out: &mut BytesMut, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.put_u8(byte);
        }
        out.put_u8(byte | 0x80);
    }
}
