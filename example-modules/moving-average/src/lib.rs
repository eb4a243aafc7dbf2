//! Passes on a number's average over a while, and one summary of each interval instead of every reading.
//! What it does is told in README.md.

use std::time::Duration;

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;
use sandbar_guest::time::rfc3339;
use sandbar_guest::window::{Sliding, Stats, Tumbling};

/// Values of a moving average: more would not fit into the state for long.
const VALUES_MAX: usize = 1000;

struct MovingAverage {
    field: String,
    average: Option<Sliding<f64>>,
    every: Option<Tumbling<Stats>>,
}

impl Handler for MovingAverage {
    fn configure() -> Result<Self, String> {
        let seconds = |setting| match config::parse::<u64>(setting)? {
            Some(0) => Err(format!("setting `{setting}` must be above 0")),
            other => Ok(other.map(Duration::from_secs)),
        };
        let (average, every) = (seconds("average_s")?, seconds("every_s")?);
        if average.is_none() && every.is_none() {
            return Err("set `average_s`, `every_s` or both".to_owned());
        }
        let late = Duration::from_secs(config::parse_or("late_s", 0)?);
        Ok(Self {
            field: config::get("field").unwrap_or_else(|| "value".to_owned()),
            average: average.map(|span| Sliding::new("average", span, VALUES_MAX)),
            every: every.map(|length| Tumbling::new("every", length).late_by(late)),
        })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let value = reading.json::<Object>()?.number(&self.field)?;
        let mut outputs = Vec::new();
        if let Some(every) = &self.every {
            for window in every.add(reading.time, |stats| stats.add(value))? {
                let Stats { count, min, max, .. } = window.total;
                let (start, end) = (rfc3339(window.start), rfc3339(window.end));
                let mean = window.total.mean().map(rounded);
                let summary = json!({ "start": start, "end": end, "count": count, "min": min, "max": max, "mean": mean });
                outputs.push(Message::json(format!("{}/summary", reading.topic), &summary)?.into());
            }
        }
        if let Some(average) = &self.average {
            let values = average.add(reading.time, value)?;
            let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
            let shown = json!({ "average": rounded(mean), "of": values.len() });
            outputs.push(Message::json(format!("{}/average", reading.topic), &shown)?.into());
        }
        Ok(outputs)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

sandbar_guest::handler!(MovingAverage);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, recorded_keyed};

    use super::*;

    #[test]
    fn handles_the_recorded_readings() {
        let settings = [("field", "watt"), ("every_s", "60"), ("average_s", "90")];
        recorded_keyed::<MovingAverage>(env!("CARGO_MANIFEST_DIR"), &settings, |reading| {
            reading.topic.clone()
        });
    }

    #[test]
    fn something_must_be_asked_for() {
        assert_eq!(Harness::<MovingAverage>::new(&[]).err().unwrap(), "set `average_s`, `every_s` or both");
        let refused = Harness::<MovingAverage>::new(&[("every_s", "0")]).err().unwrap();
        assert_eq!(refused, "setting `every_s` must be above 0");
    }
}
