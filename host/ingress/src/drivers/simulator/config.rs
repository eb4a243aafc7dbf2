//! Settings of the simulator, and what is refused of them.

use std::time::Duration;

use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;

/// Makes up readings of devices that are not there, to try things out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The same seed makes the same readings.
    pub(super) seed: u64,
    /// Milliseconds from one reading to the next, over all devices; 1000 unless `rate` is set.
    pub(super) interval_ms: Option<u64>,
    /// Readings a second, over all devices, up to 100000; instead of `interval_ms`.
    pub(super) rate: Option<f64>,
    /// How many devices (`sim-1`, `sim-2` …), or their names. They take turns.
    pub(super) devices: Devices,
    /// What the devices measure. Each device measures them in turn.
    pub(super) kinds: Vec<Kind>,
    /// Of temperatures.
    pub(super) unit: TemperatureUnit,
    /// Stop after so many readings, counted over restarts; without it there is no end.
    pub(super) count: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Devices {
    Count(u32),
    Names(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `{"temperature": 71.3, "unit": "F", "seq": 7}`
    Temperature,
    /// `{"humidity": 45.1, "unit": "%", "seq": 7}`
    Humidity,
    /// `{"power": 612.0, "unit": "W", "seq": 7}`: a base load, and appliances that switch.
    Power,
    /// `{"latitude": 47.376901, "longitude": 8.541702, "seq": 7}`: a walk around a place.
    Gps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum TemperatureUnit {
    C,
    F,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            interval_ms: None,
            rate: None,
            devices: Devices::Count(1),
            kinds: vec![Kind::Temperature],
            unit: TemperatureUnit::C,
            count: None,
        }
    }
}

impl Kind {
    /// As in the topic.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Power => "power",
            Self::Gps => "gps",
        }
    }
}

const DEVICES_MAX: usize = 10_000;
const RATE_MAX: f64 = 100_000.0;

impl Config {
    pub(crate) fn interval(&self) -> Result<Duration, ConfigError> {
        match (self.interval_ms, self.rate) {
            (Some(_), Some(_)) => Err(ConfigError::at("rate", "set either `rate` or `interval_ms`")),
            (Some(0), None) => Err(ConfigError::at("interval_ms", "must be above 0")),
            (Some(millis), None) => Ok(Duration::from_millis(millis)),
            (None, Some(rate)) if rate > 0.0 && rate <= RATE_MAX => {
                Duration::try_from_secs_f64(1.0 / rate).map_err(|e| ConfigError::at("rate", e.to_string()))
            }
            (None, Some(_)) => Err(ConfigError::at("rate", format!("must be above 0, up to {RATE_MAX}"))),
            (None, None) => Ok(Duration::from_secs(1)),
        }
    }

    pub(crate) fn device_names(&self) -> Result<Vec<Box<str>>, ConfigError> {
        let names: Vec<Box<str>> = match &self.devices {
            Devices::Count(count) => {
                let shown = (*count as usize).min(DEVICES_MAX + 1);
                (1..=shown).map(|n| format!("sim-{n}").into()).collect()
            }
            Devices::Names(names) => names.iter().map(|name| name.as_str().into()).collect(),
        };
        if names.is_empty() || names.len() > DEVICES_MAX {
            return Err(ConfigError::at("devices", format!("must be 1 to {DEVICES_MAX}")));
        }
        let bad = |name: &str| name.is_empty() || name.len() > 255 || name.contains(['/', '+', '#', '\0']);
        match names.iter().position(|name| bad(name)) {
            Some(index) => Err(ConfigError::at(
                format!("devices[{index}]"),
                "must be 1 to 255 bytes without `/`, `+`, `#`: it becomes a level of the topic",
            )),
            None => Ok(names),
        }
    }

    pub(crate) fn check_kinds(&self) -> Result<(), ConfigError> {
        match self.kinds.is_empty() {
            true => Err(ConfigError::at("kinds", "must name at least one")),
            false => Ok(()),
        }
    }
}
