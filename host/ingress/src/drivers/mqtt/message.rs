//! A message on its way to subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Timestamp, Topic};

use super::codec::Qos;
use super::keeper::Keeper;
use super::rows;
use super::subscriptions::Group;

/// Bytes that a message takes beside its own, about.
const FIXED: usize = 160;

/// Shared by all who are to get it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    /// Encoded, as subscribers with 5.0 get them.
    pub(super) properties: Bytes,
    pub(super) qos: Qos,
    /// It was published so.
    pub(super) retain: bool,
    /// Not to be sent any more from then on.
    pub(super) expires: Option<Expiry>,
    /// The publisher's session, for subscribers that want nothing of their own.
    pub(super) publisher: u32,
    /// Where several stored sessions wait for it.
    pub(super) row: Option<OwnRow>,
}

/// When a message is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    /// By the clock: its row goes then.
    pub(super) by_clock: Timestamp,
    /// By [`Broker::time`](super::broker::Broker::time): who has it in memory judges by this.
    pub(super) at: Timestamp,
}

impl Expiry {
    /// As it was kept. The broker's time is that of the clock when it begins.
    pub(super) const fn kept(by_clock: Timestamp) -> Self {
        Self { by_clock, at: by_clock }
    }
}

/// What of a message decides who gets it, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) topic: &'a Topic,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// The publisher's session.
    pub(super) publisher: u32,
}

/// The row of a message that several sessions wait for: it goes when none does any longer.
pub(super) struct OwnRow {
    pub(super) number: u64,
    keeper: Arc<Keeper>,
    /// Bytes that wait for all sessions without a connection.
    absent_bytes: Arc<AtomicUsize>,
    /// How many of those wait for this message.
    absent: Mutex<usize>,
}

impl OwnRow {
    pub(super) fn new(number: u64, keeper: &Arc<Keeper>, absent_bytes: &Arc<AtomicUsize>) -> Self {
        let (keeper, absent_bytes) = (Arc::clone(keeper), Arc::clone(absent_bytes));
        Self { number, keeper, absent_bytes, absent: Mutex::default() }
    }

    /// One more session without a connection waits for it, or one less. `bytes` are there once for all of them.
    fn count_absent(&self, more: bool, bytes: usize) {
        let mut absent = self.absent.lock();
        if more {
            *absent += 1;
            if *absent == 1 {
                self.absent_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        } else {
            *absent -= 1;
            if *absent == 0 {
                self.absent_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for OwnRow {
    fn drop(&mut self) {
        self.keeper.soon([rows::delete(rows::message(self.number))]);
    }
}

impl std::fmt::Debug for OwnRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnRow({})", self.number)
    }
}

impl Message {
    pub(super) const fn about(&self) -> About<'_> {
        let Self { topic, qos, retain, publisher, .. } = self;
        About { topic, qos: *qos, retain: *retain, publisher: *publisher }
    }

    /// Bytes it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        FIXED + self.text_size()
    }

    fn text_size(&self) -> usize {
        self.topic.as_str().len() + self.payload.len() + self.properties.len()
    }

    /// Bytes it takes for each session that waits for it.
    pub(super) fn size_of_each(&self) -> usize {
        if self.row.is_some() { FIXED } else { self.size() }
    }

    /// One more session without a connection waits for it, or one less: the bytes that they share count once.
    pub(super) fn count_absent(&self, more: bool) {
        if let Some(row) = &self.row {
            row.count_absent(more, self.text_size());
        }
    }

    /// The same, of which no row is kept.
    pub(super) fn without_row(message: &Arc<Self>) -> Arc<Self> {
        if message.row.is_none() {
            return Arc::clone(message);
        }
        Arc::new(Self {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            row: None,
            ..**message
        })
    }

    /// By the broker's time, as the next one.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires.at <= now)
    }

    /// Seconds left, rounded up: what is not over has at least one.
    pub(super) fn seconds_left(&self, now: Timestamp) -> Option<u32> {
        self.expires.map(|expires| {
            let left = expires.at.since(now).as_millis().div_ceil(1000);
            u32::try_from(left).unwrap_or(u32::MAX)
        })
    }
}

/// A message in the queue of a session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    /// The lower one of what it was published and subscribed with.
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) subscription_ids: Box<[u32]>,
    /// Its place in the session; the packet identifier follows from it, so that it needs not be stored.
    pub(super) place: u64,
    /// It has a row in the store.
    pub(super) stored: bool,
    /// It may have been sent before.
    pub(super) again: bool,
    /// The command that it carries to a device.
    pub(super) command: Option<crate::CommandOffer>,
    /// Whose other members may get it instead.
    pub(super) group: Option<Arc<Group>>,
}

impl Entry {
    pub(super) fn packet_id(&self) -> u16 {
        packet_id(self.place)
    }

    /// A QoS 2 message that the subscriber may have received, and holds its packet identifier for until it is released:
    /// it is sent again, to nobody else, whatever there is no room for.
    pub(super) fn is_half_done(&self) -> bool {
        self.again && self.qos == Qos::ExactlyOnce
    }
}

/// Packet identifiers go round; no two of the last 65,535 places have the same.
pub(super) const PACKET_IDS: u64 = 65_535;

pub(super) fn packet_id(place: u64) -> u16 {
    // The remainder is below 65,535.
    (place % PACKET_IDS) as u16 + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn packet_ids_go_round_without_zero() {
        assert_eq!([0, 1, 65_534, 65_535].map(packet_id), [1, 2, 65_535, 1]);
    }

    #[test]
    fn time_left_is_rounded_up() {
        let now = Timestamp::from_millis(1000);
        let message = |expires: Option<Timestamp>| Message {
            topic: "t".parse().unwrap(),
            payload: Bytes::new(),
            properties: Bytes::new(),
            qos: Qos::AtMostOnce,
            retain: false,
            expires: expires.map(Expiry::kept),
            publisher: 0,
            row: None,
        };
        assert_eq!(message(Some(now.after(Duration::from_millis(1)))).seconds_left(now), Some(1));
        assert_eq!(message(None).seconds_left(now), None);
        assert!(message(Some(now)).has_expired(now));
    }
}
