//! Tells when a number rises above a limit and when it is well again. What it does is told in README.md.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;

/// There while the alarm is on: of this key, by default of this device.
static ALARM: StateCell<bool> = StateCell::new("alarm");

struct ThresholdAlarm {
    /// The field to watch.
    field: String,
    /// What the texts call it.
    name: String,
    /// The alarm goes on above this,
    high: f64,
    /// and off below this: between the two nothing changes, so that a value at the edge does not flutter.
    low: f64,
}

impl Handler for ThresholdAlarm {
    fn configure() -> Result<Self, String> {
        let field = config::get("field").unwrap_or_else(|| "temperature".to_owned());
        let name = config::get("name").unwrap_or_else(|| field.clone());
        Self::new(field, name, config::required("high")?, config::required("low")?)
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let was_on = ALARM.get()?.unwrap_or(false);
        let (is_on, message) = self.watch(&reading, was_on)?;
        match (was_on, is_on) {
            (false, true) => ALARM.set(&true)?,
            (true, false) => ALARM.delete(),
            _ => {}
        }
        Ok(message.map(Output::from).into_iter().collect())
    }
}

impl ThresholdAlarm {
    fn new(field: String, name: String, high: f64, low: f64) -> Result<Self, String> {
        // Not `high <= low`: that is false for what is not a number.
        if high > low && high.is_finite() && low.is_finite() {
            Ok(Self { field, name, high, low })
        } else {
            Err(format!("setting `high` ({high}) must be above setting `low` ({low})"))
        }
    }

    /// Whether the alarm is on after this reading, and what to tell if that has changed.
    fn watch(&self, reading: &Reading, was_on: bool) -> Result<(bool, Option<Message>), Failure> {
        let value = reading.json::<Object>()?.number(&self.field)?;
        let is_on = if was_on { value >= self.low } else { value > self.high };
        let (name, subject) = (&self.name, reading.subject());
        let text = match (was_on, is_on) {
            (false, true) => format!(":rotating_light: {name} of {subject} is {value}, above {}", self.high),
            (true, false) => {
                format!(":white_check_mark: {name} of {subject} is {value} again, below {}", self.low)
            }
            _ => return Ok((is_on, None)),
        };
        let message = Message::json(format!("alarms/{subject}"), &json!({"text": text}))?;
        Ok((is_on, Some(message)))
    }
}

sandbar_guest::handler!(ThresholdAlarm);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, reading, recorded};

    use super::*;

    fn alarm(high: f64, low: f64) -> Result<ThresholdAlarm, String> {
        ThresholdAlarm::new("temperature".to_owned(), "Temperature".to_owned(), high, low)
    }

    #[test]
    fn handles_the_recorded_readings() {
        let settings = [("high", "30"), ("low", "25"), ("name", "Temperature")];
        recorded::<ThresholdAlarm>(env!("CARGO_MANIFEST_DIR"), &settings);
    }

    #[test]
    fn refuses_limits_that_leave_no_room() {
        for (high, low) in [(25.0, 25.0), (20.0, 25.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0)] {
            let refused = alarm(high, low).err().unwrap();
            assert_eq!(refused, format!("setting `high` ({high}) must be above setting `low` ({low})"));
        }
        let refused = Harness::<ThresholdAlarm>::new(&[("low", "1")]).err().unwrap();
        assert_eq!(refused, "setting `high` is missing");
    }

    #[test]
    fn does_not_flutter_between_the_limits() {
        let alarm = alarm(30.0, 25.0).unwrap();
        for (value, was_on) in [("25", true), ("30", true), ("30", false), ("24", false)] {
            let reading = reading("a", format!(r#"{{"temperature":{value}}}"#));
            let (is_on, message) = alarm.watch(&reading, was_on).unwrap();
            assert_eq!(is_on, was_on, "{value}");
            assert!(message.is_none(), "{value}");
        }
    }
}
