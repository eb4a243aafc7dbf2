//! What was heard a moment ago is not a reading again. Pure: time is passed in.

use std::collections::HashMap;
use std::time::Duration;

use sandbar_reading::Timestamp;

/// When each key was last let through.
pub(super) struct Window {
    length: Duration,
    seen: HashMap<Box<str>, Timestamp>,
}

/// How many keys are remembered. Beacons with addresses by chance would else fill the memory.
const KEYS_MAX: usize = 10_000;

impl Window {
    /// With no length everything is new.
    pub(super) fn new(length: Duration) -> Self {
        Self { length, seen: HashMap::new() }
    }

    /// Whether the key was not let through within the window before `now`; it is now, then.
    pub(super) fn is_new(&mut self, key: &str, now: Timestamp) -> bool {
        if self.length.is_zero() {
            return true;
        }
        if self.seen.get(key).is_some_and(|seen| self.is_recent(*seen, now)) {
            return false;
        }
        if self.seen.len() >= KEYS_MAX {
            let length = self.length;
            self.seen.retain(|_, seen| now.since(*seen) < length && now >= *seen);
            if self.seen.len() >= KEYS_MAX {
                // More beacons than can be told apart: some are heard twice.
                self.seen.clear();
            }
        }
        self.seen.insert(key.into(), now);
        true
    }

    /// A clock that was set back silences nothing.
    fn is_recent(&self, seen: Timestamp, now: Timestamp) -> bool {
        now >= seen && now.since(seen) < self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(length_ms: u64) -> impl FnMut(&str, u64) -> bool {
        let mut window = Window::new(Duration::from_millis(length_ms));
        move |key, millis| window.is_new(key, Timestamp::from_millis(millis))
    }

    #[test]
    fn repeats_within_the_window_are_not_new() {
        let mut is_new = window(1000);
        assert!(is_new("a", 10_000) && is_new("b", 10_500));
        assert!(!is_new("a", 10_999), "the window is not over");
        assert!(is_new("a", 11_000), "those that were held back do not make it longer");
        assert!(!is_new("b", 11_400) && !is_new("a", 11_999));
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nothing() {
        let mut is_new = window(1000);
        assert!(is_new("a", 10_000) && is_new("a", 5000) && !is_new("a", 5001));
    }

    #[test]
    fn without_a_window_everything_is_new() {
        let mut is_new = window(0);
        assert!(is_new("a", 1) && is_new("a", 1));
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut window = Window::new(Duration::from_secs(60));
        for number in 0..3 * KEYS_MAX as u64 {
            assert!(window.is_new(&number.to_string(), Timestamp::from_millis(number)));
            assert!(window.seen.len() <= KEYS_MAX);
        }
        assert!(!window.is_new(&(3 * KEYS_MAX - 1).to_string(), Timestamp::from_millis(30_000)));
    }
}
