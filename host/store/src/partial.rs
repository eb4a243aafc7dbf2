//! What a row stands for when its payload has a file of its own, which is read later and without the database.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use sandbar_reading::{Attributes, Delivery, Reading};

use crate::change::{DeadLetter, Queued, Subject, Waiting};
use crate::digest::Digest;
use crate::folder::whole;
use crate::payloads::Payloads;

/// Where a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Complete but for its payload, if that has a file.
#[derive(Clone, Debug)]
pub(crate) struct Partial<T> {
    it: T,
    kept: Option<Kept>,
}

/// Why a payload is not to be had.
#[derive(Debug)]
pub(crate) enum Missing {
    /// There is no file, or not the one that was written, or the disk cannot read it.
    Lost(String),
    /// The disk does not say.
    Unreadable(io::Error),
}

/// Has a payload, once.
pub(crate) trait Carries {
    fn payload(&self) -> &Bytes;
    fn payload_mut(&mut self) -> &mut Bytes;
    fn attributes_mut(&mut self) -> &mut Attributes;
}

impl<T> Partial<T> {
    pub(crate) const fn new(it: T, kept: Option<Kept>) -> Self {
        Self { it, kept }
    }

    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Partial<U> {
        Partial { it: map(self.it), kept: self.kept }
    }

    pub(crate) const fn it(&self) -> &T {
        &self.it
    }

    /// Where its payload is, if it has a file.
    pub(crate) const fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// Bytes that are not in memory yet.
    pub(crate) fn bytes_to_come(&self) -> usize {
        self.kept.map_or(0, |kept| kept.bytes as usize)
    }

    /// It, if nothing is missing.
    #[cfg(test)]
    pub(crate) fn whole(self) -> Result<T, Kept> {
        match self.kept {
            None => Ok(self.it),
            Some(kept) => Err(kept),
        }
    }

    /// It, with an empty payload if that has a file.
    pub(crate) fn without_payload(self) -> T {
        self.it
    }
}

impl<T: Carries> Partial<T> {
    /// Bytes of its payload, wherever that is.
    pub(crate) fn size(&self) -> usize {
        self.it.payload().len() + self.bytes_to_come()
    }

    /// It, with the payload that was missing.
    pub(crate) fn with(self, payload: Bytes) -> T {
        let mut it = self.it;
        *it.payload_mut() = payload;
        it
    }
}

impl Kept {
    pub(crate) fn read(&self, payloads: &Payloads) -> Result<Bytes, Missing> {
        match whole(payloads.folder(), &self.digest) {
            Ok(Some(bytes)) => Ok(Bytes::from(bytes)),
            Ok(None) => Err(Missing::Lost(format!("its payload, {}, is missing on disk", self.digest))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Missing::Lost(format!("its payload, {}, is damaged on disk", self.digest)))
            }
            // Asked again it would say the same, and whoever waits for it would wait for ever. If the disk fails as a
            // whole, that it is lost cannot be committed either.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Err(Missing::Lost(format!("its payload, {}, cannot be read: {error}", self.digest)))
            }
            Err(error) => Err(Missing::Unreadable(error)),
        }
    }
}

macro_rules! carries {
    ($($type:ty: $it:ident => $payload:expr, $payload_mut:expr, $attributes_mut:expr;)+) => {
        $(impl Carries for $type {
            fn payload(&self) -> &Bytes {
                let $it = self;
                $payload
            }

            fn payload_mut(&mut self) -> &mut Bytes {
                let $it = self;
                $payload_mut
            }

            fn attributes_mut(&mut self) -> &mut Attributes {
                let $it = self;
                $attributes_mut
            }
        })+
    };
}

carries! {
    Reading: it => &it.payload, &mut it.payload, &mut it.attributes;
    Delivery: it => &it.message.payload, &mut it.message.payload, &mut it.message.attributes;
    Waiting: it => it.reading.payload(), Arc::make_mut(&mut it.reading).payload_mut(),
        Arc::make_mut(&mut it.reading).attributes_mut();
    Queued: it => it.delivery.payload(), Arc::make_mut(&mut it.delivery).payload_mut(),
        Arc::make_mut(&mut it.delivery).attributes_mut();
    DeadLetter: it => it.subject.payload(), it.subject.payload_mut(), it.subject.attributes_mut();
}

impl Carries for Subject {
    fn payload(&self) -> &Bytes {
        match self {
            Self::Reading { reading, .. } => reading.payload(),
            Self::Delivery { delivery, .. } => delivery.payload(),
        }
    }

    fn payload_mut(&mut self) -> &mut Bytes {
        match self {
            Self::Reading { reading, .. } => Arc::make_mut(reading).payload_mut(),
            Self::Delivery { delivery, .. } => Arc::make_mut(delivery).payload_mut(),
        }
    }

    fn attributes_mut(&mut self) -> &mut Attributes {
        match self {
            Self::Reading { reading, .. } => Arc::make_mut(reading).attributes_mut(),
            Self::Delivery { delivery, .. } => Arc::make_mut(delivery).attributes_mut(),
        }
    }
}
