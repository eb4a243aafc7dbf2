//! The last values, as many as lie within a span.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::nanoseconds;
use crate::Failure;
use crate::state::StateCell;
use crate::time::SET_BACK;

/// The values of the last while: a moving average is the mean of one.
///
/// ```no_run
/// use std::time::Duration;
/// use sandbar_guest::prelude::*;
/// use sandbar_guest::window::Sliding;
///
/// static LAST: Sliding<f64> = Sliding::new("last", Duration::from_secs(300), 100);
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let values = LAST.add(reading.time, reading.json()?)?;
///     let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
///     Ok(vec![Message::json("mean", &mean)?.into()])
/// }
/// ```
pub struct Sliding<T> {
    values: StateCell<VecDeque<(u64, T)>>,
    span: Duration,
    most: usize,
}

impl<T: Serialize + DeserializeOwned> Sliding<T> {
    /// Kept in `state` under `name`: what is not older than `span`, and of that the last `most` values, because
    /// state has its limits.
    pub const fn new(name: &'static str, span: Duration, most: usize) -> Self {
        Self { values: StateCell::new(name), span, most }
    }

    /// With a name that the settings say.
    pub const fn named(name: String, span: Duration, most: usize) -> Self {
        Self { values: StateCell::named(name), span, most }
    }

    /// Adds a value and returns all that are in the window now, in the order of their times. One that lies a span
    /// and more than ten minutes before the newest is the first of another window: the clock was set back.
    pub fn add(&self, time: u64, value: T) -> Result<VecDeque<(u64, T)>, Failure> {
        let mut values = self.values.get()?.unwrap_or_default();
        let behind = values.back().map_or(0, |(newest, _)| newest.saturating_sub(time));
        if behind > SET_BACK && behind >= nanoseconds(self.span) {
            values.clear();
        }
        // Nearly always the last.
        let at = values.iter().rposition(|(known, _)| *known <= time).map_or(0, |at| at + 1);
        values.insert(at, (time, value));
        let newest = values.back().map_or(time, |(newest, _)| *newest);
        let oldest = newest.saturating_sub(nanoseconds(self.span));
        // Half open, as the other windows are: what is exactly a span old is not in it.
        while values.len() > self.most.max(1)
            || values.front().is_some_and(|(known, _)| *known <= oldest && *known < newest)
        {
            values.pop_front();
        }
        self.values.set(&values)?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seconds;

    #[test]
    fn holds_what_is_young_enough_and_not_too_many() {
        let window = Sliding::named("s".to_owned(), Duration::from_secs(10), 3);
        let add = |time| {
            window.add(seconds(time), time).unwrap().into_iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(add(1), [1]);
        assert_eq!(add(5), [1, 5]);
        assert_eq!(add(3), [1, 3, 5]);
        assert_eq!(add(6), [3, 5, 6]);
        assert_eq!(add(14), [5, 6, 14]);
        assert_eq!(add(7200), [7200]);
        assert_eq!(add(7100), [7200], "too late");
        assert_eq!(add(30), [30], "the clock was set back");
        assert_eq!(add(39), [30, 39]);
    }
}
