//! One client's session: it outlives the client's connections, for as long as the client asked.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard, RwLock};
use sandbar_reading::{Timestamp, Topic};
use tokio_util::sync::CancellationToken;

use super::access::Grants;
use super::codec::{Qos, Wanted};
use super::message::Entry;
use super::outgoing::{Outgoing, Room};
use super::rows::SessionRow;
use super::sessions::NEVER;
use super::timers::Timer;

pub(super) struct Client {
    pub(super) id: Box<str>,
    /// Of no other session, ever.
    pub(super) number: u32,
    /// The session has rows in the store.
    pub(super) stored: bool,
    /// Who opened the session: nobody else may take it over.
    pub(super) user: Option<Box<str>>,
    /// Seconds without a connection after which it ends.
    pub(super) expiry_s: AtomicU32,
    pub(super) subscriptions: Mutex<Own>,
    /// Packet identifiers of QoS 2 messages that were taken and not released.
    pub(super) received: Mutex<HashSet<u16>>,
    /// Those of which the storage did not say whether they were: it is asked when the client sends them again.
    pub(super) doubted: Mutex<HashSet<u16>>,
    grants: RwLock<Arc<Grants>>,
    places: AtomicU64,
    room: Room,
    state: Mutex<State>,
}

/// Its subscriptions as it wrote them, and their identifiers.
pub(super) type Own = BTreeMap<Box<str>, (Wanted, Option<u32>)>;

#[derive(Default)]
pub(super) struct State {
    pub(super) outgoing: Outgoing,
    link: Option<Arc<Link>>,
    absent_since: Option<Timestamp>,
    /// What ends it, while it has no connection.
    pub(super) ends: Option<Timer>,
    /// The session is over; what still comes is for nobody.
    ended: bool,
}

/// What others can do to a connection.
pub(super) struct Link {
    /// The reason to end it with; 0 is none.
    kick: AtomicU8,
    asleep: AtomicBool,
    pub(super) waker: AtomicWaker,
    /// The connection has let go of the session.
    pub(super) gone: CancellationToken,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            kick: AtomicU8::new(0),
            asleep: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            gone: CancellationToken::new(),
        })
    }

    /// The first reason stays.
    pub(super) fn kick(&self, reason: u8) {
        let _ = self.kick.compare_exchange(0, reason, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }

    pub(super) fn kicked(&self) -> Option<u8> {
        Some(self.kick.load(Ordering::Acquire)).filter(|reason| *reason != 0)
    }

    /// The client behind a gateway sleeps, or does no longer. What waits for it meanwhile waits as if it was away.
    pub(super) fn sleeps(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }
}

/// How a session begins.
pub(super) struct Begin {
    pub(super) id: Box<str>,
    pub(super) number: u32,
    pub(super) user: Option<Box<str>>,
    pub(super) expiry_s: u32,
    pub(super) stored: bool,
    pub(super) next_place: u64,
    pub(super) absent_since: Option<Timestamp>,
}

impl Client {
    pub(super) fn new(begin: Begin, grants: Arc<Grants>, room: Room) -> Arc<Self> {
        let Begin { id, number, user, expiry_s, stored, next_place, absent_since } = begin;
        Arc::new(Self {
            id,
            number,
            stored,
            user,
            expiry_s: AtomicU32::new(expiry_s),
            subscriptions: Mutex::default(),
            received: Mutex::default(),
            doubted: Mutex::default(),
            grants: RwLock::new(grants),
            places: AtomicU64::new(next_place),
            room,
            state: Mutex::new(State { absent_since, ..State::default() }),
        })
    }

    /// A QoS 2 message was not taken, or may not have been: then `is_doubtful`.
    pub(super) fn not_received(&self, id: u16, is_doubtful: bool) {
        self.received.lock().remove(&id);
        if self.stored && is_doubtful {
            self.doubted.lock().insert(id);
        }
    }

    /// A place in its queue that nothing else has.
    pub(super) fn place(&self) -> u64 {
        self.places.fetch_add(1, Ordering::Relaxed)
    }

    /// Places below `next` are taken.
    pub(super) fn places_from(&self, next: u64) {
        self.places.fetch_max(next, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.grants.read())
    }

    pub(super) fn set_grants(&self, grants: Arc<Grants>) {
        *self.grants.write() = grants;
    }

    pub(super) fn may_receive(&self, topic: &Topic) -> bool {
        self.grants.read().may_receive(topic)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().link.is_some()
    }

    /// Whether it is connected and not behind.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.link.is_some() && state.outgoing.has_room(self.room)
    }

    /// Whether the session has been without a connection for as long as it may.
    pub(super) fn is_over(&self, state: &State, now: Timestamp) -> bool {
        let expiry_s = self.expiry_s.load(Ordering::Relaxed);
        let lasts = Duration::from_secs(expiry_s.into());
        let since = state.absent_since.filter(|_| expiry_s != NEVER);
        since.is_some_and(|since| now.since(since) >= lasts)
    }

    /// Whether nobody will ever ask for what is put into its queue.
    pub(super) fn is_gone(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.link.is_none() && !self.stored
    }

    /// Puts `entry` into the queue. Returns places whose rows can go, of what found no room; or the entry, if
    /// nobody wants it any more.
    #[allow(clippy::result_large_err, reason = "the entry goes back to its maker, who had it anyway")]
    pub(super) fn push(&self, entry: Entry) -> Result<Vec<u64>, Entry> {
        let mut state = self.state.lock();
        let State { outgoing, link, ended, .. } = &mut *state;
        if *ended || link.is_none() && (!self.stored || entry.qos == Qos::AtMostOnce) {
            return Err(entry);
        }
        let is_awake = link.as_ref().is_some_and(|link| !link.asleep.load(Ordering::Relaxed));
        let pushed = outgoing.push(entry, self.room, is_awake);
        if let Some(link) = link {
            if pushed.overrun {
                link.kick(super::codec::reason::QUOTA);
            }
            link.waker.wake();
        }
        Ok(pushed.dropped)
    }

    pub(super) fn row(&self) -> SessionRow {
        let state = self.state.lock();
        let next_place = self.places.load(Ordering::Relaxed);
        SessionRow {
            number: self.number,
            expiry_s: self.expiry_s.load(Ordering::Relaxed),
            absent_since: state.absent_since.map(Timestamp::nanos),
            next_place,
            sent_below: state.outgoing.sent_below().min(next_place),
            user: self.user.clone(),
        }
    }
}

impl State {
    pub(super) const fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }

    pub(super) const fn absent_since(&self) -> Option<Timestamp> {
        self.absent_since
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// A connection takes the session. Returns the places whose PUBREL is due.
    pub(super) fn take(&mut self, link: Arc<Link>) -> Vec<u64> {
        self.absent_since = None;
        self.link = Some(link);
        self.outgoing.resume()
    }

    pub(super) fn let_go(&mut self, now: Timestamp) {
        self.link = None;
        self.absent_since = Some(now);
        // Offers of commands go back to the host now, not with the next connection.
        self.outgoing.drop_commands();
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.link = None;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn client(id: &str, number: u32) -> Arc<Client> {
        let begin = Begin {
            id: id.into(),
            number,
            user: None,
            expiry_s: 0,
            stored: false,
            next_place: 0,
            absent_since: None,
        };
        Client::new(begin, Arc::default(), Room { count: 10, bytes: 1000 })
    }

    #[test]
    fn the_first_reason_to_end_a_connection_stays() {
        let link = Link::new();
        assert_eq!(link.kicked(), None);
        link.kick(0x97);
        link.kick(0x8E);
        assert_eq!(link.kicked(), Some(0x97));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_is_not_ended_for_what_waits() {
        use super::super::outgoing::tests::entry;
        let (client, link) = (client("c", 1), Link::new());
        client.state().take(Arc::clone(&link));
        let fill = || (0..20).for_each(|place| drop(client.push(entry(place, Qos::AtLeastOnce))));
        link.sleeps(true);
        fill();
        tokio::time::advance(Duration::from_secs(3600)).await;
        fill();
        assert_eq!(link.kicked(), None);
        link.sleeps(false);
        fill();
        tokio::time::advance(Duration::from_secs(3600)).await;
        fill();
        assert!(link.kicked().is_some());
    }
}
