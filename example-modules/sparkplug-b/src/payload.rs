//! The payload of Sparkplug B (section 6.4 of its specification 3.0.0), as far as values go: data sets and templates
//! are told as null.

use std::fmt::Write;

use sandbar_guest::serde_json::Value;

use crate::protobuf::{Fields, Wire, WireError};

/// Fields whose type is known by their number.
const BOOLEAN: u64 = 14;
const BYTES: u64 = 16;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Payload<'a> {
    /// Milliseconds since the epoch.
    pub(crate) timestamp: Option<u64>,
    pub(crate) metrics: Vec<Metric<'a>>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Metric<'a> {
    pub(crate) name: Option<String>,
    pub(crate) alias: Option<u64>,
    /// Data should not say it: it is that of the birth.
    pub(crate) datatype: Option<u64>,
    /// With the number of its field; none for null.
    value: Option<(u64, Wire<'a>)>,
}

/// One metric, `Node Control/Rebirth`, of type boolean and true.
pub(crate) const REBIRTH: &[u8] = b"\x12\x1a\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01";

impl<'a> Payload<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut payload = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Varint(timestamp)) => payload.timestamp = Some(timestamp),
                (2, Wire::Bytes(metric)) => payload.metrics.push(Metric::decode(metric)?),
                _ => {}
            }
        }
        Ok(payload)
    }
}

impl<'a> Metric<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut metric = Self::default();
        let mut is_null = false;
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(name)) => metric.name = Some(String::from_utf8_lossy(name).into_owned()),
                (2, Wire::Varint(alias)) => metric.alias = Some(alias),
                (4, Wire::Varint(number)) => metric.datatype = Some(number),
                (7, Wire::Varint(null)) => is_null = null != 0,
                (number @ 10..=16, wire) => metric.value = Some((number, wire)),
                _ => {}
            }
        }
        metric.value = metric.value.filter(|_| !is_null);
        Ok(metric)
    }

    /// The value as JSON, once the type is known.
    pub(crate) fn shown(&self) -> Value {
        let datatype = self.datatype.unwrap_or_default();
        self.value.map_or(Value::Null, |(field, wire)| show(field, wire, datatype))
    }
}

/// Whether numbers of this type are not what they seem to be without it.
pub(crate) fn is_signed(datatype: u64) -> bool {
    (1..=4).contains(&datatype)
}

/// Types: 1 to 4 are signed integers of 8 to 64 bits, in two's complement; 5 to 8 unsigned ones; 11 boolean; 12, 14
/// and 15 text; 13 milliseconds since the epoch; 17 and 18 bytes and files.
fn show(field: u64, wire: Wire<'_>, datatype: u64) -> Value {
    match (wire, datatype) {
        (Wire::Varint(bits), _) if field == BOOLEAN => Value::from(bits != 0),
        (Wire::Varint(bits), 1) => Value::from(bits as i8),
        (Wire::Varint(bits), 2) => Value::from(bits as i16),
        (Wire::Varint(bits), 3) => Value::from(bits as i32),
        (Wire::Varint(bits), 4) => Value::from(bits as i64),
        (Wire::Varint(bits), 11) => Value::from(bits != 0),
        (Wire::Varint(bits), _) => Value::from(bits),
        (Wire::Fixed32(bits), _) => number(f64::from(f32::from_bits(bits)), f32::from_bits(bits).to_string()),
        (Wire::Fixed64(bits), _) => number(f64::from_bits(bits), f64::from_bits(bits).to_string()),
        (Wire::Bytes(bytes), _) if field == BYTES => {
            let mut text = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            Value::from(text)
        }
        (Wire::Bytes(bytes), _) => Value::from(String::from_utf8_lossy(bytes)),
    }
}

/// With the digits of its own precision: 21.3 of 32 bits is not 21.299999237060547. JSON has no word for the rest.
fn number(value: f64, digits: String) -> Value {
    match value.is_finite() {
        true => digits.parse::<f64>().map_or(Value::Null, Value::from),
        false => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use sandbar_guest::serde_json::json;

    use super::*;

    #[test]
    fn a_rebirth_is_a_payload_of_one_metric() {
        let payload = Payload::decode(REBIRTH).unwrap();
        assert_eq!(payload.metrics.len(), 1);
        assert_eq!(payload.metrics[0].name.as_deref(), Some("Node Control/Rebirth"));
        assert_eq!(payload.metrics[0].shown(), json!(true));
    }

    #[test]
    fn types_are_kept() {
        assert_eq!(show(10, Wire::Varint(0xffff_fff6), 3), json!(-10));
        assert_eq!(show(11, Wire::Varint(u64::MAX), 8), json!(u64::MAX));
        assert_eq!(show(12, Wire::Fixed32(21.3_f32.to_bits()), 9), json!(21.3));
        assert_eq!(show(13, Wire::Fixed64(f64::NAN.to_bits()), 10), Value::Null);
        assert_eq!(show(14, Wire::Varint(1), 0), json!(true));
        assert_eq!(show(15, Wire::Bytes(b"ok"), 12), json!("ok"));
        assert_eq!(show(16, Wire::Bytes(&[1, 0xab]), 17), json!("01ab"));
    }
}
