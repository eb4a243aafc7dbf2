//! A store on a simulated disk, a clock that stands still, and what its observer was told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{
    Clock, ContentType, Inbound, Lineage, Message, Name, ReadingId, Receipt, Refused, Scope, StateWrite,
    SystemClock, Target, Timestamp,
};
use sandbar_store::simulated::Simulated;
use sandbar_store::{
    Accept, Committer, DeadLetter, Disk, Lane, NewDelivery, News, Observer, OpenError, Options, Outcome,
    Queued, Store, Waiting,
};

/// Starts in 2023, and moves when told to.
pub(crate) struct Hands(AtomicU64);

impl Hands {
    pub(crate) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) news: Mutex<News>,
    pub(crate) recovered: AtomicU64,
}

impl Observer for Told {
    fn committed(&self, news: News) {
        let mut all = self.news.lock();
        all.readings.extend(news.readings);
        all.waiting.extend(news.waiting);
        all.queued.extend(news.queued);
        all.dead_letters.extend(news.dead_letters);
    }

    fn recovered(&self) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Rig {
    pub(crate) disk: Simulated,
    pub(crate) clock: Arc<Hands>,
    pub(crate) told: Arc<Told>,
    pub(crate) options: Options,
    pub(crate) store: Store,
    modules: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(options: Options) -> Self {
        Self::on(Simulated::new(options.seed.unwrap_or(1)), options)
    }

    pub(crate) fn on(disk: Simulated, options: Options) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(1_700_000_000_000)));
        let modules = tempfile::tempdir().unwrap();
        let told = Arc::new(Told::default());
        let store = open(&disk, modules.path(), &options, &clock).unwrap();
        store.observe(told.clone());
        Self { disk, clock, told, options, store, modules }
    }

    /// Closed and opened again, as a restart does.
    pub(crate) async fn restart(&mut self) {
        self.store.clone().close().await;
        self.open();
    }

    pub(crate) fn open(&mut self) {
        self.store = open(&self.disk, self.modules.path(), &self.options, &self.clock).unwrap();
        self.store.observe(self.told.clone());
    }

    /// Time goes by, for the clock, too: not in one step, as when somebody sets it.
    pub(crate) async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.clock.forward(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Closes the store, changes its file behind its back, and opens it again.
    pub(crate) async fn edit(&mut self, edit: impl FnOnce(&redb::WriteTransaction)) {
        self.store.clone().close().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, self.disk.bytes()).unwrap();
        {
            let database = redb::Database::open(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            edit(&transaction);
            transaction.commit().unwrap();
        }
        self.disk = Simulated::holding(std::fs::read(&path).unwrap(), 1);
        self.open();
    }

    pub(crate) async fn accept(&self, lanes: &[&Lane], payload: &str) -> Result<Receipt, Refused> {
        self.store.accept(accept(lanes, payload))?.committed.await
    }

    /// Accepted, and expected to be.
    pub(crate) async fn put(&self, lanes: &[&Lane], payload: &str) -> ReadingId {
        self.accept(lanes, payload).await.unwrap().id()
    }

    pub(crate) fn waiting(&self, lane: &Lane) -> Vec<Waiting> {
        let loaded = self.store.waiting(&lane.route, lane.id(), &|_| false, usize::MAX, usize::MAX).unwrap();
        assert!(loaded.complete);
        loaded.items
    }

    pub(crate) fn waiting_ids(&self, lane: &Lane) -> Vec<ReadingId> {
        self.waiting(lane).iter().map(|waiting| waiting.reading.id).collect()
    }

    pub(crate) fn queued(&self, target: &Target) -> Vec<Queued> {
        self.store.queued(target, &|_| false, usize::MAX, usize::MAX).unwrap().items
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        let query = sandbar_store::DeadLetterQuery { limit: usize::MAX, ..Default::default() };
        self.store.dead_letters(&query).unwrap().items
    }

    pub(crate) fn state_text(&self, scope: &Scope, name: &str) -> Option<String> {
        let value = self.store.state(scope, name).unwrap()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }
}

fn open(disk: &Simulated, modules: &Path, options: &Options, clock: &Arc<Hands>) -> Result<Store, OpenError> {
    Store::open(Arc::new(disk.clone()), modules.to_owned(), options.clone(), clock.clone(), Committer::Task)
}

/// A store in a folder of the real disk.
pub(crate) fn on_disk(folder: &Path) -> Store {
    let (disk, clock) = (Arc::new(Disk::new(folder.join("store"))), Arc::new(SystemClock));
    Store::open(disk, folder.join("modules"), options(), clock, Committer::Task).unwrap()
}

/// Small and seeded.
pub(crate) fn options() -> Options {
    Options { cache_bytes: 1 << 20, seed: Some(1), ..Options::default() }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn lane(route: &str, key: &str) -> Lane {
    Lane { route: name(route), key: key.into() }
}

pub(crate) fn sink(text: &str) -> Target {
    Target::Sink(name(text))
}

pub(crate) fn scope_of(lane: &Lane) -> Scope {
    Scope::Route { route: lane.route.clone(), key: (*lane.key).into() }
}

pub(crate) fn accept(lanes: &[&Lane], payload: &str) -> Accept {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Accept {
        ingress: name("web"),
        inbound: Inbound::new("site/temp".parse().unwrap(), ContentType::JSON, payload),
        lineage: Lineage::default(),
        lanes: lanes.iter().map(|lane| (*lane).clone()).collect(),
        keep: Vec::new(),
    }
}

/// What a reading of [`accept`] with such a payload counts as.
pub(crate) fn weight(payload: usize, inline_max: usize) -> u64 {
    const BEFORE_PAYLOAD: usize = 45;
    const DIGEST: usize = 32;
    let length = if payload < 128 { 1 } else { 2 };
    let row = BEFORE_PAYLOAD + length + if payload > inline_max { DIGEST } else { payload };
    (payload.max(row) + 64) as u64
}

pub(crate) fn write(name: &str, value: &str) -> StateWrite {
    StateWrite { name: name.into(), value: Some(Bytes::copy_from_slice(value.as_bytes())), expires: None }
}

/// An outcome that handled these readings and brought nothing else.
pub(crate) fn handled(lane: &Lane, readings: &[ReadingId]) -> Outcome {
    Outcome {
        lane: lane.clone(),
        handled: readings.to_vec(),
        deliveries: Vec::new(),
        chained: Vec::new(),
        state: Vec::new(),
        failed: None,
        traces: Vec::new(),
        prompt: false,
    }
}

pub(crate) fn delivery(target: &Target, reading: ReadingId, payload: &str) -> NewDelivery {
    let accept = accept(&[], payload).inbound;
    let message = Message {
        topic: accept.topic,
        device: Some("d1".into()),
        content_type: accept.content_type,
        attributes: accept.attributes.with("a", "1"),
        payload: accept.payload,
    };
    NewDelivery { target: target.clone(), reading, message }
}
