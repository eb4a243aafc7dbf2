//! Ingress: one driver a protocol or device, and what they share.
//!
//! A driver sees a [`Session`] and nothing else of the host. Adding one is a module under `drivers/` and a
//! line in `registry.rs`; the shared contract test (`contract/`) says what it must hold to.

#[cfg(any(test, feature = "contract-test"))]
pub mod contract;
mod driver;
mod drivers;
mod registry;
mod session;
mod supervisor;

pub use driver::{Driver, LinkError};
pub use registry::{AnyDriver, DriverKind, build, kinds};
pub use session::{Accepted, Answer, Attachment, CommandError, CommandOffer, Intake, Link, Replies, Session};
pub use supervisor::{LastError, State, Status, Supervised, Supervisor, SupervisorOptions};
