//! How long to wait before the next attempt. Pure; the randomness is passed in.

use std::time::Duration;

/// Doubles from `first` after every failed attempt up to `longest`; of that a random half is taken off, so
/// that what failed together does not come back together. `attempts` is at least 1, `random` in 0.0..1.0.
pub fn backoff(first: Duration, longest: Duration, attempts: u32, random: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    whole.mul_f64(1.0 - random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_never_takes_off_more_than_half() {
        let wait =
            |attempts, random| backoff(Duration::from_secs(1), Duration::from_secs(60), attempts, random);
        assert_eq!(wait(1, 0.0), Duration::from_secs(1));
        assert_eq!(wait(3, 0.0), Duration::from_secs(4));
        assert_eq!(wait(3, 0.999_999).as_millis(), 2000);
        assert_eq!(wait(u32::MAX, 0.0), Duration::from_secs(60));
    }
}
