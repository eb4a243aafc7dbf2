//! What was journaled and has yet to be looked at: a window on the journal.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{Reading, ReadingId};

const COUNT_MAX: usize = 16 << 10;
const BYTES_MAX: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Inbox(Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) readings: Vec<Arc<Reading>>,
    bytes: usize,
    /// Those from this one on are to be read from the journal.
    pub(super) from: Option<ReadingId>,
}

impl Inbox {
    /// Never waits: what there is no room for is looked up later.
    pub(super) fn push<'a>(&self, readings: impl Iterator<Item = &'a Arc<Reading>>) -> bool {
        let mut waiting = self.0.lock();
        let was_empty = waiting.readings.is_empty() && waiting.from.is_none();
        for reading in readings {
            if let Some(from) = waiting.from {
                // One with a large payload comes after younger ones.
                waiting.from = Some(from.min(reading.id));
                continue;
            }
            if waiting.readings.len() >= COUNT_MAX || waiting.bytes >= BYTES_MAX {
                waiting.from = Some(reading.id);
                continue;
            }
            waiting.bytes += reading.payload.len();
            waiting.readings.push(Arc::clone(reading));
        }
        was_empty && !(waiting.readings.is_empty() && waiting.from.is_none())
    }

    /// The journal may have what nobody told of, from this one on.
    pub(super) fn look_from(&self, id: ReadingId) {
        let mut waiting = self.0.lock();
        waiting.from = Some(waiting.from.map_or(id, |from| from.min(id)));
    }

    /// The first of what was not looked at, as far as is known.
    pub(super) fn first(&self) -> Option<ReadingId> {
        let waiting = self.0.lock();
        waiting.readings.iter().map(|reading| reading.id).chain(waiting.from).min()
    }

    pub(super) fn take(&self) -> Waiting {
        mem::take(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{ContentType, Lineage, Timestamp};

    use super::*;

    fn reading(id: u128) -> Arc<Reading> {
        Arc::new(Reading {
            id: ReadingId::from_u128(id),
            ingress: "i".parse().unwrap(),
            topic: "t".parse().unwrap(),
            device: Some("d".into()),
            time: Timestamp::from_nanos(1),
            content_type: ContentType::TEXT,
            attributes: <_>::default(),
            payload: "x".into(),
            lineage: Lineage::default(),
        })
    }

    #[test]
    fn what_there_is_no_room_for_is_looked_up() {
        let inbox = Inbox::default();
        let readings: Vec<_> = (1..=COUNT_MAX as u128 + 5).map(reading).collect();
        assert!(inbox.push(readings.iter()));
        assert!(!inbox.push([reading(1 << 90)].iter()));
        let waiting = inbox.take();
        assert_eq!(waiting.readings.len(), COUNT_MAX);
        assert_eq!(waiting.from, Some(ReadingId::from_u128(COUNT_MAX as u128 + 1)));
        assert!(inbox.push([reading(1 << 91)].iter()));
        assert_eq!(inbox.first(), Some(ReadingId::from_u128(1 << 91)));
    }

    /// A picture that was being written until then.
    #[test]
    fn what_comes_late_is_looked_up_though_there_is_no_room() {
        let inbox = Inbox::default();
        let readings: Vec<_> = (10..).take(COUNT_MAX + 5).map(reading).collect();
        inbox.push(readings.iter());
        inbox.push([reading(3)].iter());
        assert_eq!(inbox.first(), Some(ReadingId::from_u128(3)));
        assert_eq!(inbox.take().from, Some(ReadingId::from_u128(3)));
    }
}
