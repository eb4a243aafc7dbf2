//! How long a route rests whose handler wastes processor time. What its calls take that end in a time-out or a trap is
//! held to a fifth of one processor: a handler that loops for ever costs other routes little, day and night, and one
//! reading that it loops at among good ones costs its own route nothing.

use std::time::Duration;

use tokio::time::Instant;

/// One part of so many is what may be wasted.
const SHARE: u32 = 5;
/// So many calls like the last are free, and so much in any case.
const FREE: u32 = 3;
const FREE_MIN: Duration = Duration::from_millis(200);
/// Whatever a call may take, the next one is not farther off.
const REST_MAX: Duration = Duration::from_secs(60);

/// Of a route, less what it has rested for.
#[derive(Default)]
pub(super) struct Waste {
    time: Duration,
    counted: Option<Instant>,
}

impl Waste {
    /// A call took so long for nothing. How long the route is to rest for it.
    pub(super) fn add(&mut self, call: Duration, now: Instant) -> Duration {
        let passed = self.counted.map_or(Duration::ZERO, |counted| now.duration_since(counted));
        self.counted = Some(now);
        self.time = self.time.saturating_sub(passed / SHARE) + call;
        let free = FREE_MIN.max(call.saturating_mul(FREE));
        self.time.saturating_sub(free).saturating_mul(SHARE).min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_millis(100);

    #[test]
    fn a_handler_that_always_loops_has_a_fifth_of_the_time() {
        let (mut waste, began) = (Waste::default(), Instant::now());
        let mut now = began;
        for _ in 0..100 {
            now += CALL;
            now += waste.add(CALL, now);
        }
        let share = (CALL * 100).as_secs_f64() / (now - began).as_secs_f64();
        assert!((0.19..0.22).contains(&share), "{share}");
    }

    #[test]
    fn attempts_at_one_reading_cost_its_route_nothing() {
        let (mut waste, mut now) = (Waste::default(), Instant::now());
        for wait in [500, 1000, 2000, 4000, 8000] {
            now += Duration::from_secs(1);
            assert_eq!(waste.add(Duration::from_secs(1), now), Duration::ZERO, "before {wait} ms");
            now += Duration::from_millis(wait);
        }
    }

    #[test]
    fn no_rest_is_for_ever() {
        let mut waste = Waste::default();
        let hour = Duration::from_secs(3600);
        for _ in 0..5 {
            assert!(waste.add(hour, Instant::now()) <= REST_MAX);
        }
        assert!(waste.add(Duration::MAX / 8, Instant::now()) <= REST_MAX);
    }
}
