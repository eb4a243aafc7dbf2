//! The rows of the tables, and what they stand for.
//!
//! A row is one or two postcard values: what is often asked for or changed comes first, and the rest need
//! not be read for it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use sandbar_reading::{
    Attributes, ContentType, Delivery, DeliveryId, Lineage, Message, Name, Reading, ReadingId, Target,
    Timestamp, Topic,
};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::partial::{Kept, Partial};

/// A row that cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error("a row of {table} is damaged")]
pub(crate) struct Damaged {
    pub(crate) table: &'static str,
}

/// What retention needs of a journaled reading; the reading follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct JournalHead<'a> {
    /// What it weighs ([`weight`]); older versions wrote how many bytes its payload has. What was added is taken away.
    pub(crate) bytes: u64,
    /// Where it waits, or waited: route and lane.
    #[serde(borrow)]
    pub(crate) lanes: Vec<(Cow<'a, str>, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ReadingRow<'a> {
    pub(crate) ingress: &'a str,
    pub(crate) time: u64,
    pub(crate) parent: Option<u128>,
    pub(crate) depth: u8,
    #[serde(borrow)]
    pub(crate) message: MessageRow<'a>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeliveryRow<'a> {
    pub(crate) reading: u128,
    pub(crate) route: &'a str,
    pub(crate) time: u64,
    #[serde(borrow)]
    pub(crate) message: MessageRow<'a>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MessageRow<'a> {
    pub(crate) topic: &'a str,
    pub(crate) device: Option<&'a str>,
    content_type: &'a str,
    #[serde(borrow)]
    attributes: AttributesRow<'a>,
    #[serde(borrow)]
    payload: PayloadRow<'a>,
}

#[derive(Serialize, Deserialize)]
enum PayloadRow<'a> {
    Inline(#[serde(borrow, serialize_with = "as_bytes")] &'a [u8]),
    /// It has a file of its own.
    Kept {
        digest: [u8; 32],
        bytes: u64,
    },
}

struct AttributesRow<'a>(Cow<'a, Attributes>);

/// What changes of a delivery in the outbox; the delivery follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct QueuedHead<'a> {
    pub(crate) attempts: u32,
    pub(crate) due: u64,
    pub(crate) last_cause: Option<&'a str>,
}

/// What a listing needs of a dead letter; the reading or delivery follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct DeadHead<'a> {
    pub(crate) time: u64,
    pub(crate) attempts: u32,
    pub(crate) cause: &'a str,
    #[serde(borrow)]
    pub(crate) subject: SubjectRow<'a>,
    /// Of the reading or delivery.
    pub(crate) id: u128,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum SubjectRow<'a> {
    Reading { route: &'a str, key: &'a str },
    Sink(&'a str),
    Device(&'a str),
}

/// A reading that waits: `due attempts key`, the numbers big-endian.
pub(crate) struct WaitingRow<'a> {
    pub(crate) due: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) key: &'a str,
}

/// A value of a scope's state: `expires value`.
pub(crate) struct StateRow<'a> {
    /// [`StateRow::NEVER`] if it does not.
    pub(crate) expires: u64,
    pub(crate) value: &'a [u8],
}

pub(crate) fn append<T: Serialize>(row: &mut Vec<u8>, value: &T) {
    postcard::serialize_with_flavor(value, Buffer(row)).expect("a buffer that grows takes any row");
}

pub(crate) fn read<'a, T: Deserialize<'a>>(row: &'a [u8], table: &'static str) -> Result<T, Damaged> {
    postcard::from_bytes(row).map_err(|_| Damaged { table })
}

/// A head, and the bytes that follow it.
pub(crate) fn read_head<'a, T: Deserialize<'a>>(
    row: &'a [u8],
    table: &'static str,
) -> Result<(T, &'a [u8]), Damaged> {
    postcard::take_from_bytes(row).map_err(|_| Damaged { table })
}

/// What a row counts as against a limit: itself, or its payload if that has a file, and about what its key and the page
/// around it take. Payloads alone would let a journal of tiny ones become many times larger than it may.
pub(crate) fn weight(row: &[u8], payload_bytes: u64) -> u64 {
    const AROUND: u64 = 64;
    payload_bytes.max(row.len() as u64) + AROUND
}

/// The same of a whole row of dead letters. One that is damaged weighs something, too.
pub(crate) fn weight_of_dead_letter(row: &[u8]) -> u64 {
    weight(row, kept_of_dead_letter(row).map_or(0, |(_, bytes)| bytes))
}

impl<'a> ReadingRow<'a> {
    /// `kept`: the file that its payload has.
    pub(crate) fn of(reading: &'a Reading, kept: Option<Digest>) -> Self {
        Self {
            ingress: reading.ingress.as_str(),
            time: reading.time.nanos(),
            parent: reading.lineage.parent.map(ReadingId::as_u128),
            depth: reading.lineage.depth,
            message: MessageRow {
                topic: reading.topic.as_str(),
                device: reading.device.as_deref(),
                content_type: reading.content_type.as_str(),
                attributes: AttributesRow(Cow::Borrowed(&reading.attributes)),
                payload: PayloadRow::of(&reading.payload, kept),
            },
        }
    }

    pub(crate) fn into_reading(self, id: u128, table: &'static str) -> Result<Partial<Reading>, Damaged> {
        let ingress = Name::parse_ingress(self.ingress).map_err(|_| Damaged { table })?;
        let lineage = Lineage { parent: self.parent.map(ReadingId::from_u128), depth: self.depth };
        let time = Timestamp::from_nanos(self.time);
        Ok(self.message.into_message(table)?.map(|message| {
            let Message { topic, device, content_type, attributes, payload } = message;
            let id = ReadingId::from_u128(id);
            Reading { id, ingress, topic, device, time, content_type, attributes, payload, lineage }
        }))
    }
}

impl<'a> DeliveryRow<'a> {
    /// `kept`: the file that its payload has.
    pub(crate) fn of(delivery: &'a Delivery, kept: Option<Digest>) -> Self {
        let message = &delivery.message;
        Self {
            reading: delivery.reading.as_u128(),
            route: delivery.route.as_str(),
            time: delivery.time.nanos(),
            message: MessageRow {
                topic: message.topic.as_str(),
                device: message.device.as_deref(),
                content_type: message.content_type.as_str(),
                attributes: AttributesRow(Cow::Borrowed(&message.attributes)),
                payload: PayloadRow::of(&message.payload, kept),
            },
        }
    }

    pub(crate) fn into_delivery(self, id: u128, table: &'static str) -> Result<Partial<Delivery>, Damaged> {
        let id = DeliveryId::from_u128(id);
        let reading = ReadingId::from_u128(self.reading);
        let route = self.route.parse().map_err(|_| Damaged { table })?;
        let time = Timestamp::from_nanos(self.time);
        let message = self.message.into_message(table)?;
        Ok(message.map(|message| Delivery { id, reading, route, time, message }))
    }
}

impl MessageRow<'_> {
    fn into_message(self, table: &'static str) -> Result<Partial<Message>, Damaged> {
        let (payload, kept) = match self.payload {
            PayloadRow::Inline(payload) => (Bytes::copy_from_slice(payload), None),
            PayloadRow::Kept { digest, bytes } => {
                (Bytes::new(), Some(Kept { digest: Digest::from_bytes(digest), bytes }))
            }
        };
        let message = Message {
            topic: self.topic.parse::<Topic>().map_err(|_| Damaged { table })?,
            device: self.device.map(Into::into),
            content_type: self.content_type.parse::<ContentType>().map_err(|_| Damaged { table })?,
            attributes: self.attributes.0.into_owned(),
            payload,
        };
        Ok(Partial::new(message, kept))
    }
}

impl<'a> PayloadRow<'a> {
    fn of(payload: &'a [u8], kept: Option<Digest>) -> Self {
        match kept {
            None => Self::Inline(payload),
            Some(digest) => Self::Kept { digest: *digest.as_bytes(), bytes: payload.len() as u64 },
        }
    }
}

/// What a message has before its payload.
type BeforePayload = (IgnoredText, Option<IgnoredText>, IgnoredText, IgnoredPairs);

/// Text is read to know where it ends.
struct IgnoredText;
struct IgnoredPairs;

/// The file that the payload of a [`ReadingRow`] has, and how many bytes the payload has in any case.
pub(crate) fn kept_of_reading(row: &[u8], table: &'static str) -> Result<(Option<Digest>, u64), Damaged> {
    let (_, message) = read_head::<(IgnoredText, u64, Option<u128>, u8)>(row, table)?;
    kept_of_message(message, table)
}

/// The same of a [`DeliveryRow`].
pub(crate) fn kept_of_delivery(row: &[u8], table: &'static str) -> Result<(Option<Digest>, u64), Damaged> {
    let (_, message) = read_head::<(u128, IgnoredText, u64)>(row, table)?;
    kept_of_message(message, table)
}

/// The same of a whole row of dead letters.
pub(crate) fn kept_of_dead_letter(row: &[u8]) -> Result<(Option<Digest>, u64), Damaged> {
    let (head, rest) = read_head::<DeadHead<'_>>(row, "dead letters")?;
    head.kept(rest)
}

/// The file that the payload of a delivery in the outbox has, of its whole row.
pub(crate) fn file_of_queued(row: &[u8]) -> Result<Option<Digest>, Damaged> {
    let (_, rest) = read_head::<QueuedHead<'_>>(row, "outbox")?;
    Ok(kept_of_delivery(rest, "outbox")?.0)
}

fn kept_of_message(row: &[u8], table: &'static str) -> Result<(Option<Digest>, u64), Damaged> {
    let (_, payload) = read_head::<BeforePayload>(row, table)?;
    Ok(match read::<PayloadRow<'_>>(payload, table)? {
        PayloadRow::Inline(payload) => (None, payload.len() as u64),
        PayloadRow::Kept { digest, bytes } => (Some(Digest::from_bytes(digest)), bytes),
    })
}

impl DeadHead<'_> {
    /// The file that the payload of the reading or delivery has, whose row is `rest`.
    pub(crate) fn file(&self, rest: &[u8]) -> Result<Option<Digest>, Damaged> {
        Ok(self.kept(rest)?.0)
    }

    /// The same, and how many bytes the payload has in any case.
    pub(crate) fn kept(&self, rest: &[u8]) -> Result<(Option<Digest>, u64), Damaged> {
        let of = match &self.subject {
            SubjectRow::Reading { .. } => kept_of_reading,
            SubjectRow::Sink(_) | SubjectRow::Device(_) => kept_of_delivery,
        };
        of(rest, "dead letters")
    }
}

impl<'a> SubjectRow<'a> {
    pub(crate) fn of(target: &'a Target) -> Self {
        match target {
            Target::Sink(name) => Self::Sink(name.as_str()),
            Target::Device(device) => Self::Device(device),
        }
    }
}

impl<'a> WaitingRow<'a> {
    pub(crate) fn write(&self, row: &mut Vec<u8>) {
        row.clear();
        row.extend_from_slice(&self.due.nanos().to_be_bytes());
        row.extend_from_slice(&self.attempts.to_be_bytes());
        row.extend_from_slice(self.key.as_bytes());
    }

    pub(crate) fn read(row: &'a [u8]) -> Result<Self, Damaged> {
        let damaged = Damaged { table: "waiting" };
        let Some((due, rest)) = row.split_first_chunk::<8>() else { return Err(damaged) };
        let Some((attempts, key)) = rest.split_first_chunk::<4>() else { return Err(damaged) };
        let due = Timestamp::from_nanos(u64::from_be_bytes(*due));
        let key = std::str::from_utf8(key).map_err(|_| damaged)?;
        Ok(Self { due, attempts: u32::from_be_bytes(*attempts), key })
    }
}

impl<'a> StateRow<'a> {
    pub(crate) const NEVER: u64 = u64::MAX;

    pub(crate) fn write(&self, row: &mut Vec<u8>) {
        row.clear();
        row.extend_from_slice(&self.expires.to_be_bytes());
        row.extend_from_slice(self.value);
    }

    pub(crate) fn read(row: &'a [u8]) -> Result<Self, Damaged> {
        let (expires, value) = row.split_first_chunk::<8>().ok_or(Damaged { table: "state" })?;
        Ok(Self { expires: u64::from_be_bytes(*expires), value })
    }

    pub(crate) const fn has_expired(&self, now: Timestamp) -> bool {
        self.expires <= now.nanos()
    }
}

struct Buffer<'a>(&'a mut Vec<u8>);

impl Flavor for Buffer<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn as_bytes<S: Serializer>(bytes: &&[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

impl Serialize for AttributesRow<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for AttributesRow<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pairs of text")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Attributes, A::Error> {
                let mut attributes = Attributes::new();
                while let Some((key, value)) = pairs.next_element::<(&'de str, &'de str)>()? {
                    attributes.add(key, value);
                }
                Ok(attributes)
            }
        }
        from.deserialize_seq(Pairs).map(|attributes| Self(Cow::Owned(attributes)))
    }
}

impl<'de> Deserialize<'de> for IgnoredText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(from).map(|_| Self)
    }
}

impl<'de> Deserialize<'de> for IgnoredPairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = IgnoredPairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pairs of text")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<IgnoredPairs, A::Error> {
                while pairs.next_element::<(IgnoredText, IgnoredText)>()?.is_some() {}
                Ok(IgnoredPairs)
            }
        }
        from.deserialize_seq(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading {
            id: ReadingId::from_u128(9),
            ingress: Name::of_route(&"alarm".parse().unwrap()),
            topic: "site/7/temp".parse().unwrap(),
            device: Some("küche\0".into()),
            time: Timestamp::from_nanos(u64::MAX >> 1),
            content_type: ContentType::JSON,
            attributes: Attributes::new().with("mqtt.qos", "1").with("mqtt.qos", ""),
            payload: Bytes::from_static(b"{\"f\":1\0}"),
            lineage: Lineage { parent: Some(ReadingId::from_u128(u128::MAX)), depth: 3 },
        }
    }

    #[test]
    fn a_journaled_reading_is_read_as_it_was_written() {
        let reading = reading();
        let mut row = Vec::new();
        append(&mut row, &JournalHead { bytes: 8, lanes: vec![("alarm".into(), u64::MAX)] });
        append(&mut row, &ReadingRow::of(&reading, None));
        let (head, rest) = read_head::<JournalHead<'_>>(&row, "journal").unwrap();
        assert_eq!((head.bytes, &head.lanes[..]), (8, &[("alarm".into(), u64::MAX)][..]));
        let read = read::<ReadingRow<'_>>(rest, "journal").unwrap().into_reading(9, "journal").unwrap();
        assert_eq!(read.whole(), Ok(reading));
        assert_eq!(kept_of_reading(rest, "journal").unwrap(), (None, 8));
    }

    #[test]
    fn a_row_whose_payload_has_a_file_names_it_and_does_not_hold_it() {
        let (reading, digest) = (reading(), Digest::of(b"{\"f\":1\0}"));
        let mut row = Vec::new();
        append(&mut row, &ReadingRow::of(&reading, Some(digest)));
        let read = read::<ReadingRow<'_>>(&row, "journal").unwrap().into_reading(9, "journal").unwrap();
        assert_eq!(read.whole(), Err(Kept { digest, bytes: 8 }));
        assert_eq!(kept_of_reading(&row, "journal").unwrap(), (Some(digest), 8));

        let Reading { topic, device, content_type, attributes, payload, .. } = reading;
        let delivery = Delivery {
            id: DeliveryId::from_u128(7),
            reading: ReadingId::from_u128(9),
            route: "alarm".parse().unwrap(),
            time: Timestamp::from_nanos(1),
            message: Message { topic, device, content_type, attributes, payload },
        };
        for (kept, bytes) in [(None, 8), (Some(digest), 8)] {
            row.clear();
            append(&mut row, &DeliveryRow::of(&delivery, kept));
            assert_eq!(kept_of_delivery(&row, "outbox").unwrap(), (kept, bytes));
        }
    }

    /// What version 1 of the format wrote must be read for ever.
    #[test]
    fn the_rows_of_the_first_format_are_read_as_they_were_written() {
        let mut row = Vec::new();
        append(&mut row, &ReadingRow::of(&reading(), None));
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let first = "0b726f7574652f616c61726dffffffffffffffff7f01ffffffffffffffffffffffffffffffffffff03030b736974652f372f7\
                     4656d7001076bc3bc63686500106170706c69636174696f6e2f6a736f6e02086d7174742e716f730131086d7174742e716f\
                     730000087b2266223a31007d";
        assert_eq!(hex, first);
    }

    #[test]
    fn a_row_cut_short_is_damaged_and_not_half_read() {
        let reading = reading();
        let mut row = Vec::new();
        append(&mut row, &ReadingRow::of(&reading, None));
        for length in 0..row.len() {
            assert!(read::<ReadingRow<'_>>(&row[..length], "journal").is_err(), "{length}");
        }
        assert!(WaitingRow::read(&[0; 11]).is_err());
        assert!(StateRow::read(&[0; 7]).is_err());
    }
}
