//! What may be written, each value one atomic change. The committer puts every change that waits into one
//! transaction.

use std::sync::Arc;

use sandbar_reading::{
    DeadLetterId, Delivery, DeliveryId, Inbound, Lineage, Message, Name, Reading, ReadingId, Scope,
    StateWrite, Target, Timestamp,
};
use twox_hash::XxHash3_64;

use crate::documents::Kind;

/// An inbound to journal, and the lanes in which it waits to be handled.
#[derive(Clone, Debug)]
pub struct Accept {
    pub ingress: Name,
    pub inbound: Inbound,
    pub lineage: Lineage,
    /// One for every route that matched.
    pub lanes: Vec<Lane>,
    /// The driver's own state, written with it.
    pub keep: Vec<StateWrite>,
}

/// Readings of one route that share a key are handled one after the other: they are one lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    pub route: Name,
    pub key: Arc<str>,
}

impl Lane {
    /// Stable: it is part of what is on disk.
    pub fn id(&self) -> LaneId {
        LaneId(XxHash3_64::oneshot(self.key.as_bytes()))
    }
}

/// Names a lane within its route. Two keys with one id (of 2^64) share a lane: no order is lost by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub(crate) u64);

/// What came of handling some readings of one lane, in order.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub lane: Lane,
    /// Handled: they no longer wait.
    pub handled: Vec<ReadingId>,
    pub deliveries: Vec<NewDelivery>,
    /// Messages that matched other routes, as new readings.
    pub chained: Vec<Accept>,
    /// Of the scope `Scope::Route { lane }`.
    pub state: Vec<StateWrite>,
    /// What became of the reading after the handled ones, if its attempt failed.
    pub failed: Option<FailedAttempt>,
    /// What is to be told of them later: in the order of the readings, the failed one last.
    pub traces: Vec<Trace>,
    /// Somebody waits for it: a sender for its reply.
    pub prompt: bool,
}

/// What came of handling journaled readings, or dead letters, once more.
#[derive(Clone, Debug)]
pub struct Replayed {
    pub route: Name,
    pub deliveries: Vec<NewDelivery>,
    pub chained: Vec<Accept>,
    pub state: Vec<(Scope, Vec<StateWrite>)>,
    pub traces: Vec<Trace>,
    /// Dead letters that are handled by this; those that are gone are passed over.
    pub dead_letters: Vec<DeadLetterId>,
    /// How far it has come: documents that are written or, with `None`, removed.
    pub documents: Vec<(Kind, String, Option<Vec<u8>>)>,
}

/// How one reading was handled, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub reading: ReadingId,
    /// Calls in their order; none on a route without a module.
    pub calls: Vec<TracedCall>,
    /// How many of the outcome's deliveries and chained readings are its own.
    pub deliveries: usize,
    pub chained: usize,
}

/// One call of a handler, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TracedCall {
    /// Of the module.
    pub version: u32,
    pub part: Part,
    /// Nanoseconds since the Unix epoch.
    pub began: u64,
    pub micros: u32,
    /// What it failed of.
    pub fault: Option<String>,
    /// A part of what it logged.
    pub lines: Vec<TracedLine>,
}

/// In which role a version was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Part {
    /// The one that the route uses.
    Active,
    /// In place of the active one.
    Canary,
    /// Beside the active one; nothing came of it.
    Shadow,
    /// In a replay.
    Replay,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TracedLine {
    /// From 0, the least urgent, to 5.
    pub level: u8,
    pub context: String,
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub target: Target,
    pub reading: ReadingId,
    pub message: Message,
}

#[derive(Clone, Debug)]
pub struct FailedAttempt {
    pub reading: ReadingId,
    /// Attempts so far, this one included.
    pub attempts: u32,
    pub cause: String,
    pub next: Next,
}

/// What happens to what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits on, and is due then.
    RetryAt(Timestamp),
    /// It becomes a dead letter.
    DeadLetter,
}

/// What came of offering some deliveries of one target, in order.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub target: Target,
    /// Accepted by the far end: they leave the outbox.
    pub accepted: Vec<DeliveryId>,
    /// Those that were offered and not accepted.
    pub failed: Vec<FailedDelivery>,
}

#[derive(Clone, Debug)]
pub struct FailedDelivery {
    pub id: DeliveryId,
    pub attempts: u32,
    pub cause: String,
    pub next: Next,
}

/// A reading that waits in a lane.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub lane: Lane,
    pub reading: Arc<Reading>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not to be handled before.
    pub due: Timestamp,
}

/// A delivery that waits in the outbox.
#[derive(Clone, Debug)]
pub struct Queued {
    pub target: Target,
    pub delivery: Arc<Delivery>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not to be offered before.
    pub due: Timestamp,
    /// What the last attempt failed of.
    pub last_cause: Option<String>,
}

/// A reading or delivery that was given up on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub id: DeadLetterId,
    pub time: Timestamp,
    pub attempts: u32,
    pub cause: String,
    pub subject: Subject,
}

/// What was given up on, whole: the journal may have forgotten it.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A route could not handle it.
    Reading { lane: Lane, reading: Arc<Reading> },
    /// A target did not take it.
    Delivery { target: Target, delivery: Arc<Delivery> },
}

/// Told of every commit, in order, on the committer's thread: it must not block. What it cannot keep in
/// memory it may forget; the store has it.
pub trait Observer: Send + Sync + 'static {
    fn committed(&self, news: News);

    /// The storage failed and was opened again: what was committed without being told, and what was told
    /// to have failed, must be read from the store anew.
    fn recovered(&self);
}

/// What a commit brought.
#[derive(Debug, Default)]
pub struct News {
    /// Every journaled reading, for those who watch.
    pub readings: Vec<Arc<Reading>>,
    /// One for each lane that a reading waits in.
    pub waiting: Vec<Waiting>,
    pub queued: Vec<Queued>,
    pub dead_letters: Vec<DeadLetterId>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
            && self.waiting.is_empty()
            && self.queued.is_empty()
            && self.dead_letters.is_empty()
    }
}
