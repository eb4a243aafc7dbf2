//! Passes a JSON payload on with its temperature in degrees Celsius. What it does is told in README.md.

use sandbar_guest::prelude::*;

struct FahrenheitToCelsius {
    /// The field to read.
    field: String,
    /// The field to write; what is read is removed if they differ.
    to: String,
    /// The field that names the unit.
    unit: String,
    /// Where to: `{topic}` stands for the reading's.
    topic: String,
}

impl Handler for FahrenheitToCelsius {
    fn configure() -> Result<Self, String> {
        let setting = |key, default: &str| config::get(key).unwrap_or_else(|| default.to_owned());
        let field = setting("field", "temperature");
        Ok(Self {
            to: setting("to", &field),
            unit: setting("unit", "unit"),
            topic: setting("topic", "{topic}/celsius"),
            field,
        })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let mut object: Object = reading.json()?;
        let value = object.number(&self.field)?;
        let celsius = match object.text(&self.unit).as_deref() {
            None | Some("F" | "°F") => (value - 32.0) / 1.8,
            Some("C" | "°C") => value,
            Some(other) => {
                return Err(Failure::reject(format!("field `{}` is {other:?}, neither F nor C", self.unit)));
            }
        };
        if self.to != self.field {
            object.remove(&self.field);
        }
        object.set(&self.to, &two_decimals(celsius))?;
        object.set(&self.unit, &"C")?;

        let message = Message::json(reading.fill_in(&self.topic), &object)?;
        let reply = Message::new("", "application/json", message.payload.clone()).into_reply();
        Ok(vec![message.into(), reply])
    }
}

fn two_decimals(value: f64) -> f64 {
    let hundredths = (value * 100.0).round();
    // Too large for decimals, and for the multiplication. Adding zero makes -0 a plain one.
    if hundredths.is_finite() { hundredths / 100.0 + 0.0 } else { value }
}

sandbar_guest::handler!(FahrenheitToCelsius);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{reading, recorded};

    use super::*;

    fn handler() -> FahrenheitToCelsius {
        let text = str::to_owned;
        FahrenheitToCelsius {
            field: text("temperature"),
            to: text("temperature"),
            unit: text("unit"),
            topic: text("{topic}/celsius"),
        }
    }

    #[test]
    fn handles_the_recorded_readings() {
        recorded::<FahrenheitToCelsius>(env!("CARGO_MANIFEST_DIR"), &[]);
    }

    #[test]
    fn writes_another_field_in_place_of_the_one_read() {
        let handler = FahrenheitToCelsius { to: "celsius".to_owned(), ..handler() };
        let outputs = handler.handle(reading("a/topic", r#"{"temperature":50,"n":1}"#)).unwrap();
        let [Output::Message(message), Output::Reply(_)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(message.payload, br#"{"n":1,"celsius":10.0,"unit":"C"}"#);
    }

    #[test]
    fn keeps_numbers_that_are_too_large_to_round() {
        assert_eq!(two_decimals(1e308), 1e308);
        assert_eq!(two_decimals(-0.001).to_string(), "0");
    }
}
