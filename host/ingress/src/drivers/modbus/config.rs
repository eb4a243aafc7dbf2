//! Settings of a Modbus ingress, and what is refused of them.

use std::num::{NonZeroU16, NonZeroU64};
use std::time::Duration;

use sandbar_reading::{ByteOrder, ConfigError, Topic};
use schemars::JsonSchema;
use serde::Deserialize;

use super::table::{Function, Kind, Table, Value};
use crate::pattern::Template;
use crate::serial_port::{FlowControl, SerialPort};

/// Reads registers and coils of Modbus devices (Modbus Application Protocol 1.1b3) at an interval, over TCP or over a
/// serial line (RTU), and decodes them by a table. Each unit gives one reading a poll, JSON with a value and its unit
/// of measurement by name: `{"voltage":{"value":230.1,"unit":"V"},"relay":{"value":true}}`. A value that the device
/// refuses to read has its `error` in place of the `value`.
///
/// When a unit can be read, cannot be any more, or refuses something else than before, one reading with the topic
/// `state_topic` says so: `{"state":"online"}`, `{"state":"unreachable","cause":"no answer within 1000 ms"}`,
/// `{"state":"failing","cause":"holding 100 to 103: illegal data address (exception 2)"}`.
///
/// The command `write` sets what the table names: `{"name":"setpoint","value":21.5}`, or several: `[{…},{…}]`; the
/// value is the one that readings have, with its scale and offset. With `raw_writes` it sets what the table does not
/// name, too: `{"function":"holding","address":100,"values":[1,2]}`,
/// `{"function":"coil","address":0,"values":[true]}`. A value that does not fit is refused, and nothing of the command
/// is written then. The command `read` reads the unit at once.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Host and port of a device or a gateway: `192.168.1.20:502` (Modbus TCP). Either this or `port`.
    #[serde(default)]
    connect: Option<String>,
    /// A serial port (Modbus RTU): a path, or a USB id such as `0403:6001`; see the `serial` driver.
    #[serde(default)]
    port: Option<String>,
    /// Bits per second of the port.
    #[serde(default = "default::baud")]
    baud: u32,
    /// Data bits, parity and stop bits of the port.
    #[serde(default = "default::mode")]
    mode: String,
    /// Milliseconds between the beginnings of two polls. One that takes longer delays the next.
    #[serde(default = "default::interval_ms")]
    interval_ms: NonZeroU64,
    /// Milliseconds that a unit has to answer.
    #[serde(default = "default::timeout_ms")]
    timeout_ms: NonZeroU64,
    /// How many registers are read with one request, at most 125. Values side by side are read together up to this.
    #[serde(default = "default::span_max")]
    span_max: NonZeroU16,
    /// How many registers that no value needs may lie between two values that are read together. Some devices refuse to
    /// read registers that they do not have.
    #[serde(default)]
    gap_max: u16,
    /// The units to read, each with its own table.
    units: Vec<UnitConfig>,
    /// Topic of the readings. `{unit}` is the unit's number, `{device}` its device.
    #[serde(default = "default::topic")]
    topic: String,
    /// Topic of the readings that tell a unit's state.
    #[serde(default = "default::state_topic")]
    state_topic: String,
    /// Whether commands may write what the table does not name.
    #[serde(default)]
    raw_writes: bool,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UnitConfig {
    /// Its number: 1 to 247, over TCP also 0 or 255 for a device that is no gateway.
    unit: u8,
    /// Device of its readings, which is also where its commands go.
    #[serde(default)]
    device: Option<String>,
    /// What to read.
    values: Vec<ValueConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ValueConfig {
    /// What the reading calls it.
    name: String,
    /// `coil`, `discrete`, `input` or `holding`.
    function: Function,
    /// As in requests, counted from 0: what manuals call 40001 is `holding` 0.
    address: u16,
    /// `u16`, `i16`, `u32`, `i32`, `u64`, `i64`, `f32`, `f64`, `bool` or `string`. The default is `bool` for coils and
    /// discrete inputs, which are nothing else, and `u16` for registers.
    #[serde(default, rename = "type")]
    kind: Option<Kind>,
    /// Which register of several comes first: `big` (the most significant one) or `little`.
    #[serde(default)]
    word_order: ByteOrder,
    /// Which byte of a register comes first. Modbus says `big`; some devices do not.
    #[serde(default)]
    byte_order: ByteOrder,
    /// For `bool` in a register: which bit, 0 to 15. Without it, any bit makes it true.
    #[serde(default)]
    bit: Option<u8>,
    /// For `string`: how many registers it takes, at most 125.
    #[serde(default)]
    registers: Option<u16>,
    /// What a number is multiplied with.
    #[serde(default = "default::scale")]
    scale: f64,
    /// What is added to it then.
    #[serde(default)]
    offset: f64,
    /// Its unit of measurement: `V`.
    #[serde(default)]
    unit: Option<String>,
}

mod default {
    use std::num::{NonZeroU16, NonZeroU64};

    pub(super) fn baud() -> u32 {
        19_200
    }

    pub(super) fn mode() -> String {
        "8E1".to_owned()
    }

    pub(super) const fn interval_ms() -> NonZeroU64 {
        NonZeroU64::new(10_000).expect("not 0")
    }

    pub(super) const fn timeout_ms() -> NonZeroU64 {
        NonZeroU64::new(1000).expect("not 0")
    }

    pub(super) const fn span_max() -> NonZeroU16 {
        NonZeroU16::new(125).expect("not 0")
    }

    pub(super) fn topic() -> String {
        "modbus/{unit}".to_owned()
    }

    pub(super) fn state_topic() -> String {
        "modbus/{unit}/state".to_owned()
    }

    pub(super) const fn scale() -> f64 {
        1.0
    }
}

/// Where the units are.
pub(super) enum Place {
    Tcp(String),
    Rtu(SerialPort),
}

pub(super) struct Unit {
    pub(super) number: u8,
    pub(super) device: Option<Box<str>>,
    pub(super) topic: Topic,
    pub(super) state_topic: Topic,
    pub(super) table: Table,
}

/// The settings, checked.
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) units: Vec<Unit>,
    pub(super) raw_writes: bool,
}

/// What one request may ask for (6.3 of the specification).
const REGISTERS_MAX: u16 = 125;

impl Config {
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        let place = self.place()?;
        if self.span_max.get() > REGISTERS_MAX {
            return Err(ConfigError::at("span_max", "must be 125 at most"));
        }
        if self.units.is_empty() {
            return Err(ConfigError::at("units", "there is none"));
        }
        let mut units: Vec<Unit> = Vec::new();
        for (index, config) in self.units.iter().enumerate() {
            let within = |error: ConfigError| error.within(&format!("units[{index}]"));
            let unit = self.unit(config, &place, self.topics(config)?).map_err(within)?;
            if units.iter().any(|other| other.number == unit.number) {
                return Err(within(ConfigError::at("unit", format!("{} is there twice", unit.number))));
            }
            if unit.device.is_some() && units.iter().any(|other| other.device == unit.device) {
                return Err(within(ConfigError::at("device", "is another unit's, too")));
            }
            units.push(unit);
        }
        Ok(Settings {
            place,
            interval: Duration::from_millis(self.interval_ms.get()),
            timeout: Duration::from_millis(self.timeout_ms.get()),
            units,
            raw_writes: self.raw_writes,
        })
    }

    fn place(&self) -> Result<Place, ConfigError> {
        match (&self.connect, &self.port) {
            (Some(address), None) => {
                let parts = address.rsplit_once(':');
                match parts.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
                    Some(_) => Ok(Place::Tcp(address.clone())),
                    None => {
                        Err(ConfigError::at("connect", "must be a host and a port, such as 192.168.1.20:502"))
                    }
                }
            }
            (None, Some(port)) => {
                SerialPort::new(port, self.baud, &self.mode, FlowControl::None).map(Place::Rtu)
            }
            _ => Err(ConfigError::at("connect", "set either this or `port`")),
        }
    }

    /// Of the readings, and of those that tell its state.
    fn topics(&self, config: &UnitConfig) -> Result<(Topic, Topic), ConfigError> {
        let topic = |setting: &str, text: &str| {
            let names = ["unit", "device"].map(Box::<str>::from);
            let bad = |error: String| ConfigError::at(setting, error);
            let template = Template::parse(text, &names).map_err(|error| bad(error.to_string()))?;
            let device = config.device.as_deref().unwrap_or_default();
            let filled = template.fill(&[config.unit.to_string().into(), device.into()]);
            filled.parse::<Topic>().map_err(|error| bad(error.to_string()))
        };
        Ok((topic("topic", &self.topic)?, topic("state_topic", &self.state_topic)?))
    }

    fn unit(&self, config: &UnitConfig, place: &Place, topics: (Topic, Topic)) -> Result<Unit, ConfigError> {
        let is_right = match place {
            Place::Rtu(_) => (1..=247).contains(&config.unit),
            Place::Tcp(_) => !(248..=254).contains(&config.unit),
        };
        if !is_right {
            return Err(ConfigError::at("unit", format!("{} is no unit's number", config.unit)));
        }
        let values =
            config.values.iter().enumerate().map(|(index, value)| {
                value.value().map_err(|error| error.within(&format!("values[{index}]")))
            });
        Ok(Unit {
            number: config.unit,
            device: config.device.as_deref().map(Into::into),
            topic: topics.0,
            state_topic: topics.1,
            table: Table::new(values.collect::<Result<_, _>>()?, self.span_max.get(), self.gap_max)?,
        })
    }
}

impl ValueConfig {
    fn value(&self) -> Result<Value, ConfigError> {
        let kind = self.kind.unwrap_or(if self.function.is_bits() { Kind::Bool } else { Kind::U16 });
        let wrong = |setting: &str, problem: &str| Err(ConfigError::at(setting, problem));
        if self.name.is_empty() {
            return wrong("name", "must not be empty");
        }
        if self.function.is_bits() && kind != Kind::Bool {
            return wrong("type", "a coil or a discrete input is a `bool`");
        }
        match self.bit {
            Some(_) if kind != Kind::Bool || self.function.is_bits() => {
                return wrong("bit", "is for `bool` in a register");
            }
            Some(16..) => return wrong("bit", "must be 0 to 15"),
            _ => {}
        }
        let registers = match (kind, self.registers) {
            (Kind::String, Some(count @ 1..=REGISTERS_MAX)) => count,
            (Kind::String, _) => return wrong("registers", "a `string` needs it: 1 to 125"),
            (_, Some(_)) => return wrong("registers", "is for `string`"),
            (kind, None) => kind.registers(),
        };
        if self.address.checked_add(registers - 1).is_none() {
            return wrong("address", "is too high for what lies there");
        }
        if self.scale == 0.0 || !self.scale.is_finite() || !self.offset.is_finite() {
            return wrong("scale", "must be a number other than 0");
        }
        if !kind.is_number() && (self.scale != 1.0 || self.offset != 0.0) {
            return wrong("scale", "is for numbers");
        }
        Ok(Value {
            name: self.name.as_str().into(),
            function: self.function,
            address: self.address,
            kind,
            registers,
            word_order: self.word_order,
            byte_order: self.byte_order,
            bit: self.bit,
            scale: self.scale,
            offset: self.offset,
            unit: self.unit.as_deref().map(Into::into),
        })
    }
}
