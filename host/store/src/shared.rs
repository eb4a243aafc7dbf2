//! What the store's handles and its committer share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sandbar_reading::{Clock, ReadingId};

use crate::change::Observer;
use crate::medium::Medium;
use crate::opened::Opened;
use crate::options::Options;
use crate::payloads::Payloads;
use crate::queue::Queue;
use crate::tables::Ledger;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) queue: Queue,
    /// Readers hold the lock for one question; it is taken away from them to be opened again after a fault.
    pub(crate) database: RwLock<Option<Opened>>,
    pub(crate) payloads: Payloads,
    pub(crate) counts: Counts,
    observer: RwLock<Option<Arc<dyn Observer>>>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        clock: Arc<dyn Clock>,
        medium: Arc<dyn Medium>,
        opened: Opened,
        payloads: Payloads,
    ) -> Self {
        let counts = Counts::default();
        counts.set(&opened.ledger, None);
        Self {
            queue: Queue::new(options.queue_max, options.queue_bytes, opened.ledger.last_id, options.seed),
            options,
            clock,
            medium,
            database: RwLock::new(Some(opened)),
            payloads,
            counts,
            observer: RwLock::new(None),
        }
    }

    pub(crate) fn set_observer(&self, observer: Arc<dyn Observer>) {
        *self.observer.write() = Some(observer);
    }

    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let observer = self.observer.read().clone();
        if let Some(observer) = observer {
            tell(&*observer);
        }
    }

    /// Bytes of the file; 0 while it is not open.
    pub(crate) fn file_len(&self) -> u64 {
        let database = self.database.try_read_recursive();
        database.and_then(|open| open.as_ref().map(Opened::file_len)).unwrap_or(0)
    }

    /// Gives the file back. The observer goes too: it may hold the store.
    pub(crate) fn close(&self) {
        *self.observer.write() = None;
        *self.database.write() = None;
    }
}

/// What [`Store::stats`](crate::Store::stats) tells, kept up by the committer.
#[derive(Default)]
pub(crate) struct Counts(Mutex<Counted>);

#[derive(Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) ledger: Ledger,
    pub(crate) oldest: Option<ReadingId>,
    pub(crate) commits: u64,
    pub(crate) readings: u64,
    /// Dead letters.
    pub(crate) discarded: u64,
    pub(crate) last_commit: Duration,
}

impl Counts {
    pub(crate) fn committed(
        &self,
        ledger: &Ledger,
        oldest: Option<ReadingId>,
        readings: usize,
        discarded: u64,
        took: Duration,
    ) {
        let mut counted = self.0.lock();
        counted.ledger = *ledger;
        counted.oldest = oldest;
        counted.commits += 1;
        counted.readings += readings as u64;
        counted.discarded += discarded;
        counted.last_commit = took;
    }

    pub(crate) fn set(&self, ledger: &Ledger, oldest: Option<ReadingId>) {
        let mut counted = self.0.lock();
        counted.ledger = *ledger;
        counted.oldest = oldest;
    }

    pub(crate) fn get(&self) -> Counted {
        *self.0.lock()
    }
}
