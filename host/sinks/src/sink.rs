//! The seam that every sink implements.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_reading::{Command, ConfigError, Delivery, DeliveryId, Message, Name, Topic, with_causes};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// The code of one way out. A configured, named instance of it is what routes send messages to.
pub trait Sink: Sized + Send + Sync + 'static {
    /// What a configuration calls it: `kind = "http"`.
    const NAME: &'static str;
    /// A working configuration in TOML, without `kind`; a test builds it, the reference shows it.
    const EXAMPLE: &'static str;
    /// Settings of one sink; its doc comments are the reference page and the dashboard's form.
    type Config: DeserializeOwned + JsonSchema;

    /// Checks all that needs no network. Reads no file but the secrets and certificates that the settings name.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// Gets the way to this host's own ingresses and devices, before the first delivery; perhaps again later.
    fn connect(&self, _own: &Arc<dyn OwnHost>) {}

    /// Delivers in order, and returns once the far end has them. The same ids may be offered again.
    /// Never retries; the outbox offers again, with backoff. What takes longer than the outbox waits is dropped:
    /// `progress` says how much of it need not be offered again.
    fn deliver(
        &self,
        batch: &[Delivery],
        progress: &Progress,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// How far a sink has come with a batch, for when it has no time to return it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicUsize>);

impl Progress {
    /// The far end has the first `taken` of the batch.
    pub fn reached(&self, taken: usize) {
        self.0.store(taken, Ordering::Relaxed);
    }

    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a sink may do with the host that it belongs to.
pub trait OwnHost: Send + Sync + 'static {
    /// Sends messages out through an ingress, many at once and in order: to an MQTT broker's subscribers, to WebSocket
    /// connections. Behind one that is not taken others may have been: they are passed over when they come again.
    fn publish<'a>(
        &'a self,
        ingress: &'a Name,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>>;

    /// Has a device carry out a command that another host keeps until it is done; `id` is the delivery's
    /// there.
    fn command(&self, command: Command, id: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>>;

    /// Makes deliveries of this sink commands of this host, in order: they leave the sink's outbox for their
    /// devices' in one transaction. Those that have left it before are passed over. A device for which
    /// `waiting_max` commands wait already gets no more.
    fn order<'a>(
        &'a self,
        orders: Vec<Order<'a>>,
        waiting_max: usize,
    ) -> BoxFuture<'a, Result<(), DeliveryError>>;

    /// The far end's answer, for the sender of the reading that the delivery came from. It arrives if its route
    /// says `reply = "NAME"` with this sink's name.
    fn reply(&self, delivery: &Delivery, message: Message);
}

/// A delivery that a device is to carry out.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    pub delivery: &'a Delivery,
    pub device: Box<str>,
    /// The command's name.
    pub name: Topic,
    /// Not to be sent after that.
    pub within: Option<Duration>,
}

/// Why the host's own side did not take something; each variant is what the sink returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// No running ingress of that name takes messages, or none reaches the device: try again later.
    #[error("not reachable now")]
    Unreachable,
    #[error("{0}")]
    Retry(String),
    #[error("{0}")]
    Reject(String),
}

impl Unsent {
    /// For the delivery at `at` of a batch.
    pub fn at(self, at: usize) -> DeliveryError {
        let cause = Cause::new(self.to_string());
        match self {
            Self::Unreachable | Self::Retry(_) => DeliveryError::Retry { delivered: at, after: None, cause },
            Self::Reject(_) => DeliveryError::Reject { rejected: at, cause },
        }
    }
}

/// Each variant is what the outbox does next.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The first `delivered` were taken; offer the rest again, after `after` if the far end named a time.
    #[error("{cause}")]
    Retry { delivered: usize, after: Option<Duration>, cause: Cause },
    /// Those before `rejected` were taken; that one never will be (dead letter); offer the rest.
    #[error("{cause}")]
    Reject { rejected: usize, cause: Cause },
}

/// What went wrong, in a line that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause(String);

impl Cause {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `doing: error: its source: …`
    pub fn of(doing: &str, error: &dyn StdError) -> Self {
        Self(format!("{doing}: {}", with_causes(error)))
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
