//! Figures of one handler, counted without locks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::Fault;

/// Upper bounds of the time histogram; one more bucket takes the rest.
const BOUNDS: [Duration; 11] = [
    Duration::from_micros(2),
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerStats {
    /// Instances that exist, in use or warm.
    pub instances: usize,
    /// Instances that wait for a call.
    pub warm: usize,
    pub calls: u64,
    /// By [`Fault::code`], those that occurred.
    pub faults: Vec<(&'static str, u64)>,
    /// Of all calls together.
    pub time: Duration,
    /// Calls that took at most so long, and longer than the bound before; `None` for those above all bounds.
    pub times: Vec<(Option<Duration>, u64)>,
    /// The most bytes that an instance held after a call.
    pub memory_peak: usize,
    /// Writes to the state that a limit did not let through.
    pub refused_writes: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) instances: AtomicUsize,
    nanos: AtomicU64,
    times: [AtomicU64; BOUNDS.len() + 1],
    faults: [AtomicU64; Fault::CODES.len()],
    memory_peak: AtomicUsize,
    refused_writes: AtomicU64,
}

impl Counters {
    pub(crate) fn called(&self, time: Duration, memory: usize) {
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.times[BOUNDS.partition_point(|bound| *bound < time)].fetch_add(1, Relaxed);
        if memory > self.memory_peak.load(Relaxed) {
            self.memory_peak.fetch_max(memory, Relaxed);
        }
    }

    pub(crate) fn faulted(&self, fault: &Fault) {
        self.faults[fault.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self, writes: u64) {
        if writes > 0 {
            self.refused_writes.fetch_add(writes, Relaxed);
        }
    }

    pub(crate) fn snapshot(&self, warm: usize) -> HandlerStats {
        let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
        let times: Vec<_> = bounds.zip(self.times.iter().map(|count| count.load(Relaxed))).collect();
        let faults = Fault::CODES.iter().zip(&self.faults).map(|(code, count)| (*code, count.load(Relaxed)));
        HandlerStats {
            instances: self.instances.load(Relaxed),
            warm,
            calls: times.iter().map(|(_, count)| count).sum(),
            faults: faults.filter(|(_, count)| *count > 0).collect(),
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
            times,
            memory_peak: self.memory_peak.load(Relaxed),
            refused_writes: self.refused_writes.load(Relaxed),
        }
    }
}
