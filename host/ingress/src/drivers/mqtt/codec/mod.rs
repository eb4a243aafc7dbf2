//! MQTT's packets (3.1.1 and 5.0, section 2 and 3), to and from bytes. Pure: it knows no connection.

mod cursor;
mod decode;
mod encode;
mod properties;
pub(super) mod reason;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};

pub(super) use self::decode::decode;
/// The most that a packet can have, all in all.
pub(super) const LARGEST: usize = 268_435_460;

pub(super) use self::encode::{
    ConnAck, Outgoing, ack, connack, disconnect, pingresp, publish, suback, unsuback,
};
pub(super) use self::properties::{Properties, forwardable};

/// What a client said that it speaks. 3.1 differs from 3.1.1 in nothing that a broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V5,
}

/// How surely a message is to arrive.
#[expect(clippy::enum_variant_names, reason = "as the specification calls them")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Qos {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    pub(super) const fn of(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// What is wrong with a client's bytes; the reason code says it to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    #[error("the packet is larger than the {limit} bytes that one may have")]
    TooLarge { limit: usize },
    #[error("the topic cannot be published to")]
    Topic,
    #[error("more than {max} filters in one packet")]
    Filters { max: usize },
    #[error("protocol version {0} is not 3, 4 or 5")]
    Version(u8),
}

impl Wrong {
    /// MQTT 5.0, section 2.4.
    pub(super) const fn reason(self) -> u8 {
        match self {
            Self::Malformed(_) => reason::MALFORMED,
            Self::Protocol(_) => reason::PROTOCOL_ERROR,
            Self::TooLarge { .. } => reason::PACKET_TOO_LARGE,
            Self::Topic => reason::TOPIC_NAME_INVALID,
            Self::Filters { .. } => reason::QUOTA,
            Self::Version(_) => reason::UNSUPPORTED_VERSION,
        }
    }
}

/// A packet as it came: the first byte, and what the remaining length counted.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) body: Bytes,
}

/// The size of the head of the first packet in `buffer`, and of the whole packet; `None` until the head is there.
/// `limit` is of the whole packet.
pub(super) fn size(buffer: &[u8], limit: usize) -> Result<Option<(usize, usize)>, Wrong> {
    let (mut length, mut size) = (0_usize, 1);
    loop {
        let Some(byte) = buffer.get(size).copied() else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (size - 1));
        size += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if size == 5 {
            return Err(Wrong::Malformed("a remaining length of more than four bytes"));
        }
    }
    if size + length > limit {
        return Err(Wrong::TooLarge { limit });
    }
    Ok(Some((size, size + length)))
}

/// Takes the first whole packet off `buffer`; `None` until it is there. `limit` is of the whole packet.
pub(super) fn frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Wrong> {
    let Some((head, whole)) = size(buffer, limit)? else { return Ok(None) };
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let first = buffer[0];
    buffer.advance(head);
    Ok(Some(Frame { first, body: buffer.split_to(whole - head).freeze() }))
}

/// What a client sends.
#[derive(Debug)]
pub(super) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
    Auth,
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) clean: bool,
    /// Seconds; 0 is none.
    pub(super) keep_alive: u16,
    pub(super) client: Box<str>,
    pub(super) properties: Properties,
    pub(super) will: Option<Will>,
    pub(super) user: Option<Box<str>>,
    pub(super) password: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct Will {
    pub(super) topic: Box<str>,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) properties: Properties,
}

#[derive(Debug)]
pub(super) struct Publish {
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Empty if an alias stands for it.
    pub(super) topic: Box<str>,
    /// 0 at quality of service 0.
    pub(super) id: u16,
    pub(super) properties: Option<Box<Properties>>,
    pub(super) payload: Bytes,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) id: u16,
    pub(super) reason: u8,
}

#[derive(Debug)]
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) subscription_id: Option<u32>,
    pub(super) filters: Vec<(Box<str>, Wanted)>,
}

/// How a client wants the messages of a subscription (MQTT 5.0, section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retained: Retained,
}

/// Which retained messages are sent on subscribing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Retained {
    #[default]
    Always,
    IfNew,
    Never,
}

#[derive(Debug)]
pub(super) struct Unsubscribe {
    pub(super) id: u16,
    pub(super) filters: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Disconnect {
    pub(super) reason: u8,
    pub(super) session_expiry: Option<u32>,
}
