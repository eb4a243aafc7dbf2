//! What passes by, for those who watch.

use std::sync::Arc;

use sandbar_reading::Reading;
use sandbar_store::{DeadLetter, News, Queued};
use tokio::sync::broadcast;

/// How many a watcher may be behind; then it misses some, and is told how many.
const BEHIND_MAX: usize = 1024;

#[derive(Clone, Debug)]
pub enum Seen {
    /// It was journaled.
    Reading(Arc<Reading>),
    /// A handler's output was put in the outbox.
    Queued(Queued),
    DeadLetter(Arc<DeadLetter>),
}

pub(crate) struct Tail(broadcast::Sender<Seen>);

impl Default for Tail {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND_MAX).0)
    }
}

impl Tail {
    pub(crate) fn show(&self, news: &News) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let readings = news.readings.iter().cloned().map(Seen::Reading);
        let queued = news.queued.iter().cloned().map(Seen::Queued);
        let dead = news.dead_letters.iter().cloned().map(Seen::DeadLetter);
        for seen in readings.chain(queued).chain(dead) {
            // Watchers may have left meanwhile.
            drop(self.0.send(seen));
        }
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Seen> {
        self.0.subscribe()
    }
}
