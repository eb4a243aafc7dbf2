//! Who waits for the answer to a reading, and for how many routes' answers.

use std::collections::HashMap;

use parking_lot::Mutex;
use sandbar_ingress::Answer;
use sandbar_reading::{Name, ReadingId};
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
    /// The routes among them whose answer comes from the far end of a sink.
    by_sink: Vec<Name>,
}

/// What a route has to say of a reading.
pub(crate) enum Said {
    /// Its attempt failed; it will say more.
    Retrying(String),
    /// It is through.
    Last(Vec<Answer>),
}

impl Awaited {
    /// `routes` of them may answer; for those in `by_sink` it is the far end of a sink that does.
    pub(crate) fn expect(
        &self,
        reading: ReadingId,
        answers: mpsc::Sender<Answer>,
        routes: usize,
        by_sink: Vec<Name>,
    ) {
        let mut waiters = self.by_reading.lock();
        if waiters.len() >= MANY && waiters.len() == waiters.capacity() {
            waiters.retain(|_, waiter| !waiter.answers.is_closed());
        }
        waiters.insert(reading, Waiter { answers, routes, by_sink });
    }

    /// It was not journaled after all.
    pub(crate) fn forget(&self, reading: ReadingId) {
        self.by_reading.lock().remove(&reading);
    }

    pub(crate) fn say(&self, reading: ReadingId, said: Said) {
        let mut waiters = self.by_reading.lock();
        let Some(waiter) = waiters.get_mut(&reading) else { return };
        if waiter.hear(said) {
            waiters.remove(&reading);
        }
    }

    /// What the far end of a sink has to say to a message of `route`. Only the first last word counts: a reading
    /// may become several messages, and its sender waits for one answer.
    pub(crate) fn say_by_sink(&self, reading: ReadingId, route: &Name, said: Said) {
        let mut waiters = self.by_reading.lock();
        let Some(waiter) = waiters.get_mut(&reading) else { return };
        let Some(at) = waiter.by_sink.iter().position(|by_sink| by_sink == route) else { return };
        if matches!(said, Said::Last(_)) {
            waiter.by_sink.swap_remove(at);
        }
        if waiter.hear(said) {
            waiters.remove(&reading);
        }
    }
}

impl Waiter {
    /// Whether nothing more is to be heard. A sender that has given up, or takes no more, misses the answer: it
    /// was told so by its protocol.
    fn hear(&mut self, said: Said) -> bool {
        match said {
            Said::Retrying(cause) => drop(self.answers.try_send(Answer::Retrying(cause))),
            Said::Last(answers) => {
                for answer in answers {
                    drop(self.answers.try_send(answer));
                }
                self.routes -= 1;
            }
        }
        self.routes == 0 || self.answers.is_closed()
    }
}
