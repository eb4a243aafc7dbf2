//! What all connections of an ingress share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::client::Client;
use super::codec::reason;
use super::keeper::Keeper;
use super::outgoing::Room;
use super::retained::RetainedMessages;
use super::rows;
use super::settings::{PACKET_MAX_MOST, Settings};
use super::subscriptions::Subscriptions;
use super::timers::Timers;
use super::will::Wills;
use crate::{Figures, Session};

/// Messages that wait for their commit at once; large ones count for several. Fewer than what the host takes
/// before it says that it is busy: so connections wait here, and TCP holds their clients back.
const UNDER_WAY: usize = 8192;

/// Replies that are awaited at once.
const REPLIES: usize = 1024;

pub(super) struct Broker {
    pub(super) settings: Arc<Settings>,
    pub(super) session: Session,
    pub(super) subscriptions: RwLock<Subscriptions>,
    pub(super) retained: Mutex<RetainedMessages>,
    /// Held while a change of what is retained gets its place among such changes, in memory and in the store.
    pub(super) retaining: Mutex<()>,
    /// Sessions, by client identifier.
    pub(super) clients: Mutex<HashMap<Box<str>, Arc<Client>>>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) timers: Timers,
    pub(super) wills: Wills,
    pub(super) under_way: Arc<Semaphore>,
    pub(super) replies: Arc<Semaphore>,
    pub(super) packet_max: usize,
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
        Self {
            settings,
            session,
            subscriptions: RwLock::default(),
            retained: Mutex::default(),
            retaining: Mutex::default(),
            clients: Mutex::default(),
            keeper: Arc::default(),
            timers: Timers::default(),
            wills: Wills::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            replies: Arc::new(Semaphore::new(REPLIES)),
            packet_max,
            shed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unretained: AtomicU64::new(0),
            numbers: AtomicU32::new(1),
            messages: AtomicU64::new(1),
        }
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

    /// Permits that a message of `bytes` takes while it is under way.
    pub(super) fn weight(bytes: usize) -> u32 {
        const UNIT: usize = 4 << 10;
        u32::try_from(1 + bytes / UNIT).unwrap_or(u32::MAX).min((UNDER_WAY / 2) as u32)
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
