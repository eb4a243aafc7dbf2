//! What is set of a stream, and what is refused of it.

use std::time::Duration;

use sandbar_reading::{ConfigError, ContentType, Framing, Octets};

use crate::naming::Naming;
use crate::phrase::Phrase;
use crate::written::CommandForm;

/// What becomes of a stream when it ends, or is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Each side ends what it sends by itself; a peer at fault is cut off.
    Connection,
    /// It is there or not; what is at fault is passed over.
    Line,
}

/// The settings, as they are written.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) nature: Nature,
    pub(crate) framing: &'a Framing,
    pub(crate) frame_max: Option<usize>,
    pub(crate) naming: Naming,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) acknowledge: Option<&'a Octets>,
    pub(crate) refuse: Option<&'a Octets>,
    pub(crate) commands: CommandForm,
    pub(crate) reply_timeout_ms: u64,
    pub(crate) frame_timeout_ms: Option<u64>,
    pub(crate) idle_timeout_ms: Option<u64>,
    pub(crate) read_timeout_ms: Option<u64>,
}

/// The settings, checked.
pub(crate) struct Settings {
    pub(super) nature: Nature,
    pub(super) framing: Framing,
    pub(super) frame_max: usize,
    pub(super) naming: Naming,
    pub(super) content_type: ContentType,
    pub(super) acknowledge: Option<Phrase>,
    pub(super) refuse: Option<Phrase>,
    pub(super) commands: CommandForm,
    pub(super) reply_timeout: Duration,
    pub(super) frame_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// After so long a silence, what has arrived is a frame.
    pub(super) silence: Option<Duration>,
}

impl Options<'_> {
    /// The error names the setting.
    pub(crate) fn settings(self) -> Result<Settings, ConfigError> {
        for (setting, is_zero) in [
            ("frame_max", self.frame_max == Some(0)),
            ("frame_timeout_ms", self.frame_timeout_ms == Some(0)),
            ("idle_timeout_ms", self.idle_timeout_ms == Some(0)),
            ("read_timeout_ms", self.read_timeout_ms == Some(0)),
            ("reply_timeout_ms", self.reply_timeout_ms == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        self.framing.check().map_err(|error| error.within("framing"))?;
        Ok(Settings {
            nature: self.nature,
            framing: self.framing.clone(),
            frame_max: self.frame_max.unwrap_or(usize::MAX),
            content_type: self.content_type()?,
            naming: self.naming,
            acknowledge: self.acknowledge.map(Phrase::parse),
            refuse: self.refuse.map(Phrase::parse),
            commands: self.commands,
            reply_timeout: Duration::from_millis(self.reply_timeout_ms),
            frame_timeout: self.frame_timeout_ms.map(Duration::from_millis),
            idle_timeout: self.idle_timeout_ms.map(Duration::from_millis),
            silence: self.read_timeout_ms.map(Duration::from_millis),
        })
    }

    fn content_type(&self) -> Result<ContentType, ConfigError> {
        match self.content_type {
            Some(text) => text.parse().map_err(|error| ConfigError::at("content_type", format!("{error}"))),
            None if *self.framing == Framing::Lines => Ok(ContentType::TEXT),
            None => Ok(ContentType::OCTETS),
        }
    }
}
