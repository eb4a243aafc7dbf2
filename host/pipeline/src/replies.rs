//! Who waits for the answer to a reading, and for how many routes' answers.

use std::collections::HashMap;

use parking_lot::Mutex;
use sandbar_ingress::Answer;
use sandbar_reading::ReadingId;
use tokio::sync::mpsc;

/// The senders that wait. A reading is here from its commit until every route that may reply is through.
#[derive(Default)]
pub(crate) struct Awaited {
    by_reading: Mutex<HashMap<ReadingId, Waiter>>,
}

/// From this many on, senders that have given up are looked for: a route that was changed or removed meanwhile
/// never says that it is through.
const MANY: usize = 1024;

struct Waiter {
    answers: mpsc::Sender<Answer>,
    routes: usize,
}

/// What a route has to say of a reading.
pub(crate) enum Said {
    /// Its attempt failed; it will say more.
    Retrying(String),
    /// It is through.
    Last(Vec<Answer>),
}

impl Awaited {
    /// `routes` of them may answer.
    pub(crate) fn expect(&self, reading: ReadingId, answers: mpsc::Sender<Answer>, routes: usize) {
        let mut waiters = self.by_reading.lock();
        if waiters.len() >= MANY && waiters.len() == waiters.capacity() {
            waiters.retain(|_, waiter| !waiter.answers.is_closed());
        }
        waiters.insert(reading, Waiter { answers, routes });
    }

    /// It was not journaled after all.
    pub(crate) fn forget(&self, reading: ReadingId) {
        self.by_reading.lock().remove(&reading);
    }

    pub(crate) fn say(&self, reading: ReadingId, said: Said) {
        let mut waiters = self.by_reading.lock();
        let Some(waiter) = waiters.get_mut(&reading) else { return };
        // A sender that has given up, or takes no more, misses the answer: it was told so by its protocol.
        match said {
            Said::Retrying(cause) => drop(waiter.answers.try_send(Answer::Retrying(cause))),
            Said::Last(answers) => {
                for answer in answers {
                    drop(waiter.answers.try_send(answer));
                }
                waiter.routes -= 1;
            }
        }
        if waiter.routes == 0 || waiter.answers.is_closed() {
            waiters.remove(&reading);
        }
    }
}
