//! Count, sum, extremes, mean and deviation, without keeping the values.

use serde::{Deserialize, Serialize};

/// What is usually wanted of the numbers in a window.
///
/// ```
/// # use sandbar_guest::window::Stats;
/// let mut stats = Stats::default();
/// [2.0, 4.0, 6.0].into_iter().for_each(|value| stats.add(value));
/// assert_eq!((stats.count, stats.min, stats.max, stats.mean()), (3, 2.0, 6.0, Some(4.0)));
/// assert_eq!(stats.deviation(), Some(2.0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub count: u64,
    pub sum: f64,
    /// Zero, as the others, while there is no value.
    pub min: f64,
    pub max: f64,
    pub first: f64,
    pub last: f64,
    /// Welford's: the mean so far, and the sum of squared distances from it.
    mean: f64,
    squares: f64,
}

impl Stats {
    pub fn add(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max, self.first) = (value, value, value);
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The sample's standard deviation; there is none for fewer than two values.
    pub fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }
}
