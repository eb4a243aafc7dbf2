//! Sinks: one file a kind, and what they share.

mod sink;

pub use sink::{Cause, DeliveryError, Sink};
