//! Whether somebody set the clock. Pure: time is passed in.

use std::time::{Duration, Instant};

use crate::Timestamp;

/// Less is a clock that is kept right.
const STEP_MIN: Duration = Duration::from_secs(3);

/// By how much the clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Forward(Duration),
    Back(Duration),
}

impl Step {
    /// What the clock would have said at `time`, had it been right.
    pub fn of(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Forward(by) => time.after(by),
            Self::Back(by) => time.before(by),
        }
    }
}

/// The clock beside one that nobody sets, when they were last looked at.
pub struct Steps {
    clock: Timestamp,
    steady: Instant,
}

impl Steps {
    pub fn new(clock: Timestamp, steady: Instant) -> Self {
        Self { clock, steady }
    }

    /// How the clock was set since the last look.
    pub fn look(&mut self, clock: Timestamp, steady: Instant) -> Option<Step> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
