//! What is due when. Pure.

use std::collections::BTreeSet;

use tokio::time::Instant;

/// Each key may be due several times; who takes it looks whether it still means anything.
pub(super) struct Timers<K>(BTreeSet<(Instant, K)>);

impl<K: Ord + Copy> Timers<K> {
    pub(super) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    pub(super) fn add(&mut self, due: Instant, key: K) {
        self.0.insert((due, key));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(due, _)| *due)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<K> {
        let (due, key) = *self.0.first()?;
        if due > now {
            return None;
        }
        self.0.remove(&(due, key));
        Some(key)
    }
}
