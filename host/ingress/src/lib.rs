//! Ingress: one driver a protocol or device, and what they share.
//!
//! A driver sees a [`Session`] and nothing else of the host. Adding one is a file under `drivers/` and a
//! line in `registry.rs`.

mod driver;
mod session;

pub use driver::{Driver, LinkError};
pub use session::{Accepted, Answer, Attachment, CommandError, CommandOffer, Intake, Replies, Session};
