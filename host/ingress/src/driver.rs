//! The seam that every protocol and device implements.

use std::error::Error as StdError;
use std::future::Future;

use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::Session;

/// The code of one protocol or device. A configured, named instance of it is an ingress.
pub trait Driver: Sized + Send + Sync + 'static {
    /// What a configuration calls it: `driver = "webhook"`.
    const NAME: &'static str;
    /// A working configuration in TOML, without `driver`; a test builds it, the reference shows it.
    const EXAMPLE: &'static str;
    /// Settings of one ingress; its doc comments are the reference page and the dashboard's form.
    type Config: DeserializeOwned + JsonSchema;

    /// Checks all that needs no network or device.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// One session: connect or listen, hand readings over, carry replies and commands back, until the link
    /// fails or `session` stops. Never retries; the supervisor calls again, with backoff.
    fn run(&self, session: Session) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// Why a session ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct LinkError {
    /// What was being done, with the address or device: `listening on 127.0.0.1:8080`.
    context: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl LinkError {
    pub fn new(context: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { context: context.into(), source: Some(source.into()) }
    }

    /// For a link that ended without an error of its own: `the port was unplugged`.
    pub fn ended(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }
}
