//! Says whether a room is too hot, and counts the readings of each device.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;

/// Of this device: state belongs to the reading's key.
static READINGS: StateCell<u64> = StateCell::new("readings");

struct MyModule {
    limit: f64,
}

impl Handler for MyModule {
    fn configure() -> Result<Self, String> {
        Ok(Self { limit: config::parse_or("limit", 30.0)? })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let payload: Object = reading.json()?;
        let temperature = payload
            .number("temperature")
            .map_err(|_| Failure::reject("the payload has no number `temperature`"))?;
        let readings = READINGS.get()?.unwrap_or(0) + 1;
        READINGS.set(&readings)?;
        let hot = temperature > self.limit;
        let checked = json!({ "temperature": temperature, "hot": hot, "readings": readings });
        Ok(vec![Message::json(format!("{}/checked", reading.topic), &checked)?.into()])
    }
}

sandbar_guest::handler!(MyModule);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::recorded;

    use super::*;

    #[test]
    fn handles_the_recorded_readings() {
        recorded::<MyModule>(env!("CARGO_MANIFEST_DIR"), &[("limit", "30")]);
    }
}
