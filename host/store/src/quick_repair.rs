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
}

impl QuickRepair {
    /// Of a file that was opened just now.
    pub(crate) fn new(options: &Options) -> Self {
        let Options { quick_repair_above: above, quick_repair_lull: lull, .. } = *options;
        Self { above, lull, last_commit: Instant::now(), saved: false }
    }

    /// Whether a commit that is made now is to save it.
    pub(crate) fn is_due(&self, file_len: u64) -> bool {
        file_len >= self.above && self.last_commit.elapsed() >= self.lull
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
