//! What waits for one session: a queue, and what was sent and is not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sandbar_reading::{Timestamp, Topic, TopicFilter};

use super::codec::{Qos, Wanted};
use super::message::{Entry, Message, PACKET_IDS, packet_id};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Entry>,
    flights: BTreeMap<u64, Flight>,
    /// Retained messages of new subscriptions, a few at a time: the others stay where they are until these are sent.
    retained: VecDeque<(Arc<Message>, Qos, Option<u32>)>,
    asked: BTreeMap<TopicFilter, Asked>,
    queued: Queued,
    /// Dropped because there was no room, ever.
    pub(super) dropped: u64,
}

/// What is in the queue.
#[derive(Debug, Default)]
struct Queued {
    bytes: usize,
    /// Entries at quality of service 0.
    lossy: usize,
}

impl Queued {
    fn add(&mut self, entry: &Entry) {
        self.bytes += entry.message.size();
        self.lossy += usize::from(entry.qos == Qos::AtMostOnce);
    }

    fn remove(&mut self, entry: &Entry) {
        self.bytes -= entry.message.size();
        self.lossy -= usize::from(entry.qos == Qos::AtMostOnce);
    }
}

#[derive(Debug)]
enum Flight {
    /// PUBLISH was sent.
    Sent(Entry),
    /// PUBREC came, and PUBREL was sent.
    Released { stored: bool },
}

/// A new subscription that is to get what is retained.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) subscription_id: Option<u32>,
    /// What is retained later it gets as it is published.
    pub(super) until: u64,
    /// Up to this topic it has been found.
    pub(super) after: Option<Topic>,
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Next {
    Publish(Entry),
    /// A stored entry whose time is over: its row can go.
    Expired(u64),
}

/// What became of an entry that found no room.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Rows that can go.
    pub(super) dropped: Vec<u64>,
    /// The client is too slow: it is to be disconnected.
    pub(super) overrun: bool,
}

impl Outgoing {
    /// Makes room by dropping what is at quality of service 0, oldest first; then a connected client is
    /// overrun, and an absent one loses its oldest.
    pub(super) fn push(&mut self, entry: Entry, room: Room, connected: bool) -> Pushed {
        let mut pushed = Pushed::default();
        self.queued.add(&entry);
        self.queue.push_back(entry);
        while self.queue.len() > room.count || self.queued.bytes > room.bytes && self.queue.len() > 1 {
            let is_lossy = |entry: &Entry| entry.qos == Qos::AtMostOnce;
            // Who is behind has a long queue: it is not looked through for nothing.
            let lowest = if self.queued.lossy > 0 { self.queue.iter().position(is_lossy) } else { None };
            if lowest.is_none() && connected {
                pushed.overrun = true;
                break;
            }
            let Some(entry) = self.queue.remove(lowest.unwrap_or(0)) else { break };
            self.queued.remove(&entry);
            self.dropped += 1;
            if entry.stored {
                pushed.dropped.push(entry.place);
            }
        }
        pushed
    }

    /// As loaded from the store, in the order of places.
    pub(super) fn load(&mut self, entry: Entry) {
        self.queued.add(&entry);
        self.queue.push_back(entry);
    }

    pub(super) fn load_released(&mut self, place: u64) {
        self.flights.insert(place, Flight::Released { stored: true });
    }

    /// Who asks again for what is on its way gets all of it again, and not the rest twice.
    pub(super) fn ask(&mut self, filter: TopicFilter, asked: Asked) {
        self.asked.insert(filter, asked);
    }

    pub(super) fn ask_no_more(&mut self, filter: &TopicFilter) {
        self.asked.remove(filter);
    }

    /// A subscription whose next retained messages are to be [added](Self::add_retained).
    pub(super) fn next_asked(&mut self) -> Option<(TopicFilter, Asked)> {
        if self.retained.is_empty() { self.asked.pop_first() } else { None }
    }

    pub(super) fn add_retained(&mut self, message: Arc<Message>, qos: Qos, subscription_id: Option<u32>) {
        self.retained.push_back((message, qos, subscription_id));
    }

    /// Whether [`next`](Self::next) has something, with `window` flights at most.
    pub(super) fn has_next(&self, window: usize) -> bool {
        let first = self.queue.front().map(|entry| (entry.qos, entry.place));
        let (qos, place) = match (first, self.retained.front()) {
            (Some(first), _) => first,
            (None, Some((_, qos, _))) => (*qos, 0),
            // They are to be looked for.
            (None, None) => return !self.asked.is_empty(),
        };
        qos == Qos::AtMostOnce || self.may_fly(place, window)
    }

    /// A packet identifier may be given again only when it is free.
    fn may_fly(&self, place: u64, window: usize) -> bool {
        let oldest = self.flights.first_key_value().map_or(place, |(oldest, _)| *oldest);
        self.flights.len() < window && place.saturating_sub(oldest) < PACKET_IDS
    }

    /// Takes the next to be sent; `place` gives a place to what has none. At quality of service 1 and 2 the
    /// entry is to be given back with [`sent`](Self::sent).
    pub(super) fn next(
        &mut self,
        window: usize,
        now: Timestamp,
        place: impl FnOnce() -> u64,
    ) -> Option<Next> {
        if !self.has_next(window) {
            return None;
        }
        if let Some(entry) = self.queue.pop_front() {
            self.queued.remove(&entry);
            return Some(match entry.message.has_expired(now) && !entry.again {
                true => Next::Expired(entry.place),
                false => Next::Publish(entry),
            });
        }
        let (message, qos, subscription_id) = self.retained.pop_front()?;
        Some(Next::Publish(Entry {
            message,
            qos,
            retain: true,
            subscription_ids: subscription_id.into_iter().collect(),
            place: place(),
            stored: false,
            again: false,
            command: None,
            group: None,
        }))
    }

    pub(super) fn sent(&mut self, entry: Entry) {
        self.flights.insert(entry.place, Flight::Sent(entry));
    }

    /// The place of a flight with packet identifier `id`.
    fn place_of(&self, id: u16) -> Option<u64> {
        let (oldest, _) = self.flights.first_key_value()?;
        let behind = (u64::from(id) + PACKET_IDS - u64::from(packet_id(*oldest))) % PACKET_IDS;
        let place = oldest + behind;
        self.flights.contains_key(&place).then_some(place)
    }

    /// PUBACK: the entry is done. `None` if nothing of that kind was sent with the identifier.
    pub(super) fn acknowledged(&mut self, id: u16) -> Option<Entry> {
        self.finish(id, |flight| matches!(flight, Flight::Sent(entry) if entry.qos == Qos::AtLeastOnce))
    }

    /// PUBREC with a failure: the entry is done.
    pub(super) fn refused(&mut self, id: u16) -> Option<Entry> {
        self.finish(id, |flight| matches!(flight, Flight::Sent(entry) if entry.qos == Qos::ExactlyOnce))
    }

    fn finish(&mut self, id: u16, is: impl FnOnce(&Flight) -> bool) -> Option<Entry> {
        let place = self.place_of(id)?;
        if !is(self.flights.get(&place)?) {
            return None;
        }
        match self.flights.remove(&place)? {
            Flight::Sent(entry) => Some(entry),
            Flight::Released { .. } => None,
        }
    }

    /// PUBREC: from now on PUBREL is due. Tells the place, whether it is stored, and gives the entry the
    /// first time.
    pub(super) fn received(&mut self, id: u16) -> Option<(u64, bool, Option<Entry>)> {
        let place = self.place_of(id)?;
        let flight = self.flights.get_mut(&place)?;
        let stored = match flight {
            Flight::Sent(entry) if entry.qos == Qos::ExactlyOnce => entry.stored,
            Flight::Released { stored } => return Some((place, *stored, None)),
            Flight::Sent(_) => return None,
        };
        match std::mem::replace(flight, Flight::Released { stored }) {
            Flight::Sent(entry) => Some((place, stored, Some(entry))),
            Flight::Released { .. } => None,
        }
    }

    /// PUBCOMP: tells the place, and whether it is stored.
    pub(super) fn completed(&mut self, id: u16) -> Option<(u64, bool)> {
        let place = self.place_of(id)?;
        match self.flights.get(&place)? {
            Flight::Released { stored } => {
                let stored = *stored;
                self.flights.remove(&place);
                Some((place, stored))
            }
            Flight::Sent(_) => None,
        }
    }

    /// The connection is gone: what was in flight is to be sent again, first and in its order, and what only
    /// lived for the connection goes. Returns the places whose PUBREL is due.
    pub(super) fn resume(&mut self) -> Vec<u64> {
        let mut released = Vec::new();
        let mut again = Vec::new();
        for (place, flight) in std::mem::take(&mut self.flights) {
            match flight {
                Flight::Sent(entry) => again.push(Entry { again: true, ..entry }),
                Flight::Released { stored } => {
                    released.push(place);
                    self.flights.insert(place, Flight::Released { stored });
                }
            }
        }
        for entry in again.into_iter().rev() {
            self.queued.add(&entry);
            self.queue.push_front(entry);
        }
        self.drop_commands();
        released
    }

    /// The host offers them again by itself.
    pub(super) fn drop_commands(&mut self) {
        let queued = &mut self.queued;
        self.queue.retain(|entry| {
            let stays = entry.command.is_none();
            if !stays {
                queued.remove(entry);
            }
            stays
        });
        self.flights.retain(|_, flight| !matches!(flight, Flight::Sent(Entry { command: Some(_), .. })));
    }

    /// What has a place from here on was not sent yet.
    pub(super) fn sent_below(&self) -> u64 {
        let queued = self.queue.iter().filter(|entry| !entry.again).map(|entry| entry.place);
        queued.min().unwrap_or(u64::MAX)
    }

    /// Places of all that is stored.
    pub(super) fn stored(&self) -> Vec<u64> {
        let queued = self.queue.iter().filter(|entry| entry.stored).map(|entry| entry.place);
        let flying = self.flights.iter().filter(|(_, flight)| match flight {
            Flight::Sent(entry) => entry.stored,
            Flight::Released { stored } => *stored,
        });
        queued.chain(flying.map(|(place, _)| *place)).collect()
    }

    /// The session is over: what came by a shared subscription and may go to another member, oldest first. A QoS 2
    /// message that was sent may not.
    pub(super) fn take_shared(&mut self) -> Vec<Entry> {
        let flights = std::mem::take(&mut self.flights).into_values().filter_map(|flight| match flight {
            Flight::Sent(entry) if entry.qos == Qos::AtLeastOnce => Some(entry),
            _ => None,
        });
        let queued = std::mem::take(&mut self.queue).into_iter();
        let queued = queued.filter(|entry| !entry.again || entry.qos != Qos::ExactlyOnce);
        flights.chain(queued).filter(|entry| entry.group.is_some()).collect()
    }

    /// Of what waits in the queue, about.
    pub(super) const fn bytes(&self) -> usize {
        self.queued.bytes
    }

    /// What waits, or is not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.flights.len() + self.retained.len()
    }

    pub(super) fn has_room(&self, room: Room) -> bool {
        self.queue.len() < room.count && self.queued.bytes < room.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ROOM: Room = Room { count: 3, bytes: 1 << 20 };

    fn entry(place: u64, qos: Qos) -> Entry {
        let message = Message {
            topic: "t".parse().unwrap(),
            payload: Bytes::new(),
            properties: Bytes::new(),
            qos,
            retain: false,
            expires: None,
            publisher: 0,
            row: None,
        };
        Entry {
            message: Arc::new(message),
            qos,
            retain: false,
            subscription_ids: Box::new([]),
            place,
            stored: qos != Qos::AtMostOnce,
            again: false,
            command: None,
            group: None,
        }
    }

    fn send(outgoing: &mut Outgoing, window: usize) -> Option<u64> {
        match outgoing.next(window, Timestamp::default(), || 99)? {
            Next::Publish(entry) => {
                let place = entry.place;
                if entry.qos != Qos::AtMostOnce {
                    outgoing.sent(entry);
                }
                Some(place)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sheds_what_may_be_lost_first_and_then_ends_a_slow_client() {
        let mut outgoing = Outgoing::default();
        for (place, qos) in [(0, Qos::AtLeastOnce), (1, Qos::AtMostOnce), (2, Qos::AtMostOnce)] {
            assert!(!outgoing.push(entry(place, qos), ROOM, true).overrun);
        }
        assert!(!outgoing.push(entry(3, Qos::AtLeastOnce), ROOM, true).overrun);
        assert!(!outgoing.push(entry(4, Qos::AtLeastOnce), ROOM, true).overrun);
        assert_eq!((outgoing.dropped, outgoing.waiting()), (2, 3));
        assert!(outgoing.push(entry(5, Qos::AtLeastOnce), ROOM, true).overrun);
        assert_eq!(outgoing.push(entry(6, Qos::AtLeastOnce), ROOM, false).dropped, [0, 3]);
    }

    #[test]
    fn knows_of_what_may_be_lost_only_while_it_waits() {
        let mut outgoing = Outgoing::default();
        outgoing.push(entry(0, Qos::AtMostOnce), ROOM, true);
        assert_eq!(send(&mut outgoing, 9), Some(0));
        for (place, qos) in [(1, Qos::AtLeastOnce), (2, Qos::AtMostOnce), (3, Qos::AtLeastOnce)] {
            outgoing.push(entry(place, qos), ROOM, true);
        }
        assert_eq!((outgoing.queued.lossy, send(&mut outgoing, 9)), (1, Some(1)));
        assert_eq!((outgoing.resume(), outgoing.queued.lossy), (vec![], 1), "1 is to be sent again");
        assert!(!outgoing.push(entry(4, Qos::AtLeastOnce), ROOM, true).overrun);
        assert_eq!((outgoing.dropped, outgoing.queued.lossy), (1, 0));
        assert!(outgoing.push(entry(5, Qos::AtLeastOnce), ROOM, true).overrun);
    }

    #[test]
    fn keeps_to_the_window() {
        let mut outgoing = Outgoing::default();
        for place in 0..3 {
            outgoing.push(entry(place, Qos::AtLeastOnce), ROOM, true);
        }
        assert_eq!(
            (send(&mut outgoing, 2), send(&mut outgoing, 2), send(&mut outgoing, 2)),
            (Some(0), Some(1), None)
        );
        assert_eq!(outgoing.acknowledged(packet_id(1)).unwrap().place, 1);
        assert!(outgoing.acknowledged(packet_id(1)).is_none());
        assert_eq!(send(&mut outgoing, 2), Some(2));
    }

    #[test]
    fn looks_for_what_is_retained_when_what_was_found_is_sent() {
        let mut outgoing = Outgoing::default();
        let filter = |text: &str| text.parse::<TopicFilter>().unwrap();
        let asked = |until| Asked { wanted: Wanted::default(), subscription_id: None, until, after: None };
        for (text, until) in [("a/#", 1), ("b", 1), ("a/#", 2)] {
            outgoing.ask(filter(text), asked(until));
        }
        outgoing.ask_no_more(&filter("b"));
        assert!(outgoing.has_next(9));
        assert_eq!(
            outgoing.next_asked().map(|(filter, asked)| (filter.to_string(), asked.until)),
            Some(("a/#".to_owned(), 2))
        );
        outgoing.add_retained(entry(0, Qos::AtMostOnce).message, Qos::AtMostOnce, None);
        outgoing.ask(filter("c"), asked(3));
        assert!(outgoing.next_asked().is_none(), "one waits");
        assert_eq!((send(&mut outgoing, 9), outgoing.next_asked().is_some()), (Some(99), true));
        assert!(!outgoing.has_next(9));
    }

    #[test]
    fn gives_no_packet_id_that_is_in_flight() {
        let mut outgoing = Outgoing::default();
        outgoing.push(entry(5, Qos::AtLeastOnce), ROOM, true);
        outgoing.push(entry(5 + PACKET_IDS, Qos::AtLeastOnce), ROOM, true);
        assert_eq!((send(&mut outgoing, 9), send(&mut outgoing, 9)), (Some(5), None));
        assert!(outgoing.acknowledged(6).is_some());
        assert_eq!(send(&mut outgoing, 9), Some(5 + PACKET_IDS));
    }

    #[test]
    fn sends_again_in_order_on_the_next_connection() {
        let mut outgoing = Outgoing::default();
        for place in 0..3 {
            outgoing.push(entry(place, Qos::ExactlyOnce), ROOM, true);
        }
        let _ = (send(&mut outgoing, 9), send(&mut outgoing, 9));
        let (place, stored, first) = outgoing.received(packet_id(0)).unwrap();
        assert_eq!((place, stored, first.is_some()), (0, true, true));
        assert_eq!(outgoing.resume(), [0]);
        assert!(
            matches!(outgoing.next(9, Timestamp::default(), || 0), Some(Next::Publish(e)) if e.place == 1 && e.again)
        );
        assert!(
            matches!(outgoing.next(9, Timestamp::default(), || 0), Some(Next::Publish(e)) if e.place == 2 && !e.again)
        );
        assert_eq!(outgoing.completed(packet_id(0)), Some((0, true)));
        assert_eq!(outgoing.completed(packet_id(0)), None);
    }
}
