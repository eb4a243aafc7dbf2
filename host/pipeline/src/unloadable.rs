//! What is done while the store cannot say what waits, and when that is told.

use std::time::Duration;

use parking_lot::Mutex;
use sandbar_store::{Store, StoreError};
use tokio::time::Instant;

/// How long to wait when the store cannot be asked; it says so itself, and mends itself.
pub(crate) const STORE_WAIT: Duration = Duration::from_millis(500);

/// That it cannot say what waits, though it is well, is told once in so long.
const TOLD_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Unloadable {
    told: Mutex<Option<Instant>>,
}

impl Unloadable {
    /// Whether it is to be told now. Of its own faults the store speaks itself.
    pub(crate) fn is_told(&self, store: &Store, error: &StoreError) -> bool {
        if !matches!(error, StoreError::Unavailable(_)) || store.stats().fault.is_some() {
            return false;
        }
        let mut told = self.told.lock();
        let is_time = told.is_none_or(|told| told.elapsed() >= TOLD_FOR);
        if is_time {
            *told = Some(Instant::now());
        }
        is_time
    }
}
