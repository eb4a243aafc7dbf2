//! Values that last, for this route and this key (by default: this device).
//!
//! Readings with one key are handled one after the other, so there is nothing to lock. What is written takes
//! effect together with the handler's outputs, and not at all when it fails.
//!
//! [`StateCell`] keeps a value of a Rust type; the functions here keep bytes.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, host};

pub use crate::bindings::sandbar::handler::state::StateError;

/// The value, unless it was never set, was deleted, or its time is over.
///
/// ```no_run
/// let seen = sandbar_guest::state::get("seen").is_some();
/// ```
pub fn get(name: &str) -> Option<Vec<u8>> {
    host::state_get(name)
}

/// Sets a value, for as long as the route exists.
///
/// ```no_run
/// # fn f() -> Result<(), sandbar_guest::state::StateError> {
/// sandbar_guest::state::set("seen", b"yes")?;
/// # Ok(()) }
/// ```
pub fn set(name: &str, value: &[u8]) -> Result<(), StateError> {
    host::state_set(name, value, None)
}

/// Sets a value for `ttl`, counted in whole milliseconds.
///
/// ```no_run
/// # fn f() -> Result<(), sandbar_guest::state::StateError> {
/// use std::time::Duration;
/// sandbar_guest::state::set_for("muted", b"yes", Duration::from_secs(60 * 60))?;
/// # Ok(()) }
/// ```
pub fn set_for(name: &str, value: &[u8], ttl: Duration) -> Result<(), StateError> {
    host::state_set(name, value, Some(milliseconds(ttl)))
}

/// Deletes a value, if there is one.
///
/// ```no_run
/// sandbar_guest::state::delete("muted");
/// ```
pub fn delete(name: &str) {
    host::state_delete(name);
}

/// The names that begin with `prefix`, sorted; all of them for an empty prefix.
///
/// ```no_run
/// let neighbours = sandbar_guest::state::names("neighbour/").len();
/// ```
pub fn names(prefix: &str) -> Vec<String> {
    host::state_names(prefix)
}

/// A value of type `T` kept under one name, as JSON.
///
/// ```no_run
/// use sandbar_guest::prelude::*;
///
/// static COUNT: StateCell<u64> = StateCell::new("count");
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let count = COUNT.get()?.unwrap_or(0) + 1;
///     COUNT.set(&count)?;
///     Ok(vec![Message::json("count", &count)?.into()])
/// }
/// ```
pub struct StateCell<T> {
    name: Cow<'static, str>,
    ttl: Option<Duration>,
    // A cell holds no `T`: it may be a static whatever `T` is.
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> StateCell<T> {
    /// A cell whose name is known beforehand.
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), ttl: None, of: PhantomData }
    }

    /// A cell whose name is made up from a reading: `StateCell::named(format!("last/{topic}"))`.
    pub const fn named(name: String) -> Self {
        Self { name: Cow::Owned(name), ttl: None, of: PhantomData }
    }

    /// What is set from now on lasts for `ttl`, counted in whole milliseconds from the last `set`.
    #[must_use]
    pub fn lasting(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// The value, unless it was never set, was deleted, or its time is over. A value of another shape, as an
    /// older version of the handler may have written it, is rejected.
    pub fn get(&self) -> Result<Option<T>, Failure> {
        let Some(bytes) = host::state_get(&self.name) else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::reject(format!("state `{}` has another shape: {error}", self.name)))
    }

    /// As [`Self::set`] for what is read as another type than it is written as.
    pub(crate) fn put(&self, value: &impl Serialize) -> Result<(), Failure> {
        let value = serde_json::to_vec(value)?;
        // JSON has `null` for NaN and infinity: one of them would have every later reading of the key rejected.
        let has_null = value.windows(4).any(|word| word == b"null");
        if has_null && serde_json::from_slice::<T>(&value).is_err() {
            return Err(Failure::reject(format!("state `{}` would keep what is not a number", self.name)));
        }
        Ok(host::state_set(&self.name, &value, self.ttl.map(milliseconds))?)
    }

    /// Sets the value. One with a number that JSON cannot express, such as NaN, is rejected.
    pub fn set(&self, value: &T) -> Result<(), Failure> {
        self.put(value)
    }

    pub fn delete(&self) {
        host::state_delete(&self.name);
    }
}

/// More than 2^64 milliseconds is for ever.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Changed, Deadband};

    #[test]
    fn what_is_no_number_is_rejected_and_not_kept() {
        let band = Deadband::new("level");
        assert!(band.put(1.0, 0.5).unwrap());
        let cause = "state `level` would keep what is not a number";
        assert_eq!(band.put(f64::NAN, 0.5), Err(Failure::reject(cause)));
        assert!(band.put(2.0, 0.5).unwrap(), "the next number is one");
        let text = StateCell::<(String, Option<f64>)>::new("text");
        text.set(&("null".to_owned(), None)).unwrap();
        assert_eq!(text.get().unwrap(), Some(("null".to_owned(), None)));
    }

    #[test]
    fn a_number_is_read_as_it_was_written() {
        let changed = Changed::<f64>::new("changed");
        assert!(changed.put(&1.666_666_666_666_666_5).unwrap());
        assert!(!changed.put(&1.666_666_666_666_666_5).unwrap());
    }
}
