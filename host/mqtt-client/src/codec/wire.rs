//! Data representation (1.5): integers, text, binary data.

use bytes::{Buf, Bytes};

use super::Malformed;

/// Fields of one packet, taken from its front.
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < count {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(count))
    }

    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed::Short)
    }

    pub(super) fn two(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| Malformed::Short)
    }

    pub(super) fn four(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed::Short)
    }

    pub(super) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.two()? {
            0 => Err(Malformed::PacketId),
            id => Ok(id),
        }
    }

    /// A variable byte integer (1.5.5).
    pub(super) fn variable(&mut self) -> Result<u32, Malformed> {
        match variable(&self.0)? {
            Some((value, size)) => {
                self.0.advance(size);
                Ok(value)
            }
            None => Err(Malformed::Short),
        }
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, Malformed> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    pub(super) fn text(&mut self) -> Result<Box<str>, Malformed> {
        let bytes = self.binary()?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if !text.contains('\0') => Ok(text.into()),
            _ => Err(Malformed::Text),
        }
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Long) }
    }
}

/// The variable byte integer at the front, and how many bytes it has; `None` if it is not all there.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed::Length) }
}

pub(super) fn put_variable(mut value: usize, into: &mut Vec<u8>) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return into.push(byte);
        }
        into.push(byte | 0x80);
    }
}

/// At most 65,535 bytes: what is longer is cut, so that the rest of the packet stays readable. Who makes packets
/// checks what may be longer before.
pub(super) fn put_binary(bytes: &[u8], into: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&bytes[..usize::from(length)]);
}

pub(super) fn put_text(text: &str, into: &mut Vec<u8>) {
    put_binary(text.as_bytes(), into);
}

pub(super) fn put_two(value: u16, into: &mut Vec<u8>) {
    into.extend_from_slice(&value.to_be_bytes());
}
