//! What a driver says of a device beside its readings.
//!
//! Most of what is known of devices needs no word: a reading with a device says that it is there and what its
//! resources are, and a [`Hold`] (an attachment, or a connection that speaks for it) that it is connected. These
//! are for what neither tells.

use std::time::Duration;

use serde_json::Value;

use crate::Session;

/// What a device says that it is. What is left out stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people; what a person called it is kept.
    pub name: Option<Box<str>>,
    /// `robot`, `iotlab-m3`.
    pub kind: Option<Box<str>>,
    /// Added to those that it has.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Without a word for so long it is lost, whatever the ingress and its type say.
    pub silence: Option<Duration>,
}

/// One thing that a driver says of a device.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceNote {
    Arrived(DeviceInfo),
    /// A sign of life without a reading.
    Seen,
    Reported {
        resource: Box<str>,
        value: Value,
    },
    /// It said farewell.
    Left,
    /// It is gone without a word.
    Lost,
}

/// What a session says of one device. None of it waits: it is on disk within a second, and lost if the host dies
/// before that, so it must be what comes again when a device comes again.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    session: &'a Session,
    device: &'a str,
}

impl Session {
    /// To say something of a device.
    pub fn device<'a>(&'a self, device: &'a str) -> Device<'a> {
        Device { session: self, device }
    }
}

impl Device<'_> {
    /// It is there; if it is not known, it is from now on. A repeated arrival changes nothing.
    pub fn arrived(self, info: DeviceInfo) {
        self.say(DeviceNote::Arrived(info));
    }

    /// A sign of life that is no reading.
    pub fn seen(self) {
        self.say(DeviceNote::Seen);
    }

    /// A resource has this value: for what does not follow from a reading's topic and JSON keys.
    pub fn reported(self, resource: &str, value: Value) {
        self.say(DeviceNote::Reported { resource: resource.into(), value });
    }

    /// It said farewell. With holds on it, this is why the next one that is dropped ends: say it before.
    pub fn left(self) {
        self.say(DeviceNote::Left);
    }

    /// It is gone without a word: a broken link, no answer in time. Likewise.
    pub fn lost(self) {
        self.say(DeviceNote::Lost);
    }

    fn say(self, note: DeviceNote) {
        self.session.note(self.device, note);
    }
}

/// While there is one for a device, it is connected. Dropped, it calls what it was made with.
#[derive(Default)]
pub struct Hold(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Hold {
    pub fn new(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(release)))
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}
