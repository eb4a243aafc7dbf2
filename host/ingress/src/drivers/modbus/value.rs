//! Registers to values, and back. Pure.

use sandbar_reading::ByteOrder;
use serde_json::{Number, Value as Json};

use super::table::{Kind, Value};
use crate::widen::widened;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("{name}: {given} is no {kind}")]
    WrongType { name: Box<str>, given: String, kind: &'static str },
    #[error("{name}: {given} is out of range: {least} to {most}")]
    OutOfRange { name: Box<str>, given: String, least: String, most: String },
    #[error("{name}: a text of {size} bytes; {most} are the most")]
    TooLong { name: Box<str>, size: usize, most: usize },
    #[error("{name}: the device holds no number there")]
    NoNumber { name: Box<str> },
    #[error("{name}: a single bit of a register cannot be written")]
    Bit { name: Box<str> },
}

impl Value {
    /// `words` are its registers, in order.
    pub(super) fn decode(&self, words: &[u16]) -> Result<Json, ValueError> {
        let bytes = self.in_order(words);
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let integer = |number: i128| match self.is_plain() {
            true => Ok(u64::try_from(number).map_or_else(|_| Json::from(number as i64), Json::from)),
            false => self.scaled(number as f64),
        };
        match self.kind {
            Kind::U16 | Kind::U32 | Kind::U64 => integer(bits.into()),
            Kind::I16 => integer((bits as u16 as i16).into()),
            Kind::I32 => integer((bits as u32 as i32).into()),
            Kind::I64 => integer((bits as i64).into()),
            Kind::F32 => self.scaled(widened(f32::from_bits(bits as u32))),
            Kind::F64 => self.scaled(f64::from_bits(bits)),
            Kind::Bool => Ok(Json::from(self.bit.map_or(bits != 0, |bit| bits >> bit & 1 == 1))),
            Kind::String => Ok(Json::from(text(&bytes))),
        }
    }

    /// The registers that hold `given`, in order. A coil is one register, 0 or 1.
    pub(super) fn encode(&self, given: &Json) -> Result<Vec<u16>, ValueError> {
        let bits = match self.kind {
            Kind::Bool if self.bit.is_some() => return Err(ValueError::Bit { name: self.name.clone() }),
            Kind::Bool => {
                let truth = match given {
                    Json::Bool(truth) => Some(*truth),
                    given => given.as_u64().filter(|number| *number <= 1).map(|number| number == 1),
                };
                u64::from(truth.ok_or_else(|| self.wrong(given, "boolean"))?)
            }
            Kind::String => return self.encode_text(given),
            Kind::U16 => self.integer(given, 0, u16::MAX.into())? as u64,
            Kind::U32 => self.integer(given, 0, u32::MAX.into())? as u64,
            Kind::U64 => self.integer(given, 0, u64::MAX.into())? as u64,
            Kind::I16 => self.integer(given, i16::MIN.into(), i16::MAX.into())? as u64,
            Kind::I32 => self.integer(given, i32::MIN.into(), i32::MAX.into())? as u64,
            Kind::I64 => self.integer(given, i64::MIN.into(), i64::MAX.into())? as u64,
            Kind::F32 => {
                let number = self.unscaled(given)?;
                if number.abs() > f64::from(f32::MAX) {
                    return Err(self.out_of_range(given, f64::from(f32::MIN), f64::from(f32::MAX)));
                }
                u64::from((number as f32).to_bits())
            }
            Kind::F64 => self.unscaled(given)?.to_bits(),
        };
        let size = usize::from(self.registers) * 2;
        Ok(self.words(&bits.to_be_bytes()[8 - size..]))
    }

    /// The bytes, most significant first.
    fn in_order(&self, words: &[u16]) -> Vec<u8> {
        let bytes = words.iter().map(|word| match self.byte_order {
            ByteOrder::Big => word.to_be_bytes(),
            ByteOrder::Little => word.to_le_bytes(),
        });
        match self.is_reversed() {
            true => bytes.rev().flatten().collect(),
            false => bytes.flatten().collect(),
        }
    }

    fn words(&self, bytes: &[u8]) -> Vec<u16> {
        let words = bytes.chunks_exact(2).map(|pair| match self.byte_order {
            ByteOrder::Big => u16::from_be_bytes([pair[0], pair[1]]),
            ByteOrder::Little => u16::from_le_bytes([pair[0], pair[1]]),
        });
        if self.is_reversed() { words.rev().collect() } else { words.collect() }
    }

    /// A text is written from its first register to its last, whatever numbers are.
    fn is_reversed(&self) -> bool {
        self.word_order == ByteOrder::Little && self.kind != Kind::String
    }

    fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    fn scaled(&self, number: f64) -> Result<Json, ValueError> {
        let number = if self.is_plain() { number } else { tidy(number * self.scale + self.offset) };
        let number = Number::from_f64(number);
        number.map(Json::Number).ok_or_else(|| ValueError::NoNumber { name: self.name.clone() })
    }

    fn unscaled(&self, given: &Json) -> Result<f64, ValueError> {
        let number = given.as_f64().ok_or_else(|| self.wrong(given, "number"))?;
        Ok(if self.is_plain() { number } else { tidy((number - self.offset) / self.scale) })
    }

    fn integer(&self, given: &Json, least: i128, most: i128) -> Result<i128, ValueError> {
        let exact = given.as_u64().map(i128::from).or_else(|| given.as_i64().map(i128::from));
        let number = match exact.filter(|_| self.is_plain()) {
            Some(number) => number,
            None => {
                let number = self.unscaled(given)?.round();
                if self.is_plain() && given.as_f64() != Some(number) {
                    return Err(self.wrong(given, "whole number"));
                }
                number as i128
            }
        };
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        if self.is_plain() {
            let (name, given) = (self.name.clone(), given.to_string());
            return Err(ValueError::OutOfRange {
                name,
                given,
                least: least.to_string(),
                most: most.to_string(),
            });
        }
        let ends = [least, most].map(|end| tidy(end as f64 * self.scale + self.offset));
        Err(self.out_of_range(given, ends[0].min(ends[1]), ends[0].max(ends[1])))
    }

    fn encode_text(&self, given: &Json) -> Result<Vec<u16>, ValueError> {
        let text = given.as_str().ok_or_else(|| self.wrong(given, "text"))?;
        let most = usize::from(self.registers) * 2;
        if text.len() > most {
            return Err(ValueError::TooLong { name: self.name.clone(), size: text.len(), most });
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(most, 0);
        Ok(self.words(&bytes))
    }

    fn wrong(&self, given: &Json, kind: &'static str) -> ValueError {
        let given: String = given.to_string().chars().take(60).collect();
        ValueError::WrongType { name: self.name.clone(), given, kind }
    }

    fn out_of_range(&self, given: &Json, least: f64, most: f64) -> ValueError {
        let (name, given) = (self.name.clone(), given.to_string());
        ValueError::OutOfRange { name, given, least: least.to_string(), most: most.to_string() }
    }
}

/// 2301 times 0.1 is 230.1: what a double's last digits add to that is not the device's.
fn tidy(number: f64) -> f64 {
    format!("{number:.12e}").parse().unwrap_or(number)
}

/// Up to the first NUL, without blanks at its end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::table::Function;
    use super::super::table::testing::value;
    use super::*;

    fn of(kind: Kind) -> Value {
        value("v", Function::Holding, 0, kind)
    }

    #[test]
    fn registers_are_what_the_table_says() {
        let decoded = |value: &Value, words: &[u16]| value.decode(words).unwrap();
        assert_eq!(decoded(&of(Kind::U16), &[0xffff]), json!(65535));
        assert_eq!(decoded(&of(Kind::I16), &[0xffff]), json!(-1));
        assert_eq!(decoded(&of(Kind::U32), &[0x1234, 0x5678]), json!(0x1234_5678));
        assert_eq!(decoded(&of(Kind::I32), &[0xffff, 0xfffe]), json!(-2));
        assert_eq!(decoded(&of(Kind::U64), &[0xffff; 4]), json!(u64::MAX));
        assert_eq!(decoded(&of(Kind::I64), &[0x8000, 0, 0, 0]), json!(i64::MIN));
        assert_eq!(decoded(&of(Kind::F32), &[0x4366, 0x199a]), json!(230.1));
        assert_eq!(decoded(&of(Kind::F64), &[0x406c, 0xc333, 0x3333, 0x3333]), json!(230.1));
        let swapped = Value { word_order: ByteOrder::Little, ..of(Kind::U32) };
        assert_eq!(decoded(&swapped, &[0x5678, 0x1234]), json!(0x1234_5678));
        let both = Value { byte_order: ByteOrder::Little, ..swapped };
        assert_eq!(decoded(&both, &[0x7856, 0x3412]), json!(0x1234_5678));
        let scaled = Value { scale: 0.1, offset: -40.0, ..of(Kind::U16) };
        assert_eq!(decoded(&scaled, &[2301]), json!(190.1));
        let bit = Value { bit: Some(3), ..of(Kind::Bool) };
        assert_eq!((decoded(&bit, &[8]), decoded(&bit, &[7])), (json!(true), json!(false)));
        let name = Value { registers: 3, word_order: ByteOrder::Little, ..of(Kind::String) };
        assert_eq!(decoded(&name, &[0x4142, 0x4300, 0x5858]), json!("ABC"));
        assert_eq!(of(Kind::F32).decode(&[0x7fc0, 0]), Err(ValueError::NoNumber { name: "v".into() }));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_so_many_words() {
        let refused = |value: &Value, given: Json| value.encode(&given).unwrap_err().to_string();
        assert_eq!(refused(&of(Kind::U16), json!(65536)), "v: 65536 is out of range: 0 to 65535");
        assert_eq!(refused(&of(Kind::I16), json!(-40_000)), "v: -40000 is out of range: -32768 to 32767");
        assert_eq!(refused(&of(Kind::U16), json!(1.5)), "v: 1.5 is no whole number");
        assert_eq!(refused(&of(Kind::U16), json!("hot")), "v: \"hot\" is no number");
        assert_eq!(
            refused(&of(Kind::F32), json!(1e39)),
            format!("v: 1e+39 is out of range: {} to {}", f32::MIN as f64, f32::MAX as f64)
        );
        assert_eq!(refused(&of(Kind::Bool), json!(2)), "v: 2 is no boolean");
        let scaled = Value { scale: 0.1, offset: -40.0, ..of(Kind::U16) };
        assert_eq!(refused(&scaled, json!(7000)), "v: 7000 is out of range: -40 to 6513.5");
        let name = Value { registers: 1, ..of(Kind::String) };
        assert_eq!(refused(&name, json!("ABC")), "v: a text of 3 bytes; 2 are the most");
        let bit = Value { bit: Some(3), ..of(Kind::Bool) };
        assert_eq!(refused(&bit, json!(true)), "v: a single bit of a register cannot be written");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let kind = prop_oneof![
            Just(Kind::U16),
            Just(Kind::I16),
            Just(Kind::U32),
            Just(Kind::I32),
            Just(Kind::U64),
            Just(Kind::I64),
            Just(Kind::F32),
            Just(Kind::F64)
        ];
        let order = || prop_oneof![Just(ByteOrder::Big), Just(ByteOrder::Little)];
        (kind, order(), order()).prop_map(|(kind, word_order, byte_order)| Value {
            word_order,
            byte_order,
            ..of(kind)
        })
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_written_back(value in any_value(), words in any::<[u16; 4]>()) {
            let words = &words[..value.registers.into()];
            if let Ok(read) = value.decode(words) {
                let written = value.encode(&read).unwrap();
                prop_assert_eq!(value.decode(&written).unwrap(), read);
            }
        }
    }
}
