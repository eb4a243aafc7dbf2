//! What outlives the host: the disk, the time, the peers' memory, the far ends, and what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{Clock, DeliveryId, Name, Reading, ReadingId, Timestamp};
use sandbar_store::simulated::Simulated;
use sandbar_tests::seed::Random;
use tokio::time::Instant;

use crate::far_end::Taken;
use crate::plan::Plan;
use crate::script::Script;

/// Clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Arc<Everything>);

pub(crate) struct Everything {
    pub(crate) plan: Plan,
    pub(crate) script: Script,
    pub(crate) disk: Simulated,
    pub(crate) memory: Mutex<Memory>,
    random: Mutex<Random>,
    time: Mutex<Time>,
    trace: Mutex<Trace>,
}

/// What is remembered from one life of the host to the next.
#[derive(Default)]
pub(crate) struct Memory {
    /// Every attempt to hand a reading over, in the order of the calls.
    pub(crate) sent: Vec<Sent>,
    /// What each connection sends next, and how often it has tried.
    pub(crate) next: BTreeMap<(u64, u64), (u64, u64)>,
    pub(crate) taken: Vec<Taken>,
    /// Of a route's handler, for a reading.
    pub(crate) calls: BTreeMap<(&'static str, ReadingId), u32>,
    /// Readings that handlers saw, in runs whose journal forgets them.
    pub(crate) seen: BTreeMap<ReadingId, Reading>,
    /// Deliveries that were given up on, and wait again.
    pub(crate) redriven: BTreeSet<DeliveryId>,
    /// Lanes that a handler is working on, and sinks that are being offered something.
    pub(crate) busy: BTreeSet<String>,
    pub(crate) incidents_done: usize,
    pub(crate) passing: Passing,
    /// What must not happen, and did.
    pub(crate) wrong: Vec<String>,
    /// From now on far ends work.
    pub(crate) mended: bool,
}

pub(crate) struct Sent {
    pub(crate) label: String,
    /// Whether the route that comes and goes was there.
    pub(crate) passing: bool,
    pub(crate) receipt: Option<ReadingId>,
}

/// How it stands with the route that comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passing {
    #[default]
    Never,
    /// Since it was added for the so-manieth time.
    There(u64),
    BeingRemoved(u64),
    Removed(u64),
}

struct Time {
    before: Duration,
    began: Option<Instant>,
    /// Milliseconds that the clock is wrong by.
    off: i64,
}

struct Trace {
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
}

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

impl std::ops::Deref for World {
    type Target = Everything;

    fn deref(&self) -> &Everything {
        &self.0
    }
}

impl World {
    /// `keep` what happens, to be printed.
    pub(crate) fn new(seed: u64, keep: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let script = Script { seed: random.draw(), attempts_max: plan.attempts.max.get() };
        let disk = Simulated::new(random.draw());
        disk.set_payload_time(plan.payload_time);
        Self(Arc::new(Everything {
            plan,
            script,
            disk,
            memory: Mutex::default(),
            random: Mutex::new(random),
            time: Mutex::new(Time { before: Duration::ZERO, began: None, off: 0 }),
            trace: Mutex::new(Trace { hash: DefaultHasher::new(), lines: keep.then(Vec::new) }),
        }))
    }

    /// What happened, if it was kept.
    pub(crate) fn lines(&self) -> String {
        self.trace.lock().lines.iter().flatten().map(|line| format!("{line}\n")).collect()
    }

    /// Where two runs were first not the same.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<(String, String)> {
        let (own, others) = (self.trace.lock(), other.trace.lock());
        if own.hash.finish() == others.hash.finish() {
            return None;
        }
        let lines = own.lines.iter().flatten().zip(others.lines.iter().flatten());
        let differing = lines.into_iter().find(|(own, other)| own != other);
        Some(differing.map_or_else(Default::default, |(own, other)| (own.clone(), other.clone())))
    }
}

impl Everything {
    /// A life of the host begins, on a clock of its own.
    pub(crate) fn begin(&self) {
        self.time.lock().began = Some(Instant::now());
    }

    pub(crate) fn end(&self) {
        let mut time = self.time.lock();
        time.before = time.elapsed();
        time.began = None;
    }

    /// Since the start of the run; the clock's jumps do not count.
    pub(crate) fn elapsed(&self) -> Duration {
        self.time.lock().elapsed()
    }

    pub(crate) fn jump(&self, millis: i64) {
        self.time.lock().off += millis;
    }

    /// Whether a target refuses a delivery for good.
    pub(crate) fn never_takes(&self, target: &str, label: &str, delivery: DeliveryId) -> bool {
        let is_redriven = self.memory.lock().redriven.contains(&delivery);
        self.script.never_taken(target, label)
            && !(is_redriven && self.script.taken_when_redriven(target, label))
    }

    pub(crate) fn draw(&self) -> u64 {
        self.random.lock().draw()
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.random.lock().below(bound)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.random.lock().chance(percent)
    }

    pub(crate) fn millis_below(&self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>10.3?} {}", self.elapsed(), line());
        let mut trace = self.trace.lock();
        trace.hash.write(line.as_bytes());
        trace.lines.iter_mut().for_each(|lines| lines.push(line.clone()));
    }

    pub(crate) fn wrong(&self, what: String) {
        self.trace(|| format!("WRONG: {what}"));
        self.memory.lock().wrong.push(what);
    }

    pub(crate) fn is_mended(&self) -> bool {
        self.memory.lock().mended
    }

    /// `what` is being done until the returned value is dropped; by one at a time.
    pub(crate) fn alone(self: &Arc<Self>, what: String) -> Alone {
        if !self.memory.lock().busy.insert(what.clone()) {
            self.wrong(format!("twice at once: {what}"));
        }
        Alone { world: World(self.clone()), what }
    }
}

impl World {
    pub(crate) fn alone(&self, what: String) -> Alone {
        self.0.alone(what)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.0.clone()
    }

    /// Where the store keeps modules; there are none.
    pub(crate) fn modules() -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulation")
    }
}

impl Clock for Everything {
    fn now(&self) -> Timestamp {
        let time = self.time.lock();
        let now = START.after(time.elapsed());
        let off = Duration::from_millis(time.off.unsigned_abs());
        if time.off < 0 { now.before(off) } else { now.after(off) }
    }
}

impl Time {
    fn elapsed(&self) -> Duration {
        self.before + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

pub(crate) struct Alone {
    world: World,
    what: String,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.world.memory.lock().busy.remove(&self.what);
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("it is a name")
}
