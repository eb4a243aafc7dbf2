//! How the store is to behave.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the file, read and not yet written.
    pub cache_bytes: usize,
    pub retention: Retention,
    /// How many changes may wait for the committer: so many from drivers, and as many of the host's own.
    pub queue_max: usize,
    /// How many bytes those changes may hold, likewise.
    pub queue_bytes: usize,
    /// The most changes, and bytes of them, that one commit takes.
    pub commit_max: usize,
    pub commit_bytes: usize,
    /// From this size of the file on, a commit that follows no other within `quick_repair_lull` also saves
    /// what a restart would else have to walk the whole file for (docs/decisions/0004-quick-repair.md).
    pub quick_repair_above: u64,
    pub quick_repair_lull: Duration,
    /// Payloads with more bytes have files of their own beside the store's.
    pub inline_max: usize,
    /// Bytes of what is kept of how readings were handled; the oldest goes first. None is kept with 0.
    pub trace_bytes: u64,
    /// How many commands of devices are remembered, about; of more, the oldest that have ended are forgotten.
    pub commands: u64,
    /// While dead letters are more than this, the oldest go; the newest stays.
    pub dead_letter_bytes: Option<u64>,
    /// Fixes the random part of ids, for simulations.
    pub seed: Option<u64>,
}

/// How long readings stay in the journal once they wait nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Older ones go.
    pub age: Option<Duration>,
    /// While the journal is more than this, the oldest go: its rows, payloads, and about what is around them.
    pub bytes: Option<u64>,
}

/// What the committer runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committer {
    /// A thread of its own: waiting for the disk blocks nobody else.
    Thread,
    /// A task of the current tokio runtime: for simulations on a paused clock.
    Task,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 4 << 20,
            retention: Retention::default(),
            queue_max: 16_384,
            queue_bytes: 64 << 20,
            commit_max: 4096,
            commit_bytes: 8 << 20,
            quick_repair_above: 64 << 20,
            quick_repair_lull: Duration::from_secs(1),
            inline_max: 64 << 10,
            trace_bytes: 32 << 20,
            commands: 1 << 18,
            dead_letter_bytes: None,
            seed: None,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(7 * 24 * 3600)), bytes: Some(256 << 20) }
    }
}
