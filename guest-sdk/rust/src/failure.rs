//! Why a reading was not handled.

use crate::Failure;
use crate::state::StateError;

impl Failure {
    /// This reading never will be handled: it becomes a dead letter, with this text.
    ///
    /// ```
    /// # use sandbar_guest::Failure;
    /// let failure = Failure::reject("the picture is no JPEG");
    /// assert!(matches!(failure, Failure::Reject(cause) if cause == "the picture is no JPEG"));
    /// ```
    pub fn reject(cause: impl Into<String>) -> Self {
        Self::Reject(cause.into())
    }

    /// It may be handled later: it is tried again, with growing waits, as often as the route allows.
    ///
    /// ```
    /// # use sandbar_guest::Failure;
    /// let failure = Failure::retry("the calibration has not arrived yet");
    /// assert!(matches!(failure, Failure::Retry(_)));
    /// ```
    pub fn retry(cause: impl Into<String>) -> Self {
        Self::Retry(cause.into())
    }
}

/// What cannot be read today cannot be read tomorrow: `?` on a JSON error rejects.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(error.to_string())
    }
}

/// A value that does not fit will not fit at the next attempt.
impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::reject(error.to_string())
    }
}
