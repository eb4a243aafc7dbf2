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

impl Counts {
    /// Of a turn that took so long.
    pub(super) fn of(done: &Done, busy: Duration) -> Self {
        let outcome = &done.outcome;
        let failed = outcome.failed.as_ref();
        Self {
            handled: outcome.handled.len() as u64,
            failed_attempts: u64::from(failed.is_some()),
            dead_letters: u64::from(failed.is_some_and(|failed| failed.next == Next::DeadLetter)),
            outputs: (outcome.deliveries.len() + outcome.chained.len()) as u64,
            busy,
        }
    }
}

impl RouteStats {
    /// What is not committed may be done again: it is counted then.
    pub(crate) fn count(&self, turn: &Counts) {
        self.handled.fetch_add(turn.handled, Relaxed);
        self.messages.fetch_add(turn.outputs, Relaxed);
        self.nanos.fetch_add(u64::try_from(turn.busy.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.failed_attempts.fetch_add(turn.failed_attempts, Relaxed);
        self.dead_letters.fetch_add(turn.dead_letters, Relaxed);
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
