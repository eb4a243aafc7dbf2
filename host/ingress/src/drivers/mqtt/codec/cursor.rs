//! Reads MQTT's data types (MQTT 5.0, section 1.5) off a packet's body.

use bytes::{Buf, Bytes};

use super::Wrong;

/// Payloads below this are copied out of the connection's buffer: a short message that is kept for long
/// would else keep the whole buffer.
const SHARED_FROM: usize = 16 << 10;

pub(super) struct Cursor(Bytes);

impl Cursor {
    pub(super) const fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        self.0.try_get_u8().map_err(|_| Wrong::Malformed("it ends too early"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Wrong> {
        self.0.try_get_u16().map_err(|_| Wrong::Malformed("it ends too early"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.0.try_get_u32().map_err(|_| Wrong::Malformed("it ends too early"))
    }

    /// A packet identifier, which is not 0.
    pub(super) fn packet_id(&mut self) -> Result<u16, Wrong> {
        match self.u16()? {
            0 => Err(Wrong::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// A variable byte integer.
    pub(super) fn variable(&mut self) -> Result<u32, Wrong> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Wrong::Malformed("a variable byte integer of more than four bytes"))
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, Wrong> {
        if self.0.len() < length {
            return Err(Wrong::Malformed("a length beyond the packet's end"));
        }
        Ok(self.0.split_to(length))
    }

    /// Binary data of its own, not of the connection's buffer.
    pub(super) fn binary(&mut self) -> Result<Bytes, Wrong> {
        let length = self.u16()?;
        Ok(Bytes::copy_from_slice(&self.take(length.into())?))
    }

    /// A UTF-8 string, without NUL (section 1.5.4).
    pub(super) fn text(&mut self) -> Result<Box<str>, Wrong> {
        let length = self.u16()?;
        let bytes = self.take(length.into())?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Wrong::Malformed("a text that is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(Wrong::Malformed("a text with NUL"));
        }
        Ok(text.into())
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        match self.0.len() {
            0 => Bytes::new(),
            short if short < SHARED_FROM => Bytes::copy_from_slice(&self.0),
            _ => self.0,
        }
    }

    pub(super) fn end(&self) -> Result<(), Wrong> {
        if self.is_empty() { Ok(()) } else { Err(Wrong::Malformed("bytes behind its end")) }
    }
}
