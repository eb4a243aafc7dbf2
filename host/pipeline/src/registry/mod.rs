//! Which devices there are: what is known of them, and whether they are there.
//!
//! It follows from the journal's readings, from the holds of connections, and from what drivers say. What changes
//! is written in batches (`worker.rs`): a reading costs no write of its own, and with each batch goes how far in
//! the journal it reaches, so that a restart makes up for the rest.

mod commands;
mod inbox;
mod life;
mod record;
mod tell;
mod twin;
mod words;
mod worker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sandbar_ingress::{DeviceNote, Hold};
use sandbar_reading::{Clock, Leaps, Name, Reading, ReadingId, Steps, Timestamp};
use sandbar_store::{DeviceRow, Presence, Resource, Store, StoreError};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::commands::{CommandProblem, Order, Ordered};
use self::inbox::Inbox;
use self::life::Silence;
use self::record::{Arrival, Record};
pub use self::twin::is_same;
use crate::delivery::Deliveries;
use crate::devices::Devices;
use crate::router::Router;

/// The ingress of readings that say that a device came or went.
pub const DEVICES_INGRESS: &str = "devices";

/// How many labels a device may have.
pub const LABELS_MAX: usize = 32;
/// The most bytes of a name, a type, a label's key or value.
pub const TEXT_MAX: usize = 255;

/// How many events, of 64 KiB at most, may wait for who watches; then some are missed.
const EVENTS_MAX: usize = 1024;

/// How devices are kept.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// How many there may be. Readings of further ones are taken, and they are counted, not listed.
    pub max: usize,
    /// Without a word for so long a device that is not connected is lost.
    pub silence: Option<Duration>,
    /// The same for devices of a type, also while they are connected.
    pub silence_by_type: HashMap<Box<str>, Duration>,
}

/// After how long without a word a device is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silences {
    usual: Option<Duration>,
    by_type: HashMap<Box<str>, Duration>,
    by_ingress: HashMap<Name, Duration>,
}

impl Silences {
    /// What its driver says goes before its type's, that before its ingress's, of which the longest counts.
    fn of(&self, own: Option<Duration>, kind: Option<&str>, ingresses: &[Name]) -> Silence {
        let by_type = || kind.and_then(|kind| self.by_type.get(kind)).copied();
        let by_ingress =
            || ingresses.iter().filter_map(|ingress| self.by_ingress.get(ingress)).max().copied();
        match own.or_else(by_type).or_else(by_ingress) {
            Some(silence) => Silence::Own(silence),
            None => self.usual.map_or(Silence::Unlimited, Silence::Usual),
        }
    }
}

/// What happened to a device.
#[derive(Clone, Debug)]
pub enum DeviceEvent {
    /// It is known from now on, or its presence, name, type or labels have changed.
    Changed(DeviceRow),
    /// A resource has a new value, as JSON text.
    Reported {
        device: Box<str>,
        resources: Vec<Resource>,
    },
    Removed(Box<str>),
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    pub known: usize,
    pub online: usize,
    pub offline: usize,
    pub lost: usize,
    pub max: usize,
    /// Words of devices that there was no room for.
    pub unlisted: u64,
    /// Changes of presence since the start.
    pub changes: u64,
}

/// Which devices. Those left `None` do not restrict.
#[derive(Clone, Debug, Default)]
pub struct DeviceQuery {
    pub presence: Option<Presence>,
    pub kind: Option<Box<str>>,
    /// All of them: a key, or a key and its value.
    pub labels: Vec<(Box<str>, Option<Box<str>>)>,
    /// Behind this id.
    pub after: Option<Box<str>>,
    pub limit: usize,
}

/// The registry of devices.
pub struct Registry {
    store: Store,
    clock: Arc<dyn Clock>,
    router: Arc<ArcSwap<Router>>,
    devices: Devices,
    deliveries: Arc<Deliveries>,
    max: AtomicUsize,
    silences: ArcSwap<Silences>,
    inbox: Inbox,
    known: Mutex<Known>,
    leaps: Mutex<Leaps<Timestamp>>,
    /// The worker has something to do.
    wake: Notify,
    events: broadcast::Sender<DeviceEvent>,
    unlisted: AtomicU64,
    /// It was told that there is no room.
    was_full: AtomicBool,
    changes: AtomicU64,
    stop: CancellationToken,
    /// The worker has ended.
    ended: CancellationToken,
    /// Nothing is learnt any more: the host goes, not its devices.
    frozen: CancellationToken,
}

#[derive(Default)]
struct Known {
    devices: BTreeMap<Arc<str>, Record>,
    /// When to look whether a device has been silent for too long.
    looks: BinaryHeap<Reverse<(Timestamp, Arc<str>)>>,
    /// Those whose rows differ, by when that began.
    dirty: VecDeque<(Timestamp, Arc<str>)>,
    /// Those whose change is not to wait.
    urgent: Vec<Arc<str>>,
    /// Those that have arrived and should be told what their resources ought to be.
    arrived: Vec<Arrival>,
    /// The last reading that was looked at; those before it were, too, but for what comes late.
    seen: Option<ReadingId>,
    /// Of some it is not known whether what was written is there.
    is_in_doubt: bool,
}

impl Registry {
    pub(crate) fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        router: Arc<ArcSwap<Router>>,
        devices: Devices,
        deliveries: Arc<Deliveries>,
        options: DeviceOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let now = clock.now();
        let steps = Steps::new(now, Instant::now().into_std());
        let DeviceOptions { max, silence, silence_by_type } = options;
        let mut known = Known { seen: store.devices_seen()?, ..Known::default() };
        let inbox = Inbox::default();
        let next = known.seen.map_or(0, |seen| seen.as_u128().saturating_add(1));
        inbox.look_from(ReadingId::from_u128(next));
        for row in store.devices()? {
            let mut record = Record::of(row, now);
            record.has_desired = store.has_desired(&record.id)?;
            known.devices.insert(Arc::clone(&record.id), record);
        }
        let silences = Silences { usual: silence, by_type: silence_by_type, by_ingress: HashMap::new() };
        let registry = Arc::new(Self {
            store,
            clock,
            router,
            devices,
            deliveries,
            max: AtomicUsize::new(max),
            silences: ArcSwap::from_pointee(silences),
            inbox,
            known: Mutex::new(known),
            leaps: Mutex::new(Leaps::new(now)),
            wake: Notify::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
            unlisted: AtomicU64::new(0),
            was_full: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            frozen: CancellationToken::new(),
        });
        registry.watch_all();
        let (ended, worker) = (registry.ended.clone().drop_guard(), Arc::clone(&registry));
        tokio::spawn(async move {
            // However it ends.
            let _ended = ended;
            worker.work(steps).await;
        });
        Ok(registry)
    }

    /// How devices are kept from now on, and for how long those of these ingresses may be silent. Who is listed stays.
    pub fn set_options(&self, options: DeviceOptions, by_ingress: HashMap<Name, Duration>) {
        let DeviceOptions { max, silence, silence_by_type } = options;
        if self.max.swap(max, Ordering::Relaxed) != max {
            // That there is no room is told anew.
            self.was_full.store(false, Ordering::Relaxed);
        }
        self.silences.store(Arc::new(Silences { usual: silence, by_type: silence_by_type, by_ingress }));
        self.watch_all();
    }

    fn watch_all(&self) {
        let silences = self.silences.load();
        let mut known = self.known.lock();
        let Known { devices, looks, .. } = &mut *known;
        looks.clear();
        for record in devices.values_mut() {
            record.watched = None;
            watch(record, looks, &silences);
        }
        drop(known);
        self.wake.notify_one();
    }

    /// What was committed; does not wait.
    pub(crate) fn journaled(&self, readings: &[Arc<Reading>]) {
        let of_devices = readings
            .iter()
            .filter(|reading| reading.device.is_some() && reading.ingress.as_str() != DEVICES_INGRESS);
        if self.inbox.push(of_devices) {
            self.wake.notify_one();
        }
    }

    /// The journal may have what was not told.
    pub(crate) fn look_again(&self) {
        let seen = self.known.lock().seen.unwrap_or(ReadingId::from_u128(0));
        // Also what was late, and may be there though its commit was told to have failed.
        let late = self.store.oldest_late();
        self.inbox.look_from(late.map_or(seen, |late| late.min(seen)));
        self.wake.notify_one();
    }

    /// The device is connected until the hold is dropped.
    pub(crate) fn hold(self: &Arc<Self>, ingress: &Name, device: &str) -> Hold {
        let now = self.clock.now();
        let held = self.change(device, true, |record| {
            record.through(ingress);
            record.life.held(now);
        });
        if !held {
            return Hold::default();
        }
        let (registry, device) = (Arc::downgrade(self), Box::<str>::from(device));
        Hold::new(move || {
            let Some(registry) = registry.upgrade() else { return };
            let now = registry.clock.now();
            registry.change(&device, false, |record| record.life.released(now));
        })
    }

    pub(crate) fn note(&self, ingress: &Name, device: &str, note: DeviceNote) {
        let now = self.clock.now();
        let adds = !matches!(note, DeviceNote::Left | DeviceNote::Lost);
        self.change(device, adds, |record| {
            if adds {
                record.through(ingress);
            }
            match note {
                DeviceNote::Arrived(info) => {
                    record.learn(info);
                    record.life.seen(now, now);
                }
                DeviceNote::Seen => record.life.seen(now, now),
                DeviceNote::Reported { resource, value } => {
                    record.life.seen(now, now);
                    record.words.report(twin::resource(&resource, &value, now));
                }
                DeviceNote::Left => record.life.parts(Presence::Offline, now),
                DeviceNote::Lost => record.life.parts(Presence::Lost, now),
            }
        });
    }

    /// Commands for it arrive from now on: it should be told what its resources ought to be.
    pub(crate) fn reachable(&self, device: &str) {
        let mut known = self.known.lock();
        let Known { devices, arrived, .. } = &mut *known;
        if let Some(record) = devices.get_mut(device).filter(|record| record.has_desired) {
            arrived.push(record.arrive(self.clock.now()));
            drop(known);
            self.wake.notify_one();
        }
    }

    /// Changes what is known of a device, which begins to be known if it `adds`. Whether it is known.
    fn change(&self, device: &str, adds: bool, change: impl FnOnce(&mut Record)) -> bool {
        if self.frozen.is_cancelled() {
            return false;
        }
        let now = self.clock.now();
        let mut known = self.known.lock();
        if !self.is_listed(&mut known, device, adds, now) {
            return false;
        }
        let silences = self.silences.load();
        let Known { devices, looks, dirty, urgent, .. } = &mut *known;
        let Some(record) = devices.get_mut(device) else { return false };
        let before = (record.life.presence, record.name.clone(), record.kind.clone(), record.labels.len());
        change(record);
        let after = (record.life.presence, record.name.clone(), record.kind.clone(), record.labels.len());
        let is_urgent = before != after || record.told != Some(record.life.presence);
        mark(record, is_urgent, now, dirty, urgent);
        watch(record, looks, &silences);
        drop(known);
        if is_urgent {
            self.wake.notify_one();
        }
        true
    }

    /// Whether the device is known by now.
    fn is_listed(&self, known: &mut Known, device: &str, adds: bool, now: Timestamp) -> bool {
        if known.devices.contains_key(device) {
            return true;
        }
        if !adds || !(1..=TEXT_MAX).contains(&device.len()) {
            return false;
        }
        let max = self.max.load(Ordering::Relaxed);
        if known.devices.len() >= max {
            self.unlisted.fetch_add(1, Ordering::Relaxed);
            if !self.was_full.swap(true, Ordering::Relaxed) {
                warn!(max, device, "devices.max is reached: further devices are not listed");
            }
            return false;
        }
        let id: Arc<str> = device.into();
        known.devices.insert(Arc::clone(&id), Record::new(id, now));
        true
    }

    pub fn counts(&self) -> DeviceCounts {
        let known = self.known.lock();
        let mut counts = DeviceCounts {
            known: known.devices.len(),
            max: self.max.load(Ordering::Relaxed),
            unlisted: self.unlisted.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            ..DeviceCounts::default()
        };
        for record in known.devices.values() {
            match record.life.presence {
                Presence::Online => counts.online += 1,
                Presence::Offline => counts.offline += 1,
                Presence::Lost => counts.lost += 1,
            }
        }
        counts
    }

    pub(crate) fn knows(&self, device: &str) -> bool {
        self.known.lock().devices.contains_key(device)
    }

    pub fn get(&self, device: &str) -> Option<DeviceRow> {
        self.known.lock().devices.get(device).map(Record::row)
    }

    /// By id; one more than the limit tells that there are more.
    pub fn list(&self, query: &DeviceQuery) -> Vec<DeviceRow> {
        let known = self.known.lock();
        let after = query.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rest = known.devices.range::<str, _>((after, Bound::Unbounded));
        rest.filter(|(_, record)| query.wants(record))
            .take(query.limit)
            .map(|(_, record)| record.row())
            .collect()
    }

    /// The type of each of these devices, where it is known.
    pub fn kinds_of<'a>(&self, devices: impl Iterator<Item = &'a str>) -> HashMap<Box<str>, Box<str>> {
        let known = self.known.lock();
        let kind = |device: &'a str| Some((device.into(), known.devices.get(device)?.kind.clone()?));
        devices.filter_map(kind).collect()
    }

    /// The last values of its resources, by name.
    pub fn resources(&self, device: &str) -> Result<Vec<Resource>, StoreError> {
        // Asked first: what is written in between is in one of them.
        let newer = self.known.lock().devices.get(device).map(|record| record.words.clone());
        let mut resources = self.store.resources(device)?;
        let mut newer = newer.unwrap_or_default();
        newer.look_into(device);
        for new in newer.resources() {
            match resources.binary_search_by(|old| old.name.cmp(&new.name)) {
                Ok(at) if resources[at].time <= new.time => resources[at] = new,
                Ok(_) => {}
                Err(at) if resources.len() < sandbar_store::RESOURCES_MAX => resources.insert(at, new),
                Err(_) => {}
            }
        }
        Ok(resources)
    }

    /// What a person says of a device: it need not have been heard of. `None`: there is no room for it.
    pub fn put(
        &self,
        device: &str,
        name: Option<Box<str>>,
        kind: Option<Box<str>>,
        labels: Vec<(Box<str>, Box<str>)>,
    ) -> Option<(DeviceRow, bool)> {
        let is_new = self.get(device).is_none();
        let now = self.clock.now();
        let done = self.change(device, true, |record| {
            record.is_named = name.is_some();
            record.name = name;
            record.kind = kind.or(record.kind.take());
            record.labels = labels;
            record.labels.sort();
            if is_new {
                record.life.parts(Presence::Offline, now);
            }
            // What nobody has heard of has not gone.
            if is_new {
                record.told = Some(Presence::Offline);
            }
        });
        let row = self.get(device).filter(|_| done)?;
        self.urge(device);
        Some((row, is_new))
    }

    fn urge(&self, device: &str) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        let Known { devices, dirty, urgent, .. } = &mut *known;
        if let Some(record) = devices.get_mut(device) {
            mark(record, true, now, dirty, urgent);
        }
        drop(known);
        self.wake.notify_one();
    }

    /// What happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<DeviceEvent> {
        self.events.subscribe()
    }

    fn tell(&self, event: impl FnOnce() -> DeviceEvent) {
        if self.events.receiver_count() > 0 {
            // Who watched may be gone by now.
            let _ = self.events.send(event());
        }
    }

    /// From now on connections that end are the host's doing: their devices stay as they are.
    pub fn freeze(&self) {
        self.frozen.cancel();
    }

    /// Writes what was learnt, and learns no more.
    pub(crate) async fn stop(&self) {
        self.freeze();
        self.stop.cancel();
        // What it has taken to look at is nowhere else.
        self.ended.cancelled().await;
        self.save_all().await;
    }
}

impl DeviceQuery {
    fn wants(&self, record: &Record) -> bool {
        let has = |(key, value): &(Box<str>, Option<Box<str>>)| {
            let label = record.labels.iter().find(|(other, _)| other == key);
            label.is_some_and(|(_, label)| value.as_ref().is_none_or(|value| value == label))
        };
        self.presence.is_none_or(|presence| presence == record.life.presence)
            && self.kind.as_ref().is_none_or(|kind| record.kind.as_ref() == Some(kind))
            && self.labels.iter().all(has)
    }
}

/// Its row is to be written.
fn mark(
    record: &mut Record,
    is_urgent: bool,
    now: Timestamp,
    dirty: &mut VecDeque<(Timestamp, Arc<str>)>,
    urgent: &mut Vec<Arc<str>>,
) {
    if record.dirty.is_none() {
        record.dirty = Some(now);
        dirty.push_back((now, Arc::clone(&record.id)));
    }
    if is_urgent && !record.is_urgent {
        record.is_urgent = true;
        urgent.push(Arc::clone(&record.id));
    }
}

/// Sees to it that its silence is noticed.
fn watch(record: &mut Record, looks: &mut BinaryHeap<Reverse<(Timestamp, Arc<str>)>>, silences: &Silences) {
    if let Some(due) = record.life.due(record.silence(silences))
        && record.watched.is_none_or(|watched| due < watched)
    {
        record.watched = Some(due);
        looks.push(Reverse((due, Arc::clone(&record.id))));
    }
}
