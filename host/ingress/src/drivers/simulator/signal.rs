//! What the simulated devices measure: pure functions of the seed and the reading's number, so that a
//! restart goes on where the last run stopped.

use std::f64::consts::TAU;

use super::config::{Kind, TemperatureUnit};

/// Steps after which a day is over: one every five minutes.
const DAY: f64 = 288.0;

/// Which of a device's values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub(super) kind: Kind,
    pub(super) unit: TemperatureUnit,
    /// Differs by device, kind and the setting `seed`.
    pub(super) seed: u64,
    /// Added to the value; to no position.
    pub(super) offset: f64,
}

impl Signal {
    /// The payload of the reading number `seq`, the `step`th of this signal.
    pub(super) fn payload(&self, step: u64, seq: u64) -> String {
        let value = self.value(step) + self.offset;
        match (self.kind, self.unit) {
            (Kind::Temperature, TemperatureUnit::C) => {
                format!(r#"{{"temperature": {value:.1}, "unit": "C", "seq": {seq}}}"#)
            }
            (Kind::Temperature, TemperatureUnit::F) => {
                let fahrenheit = value * 1.8 + 32.0;
                format!(r#"{{"temperature": {fahrenheit:.1}, "unit": "F", "seq": {seq}}}"#)
            }
            (Kind::Humidity, _) => {
                let percent = value.clamp(0.0, 100.0);
                format!(r#"{{"humidity": {percent:.1}, "unit": "%", "seq": {seq}}}"#)
            }
            (Kind::Power, _) => format!(r#"{{"power": {value:.1}, "unit": "W", "seq": {seq}}}"#),
            (Kind::Gps, _) => {
                let (latitude, longitude) = self.position(step);
                format!(r#"{{"latitude": {latitude:.6}, "longitude": {longitude:.6}, "seq": {seq}}}"#)
            }
        }
    }

    fn value(&self, step: u64) -> f64 {
        let t = step as f64;
        // Every device has its own level and its own hour.
        let bias = noise(self.seed, u64::MAX);
        let daily = (TAU * (t / DAY + bias)).sin();
        match self.kind {
            Kind::Temperature => 21.0 + 2.0 * bias + 4.0 * daily + 1.2 * self.drift(t / 12.0),
            Kind::Humidity => 48.0 + 6.0 * bias - 9.0 * daily + 4.0 * self.drift(t / 15.0),
            Kind::Power => {
                let appliances = if noise(self.seed, step / 24) > 0.5 { 1150.0 } else { 0.0 };
                190.0 + 30.0 * bias + 60.0 * daily + appliances + 12.0 * noise(self.seed ^ 1, step)
            }
            Kind::Gps => 0.0,
        }
    }

    /// Degrees. About a hundred metres around a place near Zürich's lake.
    fn position(&self, step: u64) -> (f64, f64) {
        let t = step as f64 / 20.0;
        let east = Self { seed: self.seed ^ 2, ..*self };
        (47.366_5 + 0.001 * self.drift(t), 8.541_5 + 0.0015 * east.drift(t))
    }

    /// Noise without jumps, -1 to 1: whole numbers have a random value, those between lie between.
    fn drift(&self, t: f64) -> f64 {
        let (from, part) = (t.floor(), t.fract());
        let (a, b) = (noise(self.seed, from as u64), noise(self.seed, from as u64 + 1));
        let eased = part * part * (3.0 - 2.0 * part);
        a + (b - a) * eased
    }
}

/// -1 to 1, the same for the same arguments.
fn noise(seed: u64, n: u64) -> f64 {
    (scramble(seed, n) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// SplitMix64's finalizer over both.
pub(super) fn scramble(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signal(kind: Kind, seed: u64) -> Signal {
        Signal { kind, unit: TemperatureUnit::C, seed, offset: 0.0 }
    }

    fn values(kind: Kind, key: &str) -> Vec<f64> {
        let read = |step| -> serde_json::Value {
            serde_json::from_str(&signal(kind, 7).payload(step, step)).unwrap()
        };
        (0..600).map(|step| read(step)[key].as_f64().unwrap()).collect()
    }

    #[test]
    fn measures_what_could_be_measured() {
        let table = [
            (Kind::Temperature, "temperature", 10.0..32.0, 1.0),
            (Kind::Humidity, "humidity", 15.0..85.0, 2.5),
            (Kind::Power, "power", 50.0..1600.0, 1300.0),
            (Kind::Gps, "latitude", 47.36..47.38, 0.0005),
        ];
        for (kind, key, range, step_max) in table {
            let values = values(kind, key);
            assert!(values.iter().all(|v| range.contains(v)), "{key}");
            assert!(values.windows(2).all(|w| (w[0] - w[1]).abs() < step_max), "{key} jumps");
            assert!(values.iter().any(|v| *v != values[0]), "{key} stands still");
        }
    }

    #[test]
    fn fahrenheit_is_the_same_temperature() {
        let celsius = Signal { offset: 100.0, ..signal(Kind::Temperature, 1) };
        let fahrenheit = Signal { unit: TemperatureUnit::F, ..celsius };
        let read = |s: Signal| -> f64 {
            serde_json::from_str::<serde_json::Value>(&s.payload(3, 3)).unwrap()["temperature"]
                .as_f64()
                .unwrap()
        };
        assert!(read(celsius) > 100.0);
        assert!((read(fahrenheit) - (read(celsius) * 1.8 + 32.0)).abs() < 0.2);
    }

    proptest! {
        #[test]
        fn every_number_gives_json(seed: u64, step: u64, seq: u64, offset in -1e9..1e9f64) {
            for kind in [Kind::Temperature, Kind::Humidity, Kind::Power, Kind::Gps] {
                let signal = Signal { offset, ..signal(kind, seed) };
                let value: serde_json::Value = serde_json::from_str(&signal.payload(step, seq)).unwrap();
                prop_assert_eq!(value["seq"].as_u64(), Some(seq));
            }
        }
    }
}
