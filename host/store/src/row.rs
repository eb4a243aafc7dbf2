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

/// A row that cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error("a row of {table} is damaged")]
pub(crate) struct Damaged {
    pub(crate) table: &'static str,
}

/// What retention needs of a journaled reading; the reading follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct JournalHead<'a> {
    pub(crate) payload_bytes: u64,
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

/// Payloads may come to be kept elsewhere.
#[derive(Serialize, Deserialize)]
enum PayloadRow<'a> {
    Inline(#[serde(borrow, serialize_with = "as_bytes")] &'a [u8]),
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

impl<'a> ReadingRow<'a> {
    pub(crate) fn of(reading: &'a Reading) -> Self {
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
                payload: PayloadRow::Inline(&reading.payload),
            },
        }
    }

    pub(crate) fn into_reading(self, id: u128, table: &'static str) -> Result<Reading, Damaged> {
        let Message { topic, device, content_type, attributes, payload } =
            self.message.into_message(table)?;
        Ok(Reading {
            id: ReadingId::from_u128(id),
            ingress: Name::parse_ingress(self.ingress).map_err(|_| Damaged { table })?,
            topic,
            device,
            time: Timestamp::from_nanos(self.time),
            content_type,
            attributes,
            payload,
            lineage: Lineage { parent: self.parent.map(ReadingId::from_u128), depth: self.depth },
        })
    }
}

impl<'a> DeliveryRow<'a> {
    pub(crate) fn of(delivery: &'a Delivery) -> Self {
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
                payload: PayloadRow::Inline(&message.payload),
            },
        }
    }

    pub(crate) fn into_delivery(self, id: u128, table: &'static str) -> Result<Delivery, Damaged> {
        Ok(Delivery {
            id: DeliveryId::from_u128(id),
            reading: ReadingId::from_u128(self.reading),
            route: self.route.parse().map_err(|_| Damaged { table })?,
            time: Timestamp::from_nanos(self.time),
            message: self.message.into_message(table)?,
        })
    }
}

impl MessageRow<'_> {
    fn into_message(self, table: &'static str) -> Result<Message, Damaged> {
        let PayloadRow::Inline(payload) = self.payload;
        Ok(Message {
            topic: self.topic.parse::<Topic>().map_err(|_| Damaged { table })?,
            device: self.device.map(Into::into),
            content_type: self.content_type.parse::<ContentType>().map_err(|_| Damaged { table })?,
            attributes: self.attributes.0.into_owned(),
            payload: Bytes::copy_from_slice(payload),
        })
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
        append(&mut row, &JournalHead { payload_bytes: 8, lanes: vec![("alarm".into(), u64::MAX)] });
        append(&mut row, &ReadingRow::of(&reading));
        let (head, rest) = read_head::<JournalHead<'_>>(&row, "journal").unwrap();
        assert_eq!((head.payload_bytes, &head.lanes[..]), (8, &[("alarm".into(), u64::MAX)][..]));
        let read = read::<ReadingRow<'_>>(rest, "journal").unwrap().into_reading(9, "journal").unwrap();
        assert_eq!(read, reading);
    }

    #[test]
    fn a_row_cut_short_is_damaged_and_not_half_read() {
        let reading = reading();
        let mut row = Vec::new();
        append(&mut row, &ReadingRow::of(&reading));
        for length in 0..row.len() {
            assert!(read::<ReadingRow<'_>>(&row[..length], "journal").is_err(), "{length}");
        }
        assert!(WaitingRow::read(&[0; 11]).is_err());
        assert!(StateRow::read(&[0; 7]).is_err());
    }
}
