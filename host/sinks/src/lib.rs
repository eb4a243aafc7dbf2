//! Sinks: what takes messages out. One file a kind, and what they share.
//!
//! A sink sees deliveries and nothing else of the host: the outbox keeps them, and retries. Adding one is a
//! file under `kinds/`, its line in `kinds/mod.rs`, and its name in `registry.rs`.

#[cfg(test)]
mod contract;
mod encode;
mod file_id;
mod kinds;
mod registry;
mod sink;
mod template;
mod tls;
mod wire;

pub use registry::{AnySink, Kind, build, kinds};
pub use sink::{Cause, DeliveryError, Order, OwnHost, Progress, Sink, Unsent};
