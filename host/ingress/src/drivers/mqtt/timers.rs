//! What is due later: the end of sessions without a connection, and wills that wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::Broker;
use super::client::Client;

/// How often retained messages whose time is over are looked for, and whether the clock was set.
const SWEEP: Duration = Duration::from_secs(60);

/// Decades: adding more to an instant could overflow.
pub(super) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How many wills are published at once: those of a broken network share commits.
const WILLS: usize = 256;

#[derive(Default)]
pub(super) struct Timers {
    due: Mutex<Due>,
    wake: Notify,
}

#[derive(Default)]
struct Due {
    count: u64,
    at: BTreeMap<(Instant, u64), What>,
}

/// What was added, as long as it is not due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer(Instant, u64);

pub(super) enum What {
    /// A session ends, if it has had no connection since.
    End(Weak<Client>),
    /// The will of a session is published, if it was not withdrawn.
    Will(u32),
    Sweep,
}

impl Timer {
    pub(super) fn is_due(self) -> bool {
        self.0 <= Instant::now()
    }
}

impl Timers {
    pub(super) fn add(&self, wait: Duration, what: What) -> Timer {
        let mut due = self.due.lock();
        due.count += 1;
        let at = Instant::now() + wait.min(FOR_EVER);
        let key = (at, due.count);
        due.at.insert(key, what);
        let first = due.at.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(due);
        if first {
            self.wake.notify_one();
        }
        Timer(key.0, key.1)
    }

    /// Nothing happens if it was due. What comes and goes would else fill the memory with what means nothing any more.
    pub(super) fn cancel(&self, Timer(at, count): Timer) {
        self.due.lock().at.remove(&(at, count));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.due.lock().at.len()
    }

    async fn next(&self) -> (Timer, What) {
        loop {
            let next = {
                let mut due = self.due.lock();
                match due.at.first_key_value().map(|(key, _)| key.0) {
                    Some(at) if at <= Instant::now() => {
                        if let Some(((at, count), what)) = due.at.pop_first() {
                            return (Timer(at, count), what);
                        }
                        None
                    }
                    next => next,
                }
            };
            let woken = self.wake.notified();
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, woken).await),
                None => woken.await,
            }
        }
    }

    /// Never returns.
    pub(super) async fn run(&self, broker: &Arc<Broker>) {
        self.add(SWEEP, What::Sweep);
        let mut wills = FuturesUnordered::new();
        loop {
            let (timer, due) = tokio::select! {
                due = self.next(), if wills.len() < WILLS => due,
                Some(()) = wills.next() => continue,
            };
            match due {
                What::End(client) => {
                    if let Some(client) = client.upgrade() {
                        broker.end_if_absent(&client, timer);
                    }
                }
                What::Will(number) => wills.push(broker.publish_will(number)),
                What::Sweep => {
                    broker.look_at_clock();
                    // Their rows the store forgets by itself.
                    let gone = broker.retained.lock().expire(broker.time());
                    drop(gone);
                    self.add(SWEEP, What::Sweep);
                }
            }
        }
    }
}
