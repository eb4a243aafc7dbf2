//! Where the clock was set forward, for those who count time by it. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_reading::{Step, Timestamp};

/// So many are remembered.
const LEAPS_MAX: usize = 64;

/// Where the clock was set forward since the host began.
pub(super) struct Leaps {
    began: Timestamp,
    /// What it had come to, and by how much it was set.
    leaps: VecDeque<(Timestamp, Duration)>,
}

impl Leaps {
    pub(super) fn new(began: Timestamp) -> Self {
        Self { began, leaps: VecDeque::new() }
    }

    /// The clock was set, and says `now`.
    pub(super) fn add(&mut self, step: Step, now: Timestamp) {
        let Step::Forward(by) = step else { return };
        if self.leaps.len() == LEAPS_MAX {
            self.leaps.pop_front();
        }
        self.leaps.push_back((now.before(by), by));
    }

    /// How much of the time since then has not gone by. Of what is older than the host's start nobody knows that: the
    /// box may have been off for as long as its clock was wrong.
    pub(super) fn since(&self, time: Timestamp) -> Duration {
        let later = self.leaps.iter().filter(|(from, _)| (self.began..=*from).contains(&time));
        later.map(|(_, by)| *by).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_leapt_over_has_not_gone_by_for_what_was_there_then() {
        let now = |seconds: u64| Timestamp::from_millis(1_000_000_000 + seconds * 1000);
        let by = Duration::from_secs;
        let mut leaps = Leaps::new(now(0));
        leaps.add(Step::Forward(by(1000)), now(1010));
        leaps.add(Step::Back(by(3)), now(1100));
        leaps.add(Step::Forward(by(50)), now(1250));
        assert_eq!(leaps.since(now(5)), by(1050));
        assert_eq!(leaps.since(now(1020)), by(50));
        assert_eq!(leaps.since(now(1251)), by(0));
        assert_eq!(leaps.since(Timestamp::from_millis(1)), by(0), "the host was off");
    }
}
