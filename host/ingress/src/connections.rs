//! Every connection that drivers have open, for those who watch the host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sandbar_reading::{Name, Timestamp};

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
pub struct Connections(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    /// By id, which counts up: in the order of their beginning.
    open: BTreeMap<u64, Arc<Entry>>,
    opened: u64,
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

#[derive(Debug, Default)]
struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds since the Unix epoch; 0 for never.
    last: AtomicU64,
}

/// A connection's place in the list; dropped, it is gone from it.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    entry: Arc<Entry>,
    list: Connections,
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

impl Connections {
    pub(crate) fn add(&self, ingress: &Name, peer: PeerInfo, now: Timestamp) -> Connection {
        let entry = Arc::new(Entry {
            ingress: ingress.clone(),
            peer: Mutex::new(peer),
            created: now,
            received: Traffic::default(),
            sent: Traffic::default(),
            queued: AtomicU64::new(0),
        });
        let mut listed = self.0.lock();
        listed.opened += 1;
        let id = listed.opened;
        listed.open.insert(id, Arc::clone(&entry));
        Connection { id, entry, list: self.clone() }
    }

    pub fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    /// How many there were since the start of the host.
    pub fn opened(&self) -> u64 {
        self.0.lock().opened
    }

    /// At most `limit` with an id above `after`, oldest first.
    pub fn list(&self, after: u64, limit: usize) -> Vec<ConnectionStatus> {
        let entries: Vec<_> = {
            let listed = self.0.lock();
            listed.open.range(after + 1..).take(limit).map(|(id, entry)| (*id, Arc::clone(entry))).collect()
        };
        entries.into_iter().map(|(id, entry)| entry.status(id)).collect()
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

    /// The device that it speaks for has become known.
    pub fn name_device(&self, device: &str) {
        let mut peer = self.entry.peer.lock();
        if peer.device.as_deref() != Some(device) {
            peer.device = Some(device.into());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.list.0.lock().open.remove(&self.id);
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

    #[test]
    fn a_connection_is_listed_with_its_traffic_until_it_is_dropped() {
        let list = Connections::default();
        let ingress: Name = "tested".parse().unwrap();
        let (first, second) = (
            list.add(&ingress, PeerInfo::default(), Timestamp::from_nanos(1)),
            list.add(&ingress, PeerInfo::default(), Timestamp::from_nanos(2)),
        );
        first.received(10, Timestamp::from_nanos(3));
        first.received(5, Timestamp::from_nanos(4));
        first.name_device("boiler");
        second.queued(7);
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
    }
}
