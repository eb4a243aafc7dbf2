//! When a commit also saves what a restart after a kill would else walk the whole file for.
//!
//! Such a commit takes a second flush: while commits follow each other it would halve their number. It is
//! done when the disk has time (docs/decisions/0004-quick-repair.md).

use std::time::Duration;

use tokio::time::Instant;

use crate::options::Options;

#[derive(Clone, Copy, Debug)]
pub(crate) struct QuickRepair {
    /// In smaller files the walk costs less than the saving.
    above: u64,
    /// How long nothing was committed, for the disk to have time.
    lull: Duration,
    last_commit: Instant,
    /// The last commit saved it.
    saved: bool,
    /// Until then it is done with every commit.
    always_until: Option<Instant>,
}

/// For how long a file that failed is saved with every commit: longer than what failed rests before it is tried again.
const WARY: Duration = Duration::from_secs(2 * 3600);

impl QuickRepair {
    /// Of a file that was opened just now.
    pub(crate) fn new(options: &Options) -> Self {
        let Options { quick_repair_above: above, quick_repair_lull: lull, .. } = *options;
        Self { above, lull, last_commit: Instant::now(), saved: false, always_until: None }
    }

    /// Of a file that was opened anew. If it cannot be read somewhere, it cannot be walked either: only what is saved can
    /// be opened once more when it fails there again.
    pub(crate) fn after_fault(options: &Options) -> Self {
        Self { always_until: Some(Instant::now() + WARY), ..Self::new(options) }
    }

    /// Whether a commit that is made now is to save it.
    pub(crate) fn is_due(&self, file_len: u64) -> bool {
        let is_wary = self.always_until.is_some_and(|until| Instant::now() < until);
        is_wary || file_len >= self.above && self.last_commit.elapsed() >= self.lull
    }

    /// How long until a commit is to be made for nothing else.
    pub(crate) fn due_in(&self, file_len: u64) -> Option<Duration> {
        (file_len >= self.above && !self.saved).then(|| self.lull.saturating_sub(self.last_commit.elapsed()))
    }

    pub(crate) const fn is_unsaved(&self) -> bool {
        !self.saved
    }

    pub(crate) fn committed(&mut self, saving: bool) {
        (self.last_commit, self.saved) = (Instant::now(), saving);
    }
}
