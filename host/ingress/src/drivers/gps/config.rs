//! Settings of a GPS ingress, and what is refused of them.

use std::time::Duration;

use sandbar_reading::{ConfigError, Topic};
use schemars::JsonSchema;
use serde::Deserialize;

use super::gate::Pace;
use crate::serial_port::{FlowControl, SerialPort};

/// Takes positions from a receiver of satellite navigation: one on a serial port that speaks NMEA 0183, or any that
/// gpsd has. A reading is JSON with units in its names, without what the receiver does not say:
/// `{"fix":"3d","time":"2026-01-01T07:00:00.000000Z","latitude_deg":47.3769,"longitude_deg":8.5417,"altitude_m":408.1,"speed_m_s":1.4,"course_deg":31.6,"accuracy_m":5.2,"satellites":8}`.
///
/// `fix` is `3d`, `2d` (no height) or `none`. When the fix is lost, one reading says so:
/// `{"fix":"none","cause":"the receiver is silent"}`; an old position is never repeated. The reading's time is the
/// receiver's. Of NMEA the sentences GGA, RMC, GNS, GSA and GST are read, of any system of satellites; those with a
/// wrong checksum are passed over. `accuracy_m` is what the receiver says (GST; gpsd's `eph`), else 5 m times its
/// horizontal dilution of precision.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The receiver's serial port: a path, or a USB id such as `1546:01a8`; see the `serial` driver. Either this or `gpsd`.
    #[serde(default)]
    port: Option<String>,
    /// Bits per second of the port.
    #[serde(default = "default::baud")]
    baud: u32,
    /// Data bits, parity and stop bits of the port.
    #[serde(default = "default::mode")]
    mode: String,
    /// Host and port of gpsd: `127.0.0.1:2947`.
    #[serde(default)]
    gpsd: Option<String>,
    /// Milliseconds between two readings, at least. Receivers say where they are every second, or more often.
    #[serde(default = "default::interval_ms")]
    interval_ms: u64,
    /// Metres to have moved since the last reading for another one.
    #[serde(default)]
    distance_m: Option<f64>,
    /// With `distance_m`: milliseconds after which there is a reading although it did not move.
    #[serde(default)]
    still_ms: Option<u64>,
    /// Milliseconds without a fix, or without a word of the receiver, after which the fix is lost.
    #[serde(default = "default::lost_after_ms")]
    lost_after_ms: u64,
    /// Topic of the readings.
    #[serde(default = "default::topic")]
    topic: String,
    /// Device of the readings.
    #[serde(default)]
    device: Option<String>,
}

mod default {
    pub(super) fn baud() -> u32 {
        9600
    }

    pub(super) fn mode() -> String {
        "8N1".to_owned()
    }

    pub(super) fn interval_ms() -> u64 {
        10_000
    }

    pub(super) fn lost_after_ms() -> u64 {
        5000
    }

    pub(super) fn topic() -> String {
        "gps".to_owned()
    }
}

/// Where the receiver is.
pub(super) enum Place {
    Port(SerialPort),
    Gpsd(String),
}

/// The settings, checked.
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) pace: Pace,
    pub(super) topic: Topic,
    pub(super) device: Option<Box<str>>,
}

impl Config {
    pub(super) fn settings(self) -> Result<Settings, ConfigError> {
        let above_0 = |setting: &str, millis: u64| match millis {
            0 => Err(ConfigError::at(setting, "must be above 0")),
            millis => Ok(Duration::from_millis(millis)),
        };
        if self.distance_m.is_some_and(|distance| !(distance > 0.0 && distance.is_finite())) {
            return Err(ConfigError::at("distance_m", "must be above 0"));
        }
        if self.still_ms.is_some() && self.distance_m.is_none() {
            return Err(ConfigError::at("still_ms", "is of no use without `distance_m`"));
        }
        Ok(Settings {
            pace: Pace {
                interval: Duration::from_millis(self.interval_ms),
                distance_m: self.distance_m,
                still: self.still_ms.map(|millis| above_0("still_ms", millis)).transpose()?,
                lost_after: above_0("lost_after_ms", self.lost_after_ms)?,
            },
            topic: self.topic.parse().map_err(|error| ConfigError::at("topic", format!("{error}")))?,
            device: self.device.as_deref().map(Into::into),
            place: self.place()?,
        })
    }

    fn place(&self) -> Result<Place, ConfigError> {
        match (&self.port, &self.gpsd) {
            (Some(port), None) => {
                SerialPort::new(port, self.baud, &self.mode, FlowControl::None).map(Place::Port)
            }
            (None, Some(address)) => {
                let parts = address.rsplit_once(':');
                match parts.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
                    Some(_) => Ok(Place::Gpsd(address.clone())),
                    None => Err(ConfigError::at("gpsd", "must be a host and a port, such as 127.0.0.1:2947")),
                }
            }
            _ => Err(ConfigError::at("port", "set either this or `gpsd`")),
        }
    }
}
