//! How fast a client may publish.

use std::time::Duration;

use tokio::time::Instant;

/// Counts against a limit a second. A second's worth may come at once.
#[derive(Debug)]
pub(super) struct Rate {
    /// Between two messages.
    each: Duration,
    /// When all that was counted would be due, one after the other.
    paid_until: Option<Instant>,
}

const BURST: Duration = Duration::from_secs(1);

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { each: BURST / per_second.max(1), paid_until: None }
    }

    pub(super) fn count(&mut self, now: Instant) {
        let from = self.paid_until.map_or(now, |until| until.max(now));
        self.paid_until = Some(from + self.each);
    }

    /// Until when nothing more may come, if that is so.
    pub(super) fn exceeded_until(&self, now: Instant) -> Option<Instant> {
        let until = self.paid_until? - BURST.min(self.paid_until?.duration_since(now));
        (self.paid_until? > now + BURST).then_some(until)
    }

    pub(super) fn is_exceeded(&self, now: Instant) -> bool {
        self.exceeded_until(now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lets_a_second_s_worth_through_and_then_the_rate() {
        let mut rate = Rate::new(10);
        let now = Instant::now();
        for _ in 0..10 {
            assert!(!rate.is_exceeded(now));
            rate.count(now);
        }
        assert!(!rate.is_exceeded(now));
        rate.count(now);
        assert_eq!(rate.exceeded_until(now), Some(now + Duration::from_millis(100)));
        assert!(!rate.is_exceeded(now + Duration::from_millis(100)));
    }
}
