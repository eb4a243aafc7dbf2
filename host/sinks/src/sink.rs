//! The seam that every sink implements.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use sandbar_reading::{ConfigError, Delivery};
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

    /// Delivers in order, and returns once the far end has them. The same ids may be offered again.
    /// Never retries; the outbox offers again, with backoff.
    fn deliver(&self, batch: &[Delivery]) -> impl Future<Output = Result<(), DeliveryError>> + Send;
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
        let mut text = doing.to_owned();
        let mut next = Some(error);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        Self(text)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
