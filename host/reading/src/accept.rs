//! What becomes of an inbound: a receipt, or a named refusal.

use std::time::Duration;

use crate::ReadingId;

/// Proof that a reading is on disk: what a driver needs to acknowledge its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the peer waits for its acknowledgement"]
pub struct Receipt {
    id: ReadingId,
}

impl Receipt {
    /// Only the store issues receipts, after the commit; `tests/architecture.rs` holds that.
    pub const fn issue(id: ReadingId) -> Self {
        Self { id }
    }

    pub const fn id(self) -> ReadingId {
        self.id
    }
}

/// Why the host did not take an inbound; the peer is told in its protocol's terms. Nothing of it was kept, but after
/// [`Storage`](Self::Storage) and [`DiskFull`](Self::DiskFull) that is not known: the commit that was told to have
/// failed may be there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More is waiting than may wait. HTTP 429 or 503, MQTT 0x97, SMTP 452, CoAP 5.03.
    #[error("busy: try again in {} s", .retry_after.as_secs().max(1))]
    Busy { retry_after: Duration },
    /// HTTP 413, MQTT 0x95, SMTP 552, CoAP 4.13.
    #[error("{size} bytes are more than the {limit} that a reading may have")]
    TooLarge { size: usize, limit: usize },
    /// The disk is full. HTTP 507, else as `Busy`.
    #[error("the disk is full")]
    DiskFull,
    /// The disk fails. HTTP 503.
    #[error("storage fails: {cause}")]
    Storage { cause: String },
    /// The host, or this ingress, is being stopped. HTTP 503.
    #[error("shutting down")]
    Stopping,
}
