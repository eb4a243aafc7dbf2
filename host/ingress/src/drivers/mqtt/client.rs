//! One client's session: it outlives the client's connections, for as long as the client asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard, RwLock};
use sandbar_reading::{Timestamp, Topic};
use tokio_util::sync::CancellationToken;

use super::access::Grants;
use super::codec::{Qos, Wanted};
use super::message::Entry;
use super::outgoing::{Outgoing, Room};
use super::publish::Plan;
use super::rows::SessionRow;
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
    /// Those of which the storage did not say whether they were, with who is to get them: it is asked when the client
    /// sends them again.
    pub(super) doubted: Mutex<HashMap<u16, Plan>>,
    grants: RwLock<Arc<Grants>>,
    places: AtomicU64,
    room: Room,
    state: Mutex<State>,
}

/// Its subscriptions as it wrote them, and their identifiers.
#[derive(Debug, Default)]
pub(super) struct Own {
    by_filter: BTreeMap<Box<str>, (Wanted, Option<u32>)>,
    bytes: usize,
}

impl Own {
    /// Whether there is room for it, unless it is there.
    pub(super) fn has_room(&self, filter: &str, room: Room) -> bool {
        self.by_filter.contains_key(filter)
            || self.by_filter.len() < room.count && self.bytes + filter.len() <= room.bytes
    }

    /// Returns what stood there before.
    pub(super) fn insert(
        &mut self,
        filter: Box<str>,
        wanted: Wanted,
        id: Option<u32>,
    ) -> Option<(Wanted, Option<u32>)> {
        let bytes = filter.len();
        let before = self.by_filter.insert(filter, (wanted, id));
        self.bytes += if before.is_none() { bytes } else { 0 };
        before
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, filter: &str) -> bool {
        let removed = self.by_filter.remove(filter).is_some();
        self.bytes -= if removed { filter.len() } else { 0 };
        removed
    }

    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        self.by_filter.keys().map(|filter| &**filter)
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) outgoing: Outgoing,
    link: Option<Arc<Link>>,
    /// The connection takes what waits. Until it does, it is none for what comes.
    is_served: bool,
    absent_since: Option<Timestamp>,
    /// What ends it, while it has no connection.
    pub(super) ends: Option<Timer>,
    /// The session is over; what still comes is for nobody.
    ended: bool,
    /// Bytes that wait for all sessions without a connection, and how many of them are counted for this one alone.
    absent_bytes: Arc<AtomicUsize>,
    counted: usize,
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
    /// `absent_bytes` counts what waits for those without a connection.
    pub(super) fn new(
        begin: Begin,
        grants: Arc<Grants>,
        room: Room,
        absent_bytes: &Arc<AtomicUsize>,
    ) -> Arc<Self> {
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
            state: Mutex::new(State {
                absent_since,
                absent_bytes: Arc::clone(absent_bytes),
                ..State::default()
            }),
        })
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
        let State { outgoing, link, is_served, ended, .. } = &mut *state;
        if *ended || link.is_none() && (!self.stored || entry.qos == Qos::AtMostOnce) {
            return Err(entry);
        }
        let is_awake = link.as_ref().is_some_and(|link| !link.asleep.load(Ordering::Relaxed));
        let pushed = outgoing.push(entry, self.room, is_awake && *is_served);
        if let Some(link) = link {
            if pushed.overrun {
                link.kick(super::codec::reason::QUOTA);
            }
            link.waker.wake();
        } else {
            state.count();
        }
        Ok(pushed.dropped)
    }

    /// Drops what waits longest, until at most so many bytes do, unless a connection has come for it. Returns places
    /// whose rows can go, and what still waits without one.
    pub(super) fn shrink(&self, bytes: usize) -> (Vec<u64>, usize) {
        let mut state = self.state.lock();
        if state.link.is_some() {
            return (Vec::new(), 0);
        }
        let dropped = state.outgoing.shrink(bytes);
        state.count();
        (dropped, state.outgoing.bytes())
    }

    /// A change of what is retained was made that its new subscriptions waited for.
    pub(super) fn look_again(&self) {
        let mut state = self.state.lock();
        state.outgoing.look_again();
        if let Some(link) = &state.link {
            link.waker.wake();
        }
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

    /// Whether it has had no connection for as long as it may.
    pub(super) fn is_over(&self) -> bool {
        self.ends.is_some_and(Timer::is_due)
    }

    /// The clock was set forward by so much when it had come to `until`, after it was `from`; whether that changes
    /// anything.
    pub(super) fn clock_was_set(&mut self, from: Timestamp, until: Timestamp, by: Duration) -> bool {
        let since = self.absent_since.filter(|since| (from..=until).contains(since));
        if let Some(since) = since {
            self.absent_since = Some(since.after(by));
        }
        since.is_some()
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// A connection takes the session. Returns the places whose PUBREL is due, and whether their rows are to be written
    /// first.
    pub(super) fn take(&mut self, link: Arc<Link>) -> Vec<(u64, bool)> {
        self.absent_since = None;
        self.link = Some(link);
        self.count();
        self.outgoing.resume()
    }

    /// Whoever changes what waits without a connection says so.
    pub(super) fn count(&mut self) {
        let counts = self.link.is_none() && !self.ended;
        let own = self.outgoing.own_bytes(counts);
        let bytes = if counts { own } else { 0 };
        self.absent_bytes.fetch_add(bytes.wrapping_sub(self.counted), Ordering::Relaxed);
        self.counted = bytes;
    }

    /// Its connection begins to send.
    pub(super) const fn serve(&mut self) {
        self.is_served = true;
    }

    pub(super) fn let_go(&mut self, now: Timestamp) {
        (self.link, self.is_served) = (None, false);
        self.absent_since = Some(now);
        // What it had not acknowledged waits with the rest, and offers of commands go back to the host now, not with
        // the next connection.
        self.outgoing.resume();
        self.count();
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.link = None;
        self.count();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::codec::reason;
    use super::super::message::OwnRow;
    use super::super::outgoing::tests::entry;
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
        Client::new(begin, Arc::default(), Room { count: 10, bytes: 1000 }, &Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_served_yet_is_not_ended_for_what_waits() {
        let (client, link) = (client("c", 1), Link::new());
        client.state().take(Arc::clone(&link));
        let fill = || (0..20).for_each(|place| drop(client.push(entry(place, Qos::AtLeastOnce))));
        fill();
        tokio::time::advance(Duration::from_secs(60)).await;
        fill();
        assert_eq!((link.kicked(), client.state().outgoing.waiting()), (None, 6));
        client.state().serve();
        fill();
        assert_eq!(link.kicked(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        fill();
        assert_eq!(link.kicked(), Some(reason::QUOTA));
    }

    #[test]
    fn what_was_sent_and_not_acknowledged_waits_with_the_rest() {
        let begin = Begin {
            id: "c".into(),
            number: 1,
            user: None,
            expiry_s: 60,
            stored: true,
            next_place: 0,
            absent_since: None,
        };
        let client = Client::new(begin, Arc::default(), Room { count: 3, bytes: 1 << 20 }, &Arc::default());
        client.state().take(Link::new());
        for place in 0..3 {
            client.state().outgoing.sent(entry(place, Qos::AtLeastOnce));
        }
        client.state().let_go(Timestamp::default());
        for (place, dropped) in [(3, 0), (4, 1)] {
            assert_eq!(client.push(entry(place, Qos::AtLeastOnce)).unwrap(), [dropped]);
        }
        assert!(client.state().take(Link::new()).is_empty());
        assert_eq!(client.state().outgoing.waiting(), 3);
    }

    #[test]
    fn what_absent_sessions_share_counts_once_until_none_has_it() {
        let counted = Arc::<AtomicUsize>::default();
        let absent = |number| {
            let begin = Begin {
                id: "c".into(),
                number,
                user: None,
                expiry_s: 60,
                stored: true,
                next_place: 0,
                absent_since: None,
            };
            Client::new(begin, Arc::default(), Room { count: 3, bytes: 1 << 20 }, &counted)
        };
        let mut message = Arc::into_inner(entry(0, Qos::AtLeastOnce).message).unwrap();
        message.payload = vec![0; 1000].into();
        message.row = Some(OwnRow::new(1, &Arc::default(), &counted));
        let (message, clients) = (Arc::new(message), [absent(1), absent(2)]);
        let bytes = || counted.load(Ordering::Relaxed);
        for client in &clients {
            let entry = Entry { message: Arc::clone(&message), ..entry(0, Qos::AtLeastOnce) };
            assert!(client.push(entry).unwrap().is_empty());
        }
        assert!((1300..1500).contains(&bytes()), "{}", bytes());
        clients[0].state().take(Link::new());
        assert_eq!(bytes(), message.size());
        clients[0].state().let_go(Timestamp::default());
        clients[1].state().end();
        assert_eq!(bytes(), message.size());
        clients[0].shrink(0);
        assert_eq!(bytes(), 0);
    }

    #[test]
    fn who_has_come_for_what_waits_does_not_lose_it_to_those_who_have_not() {
        let client = client("c", 1);
        client.state().take(Link::new());
        client.push(entry(0, Qos::AtLeastOnce)).unwrap();
        assert_eq!(client.shrink(0), (vec![], 0));
        assert_eq!(client.state().outgoing.waiting(), 1);
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
        let (client, link) = (client("c", 1), Link::new());
        client.state().take(Arc::clone(&link));
        client.state().serve();
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
