//! What is durable: the journal, what waits in lanes, the outbox, dead letters, state, documents, modules.
//!
//! One redb file, and one committer that puts everything that waits into one transaction with one flush
//! (`committer.rs`, `apply.rs`). Whoever waits is told after it. The only crate that knows of redb. Payloads that are
//! too large for it have files beside it, which others than the committer write (`payloads.rs`).
//!
//! A fault of the disk is the store's own business: it refuses work with a named outcome, opens the file
//! again until that succeeds, and tells the observer.

mod ages;
mod apply;
mod aside;
mod blob;
mod change;
mod committer;
mod damaged;
mod devices;
mod digest;
mod discard;
mod documents;
mod error;
mod folder;
mod held;
mod key;
mod late;
mod medium;
mod opened;
mod options;
mod partial;
mod payloads;
mod query;
mod queue;
mod quick_repair;
mod read;
mod references;
mod resolve;
mod rests;
mod retention;
mod row;
mod shared;
pub mod simulated;
mod store;
mod tables;
mod trace;
mod writers;

pub use change::*;
pub use devices::{
    COMMANDS_KEPT, CommandDue, CommandRow, CommandState, DeviceRow, DevicesBatch, HandedOver, NewCommand,
    Presence, RESOURCES_MAX, Resource,
};
pub use digest::{Digest, DigestError};
pub use documents::Kind;
pub use error::{Fault, OpenError, StoreError};
pub use folder::Folder;
pub use medium::{Disk, Medium, Storage};
pub use options::{Committer, Options, Retention};
pub use query::{DeadLetterQuery, Page, ReadingQuery, Stats};
pub use read::Loaded;
pub use resolve::LOST_ATTRIBUTE;
pub use store::{Committed, Journaling, Store};
pub use trace::{ReadingTrace, TracedDelivery, TracedEnd, TracedHandling, TracedLane, TracedOffer};
