//! When what could not be removed is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// What leaves by itself: each looked for by itself, so that where one cannot be read the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    State,
    Journal,
    DeadLetters,
    Commands,
    Trace,
}

impl Part {
    pub(crate) const ALL: [Self; 5] =
        [Self::State, Self::Journal, Self::DeadLetters, Self::Commands, Self::Trace];
}

/// How long a part that failed rests: at first, and at most. Where it failed it is likely to fail again.
const REST: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Of the parts that have failed: how long, and until when they rest. From then on they go alone, until they are
/// through: what shared a commit with them would fail with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rests([Option<(Duration, Instant)>; Part::ALL.len()]);

impl Rests {
    /// Whether it may be looked for in a commit, which may be for nothing else.
    pub(crate) fn may_go(&self, part: Part, alone: bool, now: Instant) -> bool {
        self.0[part as usize].is_none() || alone && self.is_over(part, now)
    }

    /// Whether it has failed, and is to be tried again.
    pub(crate) fn is_over(&self, part: Part, now: Instant) -> bool {
        self.0[part as usize].is_some_and(|(_, until)| until <= now)
    }

    /// How long it still rests.
    pub(crate) fn left(&self, part: Part, now: Instant) -> Duration {
        self.0[part as usize].map_or(Duration::ZERO, |(_, until)| until.saturating_duration_since(now))
    }

    /// How long it rests now.
    pub(crate) fn failed(&mut self, part: Part, now: Instant) -> Duration {
        let rest = &mut self.0[part as usize];
        let wait = rest.map_or(REST.0, |(before, _)| (before * 2).min(REST.1));
        *rest = Some((wait, now + wait));
        wait
    }

    /// There is nothing left of it.
    pub(crate) fn through(&mut self, part: Part) {
        self.0[part as usize] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_rests_longer_each_time_and_then_goes_alone_until_it_is_through() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        assert!(rests.may_go(Part::Journal, false, now));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = rests.failed(Part::Journal, now);
            assert_eq!(wait, Duration::from_secs(60 * minutes));
            assert!(!rests.may_go(Part::Journal, true, now) && rests.may_go(Part::State, false, now));
            assert_eq!(rests.left(Part::Journal, now), wait);
            now += wait;
            assert!(rests.may_go(Part::Journal, true, now) && !rests.may_go(Part::Journal, false, now));
        }
        rests.through(Part::Journal);
        assert!(rests.may_go(Part::Journal, false, now) && !rests.is_over(Part::Journal, now));
    }
}
