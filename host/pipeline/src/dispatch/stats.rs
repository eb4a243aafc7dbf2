//! What a route has done since the start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sandbar_store::Next;

use super::turn::Done;

#[derive(Default)]
pub(super) struct RouteStats {
    handled: AtomicU64,
    failed_attempts: AtomicU64,
    dead_letters: AtomicU64,
    messages: AtomicU64,
    nanos: AtomicU64,
}

/// Since the start of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub handled: u64,
    pub failed_attempts: u64,
    pub dead_letters: u64,
    /// Deliveries and chained readings put out.
    pub outputs: u64,
    /// Time spent in turns.
    pub busy: Duration,
}

impl RouteStats {
    pub(crate) fn count(&self, done: &Done, took: Duration) {
        let outcome = &done.outcome;
        self.handled.fetch_add(outcome.handled.len() as u64, Relaxed);
        self.messages.fetch_add((outcome.deliveries.len() + outcome.chained.len()) as u64, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some(failed) = &outcome.failed {
            self.failed_attempts.fetch_add(1, Relaxed);
            self.dead_letters.fetch_add(u64::from(failed.next == Next::DeadLetter), Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            handled: self.handled.load(Relaxed),
            failed_attempts: self.failed_attempts.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            outputs: self.messages.load(Relaxed),
            busy: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}
