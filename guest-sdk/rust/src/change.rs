//! Telling what has changed, by how much, and how fast.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::state::StateCell;

/// Whether a value is another than the one before: of the route's key.
///
/// ```no_run
/// use sandbar_guest::prelude::*;
///
/// static DOOR: Changed<String> = Changed::new("door");
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let door = reading.text()?.to_owned();
///     Ok(if DOOR.put(&door)? { vec![Message::text("door", door).into()] } else { vec![] })
/// }
/// ```
pub struct Changed<T>(StateCell<T>);

impl<T: Serialize + DeserializeOwned + PartialEq> Changed<T> {
    /// Kept in `state` under `name`.
    pub const fn new(name: &'static str) -> Self {
        Self(StateCell::new(name))
    }

    /// Keeps the value; true if it is another than the last one, or the first.
    pub fn put(&self, value: &T) -> Result<bool, Failure> {
        if self.0.get()?.as_ref() == Some(value) {
            return Ok(false);
        }
        self.0.set(value)?;
        Ok(true)
    }
}

/// Whether a number has moved by more than a band from the one that was last passed on.
///
/// ```no_run
/// use sandbar_guest::prelude::*;
///
/// static LEVEL: Deadband = Deadband::new("level");
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let level = reading.json::<f64>()?;
///     Ok(if LEVEL.put(level, 0.5)? { vec![Message::json("level", &level)?.into()] } else { vec![] })
/// }
/// ```
pub struct Deadband(StateCell<f64>);

impl Deadband {
    /// Kept in `state` under `name`.
    pub const fn new(name: &'static str) -> Self {
        Self(StateCell::new(name))
    }

    /// True for the first value, and for one that is more than `band` away from the last one this was true for.
    pub fn put(&self, value: f64, band: f64) -> Result<bool, Failure> {
        if self.0.get()?.is_some_and(|passed| (value - passed).abs() <= band) {
            return Ok(false);
        }
        self.0.set(&value)?;
        Ok(true)
    }
}

/// How fast a number changes.
///
/// ```no_run
/// use sandbar_guest::prelude::*;
///
/// static PULSES: Rate = Rate::new("pulses");
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let per_second = PULSES.of_counter(reading.time, reading.json()?, Some(65_536.0))?;
///     per_second.map(|rate| Ok(Message::json("flow", &rate)?.into())).into_iter().collect()
/// }
/// ```
pub struct Rate(StateCell<Last>);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Last {
    time: u64,
    value: f64,
}

impl Rate {
    /// Kept in `state` under `name`.
    pub const fn new(name: &'static str) -> Self {
        Self(StateCell::new(name))
    }

    /// Change a second since the value before; none for the first, nor for one that is not later. One that is
    /// earlier, because it came late or the clock was set back, is the one that the next is compared with.
    pub fn of(&self, time: u64, value: f64) -> Result<Option<f64>, Failure> {
        Ok(self.put(time, value)?.map(|(seconds, before)| (value - before) / seconds))
    }

    /// Counts a second of a counter that only grows. One that falls has wrapped at `wraps_at`, or with `None` has
    /// begun anew at zero.
    pub fn of_counter(&self, time: u64, value: f64, wraps_at: Option<f64>) -> Result<Option<f64>, Failure> {
        let Some((seconds, before)) = self.put(time, value)? else { return Ok(None) };
        let counted = match value >= before {
            true => value - before,
            false => wraps_at.map_or(value, |wrap| wrap - before + value),
        };
        Ok(Some(counted / seconds))
    }

    /// Seconds since the value before, and it.
    fn put(&self, time: u64, value: f64) -> Result<Option<(f64, f64)>, Failure> {
        let before = self.0.get()?;
        if before.is_some_and(|before| before.time == time) {
            return Ok(None);
        }
        self.0.set(&Last { time, value })?;
        let earlier = before.filter(|before| before.time < time);
        Ok(earlier.map(|before| ((time - before.time) as f64 / 1e9, before.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seconds;

    #[test]
    fn says_what_has_changed() {
        let changed = Changed::new("c");
        let seen: Vec<bool> = [1, 1, 2, 1].iter().map(|value| changed.put(value).unwrap()).collect();
        assert_eq!(seen, [true, false, true, true]);
    }

    #[test]
    fn small_steps_add_up() {
        let band = Deadband::new("d");
        let seen: Vec<bool> =
            [20.0, 20.4, 20.5, 20.6, 20.2].map(|value| band.put(value, 0.5).unwrap()).to_vec();
        assert_eq!(seen, [true, false, false, true, false]);
    }

    #[test]
    fn counters_wrap_and_begin_anew() {
        let rate = Rate::new("r");
        assert_eq!(rate.of(seconds(0), 10.0).unwrap(), None);
        assert_eq!(rate.of(seconds(4), 6.0).unwrap(), Some(-1.0));
        assert_eq!(rate.of(seconds(4), 7.0).unwrap(), None, "at one time there is no rate");
        assert_eq!(rate.of(seconds(2), 7.0).unwrap(), None, "the clock was set back");
        assert_eq!(rate.of(seconds(3), 9.0).unwrap(), Some(2.0));
        let pulses = Rate::new("p");
        pulses.of_counter(seconds(0), 65_530.0, Some(65_536.0)).unwrap();
        assert_eq!(pulses.of_counter(seconds(2), 4.0, Some(65_536.0)).unwrap(), Some(5.0));
        assert_eq!(pulses.of_counter(seconds(4), 2.0, None).unwrap(), Some(1.0));
    }
}
