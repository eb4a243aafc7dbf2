//! What a module can be set to, and says of itself. Pure.

use serde::{Deserialize, Serialize};

use super::parser::{u16_at, u32_at};
use super::uplink::sensor_of;

/// Numbers as the module has them. `firmware` is only read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// `0121`, or its name.
    pub(super) sensor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firmware: Option<String>,
    time_zone: u8,
    ble_mode: u8,
    tx_power: u8,
    advertise_interval: u16,
    uplink_interval: u32,
    mode: u8,
    sampling: u8,
    /// For temperature and humidity, those of the temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hysteresis_high: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hysteresis_low: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    humidity_hysteresis_high: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    humidity_hysteresis_low: Option<f32>,
}

/// How a sensor's hysteresis is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hysteresis {
    None,
    /// High, low: 4 bytes each.
    Floats,
    /// Of temperature, then of humidity.
    TwoFloats,
    Words,
    Bytes,
}

impl Hysteresis {
    fn of(sensor: u16) -> Self {
        match sensor {
            0x0121 | 0x0124 => Self::Floats,
            0x0122 => Self::Bytes,
            0x0123 => Self::TwoFloats,
            0x0125 => Self::Words,
            _ => Self::None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::None => 0,
            Self::Floats => 8,
            Self::TwoFloats => 16,
            Self::Words => 4,
            Self::Bytes => 2,
        }
    }
}

/// With the firmware's version, before the hysteresis.
const HEAD: usize = 16;

impl Parameters {
    /// Of an uplink's data.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let head = data.get(..HEAD)?;
        let (sensor, rest) = (u16_at(head, 0), &data[HEAD..]);
        let hysteresis = Hysteresis::of(sensor);
        sensor_of(&format!("{sensor:04x}"))?;
        if rest.len() != hysteresis.size() {
            return None;
        }
        let float = |at: usize| Some(f32::from_bits(u32_at(rest, at)));
        let (high, low) = match hysteresis {
            Hysteresis::None => (None, None),
            Hysteresis::Floats | Hysteresis::TwoFloats => (float(0), float(4)),
            Hysteresis::Words => (Some(u16_at(rest, 0).into()), Some(u16_at(rest, 2).into())),
            Hysteresis::Bytes => (Some(rest[0].into()), Some(rest[1].into())),
        };
        let has_two = hysteresis == Hysteresis::TwoFloats;
        Some(Self {
            sensor: format!("{sensor:04x}"),
            firmware: Some(format!("{}.{}.{}", head[2], head[3], head[4])),
            time_zone: head[5],
            ble_mode: head[6],
            tx_power: head[7],
            advertise_interval: u16_at(head, 8),
            uplink_interval: u32_at(head, 10),
            mode: head[14],
            sampling: head[15],
            hysteresis_high: high,
            hysteresis_low: low,
            humidity_hysteresis_high: has_two.then(|| float(8)).flatten(),
            humidity_hysteresis_low: has_two.then(|| float(12)).flatten(),
        })
    }

    /// As a module is told them. The error names what cannot be.
    pub(super) fn write(&self) -> Result<Vec<u8>, String> {
        let sensor = sensor_of(&self.sensor).filter(|sensor| *sensor != 0);
        let sensor = sensor.ok_or_else(|| format!("sensor: there is no sensor `{}`", self.sensor))?;
        if self.firmware.is_some() {
            return Err("firmware: is the module's to say".to_owned());
        }
        let mut data = sensor.to_le_bytes().to_vec();
        data.extend([self.time_zone, self.ble_mode, self.tx_power]);
        data.extend(self.advertise_interval.to_le_bytes());
        data.extend(self.uplink_interval.to_le_bytes());
        data.extend([self.mode, self.sampling]);
        let hysteresis = Hysteresis::of(sensor);
        let values = [
            ("hysteresis_high", self.hysteresis_high),
            ("hysteresis_low", self.hysteresis_low),
            ("humidity_hysteresis_high", self.humidity_hysteresis_high),
            ("humidity_hysteresis_low", self.humidity_hysteresis_low),
        ];
        let wanted = match hysteresis {
            Hysteresis::None => 0,
            Hysteresis::TwoFloats => 4,
            _ => 2,
        };
        for (index, (name, value)) in values.into_iter().enumerate() {
            match (value, index < wanted) {
                (Some(value), true) => data.extend(hysteresis.write(name, value)?),
                (None, true) => return Err(format!("{name}: is missing")),
                (Some(_), false) => return Err(format!("{name}: this sensor has none")),
                (None, false) => {}
            }
        }
        Ok(data)
    }
}

impl Hysteresis {
    fn write(self, name: &str, value: f32) -> Result<Vec<u8>, String> {
        let whole = |most: u16| {
            let fits = value.fract() == 0.0 && (0.0..=f32::from(most)).contains(&value);
            // Whole, and within: nothing is cut.
            fits.then_some(value as u16).ok_or_else(|| format!("{name}: must be a whole number, 0 to {most}"))
        };
        Ok(match self {
            Self::None => Vec::new(),
            Self::Floats | Self::TwoFloats if value.is_finite() => value.to_le_bytes().to_vec(),
            Self::Floats | Self::TwoFloats => return Err(format!("{name}: must be a number")),
            Self::Words => whole(u16::MAX)?.to_le_bytes().to_vec(),
            Self::Bytes => whole(u8::MAX.into())?.to_le_bytes()[..1].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(sensor: &str, more: &Value) -> Parameters {
        let mut settings = json!({
            "sensor": sensor, "time_zone": 9, "ble_mode": 1, "tx_power": 4, "advertise_interval": 1000,
            "uplink_interval": 60, "mode": 2, "sampling": 1,
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn what_is_set_is_what_is_got() {
        let two = json!({ "hysteresis_high": 30.5, "hysteresis_low": 10.0, "humidity_hysteresis_high": 80.0,
            "humidity_hysteresis_low": 20.0 });
        for (sensor, id, more) in [
            ("illuminance", "0121", json!({ "hysteresis_high": 500.0, "hysteresis_low": 10.5 })),
            ("0122", "0122", json!({ "hysteresis_high": 255, "hysteresis_low": 0 })),
            ("temperature_humidity", "0123", two),
            ("0125", "0125", json!({ "hysteresis_high": 2000, "hysteresis_low": 100 })),
            ("0126", "0126", json!({})),
        ] {
            let set = settings(sensor, &more);
            let written = set.write().unwrap();
            let told = [&written[..2], &[1, 2, 3], &written[2..]].concat();
            let got = Parameters::read(&told).unwrap();
            assert_eq!(got, Parameters { sensor: id.to_owned(), firmware: Some("1.2.3".to_owned()), ..set });
            assert_eq!(Parameters::read(&told[1..]), None);
        }
    }

    #[test]
    fn says_what_cannot_be_set() {
        let error = |sensor, more: Value| settings(sensor, &more).write().unwrap_err();
        assert!(error("0199", json!({})).starts_with("sensor: "));
        assert!(error("0121", json!({ "hysteresis_high": 1 })).starts_with("hysteresis_low: is missing"));
        assert!(error("0126", json!({ "hysteresis_low": 1 })).starts_with("hysteresis_low: this sensor"));
        let words = json!({ "hysteresis_high": 70000, "hysteresis_low": 1 });
        assert!(error("0125", words).starts_with("hysteresis_high: must be a whole number"));
        assert!(error("0126", json!({ "firmware": "1" })).starts_with("firmware: "));
    }
}
