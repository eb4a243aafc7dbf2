//! A message to the client that is to be answered, and is sent again until it is. Pure.

use std::time::Duration;

use sandbar_mqtt_client::codec::Publish;
use tokio::time::Instant;

/// `T_retry` and `N_retry` (MQTT-SN 1.2, section 7.2).
const RETRY: Duration = Duration::from_secs(10);
const RETRIES_MAX: u32 = 5;

pub(super) struct Flight {
    bytes: Vec<u8>,
    id: u16,
    due: Instant,
    tries: u32,
    what: What,
}

pub(super) enum What {
    /// REGISTER; the publication follows.
    Register(Publication),
    Publish(Publication),
    /// PUBREL.
    Release,
}

pub(super) struct Publication {
    pub(super) publish: Publish,
    /// The client said that it does not know the topic, which was then registered.
    pub(super) is_again: bool,
}

impl Flight {
    /// `bytes` were sent `now`.
    pub(super) fn new(bytes: Vec<u8>, id: u16, what: What, now: Instant) -> Self {
        Self { bytes, id, due: now + RETRY, tries: 0, what }
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Whether `id` answers it, and it is of that kind.
    pub(super) fn is(&self, id: u16, kind: fn(&What) -> bool) -> bool {
        self.id == id && kind(&self.what)
    }

    pub(super) fn into_what(self) -> What {
        self.what
    }

    /// The bytes to be sent again; `None` once that was done often enough.
    pub(super) fn again(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.tries >= RETRIES_MAX {
            return None;
        }
        self.tries += 1;
        self.due = now + RETRY;
        // DUP, where there are flags.
        if matches!(self.what, What::Publish(_)) {
            let at = if self.bytes.first() == Some(&1) { 4 } else { 2 };
            if let Some(flags) = self.bytes.get_mut(at) {
                *flags |= 0x80;
            }
        }
        Some(self.bytes.clone())
    }

    /// The client cannot take it now: it is sent again, as if it had said nothing.
    pub(super) fn later(&mut self, now: Instant) {
        self.due = now + RETRY;
    }

    /// The client hears again: how often it was sent while it did not says nothing.
    pub(super) const fn begin_anew(&mut self) {
        self.tries = 0;
    }
}

impl What {
    pub(super) const fn is_register(&self) -> bool {
        matches!(self, Self::Register(_))
    }

    pub(super) const fn is_publish(&self) -> bool {
        matches!(self, Self::Publish(_))
    }

    pub(super) const fn is_release(&self) -> bool {
        matches!(self, Self::Release)
    }
}
