//! What passes by, for those who watch.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{Attributes, DeadLetterId, Reading};
use sandbar_store::{News, Queued};
use tokio::sync::broadcast;

/// How many a watcher may be behind; then it misses some, and is told how many.
const BEHIND_MAX: usize = 1024;

/// Larger payloads are left out: a slow watcher must not hold them all in memory.
const PAYLOAD_MAX: usize = 64 << 10;

/// What says that a payload was left out, with its size in bytes.
pub const LEFT_OUT_ATTRIBUTE: &str = "sandbar.payload-left-out";

#[derive(Clone, Debug)]
pub enum Seen {
    /// It was journaled.
    Reading(Arc<Reading>),
    /// A handler's output was put in the outbox.
    Queued(Queued),
    /// Given up on; the store has the rest.
    DeadLetter(DeadLetterId),
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
        let readings = news.readings.iter().map(|reading| Seen::Reading(light(reading)));
        let queued = news.queued.iter().map(|queued| Seen::Queued(light_queued(queued)));
        let dead = news.dead_letters.iter().copied().map(Seen::DeadLetter);
        for seen in readings.chain(queued).chain(dead) {
            // Watchers may have left meanwhile.
            drop(self.0.send(seen));
        }
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Seen> {
        self.0.subscribe()
    }
}

fn light(reading: &Arc<Reading>) -> Arc<Reading> {
    if reading.payload.len() <= PAYLOAD_MAX {
        return reading.clone();
    }
    let mut light = Reading::clone(reading);
    leave_out(&mut light.payload, &mut light.attributes);
    Arc::new(light)
}

fn light_queued(queued: &Queued) -> Queued {
    let mut queued = queued.clone();
    if queued.delivery.message.payload.len() > PAYLOAD_MAX {
        let message = &mut Arc::make_mut(&mut queued.delivery).message;
        leave_out(&mut message.payload, &mut message.attributes);
    }
    queued
}

fn leave_out(payload: &mut Bytes, attributes: &mut Attributes) {
    attributes.add(LEFT_OUT_ATTRIBUTE, payload.len().to_string());
    *payload = Bytes::new();
}
