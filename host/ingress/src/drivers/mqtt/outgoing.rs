//! What waits for one session: a queue, and what was sent and is not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Timestamp, Topic, TopicFilter};
use tokio::time::Instant;

use super::codec::{Qos, Wanted};
use super::message::{Entry, Message, PACKET_IDS, packet_id};
use crate::CommandOffer;

/// For so long a client may take nothing while its queue is full.
const STALL: Duration = Duration::from_secs(10);

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
    /// They go before the queue, which has what was published since they were found.
    retained: VecDeque<Found>,
    /// What they were found for, if it is to have them yet.
    found_for: Option<(TopicFilter, Asked)>,
    /// So many of the queue go before further ones are looked for: neither is to wait for the other without end.
    queue_first: usize,
    asked: BTreeMap<TopicFilter, Asked>,
    /// Those of which something is on its way to the store.
    held: BTreeMap<TopicFilter, Asked>,
    queued: Queued,
    /// Dropped because there was no room, ever.
    pub(super) dropped: u64,
    /// Counts what was sent and what was acknowledged.
    taken: u64,
    /// What that came to when the queue was found full, and when.
    full: Option<(u64, Instant)>,
}

/// What is in the queue.
#[derive(Debug, Default)]
struct Queued {
    bytes: usize,
    /// Without those that other sessions have as well.
    own_bytes: usize,
    /// What others have as well is [counted](Message::count_absent).
    absent: bool,
    /// Entries at quality of service 0.
    lossy: usize,
}

impl Queued {
    fn add(&mut self, entry: &Entry) {
        self.bytes += entry.message.size();
        self.own_bytes += entry.message.size_of_each();
        if self.absent {
            entry.message.count_absent(true);
        }
        self.lossy += usize::from(entry.qos == Qos::AtMostOnce);
    }

    fn remove(&mut self, entry: &Entry) {
        self.bytes -= entry.message.size();
        self.own_bytes -= entry.message.size_of_each();
        if self.absent {
            entry.message.count_absent(false);
        }
        self.lossy -= usize::from(entry.qos == Qos::AtMostOnce);
    }
}

#[derive(Debug)]
enum Flight {
    /// PUBLISH was sent.
    Sent(Entry),
    /// PUBREC came, and PUBREL is due. Where it has a row, that must say so first.
    Released { stored: bool, unwritten: bool },
}

/// A retained message that is to be sent.
#[derive(Debug)]
struct Found {
    message: Arc<Message>,
    qos: Qos,
    subscription_id: Option<u32>,
    /// Once it is the next one.
    place: Option<u64>,
}

/// A new subscription that is to get what is retained.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) subscription_id: Option<u32>,
    /// What is stamped later it gets as it is published.
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
    /// Makes room by dropping what is at quality of service 0, oldest first, and then the oldest that is not
    /// [half done](Entry::is_half_done); a connected client that takes nothing is overrun instead.
    pub(super) fn push(&mut self, entry: Entry, room: Room, connected: bool) -> Pushed {
        let mut pushed = Pushed::default();
        self.queued.add(&entry);
        self.queue.push_back(entry);
        while self.queue.len() > room.count || self.queued.bytes > room.bytes && self.queue.len() > 1 {
            let is_lossy = |entry: &Entry| entry.qos == Qos::AtMostOnce;
            // Who is behind has a long queue: it is not looked through for nothing.
            let lowest = if self.queued.lossy > 0 { self.queue.iter().position(is_lossy) } else { None };
            if lowest.is_none() && connected && self.is_stalled() {
                pushed.overrun = true;
                break;
            }
            let Some(lowest) = lowest.or_else(|| self.queue.iter().position(|entry| !entry.is_half_done()))
            else {
                break;
            };
            let Some(entry) = self.queue.remove(lowest) else { break };
            self.queued.remove(&entry);
            self.dropped += 1;
            if entry.stored {
                pushed.dropped.push(entry.place);
            }
        }
        pushed
    }

    /// Drops the oldest until at most so many bytes wait in the queue, or only what is
    /// [half done](Entry::is_half_done). Returns places whose rows can go.
    pub(super) fn shrink(&mut self, bytes: usize) -> Vec<u64> {
        let (mut gone, mut stay) = (Vec::new(), Vec::new());
        while self.queued.bytes > bytes {
            let Some(entry) = self.queue.pop_front() else { break };
            if entry.is_half_done() {
                stay.push(entry);
                continue;
            }
            self.queued.remove(&entry);
            self.dropped += 1;
            gone.extend(entry.stored.then_some(entry.place));
        }
        for entry in stay.into_iter().rev() {
            self.queue.push_front(entry);
        }
        gone
    }

    fn is_stalled(&mut self) -> bool {
        match self.full {
            Some((taken, since)) if taken == self.taken => since.elapsed() >= STALL,
            _ => {
                self.full = Some((self.taken, Instant::now()));
                false
            }
        }
    }

    /// As loaded from the store, in the order of places.
    pub(super) fn load(&mut self, entry: Entry) {
        self.queued.add(&entry);
        self.queue.push_back(entry);
    }

    pub(super) fn load_released(&mut self, place: u64) {
        self.flights.insert(place, Flight::Released { stored: true, unwritten: false });
    }

    /// The row of the place says that it is released.
    pub(super) fn written(&mut self, place: u64) {
        if let Some(Flight::Released { unwritten, .. }) = self.flights.get_mut(&place) {
            *unwritten = false;
        }
    }

    /// Who asks again for what is on its way gets all of it again, and not the rest twice.
    pub(super) fn ask(&mut self, filter: TopicFilter, asked: Asked) {
        self.held.remove(&filter);
        self.asked.insert(filter, asked);
    }

    pub(super) fn ask_no_more(&mut self, filter: &TopicFilter) {
        self.held.remove(filter);
        self.asked.remove(filter);
        self.found_for.take_if(|(found_for, _)| found_for == filter);
    }

    /// It asks again once it is to [look again](Self::look_again).
    pub(super) fn hold(&mut self, filter: TopicFilter, asked: Asked) {
        self.held.insert(filter, asked);
    }

    pub(super) fn look_again(&mut self) {
        self.asked.append(&mut self.held);
    }

    /// A subscription whose next retained messages are to be [added](Self::add_retained).
    pub(super) fn next_asked(&mut self) -> Option<(TopicFilter, Asked)> {
        let is_due = self.retained.is_empty() && (self.queue_first == 0 || self.queue.is_empty());
        if is_due { self.asked.pop_first() } else { None }
    }

    pub(super) fn add_retained(&mut self, message: Arc<Message>, qos: Qos, subscription_id: Option<u32>) {
        self.retained.push_back(Found { message, qos, subscription_id, place: None });
    }

    /// What was [added](Self::add_retained) was found for that one.
    pub(super) fn found_for(&mut self, filter: TopicFilter, asked: Asked) {
        self.found_for = Some((filter, asked));
    }

    /// What was found and not sent is looked for again: it may be another one by then.
    fn forget_found(&mut self) {
        let were_left = !std::mem::take(&mut self.retained).is_empty();
        let Some((filter, asked)) = self.found_for.take().filter(|_| were_left) else { return };
        // A later subscription asks for all anew.
        if self.asked.get(&filter).is_none_or(|next| next.after.is_some()) {
            self.asked.insert(filter, asked);
        }
    }

    /// Whether a retained message is the next. Only what is sent again goes before it.
    fn is_retained_next(&self) -> bool {
        !self.retained.is_empty() && self.queue.front().is_none_or(|entry| !entry.again)
    }

    /// Whether [`next`](Self::next) is to be asked, with `window` flights at most.
    pub(super) fn has_next(&self, window: usize) -> bool {
        let found = self.retained.front().filter(|_| self.is_retained_next());
        let (qos, place) = match (found, self.queue.front()) {
            (Some(found), _) => (found.qos, found.place),
            (None, Some(entry)) => (entry.qos, Some(entry.place)),
            // They are to be looked for.
            (None, None) => return !self.asked.is_empty(),
        };
        qos == Qos::AtMostOnce || self.flights.len() < window && place.is_none_or(|place| self.is_free(place))
    }

    /// Whether nothing in flight has the packet identifier of the place.
    fn is_free(&self, place: u64) -> bool {
        let oldest = self.flights.first_key_value().map_or(place, |(oldest, _)| place.min(*oldest));
        let newest = self.flights.last_key_value().map_or(place, |(newest, _)| place.max(*newest));
        newest - oldest < PACKET_IDS
    }

    /// Takes the next to be sent; `place` gives a place to what has none. At quality of service 1 and 2 the
    /// entry is to be given back with [`sent`](Self::sent).
    pub(super) fn next(
        &mut self,
        window: usize,
        now: Timestamp,
        place: impl FnOnce() -> u64,
    ) -> Option<Next> {
        while self.retained.front().is_some_and(|found| found.message.has_expired(now)) {
            self.pop_retained();
        }
        if !self.has_next(window) {
            return None;
        }
        if self.is_retained_next() {
            return self.next_retained(place).map(Next::Publish);
        }
        let entry = self.queue.pop_front()?;
        self.taken += 1;
        self.queue_first = self.queue_first.saturating_sub(1);
        self.queued.remove(&entry);
        Some(match entry.message.has_expired(now) && !entry.again {
            true => Next::Expired(entry.place),
            false => Next::Publish(entry),
        })
    }

    fn next_retained(&mut self, place: impl FnOnce() -> u64) -> Option<Entry> {
        let found = self.retained.front_mut()?;
        let (qos, place) = (found.qos, *found.place.get_or_insert_with(place));
        if qos != Qos::AtMostOnce && !self.is_free(place) {
            return None;
        }
        let Found { message, subscription_id, .. } = self.pop_retained()?;
        self.taken += 1;
        Some(Entry {
            message,
            qos,
            retain: true,
            subscription_ids: subscription_id.into_iter().collect(),
            place,
            stored: false,
            again: false,
            command: None,
            group: None,
        })
    }

    fn pop_retained(&mut self) -> Option<Found> {
        let found = self.retained.pop_front()?;
        if let Some((_, asked)) = &mut self.found_for {
            asked.after = Some(found.message.topic.clone());
        }
        if self.retained.is_empty() {
            self.queue_first = self.queue.len();
        }
        Some(found)
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
        self.taken += 1;
        match self.flights.remove(&place)? {
            Flight::Sent(entry) => Some(entry),
            Flight::Released { .. } => None,
        }
    }

    /// PUBREC: from now on PUBREL is due. Tells the place, whether its row is to be [written](Self::written) first, and
    /// gives the entry the first time.
    pub(super) fn received(&mut self, id: u16) -> Option<(u64, bool, Option<Entry>)> {
        let place = self.place_of(id)?;
        let flight = self.flights.get_mut(&place)?;
        let stored = match flight {
            Flight::Sent(entry) if entry.qos == Qos::ExactlyOnce => entry.stored,
            Flight::Released { unwritten, .. } => return Some((place, *unwritten, None)),
            Flight::Sent(_) => return None,
        };
        self.taken += 1;
        match std::mem::replace(flight, Flight::Released { stored, unwritten: stored }) {
            Flight::Sent(entry) => Some((place, stored, Some(entry))),
            Flight::Released { .. } => None,
        }
    }

    /// PUBCOMP: tells the place, and whether it is stored.
    pub(super) fn completed(&mut self, id: u16) -> Option<(u64, bool)> {
        let place = self.place_of(id)?;
        match self.flights.get(&place)? {
            Flight::Released { stored, .. } => {
                let stored = *stored;
                self.flights.remove(&place);
                self.taken += 1;
                Some((place, stored))
            }
            Flight::Sent(_) => None,
        }
    }

    /// The connection is gone: what was in flight is to be sent again, first and in its order, and what only
    /// lived for the connection goes. Returns the places whose PUBREL is due, and whether their rows are to be
    /// [written](Self::written) first.
    pub(super) fn resume(&mut self) -> Vec<(u64, bool)> {
        self.full = None;
        let mut released = Vec::new();
        let mut again = Vec::new();
        for (place, flight) in std::mem::take(&mut self.flights) {
            match flight {
                Flight::Sent(entry) => again.push(Entry { again: true, ..entry }),
                Flight::Released { stored, unwritten } => {
                    released.push((place, unwritten));
                    self.flights.insert(place, Flight::Released { stored, unwritten });
                }
            }
        }
        for entry in again.into_iter().rev() {
            self.queued.add(&entry);
            self.queue.push_front(entry);
        }
        self.forget_found();
        self.drop_commands();
        released
    }

    /// What becomes of a command that waits or is in flight is told to its newest offer, the others being given up.
    /// Returns one of a command that is not here.
    pub(super) fn adopt(&mut self, offer: CommandOffer) -> Option<CommandOffer> {
        let is_same = |entry: &&mut Entry| entry.command.as_ref().is_some_and(|own| own.id == offer.id);
        let mut flying = self.flights.values_mut().filter_map(|flight| match flight {
            Flight::Sent(entry) => Some(entry),
            Flight::Released { .. } => None,
        });
        if let Some(entry) = flying.find(is_same) {
            offer.sent();
            entry.command = Some(offer);
        } else if let Some(entry) = self.queue.iter_mut().find(is_same) {
            entry.command = Some(offer);
        } else {
            return Some(offer);
        }
        None
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
            Flight::Released { stored, .. } => *stored,
        });
        queued.chain(flying.map(|(place, _)| *place)).collect()
    }

    /// The session is over: what came by a shared subscription and may go to another member, oldest first.
    pub(super) fn take_shared(&mut self) -> Vec<Entry> {
        let flights = std::mem::take(&mut self.flights).into_values().filter_map(|flight| match flight {
            Flight::Sent(entry) if entry.qos == Qos::AtLeastOnce => Some(entry),
            _ => None,
        });
        let queued = std::mem::take(&mut self.queue).into_iter();
        let queued = queued.filter(|entry| !entry.is_half_done());
        flights.chain(queued).filter(|entry| entry.group.is_some()).collect()
    }

    /// Of what waits in the queue, about.
    pub(super) const fn bytes(&self) -> usize {
        self.queued.bytes
    }

    /// The same, without what other sessions have as well: that is [counted](Message::count_absent) once for all, as
    /// long as this one is `absent`.
    pub(super) fn own_bytes(&mut self, absent: bool) -> usize {
        if self.queued.absent != absent {
            self.queued.absent = absent;
            self.queue.iter().for_each(|entry| entry.message.count_absent(absent));
        }
        self.queued.own_bytes
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
pub(super) mod tests;
