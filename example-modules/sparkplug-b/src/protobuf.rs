//! Protocol Buffers as they are on the wire (encoding of proto2), as far as Sparkplug B needs them.

use std::fmt;

/// A field's value, before its type is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    BreaksOff,
    /// A varint of more than 64 bits.
    TooLong,
    /// A wire type that is not in use.
    UnknownType(u8),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BreaksOff => f.write_str("it breaks off"),
            Self::TooLong => f.write_str("a number is too long"),
            Self::UnknownType(wire) => write!(f, "wire type {wire} is not in use"),
        }
    }
}

/// The fields of a message, by number.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Wire<'a>), WireError> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| WireError::BreaksOff)?))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::BreaksOff)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| WireError::BreaksOff)?))
            }
            other => return Err(WireError::UnknownType(other as u8)),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::TooLong)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::BreaksOff)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_ends_with_an_error_or_the_end() {
        let mut state = 1_u64;
        for _ in 0..1000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            assert!(Fields(&bytes).count() <= bytes.len());
        }
        assert_eq!(Fields(&[0x80; 11]).next(), Some(Err(WireError::TooLong)));
        assert_eq!(Fields(&[0x12, 5, 1]).next(), Some(Err(WireError::BreaksOff)));
    }
}
