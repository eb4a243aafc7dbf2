//! Where a handler's state comes from.

use std::fmt;

use bytes::Bytes;
use sandbar_reading::Timestamp;

/// What is committed of one key's state. Called on the thread that runs the handler: it must not block for long.
///
/// Values whose time is over at `now` are not there.
pub trait StateView: Send + Sync + 'static {
    fn get(&self, name: &str, now: Timestamp) -> Result<Option<Bytes>, StateUnavailable>;

    /// The names that begin with `prefix`, sorted.
    fn names(&self, prefix: &str, now: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable>;

    /// Bytes of all names and values.
    fn used(&self, now: Timestamp) -> Result<usize, StateUnavailable>;
}

/// The state cannot be read now: no fault of the handler's.
///
/// Made from any error with `?`, for which reason it is none itself.
#[derive(Clone, Debug)]
pub struct StateUnavailable {
    pub cause: String,
}

impl<E: std::error::Error> From<E> for StateUnavailable {
    fn from(error: E) -> Self {
        Self { cause: error.to_string() }
    }
}

impl fmt::Display for StateUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}
