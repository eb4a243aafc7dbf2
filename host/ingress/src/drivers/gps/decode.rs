//! A line of a receiver, or of gpsd, to a fix. Pure.

use super::fix::Fix;
use super::gpsd::{self, Reports};
use super::nmea::{self, Sentences};

/// What is spoken.
#[derive(Debug)]
pub(crate) enum Talk {
    Nmea(Sentences),
    Gpsd(Reports),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRead {
    #[error("a line that is no text")]
    NoText,
    #[error(transparent)]
    Sentence(#[from] nmea::NotRead),
    #[error(transparent)]
    Report(#[from] gpsd::NotRead),
}

impl Talk {
    pub(crate) fn nmea() -> Self {
        Self::Nmea(Sentences::default())
    }

    pub(crate) fn gpsd() -> Self {
        Self::Gpsd(Reports::default())
    }

    /// A fix that is complete now.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<Option<Fix>, NotRead> {
        match self {
            Self::Nmea(sentences) => {
                let line = std::str::from_utf8(line).map_err(|_| NotRead::NoText)?;
                Ok(sentences.line(line)?)
            }
            Self::Gpsd(reports) => Ok(reports.line(line)?),
        }
    }

    /// Whether something of a fix was said that may not be all.
    pub(super) fn is_within(&self) -> bool {
        matches!(self, Self::Nmea(sentences) if !sentences.is_empty())
    }

    /// The fix that is not complete, but will not be any more.
    pub(crate) fn rest(&mut self) -> Option<Fix> {
        match self {
            Self::Nmea(sentences) => sentences.rest(),
            Self::Gpsd(_) => None,
        }
    }
}

/// For those who throw garbage at it: a sentence with whatever checksum, which is put right.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decodes(bytes: &[u8]) -> bool {
    let body = bytes.strip_prefix(b"$").unwrap_or(bytes);
    let body = body.split(|byte| *byte == b'*').next().unwrap_or_default();
    let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
    let sentence = [b"$", body, format!("*{sum:02X}").as_bytes()].concat();
    let mut talk = Talk::nmea();
    let taken = talk.line(&sentence).is_ok();
    taken && talk.rest().is_none_or(|fix| !fix.json().is_empty())
}
