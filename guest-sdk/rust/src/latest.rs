//! Joining what arrives apart: the latest value of each of several sensors.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::state::StateCell;
use crate::time::was_set_back;

/// The latest value of each part, of the route's key. The parts must have one key: those of one device have; sensors
/// of several devices need a route whose key is what joins them (`key = "pointer:/room"`, or `none`).
///
/// ```no_run
/// use std::time::Duration;
/// use sandbar_guest::prelude::*;
///
/// static LATEST: Latest<f64> = Latest::new("latest");
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     LATEST.put(&reading.topic, reading.time, &reading.json()?)?;
///     let age = Duration::from_secs(60);
///     let Some([warm, humid]) = LATEST.all(["room/temperature", "room/humidity"], reading.time, age)? else {
///         return Ok(vec![]);
///     };
///     Ok(vec![Message::json("room/climate", &(warm, humid))?.into()])
/// }
/// ```
pub struct Latest<T> {
    name: &'static str,
    of: std::marker::PhantomData<fn() -> T>,
}

#[derive(Serialize, Deserialize)]
struct Timed<T> {
    time: u64,
    value: T,
}

impl<T: Serialize + DeserializeOwned> Latest<T> {
    /// Kept in `state` under `name` and the part's own.
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: std::marker::PhantomData }
    }

    /// Keeps a part's value, unless a younger one is known. Says whether it was kept. One that is more than ten
    /// minutes younger is replaced: the clock was set back.
    pub fn put(&self, part: &str, time: u64, value: &T) -> Result<bool, Failure> {
        let cell = StateCell::<Timed<T>>::named(self.cell(part));
        let is_younger = |known: &Timed<T>| known.time > time && !was_set_back(known.time, time);
        if cell.get()?.as_ref().is_some_and(is_younger) {
            return Ok(false);
        }
        cell.put(&Timed { time, value })?;
        Ok(true)
    }

    /// A part's value, if it is known and not further than `age` from `time`.
    pub fn get(&self, part: &str, time: u64, age: Duration) -> Result<Option<T>, Failure> {
        let known = StateCell::<Timed<T>>::named(self.cell(part)).get()?;
        let young = |known: &Timed<T>| u128::from(time.abs_diff(known.time)) <= age.as_nanos();
        Ok(known.filter(young).map(|known| known.value))
    }

    /// The values of all these parts, if every one is known and young enough.
    pub fn all<const N: usize>(
        &self,
        parts: [&str; N],
        time: u64,
        age: Duration,
    ) -> Result<Option<[T; N]>, Failure> {
        let mut values = Vec::with_capacity(N);
        for part in parts {
            let Some(value) = self.get(part, time, age)? else { return Ok(None) };
            values.push(value);
        }
        Ok(values.try_into().ok())
    }

    fn cell(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seconds;

    #[test]
    fn joins_only_what_is_known_and_young() {
        let latest = Latest::<i32>::new("l");
        let age = Duration::from_secs(10);
        assert!(latest.put("a", seconds(20), &1).unwrap());
        assert_eq!(latest.all(["a", "b"], seconds(20), age).unwrap(), None);
        assert!(latest.put("b", seconds(25), &2).unwrap());
        assert_eq!(latest.all(["a", "b"], seconds(30), age).unwrap(), Some([1, 2]));
        assert_eq!(latest.all(["a", "b"], seconds(31), age).unwrap(), None);
        assert!(!latest.put("b", seconds(24), &3).unwrap(), "an older one");
    }

    #[test]
    fn a_clock_may_be_set_back() {
        let latest = Latest::<i32>::new("m");
        let age = Duration::from_secs(10);
        assert!(latest.put("a", seconds(7200), &1).unwrap());
        assert_eq!(latest.get("a", seconds(30), age).unwrap(), None, "it is not young, but of another clock");
        assert!(latest.put("a", seconds(30), &2).unwrap());
        assert_eq!(latest.get("a", seconds(31), age).unwrap(), Some(2));
    }
}
