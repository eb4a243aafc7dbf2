//! MQTT-SN 1.2 messages as bytes (its section 5). Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// One message. What only a gateway's neighbours say is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    SearchGateway,
    GatewayInfo,
    Connect {
        will: bool,
        clean: bool,
        duration: u16,
        client: Box<str>,
    },
    ConnAck(u8),
    WillTopicRequest,
    /// `None` takes the will back.
    WillTopic(Option<(Flags, Box<str>)>),
    WillMessageRequest,
    WillPayload(Bytes),
    Register {
        topic_id: u16,
        id: u16,
        topic: Box<str>,
    },
    RegAck {
        topic_id: u16,
        id: u16,
        code: u8,
    },
    Publish {
        flags: Flags,
        topic: Topic,
        id: u16,
        payload: Bytes,
    },
    PubAck {
        topic_id: u16,
        id: u16,
        code: u8,
    },
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        flags: Flags,
        id: u16,
        topic: Topic,
    },
    SubAck {
        qos: u8,
        topic_id: u16,
        id: u16,
        code: u8,
    },
    Unsubscribe {
        id: u16,
        topic: Topic,
    },
    UnsubAck(u16),
    /// With the name of who was asleep.
    PingReq(Option<Box<str>>),
    PingResp,
    /// With the seconds that the client will be asleep.
    Disconnect(Option<u16>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) duplicate: bool,
    /// 3 is −1: without a connection.
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// How a topic is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Registered; or its whole name, where one subscribes.
    Id(u16),
    Name(Box<str>),
    Predefined(u16),
    /// Of two characters.
    Short([u8; 2]),
}

/// Return codes (5.3.10).
pub(super) mod code {
    pub(in super::super) const ACCEPTED: u8 = 0;
    pub(in super::super) const CONGESTION: u8 = 1;
    pub(in super::super) const INVALID_TOPIC: u8 = 2;
    pub(in super::super) const NOT_SUPPORTED: u8 = 3;
}

/// The number of this gateway.
const GATEWAY: u8 = 1;

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.rest()).ok().map(Into::into)
    }

    /// A message identifier that asks for an answer is not 0.
    fn id(&mut self) -> Option<u16> {
        self.number().filter(|id| *id > 0)
    }
}

fn flags(byte: u8) -> Flags {
    Flags { duplicate: byte & 0x80 != 0, qos: byte >> 5 & 3, retain: byte & 0x10 != 0 }
}

/// `None` for what is no message that clients send.
pub(super) fn decode(datagram: &[u8]) -> Option<Message> {
    let (length, rest) = match *datagram {
        [1, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
        [length, ref rest @ ..] => (usize::from(length), rest),
        [] => return None,
    };
    if length != datagram.len() {
        return None;
    }
    let mut cursor = Cursor(rest);
    let kind = cursor.byte()?;
    let message = body(kind, &mut cursor)?;
    cursor.0.is_empty().then_some(message)
}

fn body(kind: u8, cursor: &mut Cursor<'_>) -> Option<Message> {
    Some(match kind {
        0x01 => {
            cursor.byte()?;
            Message::SearchGateway
        }
        0x04 => {
            let (bits, protocol) = (cursor.byte()?, cursor.byte()?);
            let (duration, client) = (cursor.number()?, cursor.text()?);
            if protocol != 1 || client.len() > 23 {
                return None;
            }
            Message::Connect { will: bits & 0x08 != 0, clean: bits & 0x04 != 0, duration, client }
        }
        0x07 if cursor.0.is_empty() => Message::WillTopic(None),
        0x07 => Message::WillTopic(Some((flags(cursor.byte()?), cursor.text()?))),
        0x09 => Message::WillPayload(Bytes::copy_from_slice(cursor.rest())),
        0x0A => Message::Register { topic_id: cursor.number()?, id: cursor.id()?, topic: cursor.text()? },
        0x0B => Message::RegAck { topic_id: cursor.number()?, id: cursor.number()?, code: cursor.byte()? },
        0x0C => {
            let bits = cursor.byte()?;
            let topic = match bits & 3 {
                0 => Topic::Id(cursor.number()?),
                1 => Topic::Predefined(cursor.number()?),
                2 => Topic::Short([cursor.byte()?, cursor.byte()?]),
                _ => return None,
            };
            let flags = flags(bits);
            let id = cursor.number().filter(|id| *id > 0 || matches!(flags.qos, 0 | 3))?;
            Message::Publish { flags, topic, id, payload: Bytes::copy_from_slice(cursor.rest()) }
        }
        0x0D => Message::PubAck { topic_id: cursor.number()?, id: cursor.number()?, code: cursor.byte()? },
        0x0F => Message::PubRec(cursor.id()?),
        0x10 => Message::PubRel(cursor.id()?),
        0x0E => Message::PubComp(cursor.id()?),
        0x12 | 0x14 => {
            let bits = cursor.byte()?;
            let id = cursor.id()?;
            let topic = match bits & 3 {
                0 => Topic::Name(cursor.text()?),
                1 => Topic::Predefined(cursor.number()?),
                2 => Topic::Short([cursor.byte()?, cursor.byte()?]),
                _ => return None,
            };
            match kind {
                0x12 => Message::Subscribe { flags: flags(bits), id, topic },
                _ => Message::Unsubscribe { id, topic },
            }
        }
        0x16 if cursor.0.is_empty() => Message::PingReq(None),
        0x16 => Message::PingReq(Some(cursor.text()?)),
        0x17 => Message::PingResp,
        0x18 if cursor.0.is_empty() => Message::Disconnect(None),
        0x18 => Message::Disconnect(Some(cursor.number()?)),
        _ => return None,
    })
}

/// `None` for what a gateway does not send, or does not fit.
pub(super) fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut body = BytesMut::new();
    let kind = match message {
        Message::GatewayInfo => {
            body.put_u8(GATEWAY);
            0x02
        }
        Message::ConnAck(code) => {
            body.put_u8(*code);
            0x05
        }
        Message::WillTopicRequest => 0x06,
        Message::WillMessageRequest => 0x08,
        Message::Register { topic_id, id, topic } => {
            body.put_u16(*topic_id);
            body.put_u16(*id);
            body.put_slice(topic.as_bytes());
            0x0A
        }
        Message::RegAck { topic_id, id, code } => {
            acknowledgement(&mut body, *topic_id, *id, *code);
            0x0B
        }
        Message::Publish { flags, topic, id, payload } => {
            let (bits, topic) = match topic {
                Topic::Id(id) => (0, id.to_be_bytes()),
                Topic::Predefined(id) => (1, id.to_be_bytes()),
                Topic::Short(name) => (2, *name),
                Topic::Name(_) => return None,
            };
            let Flags { duplicate, qos, retain } = flags;
            body.put_u8(u8::from(*duplicate) << 7 | qos << 5 | u8::from(*retain) << 4 | bits);
            body.put_slice(&topic);
            body.put_u16(*id);
            body.put_slice(payload);
            0x0C
        }
        Message::PubAck { topic_id, id, code } => {
            acknowledgement(&mut body, *topic_id, *id, *code);
            0x0D
        }
        Message::PubRec(id) => numbered(&mut body, *id, 0x0F),
        Message::PubRel(id) => numbered(&mut body, *id, 0x10),
        Message::PubComp(id) => numbered(&mut body, *id, 0x0E),
        Message::SubAck { qos, topic_id, id, code } => {
            body.put_u8(qos << 5);
            acknowledgement(&mut body, *topic_id, *id, *code);
            0x13
        }
        Message::UnsubAck(id) => numbered(&mut body, *id, 0x15),
        Message::PingReq(None) => 0x16,
        Message::PingResp => 0x17,
        Message::Disconnect(None) => 0x18,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(body.len() + 4);
    match u8::try_from(body.len() + 2) {
        Ok(length) => bytes.push(length),
        Err(_) => {
            bytes.push(1);
            bytes.extend(u16::try_from(body.len() + 4).ok()?.to_be_bytes());
        }
    }
    bytes.push(kind);
    bytes.extend_from_slice(&body);
    Some(bytes)
}

fn acknowledgement(body: &mut BytesMut, topic_id: u16, id: u16, code: u8) {
    body.put_u16(topic_id);
    body.put_u16(id);
    body.put_u8(code);
}

fn numbered(body: &mut BytesMut, id: u16, kind: u8) -> u8 {
    body.put_u16(id);
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let flags = Flags { duplicate: false, qos: 1, retain: true };
        for (bytes, message) in [
            (&b"\x03\x01\x00"[..], Message::SearchGateway),
            (
                b"\x08\x04\x0C\x01\x00\x3Cab",
                Message::Connect { will: true, clean: true, duration: 60, client: "ab".into() },
            ),
            (b"\x08\x0A\x00\x00\x00\x07ab", Message::Register { topic_id: 0, id: 7, topic: "ab".into() }),
            (
                b"\x09\x0C\x30\x00\x05\x00\x07hi",
                Message::Publish { flags, topic: Topic::Id(5), id: 7, payload: "hi".into() },
            ),
            (
                b"\x01\x00\x0B\x0C\x62ab\x00\x00hi",
                Message::Publish {
                    flags: Flags { qos: 3, ..Flags::default() },
                    topic: Topic::Short(*b"ab"),
                    id: 0,
                    payload: "hi".into(),
                },
            ),
            (b"\x02\x16", Message::PingReq(None)),
            (b"\x04\x16ab", Message::PingReq(Some("ab".into()))),
            (b"\x04\x18\x00\x0A", Message::Disconnect(Some(10))),
        ] {
            assert_eq!(decode(bytes), Some(message), "{bytes:?}");
        }
        for bad in [
            &b""[..],
            b"\x03\x16",
            b"\x01\x00",
            b"\x06\x04\x00\x02\x00\x3C",
            b"\x07\x0C\x23\x00\x05\x00\x07",
            b"\x07\x0C\x20\x00\x05\x00\x00",
            b"\x05\x12\x00\x00\x00",
            b"\x02\xFE",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let flags = Flags { duplicate: true, qos: 2, retain: false };
        for message in [
            Message::Register { topic_id: 3, id: 7, topic: "a/b".into() },
            Message::RegAck { topic_id: 3, id: 7, code: 2 },
            Message::Publish { flags, topic: Topic::Id(3), id: 7, payload: vec![b'x'; 300].into() },
            Message::PubAck { topic_id: 3, id: 7, code: 0 },
            Message::PubRec(7),
            Message::PubRel(7),
            Message::PubComp(7),
            Message::PingResp,
            Message::Disconnect(None),
        ] {
            assert_eq!(decode(&encode(&message).unwrap()), Some(message));
        }
        assert_eq!(encode(&Message::SearchGateway), None);
        let payload = vec![0; 70_000].into();
        assert_eq!(encode(&Message::Publish { flags, topic: Topic::Id(3), id: 7, payload }), None);
    }
}
