//! How a stream of bytes is cut into frames: what TCP, serial lines and their sinks share. Pure.

mod cut;

use bytes::{BufMut, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::cut::Cutter;
use crate::Octets;

/// Where one frame of a stream ends and the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Framing {
    /// Whatever arrives at once, as it arrives: `{ kind = "raw" }`. The network may join and split it.
    Raw,
    /// Text lines, which end in LF or CR LF: `{ kind = "lines" }`. Empty lines are passed over.
    #[default]
    Lines,
    /// A number of bytes stands before each frame: `{ kind = "length", size = "u16", order = "big" }`.
    Length {
        /// How wide the number is: `u8`, `u16` or `u32`.
        size: LengthSize,
        /// Which of its bytes comes first: `big` (the most significant one, as on networks) or `little`.
        #[serde(default)]
        order: ByteOrder,
        /// Whether the number counts its own bytes, too.
        #[serde(default)]
        counts_itself: bool,
    },
    /// Every frame has so many bytes: `{ kind = "fixed", bytes = 12 }`.
    Fixed {
        /// At least 1.
        bytes: u32,
    },
    /// These bytes stand after each frame: `{ kind = "delimiter", end = "\u0003" }` or
    /// `{ kind = "delimiter", end = { hex = "0d0a" } }`. Empty frames are passed over.
    Delimiter {
        /// One byte or more; not a part of the frame.
        end: Octets,
    },
}

/// The width of a frame's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LengthSize {
    U8,
    U16,
    U32,
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ByteOrder {
    #[default]
    Big,
    Little,
}

/// What is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {size} bytes or more; {limit} are the most")]
    TooLong { size: usize, limit: usize },
    #[error("a length of {length} that is to count its own {size} bytes")]
    LengthBelowItself { length: usize, size: usize },
    #[error("the payload holds what ends a frame, at byte {at}")]
    HoldsItsEnd { at: usize },
    #[error("a frame has {wanted} bytes, the payload {size}")]
    WrongSize { size: usize, wanted: usize },
    #[error("silence after {size} bytes of a frame that has more")]
    CutOff { size: usize },
    #[error("an empty payload makes no frame")]
    Empty,
}

impl LengthSize {
    const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    const fn max(self) -> u64 {
        (1 << (8 * self.bytes())) - 1
    }
}

impl Framing {
    /// What makes it unusable: the setting within it, and the problem.
    pub fn check(&self) -> Result<(), crate::ConfigError> {
        match self {
            Self::Fixed { bytes: 0 } => Err(crate::ConfigError::at("bytes", "must be above 0")),
            Self::Delimiter { end } if end.as_slice().is_empty() => {
                Err(crate::ConfigError::at("end", "must be at least one byte"))
            }
            _ => Ok(()),
        }
    }

    /// The payload as one frame. The other side finds just this payload in it.
    pub fn encode(&self, payload: &[u8]) -> Result<Bytes, FrameError> {
        match self {
            Self::Raw if payload.is_empty() => Err(FrameError::Empty),
            Self::Raw => Ok(Bytes::copy_from_slice(payload)),
            Self::Lines => ended(payload, b"\n"),
            Self::Delimiter { end } => ended(payload, end.as_slice()),
            Self::Fixed { bytes } => {
                let wanted = *bytes as usize;
                match payload.len() == wanted {
                    true => Ok(Bytes::copy_from_slice(payload)),
                    false => Err(FrameError::WrongSize { size: payload.len(), wanted }),
                }
            }
            Self::Length { size, order, counts_itself } => {
                let length = payload.len() + if *counts_itself { size.bytes() } else { 0 };
                let limit = usize::try_from(size.max()).unwrap_or(usize::MAX);
                if length > limit {
                    return Err(FrameError::TooLong { size: payload.len(), limit });
                }
                let mut frame = BytesMut::with_capacity(size.bytes() + payload.len());
                match order {
                    ByteOrder::Big => frame.put_uint(length as u64, size.bytes()),
                    ByteOrder::Little => frame.put_uint_le(length as u64, size.bytes()),
                }
                frame.extend_from_slice(payload);
                Ok(frame.freeze())
            }
        }
    }
}

fn ended(payload: &[u8], end: &[u8]) -> Result<Bytes, FrameError> {
    if payload.is_empty() {
        return Err(FrameError::Empty);
    }
    let mut frame = BytesMut::with_capacity(payload.len() + end.len());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(end);
    // Also an end that begins in the payload and ends in the end itself.
    match frame[..frame.len() - 1].windows(end.len()).position(|window| window == end) {
        Some(at) => Err(FrameError::HoldsItsEnd { at }),
        None => Ok(frame.freeze()),
    }
}
