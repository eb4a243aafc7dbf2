//! Every connection that drivers have open, for those who watch the host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sandbar_reading::{Name, Timestamp};
use tokio::sync::broadcast;

use crate::notes::{DeviceNote, Hold};
use crate::session::Intake;

/// What a driver knows of the far end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    pub remote: Option<SocketAddr>,
    /// The device that it speaks for, if that is known by now.
    pub device: Option<Box<str>>,
    /// What it calls itself in its protocol: an MQTT client id.
    pub client: Option<Box<str>>,
    /// Its program, as it says: `curl/8.5`.
    pub agent: Option<Box<str>>,
}

/// The open connections of a host. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    listed: Mutex<Listed>,
    events: broadcast::Sender<ConnectionEvent>,
}

#[derive(Debug, Default)]
struct Listed {
    /// By id, which counts up: in the order of their beginning.
    open: BTreeMap<u64, Arc<Entry>>,
    opened: u64,
    /// What those received and sent that are gone.
    closed: (TrafficStatus, TrafficStatus),
}

#[derive(Debug)]
struct Entry {
    ingress: Name,
    peer: Mutex<PeerInfo>,
    created: Timestamp,
    received: Traffic,
    sent: Traffic,
    queued: AtomicU64,
}

/// What happened to the list.
#[derive(Clone, Debug)]
pub enum ConnectionEvent {
    Opened(ConnectionStatus),
    /// As it was at last.
    Closed(ConnectionStatus),
}

/// How many events may wait for who watches; then some are missed.
const EVENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds since the Unix epoch; 0 for never.
    last: AtomicU64,
}

/// A connection's place in the list; dropped, it is gone from it.
pub struct Connection {
    id: u64,
    entry: Arc<Entry>,
    intake: Arc<dyn Intake>,
    /// Of the device that it speaks for.
    hold: Mutex<Option<Hold>>,
}

/// A connection as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Unique since the start of the host, counting up.
    pub id: u64,
    pub ingress: Name,
    pub peer: PeerInfo,
    pub created: Timestamp,
    pub received: TrafficStatus,
    pub sent: TrafficStatus,
    /// Messages that wait to be sent to it.
    pub queued: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficStatus {
    pub messages: u64,
    /// Of payload.
    pub bytes: u64,
    pub last: Option<Timestamp>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { listed: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX) }
    }
}

impl Connections {
    pub(crate) fn add(&self, ingress: &Name, peer: PeerInfo, intake: Arc<dyn Intake>) -> Connection {
        let hold = peer.device.as_deref().map(|device| intake.hold(ingress, device));
        let entry = Arc::new(Entry {
            ingress: ingress.clone(),
            peer: Mutex::new(peer),
            created: intake.now(),
            received: Traffic::default(),
            sent: Traffic::default(),
            queued: AtomicU64::new(0),
        });
        let id = {
            let mut listed = self.0.listed.lock();
            listed.opened += 1;
            let id = listed.opened;
            listed.open.insert(id, Arc::clone(&entry));
            id
        };
        self.tell(|| ConnectionEvent::Opened(entry.status(id)));
        Connection { id, entry, intake, hold: Mutex::new(hold) }
    }

    pub fn count(&self) -> usize {
        self.0.listed.lock().open.len()
    }

    /// How many there were since the start of the host.
    pub fn opened(&self) -> u64 {
        self.0.listed.lock().opened
    }

    /// Of all connections since the start of the host: received, sent.
    pub fn traffic(&self) -> (TrafficStatus, TrafficStatus) {
        let listed = self.0.listed.lock();
        listed.open.values().fold(listed.closed, |sum, entry| entry.added_to(sum))
    }

    /// At most `limit` with an id above `after`, oldest first.
    pub fn list(&self, after: u64, limit: usize) -> Vec<ConnectionStatus> {
        let entries: Vec<_> = {
            let listed = self.0.listed.lock();
            let after = after.saturating_add(1);
            listed.open.range(after..).take(limit).map(|(id, entry)| (*id, Arc::clone(entry))).collect()
        };
        entries.into_iter().map(|(id, entry)| entry.status(id)).collect()
    }

    /// What happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<ConnectionEvent> {
        self.0.events.subscribe()
    }

    fn tell(&self, event: impl FnOnce() -> ConnectionEvent) {
        if self.0.events.receiver_count() > 0 {
            // Who watched may be gone by now.
            let _ = self.0.events.send(event());
        }
    }
}

impl Connection {
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A message with `bytes` of payload came.
    pub fn received(&self, bytes: usize, now: Timestamp) {
        self.entry.received.count(bytes, now);
    }

    /// A message with `bytes` of payload went out.
    pub fn sent(&self, bytes: usize, now: Timestamp) {
        self.entry.sent.count(bytes, now);
    }

    /// So many messages wait to be sent.
    pub fn queued(&self, messages: usize) {
        self.entry.queued.store(messages as u64, Ordering::Relaxed);
    }

    /// The device that it speaks for has become known: it is connected as long as this is.
    pub fn name_device(&self, device: &str) {
        if !self.mention_device(device) {
            return;
        }
        let hold = self.intake.hold(&self.entry.ingress, device);
        // The other device's is dropped behind the lock.
        let _before = self.hold.lock().replace(hold);
    }

    /// What comes in is about this device, which does not live and die with the connection: a mail's sender.
    /// Whether that is new.
    pub fn mention_device(&self, device: &str) -> bool {
        let mut peer = self.entry.peer.lock();
        let is_new = peer.device.as_deref() != Some(device);
        if is_new {
            peer.device = Some(device.into());
        }
        is_new
    }

    /// The peer said farewell: its device has left when this is dropped.
    pub fn left(&self) {
        self.note(DeviceNote::Left);
    }

    /// The link broke, or the peer was silent for too long: its device is lost when this is dropped.
    pub fn lost(&self) {
        self.note(DeviceNote::Lost);
    }

    fn note(&self, note: DeviceNote) {
        let device = self.entry.peer.lock().device.clone();
        if let Some(device) = device {
            self.intake.note(&self.entry.ingress, &device, note);
        }
    }

    fn list(&self) -> &Connections {
        self.intake.connections()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.id).finish()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let list = self.list();
        {
            let mut listed = list.0.listed.lock();
            listed.open.remove(&self.id);
            listed.closed = self.entry.added_to(listed.closed);
        }
        list.tell(|| ConnectionEvent::Closed(self.entry.status(self.id)));
    }
}

impl Entry {
    fn status(&self, id: u64) -> ConnectionStatus {
        ConnectionStatus {
            id,
            ingress: self.ingress.clone(),
            peer: self.peer.lock().clone(),
            created: self.created,
            received: self.received.status(),
            sent: self.sent.status(),
            queued: self.queued.load(Ordering::Relaxed),
        }
    }

    /// Received and sent, with what others did.
    fn added_to(&self, (received, sent): (TrafficStatus, TrafficStatus)) -> (TrafficStatus, TrafficStatus) {
        (received.and(self.received.status()), sent.and(self.sent.status()))
    }
}

impl TrafficStatus {
    fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            last: self.last.max(other.last),
        }
    }
}

impl Traffic {
    fn count(&self, bytes: usize, now: Timestamp) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(now.nanos(), Ordering::Relaxed);
    }

    fn status(&self) -> TrafficStatus {
        let last = self.last.load(Ordering::Relaxed);
        TrafficStatus {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            last: (last > 0).then(|| Timestamp::from_nanos(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::StandIn;

    #[test]
    fn a_connection_is_listed_with_its_traffic_until_it_is_dropped() {
        let host = StandIn::new();
        let list = host.connections().clone();
        let mut events = list.watch();
        let connect = |peer| list.add(&"tested".parse().unwrap(), peer, Arc::clone(&host) as _);
        let (first, second) = (connect(PeerInfo::default()), connect(PeerInfo::default()));
        first.received(10, Timestamp::from_nanos(3));
        first.received(5, Timestamp::from_nanos(4));
        first.name_device("boiler");
        second.queued(7);
        second.sent(1, Timestamp::from_nanos(5));
        let shown = list.list(0, 10);
        assert_eq!(shown.len(), 2);
        assert_eq!(
            shown[0].received,
            TrafficStatus { messages: 2, bytes: 15, last: Some(Timestamp::from_nanos(4)) }
        );
        assert_eq!((shown[0].peer.device.as_deref(), shown[0].sent.last), (Some("boiler"), None));
        assert_eq!(list.list(shown[0].id, 10), shown[1..]);
        drop(first);
        assert_eq!((list.count(), list.opened()), (1, 2));
        assert_eq!(list.list(0, 10)[0].queued, 7);
        let (received, sent) = list.traffic();
        assert_eq!((received.messages, received.bytes, sent.messages), (2, 15, 1), "of closed ones, too");
        let told = std::iter::from_fn(|| events.try_recv().ok());
        let told: Vec<_> = told
            .map(|event| match event {
                ConnectionEvent::Opened(status) => (true, status.id),
                ConnectionEvent::Closed(status) => (false, status.id),
            })
            .collect();
        assert_eq!(told, [(true, 1), (true, 2), (false, 1)]);
    }

    #[test]
    fn a_device_is_held_by_every_connection_that_speaks_for_it() {
        let host = StandIn::new();
        let connect = || {
            let peer = PeerInfo { device: Some("d1".into()), ..PeerInfo::default() };
            host.connections().add(&"tested".parse().unwrap(), peer, Arc::clone(&host) as _)
        };
        let (first, second) = (connect(), connect());
        first.lost();
        drop(first);
        assert_eq!(host.holds("d1"), 1);
        second.name_device("d2");
        assert_eq!((host.holds("d1"), host.holds("d2")), (0, 1));
        drop(second);
        assert_eq!(host.holds("d2"), 0);
        assert_eq!(host.notes(), [("d1".into(), DeviceNote::Lost)]);
    }
}
