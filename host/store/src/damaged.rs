//! Rows that cannot be read (docs/decisions/0024-what-cannot-be-read.md): nobody else is to suffer for one, and what it
//! was of becomes a dead letter.
//!
//! What stands in that for what was in the row has a payload whose file there never was. So it is shown and can be
//! discarded, and is neither handled nor delivered.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{
    Attributes, ContentType, DeadLetterId, Delivery, DeliveryId, Lineage, Message, Name, Reading, ReadingId,
};

use crate::change::{DeadLetter, Lane, Subject};
use crate::digest::Digest;
use crate::resolve::LOST_ATTRIBUTE;
use crate::row::{self, Damaged, DeliveryRow, JournalHead, QueuedHead, ReadingRow};

/// No payload has it.
const NOWHERE: Digest = Digest::from_bytes([0; 32]);

/// The ingress, route and topic of what stands in.
const NAME: &str = "damaged";

/// Nothing, where the row is damaged, which is told.
pub(crate) fn readable<T>(read: Result<T, Damaged>) -> Option<T> {
    read.inspect_err(|damaged| tracing::error!(%damaged, "it is passed over")).ok()
}

/// What a dead letter keeps of what it is about.
pub(crate) struct Remains {
    /// Of the reading or delivery.
    pub(crate) row: Vec<u8>,
    /// To be referred to.
    pub(crate) file: Option<Digest>,
    is_damaged: bool,
}

impl Remains {
    /// `row`: of the journal, which goes on referring to its file.
    pub(crate) fn of_reading(id: u128, row: &[u8]) -> Self {
        let whole = || -> Result<_, Damaged> {
            let (_, rest) = row::read_head::<JournalHead<'_>>(row, "journal")?;
            let reading = row::read::<ReadingRow<'_>>(rest, "journal")?.into_reading(id, "journal")?;
            Ok((rest.to_vec(), reading.kept().map(|kept| kept.digest)))
        };
        Self::of(readable(whole()), || {
            let mut row = Vec::new();
            row::append(&mut row, &ReadingRow::of(&reading(id), Some(NOWHERE)));
            row
        })
    }

    /// `row`: of the outbox, which is gone: what it referred to is referred to already.
    pub(crate) fn of_delivery(id: u128, row: &[u8]) -> Self {
        let whole = || -> Result<_, Damaged> {
            let (_, rest) = row::read_head::<QueuedHead<'_>>(row, "outbox")?;
            row::read::<DeliveryRow<'_>>(rest, "outbox")?.into_delivery(id, "outbox")?;
            Ok((rest.to_vec(), None))
        };
        Self::of(readable(whole()), || {
            let id = DeliveryId::from_u128(id);
            let (reading, time) = (ReadingId::from_u128(0), id.time());
            let delivery = Delivery { id, reading, route: name(), time, message: message() };
            let mut row = Vec::new();
            row::append(&mut row, &DeliveryRow::of(&delivery, Some(NOWHERE)));
            row
        })
    }

    fn of(whole: Option<(Vec<u8>, Option<Digest>)>, stand_in: impl FnOnce() -> Vec<u8>) -> Self {
        match whole {
            Some((row, file)) => Self { row, file, is_damaged: false },
            None => Self { row: stand_in(), file: Some(NOWHERE), is_damaged: true },
        }
    }

    /// Why there is a dead letter of it, for which there is this cause, too.
    pub(crate) fn cause<'a>(&self, cause: &'a str) -> Cow<'a, str> {
        match self.is_damaged {
            true => Cow::Owned(format!("{cause}; it is damaged on disk")),
            false => Cow::Borrowed(cause),
        }
    }
}

/// What stands for a dead letter that is damaged itself.
pub(crate) fn dead_letter(id: u128) -> DeadLetter {
    let cause = "it is damaged on disk".to_owned();
    let mut reading = reading(id);
    reading.attributes.add(LOST_ATTRIBUTE, &*cause);
    let subject =
        Subject::Reading { lane: Lane { route: name(), key: "".into() }, reading: Arc::new(reading) };
    let id = DeadLetterId::from_u128(id);
    DeadLetter { id, time: id.time(), attempts: 0, cause, subject }
}

fn reading(id: u128) -> Reading {
    let id = ReadingId::from_u128(id);
    let Message { topic, device, content_type, attributes, payload } = message();
    let (time, lineage) = (id.time(), Lineage::default());
    Reading { id, ingress: name(), topic, device, time, content_type, attributes, payload, lineage }
}

fn message() -> Message {
    Message {
        topic: NAME.parse().expect("it is a topic"),
        device: None,
        content_type: ContentType::OCTETS,
        attributes: Attributes::new(),
        payload: Bytes::new(),
    }
}

fn name() -> Name {
    NAME.parse().expect("it is a name")
}
