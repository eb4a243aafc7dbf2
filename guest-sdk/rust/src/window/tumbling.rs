//! Windows of one length, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Window;
use crate::Failure;
use crate::state::StateCell;
use crate::time::SET_BACK;

/// Windows of one length, side by side: every value is in exactly one of them. They begin at whole multiples of the
/// length since the epoch: those of an hour on the hour (UTC), whichever box counts.
///
/// ```no_run
/// use std::time::Duration;
/// use sandbar_guest::prelude::*;
/// use sandbar_guest::window::{Stats, Tumbling};
///
/// static MINUTES: Tumbling<Stats> = Tumbling::new("minutes", Duration::from_secs(60));
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let value = reading.json::<f64>()?;
///     let over = MINUTES.add(reading.time, |stats| stats.add(value))?;
///     over.iter().map(|window| Ok(Message::json("mean", &window.total.mean())?.into())).collect()
/// }
/// ```
pub struct Tumbling<A> {
    open: StateCell<Open<A>>,
    length: u64,
    late: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(bound = "A: Serialize + DeserializeOwned")]
struct Open<A> {
    /// By their beginning.
    windows: BTreeMap<u64, A>,
    /// What begins before this is over: it was told.
    told: u64,
}

impl<A> Default for Open<A> {
    fn default() -> Self {
        Self { windows: BTreeMap::new(), told: 0 }
    }
}

impl<A: Serialize + DeserializeOwned + Default> Tumbling<A> {
    /// Kept in `state` under `name`.
    pub const fn new(name: &'static str, length: Duration) -> Self {
        Self::of(StateCell::new(name), length)
    }

    /// With a name or a length that the settings say.
    pub const fn named(name: String, length: Duration) -> Self {
        Self::of(StateCell::named(name), length)
    }

    const fn of(open: StateCell<Open<A>>, length: Duration) -> Self {
        // The cast is exact: 2^64 ns are 584 years.
        let length = length.as_nanos() as u64;
        Self { open, length: if length == 0 { 1 } else { length }, late: 0 }
    }

    /// Keeps windows open for so much longer, for readings that come late.
    #[must_use]
    pub fn late_by(self, late: Duration) -> Self {
        // Not at all for zero: what lies exactly at a window's end closes it.
        Self { late: u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), ..self }
    }

    /// Adds to the window of `time`, and returns those that are over by then, oldest first. What comes so late
    /// that its window was told already is not added; see [`Self::add_or_late`]. What comes another length and ten
    /// minutes later than that is not late, but the clock was set back: all open windows are over.
    pub fn add(&self, time: u64, add: impl FnOnce(&mut A)) -> Result<Vec<Window<A>>, Failure> {
        self.add_or_late(time, add).map(|(over, _)| over)
    }

    /// As [`Self::add`]; the flag tells that it came too late.
    pub fn add_or_late(
        &self,
        time: u64,
        add: impl FnOnce(&mut A),
    ) -> Result<(Vec<Window<A>>, bool), Failure> {
        let mut open = self.open.get()?.unwrap_or_default();
        let mut over = self.set_back(&mut open, time);
        let start = time - time % self.length;
        let too_late = start < open.told;
        if !too_late {
            add(open.windows.entry(start).or_default());
        }
        over.extend(self.close(&mut open, time));
        self.open.set(&open)?;
        Ok((over, too_late))
    }

    /// The windows that are over at `time`, when nothing came that would say so.
    pub fn tick(&self, time: u64) -> Result<Vec<Window<A>>, Failure> {
        let Some(mut open) = self.open.get()? else { return Ok(vec![]) };
        let mut over = self.set_back(&mut open, time);
        over.extend(self.close(&mut open, time));
        if !over.is_empty() {
            self.open.set(&open)?;
        }
        Ok(over)
    }

    fn close(&self, open: &mut Open<A>, time: u64) -> Vec<Window<A>> {
        let now = time.saturating_sub(self.late);
        let first_open = now - now % self.length;
        open.told = open.told.max(first_open);
        let still_open = open.windows.split_off(&open.told);
        self.over(std::mem::replace(&mut open.windows, still_open))
    }

    /// Closes all windows if the clock was set back: those that are told would take nothing until it is there again.
    fn set_back(&self, open: &mut Open<A>, time: u64) -> Vec<Window<A>> {
        let late = self.length.saturating_add(self.late);
        match open.told.saturating_sub(time) > SET_BACK.saturating_add(late) {
            true => self.over(std::mem::take(open).windows),
            false => vec![],
        }
    }

    fn over(&self, windows: BTreeMap<u64, A>) -> Vec<Window<A>> {
        windows.into_iter().map(|(start, total)| Window { start, end: start + self.length, total }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seconds;

    fn windows(name: &str) -> Tumbling<Vec<u64>> {
        Tumbling::named(name.to_owned(), Duration::from_secs(10))
    }

    fn window(start: u64, total: &[u64]) -> Window<Vec<u64>> {
        Window { start: seconds(start), end: seconds(start + 10), total: total.to_vec() }
    }

    #[test]
    fn a_window_is_over_when_a_reading_lies_behind_it() {
        let windows = windows("a");
        let add = |time| windows.add(seconds(time), |all| all.push(time)).unwrap();
        assert_eq!(add(12), []);
        assert_eq!(add(19), []);
        assert_eq!(add(20), [window(10, &[12, 19])]);
        // Too late, and said.
        assert_eq!(windows.add_or_late(seconds(19), |_| panic!()).unwrap(), (vec![], true));
        assert_eq!(add(45), [window(20, &[20])]);
        assert_eq!(windows.tick(seconds(49)).unwrap(), []);
        assert_eq!(windows.tick(seconds(50)).unwrap(), [window(40, &[45])]);
    }

    #[test]
    fn latecomers_are_waited_for() {
        let windows = windows("b").late_by(Duration::from_secs(5));
        let add = |time| windows.add(seconds(time), |all| all.push(time)).unwrap();
        assert_eq!(add(12), []);
        assert_eq!(add(21), []);
        assert_eq!(add(18), []);
        assert_eq!(add(25), [window(10, &[12, 18])]);
    }

    #[test]
    fn nobody_is_waited_for_when_late_is_zero() {
        let windows = windows("zero").late_by(Duration::ZERO);
        assert_eq!(windows.add(seconds(12), |all| all.push(12)).unwrap(), []);
        assert_eq!(windows.tick(seconds(20)).unwrap(), [window(10, &[12])]);
    }

    #[test]
    fn all_begins_anew_when_the_clock_was_set_back() {
        let windows = windows("anew");
        let add = |time| windows.add(seconds(time), |all| all.push(time)).unwrap();
        assert_eq!(add(7205), []);
        assert_eq!(windows.add_or_late(seconds(6590), |_| panic!()).unwrap(), (vec![], true));
        assert_eq!(add(31), [window(7200, &[7205])]);
        assert_eq!(add(39), []);
        assert_eq!(add(40), [window(30, &[31, 39])]);
    }
}
