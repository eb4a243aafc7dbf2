//! Joins the temperature and the humidity of a room, which two sensors send, and adds the dew point.
//! What it does is told in README.md.

use std::time::Duration;

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;

static LATEST: Latest<f64> = Latest::new("latest");

#[derive(serde::Deserialize)]
struct Sample {
    room: String,
    /// In degrees Celsius.
    temperature: Option<f64>,
    /// In per cent.
    humidity: Option<f64>,
}

struct DewPoint {
    /// How old the other value may be.
    within: Duration,
}

impl Handler for DewPoint {
    fn configure() -> Result<Self, String> {
        Ok(Self { within: Duration::from_secs(config::parse_or("within_s", 600)?) })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let sample: Sample = reading.json()?;
        if sample.humidity.is_some_and(|humidity| !(0.0..=100.0).contains(&humidity)) {
            return Err(Failure::reject("field `humidity` is not between 0 and 100"));
        }
        for (part, value) in [("temperature", sample.temperature), ("humidity", sample.humidity)] {
            if let Some(value) = value {
                LATEST.put(part, reading.time, &value)?;
            }
        }
        let joined = LATEST.all(["temperature", "humidity"], reading.time, self.within)?;
        let Some([temperature, humidity]) = joined else { return Ok(vec![]) };
        let climate = json!({
            "temperature": temperature,
            "humidity": humidity,
            "dew_point": dew_point(temperature, humidity).map(|celsius| (celsius * 10.0).round() / 10.0),
        });
        Ok(vec![Message::json(format!("climate/{}", sample.room), &climate)?.with_device(sample.room).into()])
    }
}

/// In degrees Celsius, by Magnus' formula with the constants of Sonntag (1990), good from -45 to 60 °C. None for
/// air without any water.
fn dew_point(celsius: f64, humidity: f64) -> Option<f64> {
    const B: f64 = 17.62;
    const C: f64 = 243.12;
    let gamma = (humidity / 100.0).ln() + B * celsius / (C + celsius);
    (humidity > 0.0).then(|| C * gamma / (B - gamma))
}

sandbar_guest::handler!(DewPoint);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, reading, seconds};

    use super::*;

    #[test]
    fn old_values_are_not_joined() {
        let room =
            |reading: &Reading| reading.json::<Sample>().map_or_else(|_| String::new(), |sample| sample.room);
        let mut dew = Harness::<DewPoint>::new(&[("within_s", "60")]).unwrap().keyed_by(room);
        let at = |time, payload| Reading { time: seconds(time), ..reading("rooms/t", payload) };
        assert_eq!(dew.handle(at(0, r#"{"room":"a","temperature":20}"#)).unwrap().len(), 0);
        assert_eq!(dew.handle(at(10, r#"{"room":"b","humidity":50}"#)).unwrap().len(), 0);
        assert_eq!(dew.handle(at(60, r#"{"room":"a","humidity":50}"#)).unwrap().len(), 1);
        assert_eq!(dew.handle(at(61, r#"{"room":"a","humidity":50}"#)).unwrap().len(), 0);
    }

    #[test]
    fn the_dew_point_of_saturated_air_is_its_temperature() {
        assert!((dew_point(12.5, 100.0).unwrap() - 12.5).abs() < 1e-9);
        assert!((dew_point(25.0, 50.0).unwrap() - 13.85).abs() < 0.05);
        assert_eq!(dew_point(25.0, 0.0), None);
    }
}
