//! Units of measurement, by the names that sensors give them.

use std::fmt;

/// What is wrong with a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// This is no unit that is known here.
    Unknown(String),
    /// They measure different things.
    Incompatible(String, String),
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(unit) => write!(f, "`{unit}` is no unit that is known here"),
            Self::Incompatible(from, to) => write!(f, "`{from}` cannot be converted to `{to}`"),
        }
    }
}

impl std::error::Error for UnitError {}

/// A number of one unit in another.
///
/// ```
/// # use sandbar_guest::units::convert;
/// assert_eq!(convert(212.0, "°F", "C").unwrap(), 100.0);
/// assert_eq!(convert(36.0, "km/h", "m/s").unwrap(), 10.0);
/// assert_eq!(convert(1.0, "C", "bar").unwrap_err().to_string(), "`C` cannot be converted to `bar`");
/// ```
pub fn convert(value: f64, from: &str, to: &str) -> Result<f64, UnitError> {
    let (source, target) = (find(from)?, find(to)?);
    if source.kind != target.kind {
        return Err(UnitError::Incompatible(from.to_owned(), to.to_owned()));
    }
    if std::ptr::eq(source, target) {
        return Ok(value);
    }
    Ok(((value + source.offset) * source.factor / target.factor) - target.offset)
}

/// Whether a unit of that name is known.
pub fn is_known(unit: &str) -> bool {
    find(unit).is_ok()
}

fn find(name: &str) -> Result<&'static Unit, UnitError> {
    let bare = name.trim().trim_start_matches('°');
    let exact = UNITS.iter().find(|unit| unit.names.contains(&bare));
    // Only the long names may be written in any case: `mw` could be a milliwatt or a megawatt.
    let long = || {
        UNITS
            .iter()
            .find(|unit| unit.names.iter().any(|known| known.len() > 4 && known.eq_ignore_ascii_case(bare)))
    };
    exact.or_else(long).ok_or_else(|| UnitError::Unknown(name.to_owned()))
}

#[derive(PartialEq, Eq)]
enum Kind {
    Temperature,
    Length,
    Area,
    Volume,
    Mass,
    Time,
    Speed,
    Pressure,
    Energy,
    Power,
    Voltage,
    Current,
    Frequency,
    Angle,
    Share,
    Flow,
    Acceleration,
    Data,
}

/// `(value + offset) * factor` is in the base unit of its kind.
struct Unit {
    kind: Kind,
    names: &'static [&'static str],
    factor: f64,
    offset: f64,
}

const fn unit(kind: Kind, factor: f64, names: &'static [&'static str]) -> Unit {
    Unit { kind, names, factor, offset: 0.0 }
}

const UNITS: &[Unit] = &[
    unit(Kind::Temperature, 1.0, &["C", "celsius", "degC"]),
    Unit { kind: Kind::Temperature, names: &["K", "kelvin"], factor: 1.0, offset: -273.15 },
    Unit { kind: Kind::Temperature, names: &["F", "fahrenheit", "degF"], factor: 5.0 / 9.0, offset: -32.0 },
    unit(Kind::Length, 1.0, &["m", "metre", "meter"]),
    unit(Kind::Length, 1e-3, &["mm", "millimetre", "millimeter"]),
    unit(Kind::Length, 1e-2, &["cm", "centimetre", "centimeter"]),
    unit(Kind::Length, 1e3, &["km", "kilometre", "kilometer"]),
    unit(Kind::Length, 0.0254, &["in", "inch"]),
    unit(Kind::Length, 0.3048, &["ft", "foot"]),
    unit(Kind::Length, 1609.344, &["mi", "mile"]),
    unit(Kind::Area, 1.0, &["m2", "m²"]),
    unit(Kind::Area, 1e4, &["ha", "hectare"]),
    unit(Kind::Volume, 1.0, &["m3", "m³"]),
    unit(Kind::Volume, 1e-3, &["l", "L", "litre", "liter"]),
    unit(Kind::Volume, 1e-6, &["ml", "mL", "millilitre", "milliliter"]),
    unit(Kind::Volume, 0.003_785_411_784, &["gal", "gallon"]),
    unit(Kind::Mass, 1.0, &["kg", "kilogram"]),
    unit(Kind::Mass, 1e-3, &["g", "gram"]),
    unit(Kind::Mass, 1e3, &["t", "tonne"]),
    unit(Kind::Mass, 0.453_592_37, &["lb", "pound"]),
    unit(Kind::Time, 1.0, &["s", "second"]),
    unit(Kind::Time, 1e-3, &["ms", "millisecond"]),
    unit(Kind::Time, 60.0, &["min", "minute"]),
    unit(Kind::Time, 3600.0, &["h", "hour"]),
    unit(Kind::Speed, 1.0, &["m/s"]),
    unit(Kind::Speed, 1.0 / 3.6, &["km/h", "kmh", "kph"]),
    unit(Kind::Speed, 0.447_04, &["mph"]),
    unit(Kind::Speed, 1852.0 / 3600.0, &["kn", "kt", "knots"]),
    unit(Kind::Pressure, 1.0, &["Pa", "pascal"]),
    unit(Kind::Pressure, 100.0, &["hPa", "mbar", "hectopascal", "millibar"]),
    unit(Kind::Pressure, 1e3, &["kPa", "kilopascal"]),
    unit(Kind::Pressure, 1e5, &["bar"]),
    unit(Kind::Pressure, 6_894.757_293_168, &["psi"]),
    unit(Kind::Pressure, 133.322_387_415, &["mmHg"]),
    unit(Kind::Energy, 1.0, &["J", "joule"]),
    unit(Kind::Energy, 1e3, &["kJ", "kilojoule"]),
    unit(Kind::Energy, 3600.0, &["Wh"]),
    unit(Kind::Energy, 3.6e6, &["kWh"]),
    unit(Kind::Energy, 3.6e9, &["MWh"]),
    unit(Kind::Power, 1.0, &["W", "watts"]),
    unit(Kind::Power, 1e-3, &["mW"]),
    unit(Kind::Power, 1e3, &["kW", "kilowatt"]),
    unit(Kind::Power, 1e6, &["MW", "megawatt"]),
    unit(Kind::Voltage, 1.0, &["V", "volts"]),
    unit(Kind::Voltage, 1e-3, &["mV", "millivolt"]),
    unit(Kind::Voltage, 1e3, &["kV", "kilovolt"]),
    unit(Kind::Current, 1.0, &["A", "ampere"]),
    unit(Kind::Current, 1e-3, &["mA", "milliampere"]),
    unit(Kind::Frequency, 1.0, &["Hz", "hertz"]),
    unit(Kind::Frequency, 1e3, &["kHz"]),
    unit(Kind::Frequency, 1.0 / 60.0, &["rpm", "1/min"]),
    unit(Kind::Angle, 1.0, &["rad", "radian"]),
    unit(Kind::Angle, std::f64::consts::PI / 180.0, &["deg", "degree"]),
    unit(Kind::Share, 1.0, &["1", "ratio"]),
    unit(Kind::Share, 1e-2, &["%", "percent"]),
    unit(Kind::Share, 1e-6, &["ppm"]),
    unit(Kind::Flow, 1.0, &["m3/s", "m³/s"]),
    unit(Kind::Flow, 1.0 / 3600.0, &["m3/h", "m³/h"]),
    unit(Kind::Flow, 1e-3, &["l/s", "L/s"]),
    unit(Kind::Flow, 1e-3 / 60.0, &["l/min", "L/min"]),
    unit(Kind::Acceleration, 1.0, &["m/s2", "m/s²"]),
    unit(Kind::Acceleration, 9.806_65e-3, &["mG", "mg0"]),
    unit(Kind::Data, 1.0, &["B", "bytes"]),
    unit(Kind::Data, 1e3, &["kB"]),
    unit(Kind::Data, 1024.0, &["KiB"]),
    unit(Kind::Data, 1e6, &["MB"]),
    unit(Kind::Data, 1_048_576.0, &["MiB"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, from: &str, to: &str, expected: f64) {
        let converted = convert(value, from, to).unwrap();
        assert!((converted - expected).abs() <= expected.abs() * 1e-12, "{value} {from} = {converted} {to}");
    }

    #[test]
    fn converts_there_and_back() {
        check(-40.0, "F", "C", -40.0);
        check(20.0, "Celsius", "K", 293.15);
        check(1013.25, "hPa", "bar", 1.01325);
        check(1.0, "kWh", "kJ", 3600.0);
        check(1500.0, "rpm", "Hz", 25.0);
        check(0.1 + 0.2, "V", "V", 0.1 + 0.2);
        for unit in UNITS {
            let base = UNITS.iter().find(|base| base.kind == unit.kind).unwrap();
            let there = convert(12.5, unit.names[0], base.names[0]).unwrap();
            check(there, base.names[0], unit.names[0], 12.5);
        }
    }

    #[test]
    fn no_name_means_two_things() {
        let mut names: Vec<&str> = UNITS.iter().flat_map(|unit| unit.names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(convert(1.0, "mw", "W"), Err(UnitError::Unknown("mw".to_owned())));
        assert_eq!(convert(1.0, "MilliVolt", "V"), Ok(1e-3));
    }
}
