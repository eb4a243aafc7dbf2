//! What all connections of an ingress share.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use sandbar_reading::{Steps, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::Client;
use super::codec::reason;
use super::keeper::Keeper;
use super::message::OwnRow;
use super::outgoing::Room;
use super::retained::RetainedMessages;
use super::rows;
use super::settings::{PACKET_MAX_MOST, Settings};
use super::subscriptions::Subscriptions;
use super::timers::Timers;
use super::will::Wills;
use crate::complaints::Complaints;
use crate::{Figures, Session};

/// Messages that wait for their commit at once; large ones count for several. Fewer than what the host takes
/// before it says that it is busy: so connections wait here, and TCP holds their clients back.
const UNDER_WAY: usize = 8192;

/// Permits are for so many bytes.
const UNIT: usize = 4 << 10;

/// Bytes of large packets that are gathered at once, for all connections; at least what two can have.
const LARGE: usize = 32 << 20;

/// Replies that are awaited at once.
const REPLIES: usize = 1024;

pub(super) struct Broker {
    pub(super) settings: Arc<Settings>,
    pub(super) session: Session,
    pub(super) subscriptions: RwLock<Subscriptions>,
    pub(super) retained: Mutex<RetainedMessages>,
    /// Held while a change of what is retained gets its place among such changes, in memory and in the store; and while
    /// a subscription is made, which is to get each of them either as it is published or as it is retained.
    pub(super) retaining: Mutex<()>,
    /// Sessions, by client identifier.
    pub(super) clients: Mutex<HashMap<Box<str>, Arc<Client>>>,
    /// Bytes that wait for sessions without a connection.
    pub(super) absent_bytes: Arc<AtomicUsize>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) timers: Timers,
    pub(super) wills: Wills,
    pub(super) under_way: Arc<Semaphore>,
    /// For large packets, before they are gathered.
    pub(super) large: Arc<Semaphore>,
    pub(super) replies: Arc<Semaphore>,
    pub(super) packet_max: usize,
    pub(super) complaints: Complaints,
    /// By the clock.
    pub(super) began: Timestamp,
    began_at: Instant,
    pub(super) steps: Mutex<Steps>,
    /// Messages at quality of service 0 that the host had no room for.
    shed: AtomicU64,
    /// Of sessions that have ended: messages that found no room in their queues.
    dropped: AtomicU64,
    /// Messages that were not retained, since there were too many, or too large ones.
    unretained: AtomicU64,
    numbers: AtomicU32,
    messages: AtomicU64,
}

impl Broker {
    pub(super) fn new(settings: Arc<Settings>, session: Session) -> Self {
        /// For topic and properties.
        const BESIDE_THE_PAYLOAD: usize = 64 << 10;
        let packet_max = match settings.packet_max {
            Some(max) => max as usize,
            None => session.reading_max().saturating_add(BESIDE_THE_PAYLOAD).min(PACKET_MAX_MOST),
        };
        let (began, began_at) = (session.now(), Instant::now());
        Self {
            began,
            began_at,
            steps: Mutex::new(Steps::new(began, began_at.into_std())),
            complaints: Complaints::new(session.ingress().clone()),
            settings,
            session,
            subscriptions: RwLock::default(),
            retained: Mutex::default(),
            retaining: Mutex::default(),
            clients: Mutex::default(),
            absent_bytes: Arc::default(),
            keeper: Arc::default(),
            timers: Timers::default(),
            wills: Wills::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            large: Arc::new(Semaphore::new(LARGE.max(2 * packet_max).div_ceil(UNIT))),
            replies: Arc::new(Semaphore::new(REPLIES)),
            packet_max,
            shed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unretained: AtomicU64::new(0),
            numbers: AtomicU32::new(1),
            messages: AtomicU64::new(1),
        }
    }

    /// What the clock showed when the broker began, and the time since: what lasts for a while is measured by this,
    /// which nobody sets.
    pub(super) fn time(&self) -> Timestamp {
        self.began.after(self.began_at.elapsed())
    }

    /// A number for a session that no other had.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers below `next` are taken.
    pub(super) fn numbers_from(&self, sessions: u32, messages: u64) {
        self.numbers.fetch_max(sessions, Ordering::Relaxed);
        self.messages.fetch_max(messages, Ordering::Relaxed);
    }

    pub(super) fn message_number(&self) -> u64 {
        self.messages.fetch_add(1, Ordering::Relaxed)
    }

    /// For a message that several stored sessions wait for.
    pub(super) fn own_row(&self, number: u64) -> OwnRow {
        OwnRow::new(number, &self.keeper, &self.absent_bytes)
    }

    /// Permits that a message of `bytes` takes while it is under way.
    pub(super) fn weight(bytes: usize) -> u32 {
        Self::units(1 + bytes).min((UNDER_WAY / 2) as u32)
    }

    /// Permits for a packet of `bytes`.
    pub(super) fn units(bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
    }

    pub(super) fn count_shed(&self, cause: &str) {
        if self.shed.fetch_add(1, Ordering::Relaxed) == 0 {
            let ingress = self.session.ingress();
            tracing::warn!(%ingress, cause, "messages at quality of service 0 are being dropped");
        }
    }

    pub(super) fn count_dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn count_unretained(&self, topic: &str) {
        if self.unretained.fetch_add(1, Ordering::Relaxed) == 0 {
            let (ingress, Room { count, bytes }) = (self.session.ingress(), self.settings.retained);
            tracing::warn!(%ingress, topic, count, bytes, "retained_max or retained_bytes is reached: not retained");
        }
    }

    /// What there is, and what found no room since the broker began.
    pub(super) fn figures(&self) -> Figures {
        let clients: Vec<_> = self.clients.lock().values().cloned().collect();
        let (mut connected, mut queued, mut bytes, mut dropped) =
            (0, 0, 0, self.dropped.load(Ordering::Relaxed));
        for client in &clients {
            let state = client.state();
            connected += u64::from(state.link().is_some());
            queued += state.outgoing.waiting() as u64;
            bytes += state.outgoing.bytes() as u64;
            dropped += state.outgoing.dropped;
        }
        let (retained, retained_bytes) = {
            let retained = self.retained.lock();
            (retained.count() as u64, retained.bytes() as u64)
        };
        vec![
            ("sessions", clients.len() as u64),
            ("connected", connected),
            ("queued", queued),
            ("queued_bytes", bytes),
            ("retained", retained),
            ("retained_bytes", retained_bytes),
            ("dropped", dropped),
            ("shed", self.shed.load(Ordering::Relaxed)),
            ("unretained", self.unretained.load(Ordering::Relaxed)),
        ]
    }

    /// Deletes the rows of `places` in the client's queue.
    pub(super) fn forget(&self, client: &Client, places: impl IntoIterator<Item = u64>) {
        let gone = places.into_iter().map(|place| rows::delete(rows::queued(client.number, place)));
        self.keeper.soon(gone);
    }

    /// When more waits for sessions without a connection than may, those for which most does lose their oldest.
    pub(super) fn make_room(&self) {
        let most = self.settings.absent_bytes;
        let is_over = |most: usize| self.absent_bytes.load(Ordering::Relaxed) > most;
        if !is_over(most) {
            return;
        }
        // Whoever holds them ends sessions now, which makes room as well.
        let Some(clients) = self.clients.try_lock() else { return };
        let absent = clients.values().filter_map(|client| {
            let state = client.state();
            state.link().is_none().then(|| (state.outgoing.bytes(), Arc::clone(client)))
        });
        let absent: Vec<_> = absent.collect();
        drop(clients);
        let mut largest: BinaryHeap<_> =
            absent.iter().enumerate().map(|(index, (bytes, _))| (*bytes, index)).collect();
        // A little more than needed: not to look for it again at the next message.
        while is_over(most - most / 16)
            && let Some((bytes, index)) = largest.pop()
        {
            let client = &absent[index].1;
            let (gone, left) = client.shrink(bytes / 2);
            self.forget(client, gone);
            // The rest may be what cannot go.
            if (1..bytes).contains(&left) {
                largest.push((left, index));
            }
        }
    }

    /// Every connection is told that the host stops.
    pub(super) fn stop(&self) {
        for client in self.clients.lock().values() {
            if let Some(link) = client.state().link() {
                link.kick(reason::SHUTTING_DOWN);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::Value;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::contract::StandIn;

    /// Nobody listens for it: connections are handed to it.
    pub(in super::super) fn broker(settings: Value) -> Arc<Broker> {
        broker_of(StandIn::new(), settings)
    }

    pub(in super::super) fn broker_of(host: Arc<StandIn>, settings: Value) -> Arc<Broker> {
        let session = Session::new("mqtt".parse().unwrap(), host as _, CancellationToken::new());
        let settings = sandbar_reading::settings(settings).and_then(Settings::new).unwrap();
        Arc::new(Broker::new(Arc::new(settings), session))
    }
}
