//! Where sessions wait for what is offered to them: each place has a name, and the last session to take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_ingress::{CommandError, Done, Hold, Offers};
use sandbar_reading::{Message, Name};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Places that sessions have taken. Clones are the same places.
pub(crate) struct Places<T> {
    taken: Arc<Mutex<Taken<T>>>,
}

struct Taken<T> {
    by_name: HashMap<Box<str>, Place<T>>,
    last_generation: u64,
}

struct Place<T> {
    ingress: Name,
    offers: mpsc::Sender<Box<T>>,
    /// Tells a session's place from that of the session that took it over.
    generation: u64,
}

/// How long a driver may take for one offer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An offer that a session has, or will get.
pub(crate) struct InLine {
    answer: oneshot::Receiver<Done>,
    until: Instant,
}

/// Why an offer was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// No session has the place: it waits until one does.
    Unreachable,
    Failed(CommandError),
}

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Self { taken: Arc::clone(&self.taken) }
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { taken: Arc::new(Mutex::new(Taken { by_name: HashMap::new(), last_generation: 0 })) }
    }
}

impl<T: Send + 'static> Places<T> {
    /// `waiting_max`: how many offers may wait for a driver that is busy with one. `hold` is dropped with the place.
    pub(crate) fn take(&self, ingress: &Name, name: &str, waiting_max: usize, hold: Hold) -> Offers<T> {
        let (offers, taken_offers) = mpsc::channel(waiting_max);
        let mut taken = self.taken.lock();
        taken.last_generation += 1;
        let generation = taken.last_generation;
        taken.by_name.insert(name.into(), Place { ingress: ingress.clone(), offers, generation });
        let (places, name) = (self.clone(), Box::<str>::from(name));
        Offers::new(taken_offers, move || {
            {
                let by_name = &mut places.taken.lock().by_name;
                if by_name.get(&name).is_some_and(|place| place.generation == generation) {
                    by_name.remove(&name);
                }
            }
            drop(hold);
        })
    }

    pub(crate) fn ingress_of(&self, name: &str) -> Option<Name> {
        self.taken.lock().by_name.get(name).map(|place| place.ingress.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.lock().by_name.len()
    }

    /// Returns once the session said what became of `offer`; `answer` is where it says so.
    pub(crate) async fn offer(
        &self,
        name: &str,
        offered: (T, oneshot::Receiver<Done>),
    ) -> Result<Option<Message>, NotTaken> {
        self.line_up(name, offered).await?.answer().await
    }

    /// Returns once `offer` is in line, behind those that were before.
    pub(crate) async fn line_up(
        &self,
        name: &str,
        (offer, answer): (T, oneshot::Receiver<Done>),
    ) -> Result<InLine, NotTaken> {
        let offers = self.taken.lock().by_name.get(name).map(|place| place.offers.clone());
        let offers = offers.ok_or(NotTaken::Unreachable)?;
        offers.send(Box::new(offer)).await.map_err(|_| NotTaken::Unreachable)?;
        Ok(InLine { answer, until: Instant::now() + ANSWER_WITHIN })
    }
}

impl InLine {
    /// Returns once the session said what became of it.
    pub(crate) async fn answer(self) -> Result<Option<Message>, NotTaken> {
        match tokio::time::timeout_at(self.until, self.answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(NotTaken::Failed(error)),
            Ok(Err(_dropped)) => Err(NotTaken::Unreachable),
            Err(_elapsed) => {
                let cause = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
                Err(NotTaken::Failed(CommandError::Retry(cause)))
            }
        }
    }
}
