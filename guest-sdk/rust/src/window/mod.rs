//! Windows over the readings of a key, kept in `state`: they survive restarts and are undone with a failed attempt.
//!
//! Time is the readings' own. A window therefore ends when a reading comes that lies behind it, not when a clock
//! says so; where a window must end also if nothing more comes, let an ingress of the `schedule` driver send ticks
//! to the same key, and call `tick`.
//!
//! Readings may come late. One that lies more than ten minutes further back than a window waits for is not late: the
//! clock was set back. What is open is told, or with [`Sliding`] forgotten, and windows begin anew at its time.

mod session;
mod sliding;
mod stats;
mod tumbling;

pub use session::Session;
pub use sliding::Sliding;
pub use stats::Stats;
pub use tumbling::Tumbling;

/// A window that is over, and what was gathered in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window<A> {
    /// Its beginning, in nanoseconds since the epoch.
    pub start: u64,
    /// Its end, which is not part of it; for a session, its last reading.
    pub end: u64,
    /// What was gathered.
    pub total: A,
}

/// In nanoseconds, at least one.
fn nanoseconds(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1)
}
