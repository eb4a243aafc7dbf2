//! How long a reading has been in the journal, also when the clock was set forward meanwhile. Pure: time is passed in.

use std::time::Instant;

use sandbar_reading::{Leaps, ReadingId, Steps, Timestamp};

/// The clock since the store was opened. How long a box was off before whose clock was wrong, nobody knows.
#[derive(Clone, Debug)]
pub(crate) struct Ages {
    steps: Steps,
    /// By the ids that were given out before each.
    leaps: Leaps<u128>,
}

impl Ages {
    /// `began`: the last id that was ever given out.
    pub(crate) const fn new(began: u128, clock: Timestamp, steady: Instant) -> Self {
        Self { steps: Steps::new(clock, steady), leaps: Leaps::new(began.saturating_add(1)) }
    }

    /// `last`: the last id that was given out.
    pub(crate) fn look(&mut self, clock: Timestamp, steady: Instant, last: impl FnOnce() -> u128) {
        if let Some(step) = self.steps.look(clock, steady) {
            self.leaps.add(step, clock, |_| last());
        }
    }

    /// When the reading was taken, by the clock as it is now.
    pub(crate) fn taken(&self, id: u128) -> Timestamp {
        let mut time = ReadingId::from_u128(id).time();
        for leap in self.leaps.since(id) {
            // Its id may have run ahead of the clock, and the leap may have brought the clock only so far.
            time = time.after(leap.by).min(leap.now).max(time);
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn id(seconds: u64) -> u128 {
        ReadingId::first_at(at(seconds)).as_u128()
    }

    #[test]
    fn what_was_leapt_over_has_not_gone_by_for_what_came_since_the_start() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut ages = Ages::new(id(100), at(101), began);
        ages.look(at(111), began + 10 * second, || unreachable!("no time was leapt over"));
        ages.look(at(5000), began + 20 * second, || id(120));
        ages.look(at(6000), began + 30 * second, || id(5005));
        // 4,879 and 990 seconds.
        assert_eq!(ages.taken(id(111)), at(111 + 4879 + 990));
        assert_eq!(ages.taken(id(5001)), at(5001 + 990));
        assert_eq!(ages.taken(id(6001)), at(6001), "it came after both");
        assert_eq!(ages.taken(id(99)), at(99), "it was there before the start");
    }

    /// The box had no clock at its start: ids go on where they were, and the clock comes back from the past.
    #[test]
    fn an_id_ahead_of_the_clock_is_not_taken_for_one_of_the_future() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut ages = Ages::new(id(9000), at(1), began);
        ages.look(at(20_000), began + 10 * second, || id(9001));
        assert_eq!(ages.taken(id(9001)), at(20_000));
        ages.look(at(5000), began + 20 * second, || unreachable!("it was set back"));
        ages.look(at(8000), began + 30 * second, || id(20_001));
        assert_eq!(ages.taken(id(20_001)), at(20_001), "by its id it is later still");
    }
    #[test]
    fn what_was_leapt_over_and_back_has_gone_by() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut ages = Ages::new(id(100), at(101), began);
        ages.look(at(5000), began + 10 * second, || id(110));
        assert_eq!(ages.taken(id(105)), at(105 + 4889));
        ages.look(at(121), began + 20 * second, || unreachable!("it was set back"));
        assert_eq!(ages.taken(id(105)), at(105));
    }
}
