//! MQTT packets as bytes, for both versions and both directions. Pure.
//!
//! Sections are those of MQTT 5.0; what 3.1.1 does not have is left out when a packet is written for it.

mod decode;
mod encode;
mod properties;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;

pub use decode::decode;
pub use encode::{encode, publish_size};
pub use properties::Properties;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1: protocol level 4.
    V3,
    /// 5.0: protocol level 5.
    V5,
}

/// Quality of service (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    #[default]
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// One control packet (2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all packets are the large one")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    Ack(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    /// UNSUBACK (3.11), of the packet identifier.
    UnsubAck(u16),
    PingReq,
    PingResp,
    Disconnect(Box<Disconnect>),
}

/// CONNECT (3.1), without a will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive: u16,
    pub client_id: Box<str>,
    pub user: Option<Box<str>>,
    pub password: Option<Bytes>,
    pub properties: Properties,
}

/// CONNACK (3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    /// 0 is success. A reason code of MQTT 5.0, or a return code of 3.1.1 (its table 3.1).
    pub code: u8,
    pub properties: Properties,
}

/// PUBLISH (3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub duplicate: bool,
    pub qos: Qos,
    pub retain: bool,
    /// Empty if it has a topic alias.
    pub topic: Box<str>,
    /// 0 with QoS 0, and only then.
    pub packet_id: u16,
    pub properties: Properties,
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub kind: AckKind,
    pub packet_id: u16,
    /// 0 with 3.1.1.
    pub code: u8,
    pub reason: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: u16,
    pub filters: Vec<Filter>,
}

/// A topic filter and its options (3.8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub filter: Box<str>,
    pub qos: Qos,
    /// MQTT 5.0: what this client publishes does not come back.
    pub no_local: bool,
    /// MQTT 5.0: the retain flag stays as the publisher set it.
    pub retain_as_published: bool,
    /// MQTT 5.0, 0 to 2: send retained messages at subscribe, if the subscription is new, or not.
    pub retain_handling: u8,
}

/// SUBACK (3.9): a code for each filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    pub packet_id: u16,
    pub codes: Vec<u8>,
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: u16,
    pub filters: Vec<Box<str>>,
}

/// DISCONNECT (3.14).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u8,
    pub properties: Properties,
}

/// What is wrong with bytes that are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a packet of {size} bytes, where {limit} are the most")]
    TooLarge { size: usize, limit: usize },
    #[error("a length of more than four bytes")]
    Length,
    #[error("packet type {0}, which has no place here")]
    Type(u8),
    #[error("flags {flags:#x} of packet type {packet}")]
    Flags { packet: u8, flags: u8 },
    #[error("it ends within a field")]
    Short,
    #[error("bytes after its end")]
    Long,
    #[error("text that is no UTF-8, or has a NUL")]
    Text,
    #[error("packet identifier 0")]
    PacketId,
    #[error("QoS 3")]
    Qos,
    #[error("property {0:#x}, unknown, twice, or of no meaning here")]
    Property(u32),
    #[error("a protocol that is not MQTT 3.1.1 or 5.0")]
    Protocol,
}

impl Qos {
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    pub const fn bits(self) -> u8 {
        self as u8
    }
}

impl Filter {
    pub fn new(filter: impl Into<Box<str>>, qos: Qos) -> Self {
        let filter = filter.into();
        Self { filter, qos, no_local: false, retain_as_published: false, retain_handling: 0 }
    }
}

impl Ack {
    pub const fn new(kind: AckKind, packet_id: u16) -> Self {
        Self { kind, packet_id, code: 0, reason: None }
    }
}

/// Types of packets (2.1.2), as in the upper half of the first byte.
mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const UNSUBACK: u8 = 11;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const PINGRESP: u8 = 13;
    pub(super) const DISCONNECT: u8 = 14;
}
