//! Windows that last as long as something goes on.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Window, nanoseconds};
use crate::Failure;
use crate::state::StateCell;
use crate::time::SET_BACK;

/// A window that lasts until nothing has come for a while: a machine's run, a visit, a shower of rain.
///
/// ```no_run
/// use std::time::Duration;
/// use sandbar_guest::prelude::*;
/// use sandbar_guest::window::Session;
///
/// static RUNS: Session<u64> = Session::new("run", Duration::from_secs(60));
///
/// fn handle(reading: Reading) -> Result<Vec<Output>, Failure> {
///     let over = RUNS.add(reading.time, |parts| *parts += 1)?;
///     over.iter().map(|run| Ok(Message::json("run", &run.total)?.into())).collect()
/// }
/// ```
pub struct Session<A> {
    open: StateCell<Open<A>>,
    gap: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(bound = "A: Serialize + DeserializeOwned")]
struct Open<A> {
    start: u64,
    end: u64,
    total: A,
}

impl<A: Serialize + DeserializeOwned + Default> Session<A> {
    /// Kept in `state` under `name`; over when nothing has come for `gap`.
    pub const fn new(name: &'static str, gap: Duration) -> Self {
        Self { open: StateCell::new(name), gap }
    }

    /// With a name that the settings say.
    pub const fn named(name: String, gap: Duration) -> Self {
        Self { open: StateCell::named(name), gap }
    }

    /// Adds to the session, or begins another; the one that is over by then is returned. What is older than the
    /// session's beginning makes it longer, unless it lies more than the gap and ten minutes before its end: then the
    /// clock was set back, and the session is over.
    pub fn add(&self, time: u64, add: impl FnOnce(&mut A)) -> Result<Option<Window<A>>, Failure> {
        let (mut open, over) = match self.open.get()? {
            Some(open) if !self.is_over(&open, time) => (open, None),
            other => (Open { start: time, end: time, total: A::default() }, other),
        };
        open.start = open.start.min(time);
        open.end = open.end.max(time);
        add(&mut open.total);
        self.open.set(&open)?;
        Ok(over.map(Window::from))
    }

    /// The session that is over at `time`, when nothing came that would say so.
    pub fn tick(&self, time: u64) -> Result<Option<Window<A>>, Failure> {
        let over = self.open.get()?.filter(|open| self.is_over(open, time));
        if over.is_some() {
            self.open.delete();
        }
        Ok(over.map(Window::from))
    }

    fn is_over(&self, open: &Open<A>, time: u64) -> bool {
        let gap = nanoseconds(self.gap);
        let was_set_back = open.end.saturating_sub(time) > SET_BACK.saturating_add(gap);
        was_set_back || time >= open.end.saturating_add(gap)
    }
}

impl<A> From<Open<A>> for Window<A> {
    fn from(Open { start, end, total }: Open<A>) -> Self {
        Self { start, end, total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seconds;

    #[test]
    fn lasts_until_nothing_comes_for_a_while() {
        let runs = Session::<u32>::named("r".to_owned(), Duration::from_secs(60));
        let add = |time| runs.add(seconds(time), |n| *n += 1).unwrap();
        assert_eq!(add(100), None);
        assert_eq!(add(159), None);
        assert_eq!(add(219), Some(Window { start: seconds(100), end: seconds(159), total: 2 }));
        assert_eq!(runs.tick(seconds(278)).unwrap(), None);
        assert_eq!(
            runs.tick(seconds(279)).unwrap(),
            Some(Window { start: seconds(219), end: seconds(219), total: 1 })
        );
        assert_eq!(runs.tick(seconds(999)).unwrap(), None);
    }

    #[test]
    fn is_over_when_the_clock_was_set_back() {
        let runs = Session::<u32>::named("set-back".to_owned(), Duration::from_secs(60));
        let add = |time| runs.add(seconds(time), |n| *n += 1).unwrap();
        assert_eq!(add(7200), None);
        assert_eq!(add(6540), None, "late");
        let run = Some(Window { start: seconds(6540), end: seconds(7200), total: 2 });
        assert_eq!(add(30), run);
        assert_eq!(
            runs.tick(seconds(90)).unwrap(),
            Some(Window { start: seconds(30), end: seconds(30), total: 1 })
        );
    }
}
