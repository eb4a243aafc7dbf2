//! Whether somebody set the clock. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_reading::Timestamp;
use tokio::time::Instant;

/// Less is a clock that is kept right.
const STEP_MIN: Duration = Duration::from_secs(3);

/// By how much the clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Forward(Duration),
    Back(Duration),
}

impl Step {
    /// What the clock would have said at `time`, had it been right.
    pub(super) fn of(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Forward(by) => time.after(by),
            Self::Back(by) => time.before(by),
        }
    }
}

/// The clock beside one that nobody sets, when they were last looked at.
pub(super) struct Steps {
    clock: Timestamp,
    steady: Instant,
}

impl Steps {
    pub(super) fn new(clock: Timestamp, steady: Instant) -> Self {
        Self { clock, steady }
    }

    /// How the clock was set since the last look.
    pub(super) fn look(&mut self, clock: Timestamp, steady: Instant) -> Option<Step> {
        let expected = self.clock.after(steady.duration_since(self.steady));
        *self = Self { clock, steady };
        let (ahead, behind) = (clock.since(expected), expected.since(clock));
        if ahead >= STEP_MIN {
            Some(Step::Forward(ahead))
        } else {
            (behind >= STEP_MIN).then_some(Step::Back(behind))
        }
    }
}

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

    #[test]
    fn only_what_the_other_clock_does_not_say_is_a_step() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let now = |seconds: u64| Timestamp::from_millis(1_000_000_000 + seconds * 1000);
        let mut steps = Steps::new(now(0), began);
        assert_eq!(steps.look(now(3600), began + 3600 * second), None, "time goes by");
        assert_eq!(steps.look(now(3603), began + 3601 * second), None, "it is kept right");
        let month = 30 * 24 * 3600;
        assert_eq!(
            steps.look(now(3604 + month), began + 3602 * second),
            Some(Step::Forward(second * 2592000))
        );
        assert_eq!(steps.look(now(3605 + month), began + 3603 * second), None, "that is over");
        assert_eq!(steps.look(now(3605), began + 3603 * second), Some(Step::Back(second * 2592000)));
        assert_eq!(Step::Back(second).of(now(1)), now(0));
        assert_eq!(Step::Forward(second).of(now(0)), now(1));
    }
}
