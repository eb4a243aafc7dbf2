//! What the broker keeps in the store: names and values of its rows.
//!
//! | name | value |
//! |---|---|
//! | `s<client>` | [`SessionRow`] |
//! | `u<session>.<filter>` | [`SubscriptionRow`] |
//! | `q<session>.<place>` | [`QueueRow`] |
//! | `m<message>` | [`MessageRow`], of a message that several sessions wait for |
//! | `p<session>.<packet>` | nothing: a QoS 2 PUBLISH that was journaled and not released |
//! | `r<topic>` | [`MessageRow`] |
//! | `w<session>` | [`WillRow`] |
//!
//! Numbers in names are hexadecimal, of one width, so that names sort like numbers.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{StateWrite, Timestamp, Topic};
use serde::{Deserialize, Serialize};

use super::codec::{Qos, Retained, Wanted};
use super::message::{Expiry, Message};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionRow {
    pub(super) number: u32,
    /// Seconds without a connection after which it ends.
    pub(super) expiry_s: u32,
    /// Nanoseconds: since when it has none. `None` while it has.
    pub(super) absent_since: Option<u64>,
    /// The next place in its queue.
    pub(super) next_place: u64,
    /// What was below may have been sent.
    pub(super) sent_below: u64,
    pub(super) user: Option<Box<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SubscriptionRow {
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) id: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageRow<'a> {
    pub(super) topic: &'a str,
    #[serde(with = "serde_bytes_slice")]
    pub(super) payload: &'a [u8],
    #[serde(with = "serde_bytes_slice")]
    pub(super) properties: &'a [u8],
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// Nanoseconds.
    pub(super) expires: Option<u64>,
    pub(super) publisher: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum QueueRow<'a> {
    Whole {
        #[serde(borrow)]
        message: MessageRow<'a>,
        how: How,
    },
    /// The message is in a row of its own.
    Shared { message: u64, how: How },
    /// A QoS 2 message that the subscriber has received and the broker released: only its PUBREL is due.
    Released,
}

/// How an entry of a queue is to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct How {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) subscription_ids: Box<[u32]>,
    /// The shared subscription that it came by.
    pub(super) group: Option<Box<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WillRow<'a> {
    pub(super) client: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) delay_s: u32,
    /// Seconds that the message lasts, from its publication on.
    pub(super) expiry_s: Option<u32>,
    pub(super) content_type: Option<&'a str>,
    #[serde(borrow)]
    pub(super) user_properties: Vec<(&'a str, &'a str)>,
    pub(super) response_topic: Option<&'a str>,
    pub(super) correlation_data: Option<&'a [u8]>,
    pub(super) payload_format: Option<u8>,
    #[serde(borrow)]
    pub(super) message: MessageRow<'a>,
}

/// Byte strings, which serde would else take for lists.
mod serde_bytes_slice {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'de [u8], D::Error> {
        <&'de [u8]>::deserialize(from)
    }
}

impl<'a> MessageRow<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        Self {
            topic: message.topic.as_str(),
            payload: &message.payload,
            properties: &message.properties,
            qos: message.qos as u8,
            retain: message.retain,
            expires: by_clock(message).map(Timestamp::nanos),
            publisher: message.publisher,
        }
    }

    /// `None` if it cannot have been written by this broker.
    pub(super) fn message(&self) -> Option<Message> {
        Some(Message {
            topic: self.topic.parse::<Topic>().ok()?,
            payload: Bytes::copy_from_slice(self.payload),
            properties: Bytes::copy_from_slice(self.properties),
            qos: Qos::of(self.qos)?,
            retain: self.retain,
            expires: self.expires.map(Timestamp::from_nanos).map(Expiry::kept),
            publisher: self.publisher,
            row: None,
        })
    }
}

impl SubscriptionRow {
    pub(super) fn of(wanted: Wanted, id: Option<u32>) -> Self {
        Self {
            qos: wanted.qos as u8,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            id,
        }
    }

    pub(super) fn wanted(&self) -> Option<Wanted> {
        Some(Wanted {
            qos: Qos::of(self.qos)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retained: Retained::Always,
        })
    }
}

pub(super) fn session(client: &str) -> Box<str> {
    format!("s{client}").into()
}

pub(super) fn subscription(session: u32, filter: &str) -> Box<str> {
    format!("u{session:08x}.{filter}").into()
}

pub(super) fn queued(session: u32, place: u64) -> Box<str> {
    // Two for each message to a stored session: they are not to grow to their length.
    let mut name = String::with_capacity(22);
    let _ = write!(name, "q{session:08x}.{place:012x}");
    name.into()
}

pub(super) fn message(number: u64) -> Box<str> {
    format!("m{number:012x}").into()
}

pub(super) fn packet(session: u32, packet: u16) -> Box<str> {
    format!("p{session:08x}.{packet:04x}").into()
}

pub(super) fn retained(topic: &str) -> Box<str> {
    format!("r{topic}").into()
}

pub(super) fn will(session: u32) -> Box<str> {
    format!("w{session:08x}").into()
}

/// The session, and what stands behind the point, of a name without its first letter.
pub(super) fn split(name: &str) -> Option<(u32, &str)> {
    let (session, rest) = name.split_once('.')?;
    Some((u32::from_str_radix(session, 16).ok()?, rest))
}

pub(super) fn write(name: Box<str>, row: &impl Serialize) -> StateWrite {
    let value = postcard::to_stdvec(row).map(Bytes::from).ok();
    debug_assert!(value.is_some(), "every row can be written");
    StateWrite { name, value, expires: None }
}

pub(super) fn mark(name: Box<str>) -> StateWrite {
    StateWrite { name, value: Some(Bytes::new()), expires: None }
}

pub(super) fn delete(name: Box<str>) -> StateWrite {
    StateWrite { name, value: None, expires: None }
}

/// `None` for what another version of the host wrote, or the disk changed: it is left out, and told.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

fn by_clock(message: &Message) -> Option<Timestamp> {
    message.expires.map(|expires| expires.by_clock)
}

/// A row of a message of its own, with the time at which the store may forget it.
pub(super) fn write_message(name: Box<str>, message: &Message) -> StateWrite {
    StateWrite { expires: by_clock(message), ..write(name, &MessageRow::of(message)) }
}

/// The queue row of `message` for one session.
pub(super) fn write_queued(name: Box<str>, message: &Arc<Message>, how: How) -> StateWrite {
    let row = QueueRow::Whole { message: MessageRow::of(message), how };
    StateWrite { expires: by_clock(message), ..write(name, &row) }
}

/// The same, where the message has a row of its own, with that number.
pub(super) fn write_shared(name: Box<str>, message: &Message, number: u64, how: How) -> StateWrite {
    StateWrite { expires: by_clock(message), ..write(name, &QueueRow::Shared { message: number, how }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let message = Message {
            topic: "a/ü".parse().unwrap(),
            payload: Bytes::from_static(b"\0\xff"),
            properties: Bytes::from_static(&[1, 1]),
            qos: Qos::ExactlyOnce,
            retain: true,
            expires: Some(Expiry::kept(Timestamp::from_millis(7))),
            publisher: 3,
            row: None,
        };
        let how = How { qos: 1, retain: false, subscription_ids: [5, 268_435_455].into(), group: None };
        let write = write_queued(queued(3, 65_535), &Arc::new(message), how);
        assert_eq!(
            (&*write.name, write.expires),
            ("q00000003.00000000ffff", Some(Timestamp::from_millis(7)))
        );
        let value = write.value.unwrap();
        let Some(QueueRow::Whole { message, how }) = read(&value) else { panic!("not whole") };
        assert_eq!((how.qos, &*how.subscription_ids), (1, &[5, 268_435_455][..]));
        let message = message.message().unwrap();
        assert_eq!((message.topic.as_str(), &message.payload[..]), ("a/ü", &b"\0\xff"[..]));
        assert_eq!((message.qos, message.retain, message.publisher), (Qos::ExactlyOnce, true, 3));
    }

    #[test]
    fn names_can_be_taken_apart() {
        assert_eq!(split("00000010.a.b/+"), Some((16, "a.b/+")));
        assert_eq!(split("x.a"), None);
    }
}
