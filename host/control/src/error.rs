//! Why something that was asked for is not done.

use sandbar_reading::{ConfigError, Name, Refused};
use sandbar_store::{Fault, StoreError};

use crate::problem::ConfigProblem;
use crate::trust::Untrusted;
use crate::what::What;

/// Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no {what} `{name}`")]
    NotFound { what: What, name: String },
    /// It can only be changed in the configuration file.
    #[error("the {what} `{name}` is declared in the configuration file")]
    Declared { what: What, name: Name },
    /// `by` refer to it: `route celsius`.
    #[error("the {what} `{name}` is used by {}", by.join(", "))]
    InUse { what: What, name: Name, by: Vec<String> },
    /// The setting is relative to the table that was given.
    #[error(transparent)]
    Invalid(ConfigError),
    /// The configuration file cannot work.
    #[error(transparent)]
    Problem(ConfigProblem),
    /// The bytes are no component that this host can run.
    #[error("not a component that can be run here: {0}")]
    Component(String),
    /// The bytes are signed by nobody whom this host trusts.
    #[error("{0}")]
    Untrusted(String),
    #[error("{size} bytes are more than the {limit} that a component may have")]
    TooLarge { size: usize, limit: usize },
    /// It cannot be done as things are: `cause` says what stands in the way.
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Refused(Refused),
    #[error("storage fails: {0}")]
    Storage(String),
    #[error("the disk is full")]
    DiskFull,
    /// The host is being stopped.
    #[error("shutting down")]
    Stopping,
}

/// Why the host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Problem(ConfigProblem),
    /// The data directory, with its path, or what is in it.
    #[error("{0}")]
    Storage(String),
    /// This machine cannot run components.
    #[error("{0}")]
    Runtime(String),
}

impl From<Untrusted> for ControlError {
    fn from(untrusted: Untrusted) -> Self {
        Self::Untrusted(untrusted.to_string())
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(Fault::DiskFull) => Self::DiskFull,
            StoreError::Stopping => Self::Stopping,
            error => Self::Storage(error.to_string()),
        }
    }
}
