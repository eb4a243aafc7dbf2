//! What comes out of the host through a session: commands for its devices, and what sinks publish.

use sandbar_reading::{Command, DeliveryId, Message};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::notes::Hold;

/// Offers arrive here one after the other, until it is dropped. They come in boxes: a channel has room for 32 from its
/// beginning, and every device that can be reached has one.
#[derive(Debug)]
pub struct Offers<T> {
    offers: mpsc::Receiver<Box<T>>,
    _place: Hold,
}

/// A device's place in a session.
pub type Attachment = Offers<CommandOffer>;

/// The place of an ingress that sinks send out through.
pub type Publications = Offers<PublicationOffer>;

/// A command to carry out, and where to say how it went. Dropped without an answer, it is offered again.
#[derive(Debug)]
pub struct CommandOffer {
    /// The same at every attempt.
    pub id: DeliveryId,
    pub command: Command,
    /// Somebody waits for what the device answers. A driver whose protocol answers commands says it with
    /// [`answer`](Self::answer); for the others the host takes the device's next message for it.
    pub asks: bool,
    sent: CancellationToken,
    done: oneshot::Sender<Done>,
}

/// A message to publish, and where to say how it went. Dropped without an answer, it is offered again.
#[derive(Debug)]
pub struct PublicationOffer {
    /// The same at every attempt.
    pub id: DeliveryId,
    pub message: Message,
    done: oneshot::Sender<Done>,
}

/// How it went; a device may have answered.
pub type Done = Result<Option<Message>, CommandError>;

/// Each variant is what the host does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Offer it again later.
    #[error("{0}")]
    Retry(String),
    /// It will never be taken: dead letter.
    #[error("{0}")]
    Reject(String),
}

impl<T> Offers<T> {
    /// `detach` is called when it is dropped.
    pub fn new(offers: mpsc::Receiver<Box<T>>, detach: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { offers, _place: Hold::new(detach) }
    }

    /// `None` once another session has taken the place.
    pub async fn next(&mut self) -> Option<T> {
        self.offers.recv().await.map(|offer| *offer)
    }
}

impl CommandOffer {
    pub fn new(id: DeliveryId, command: Command) -> (Self, oneshot::Receiver<Done>) {
        let (done, result) = oneshot::channel();
        (Self { id, command, asks: false, sent: CancellationToken::new(), done }, result)
    }

    /// What is cancelled once the driver says that it was [sent](Self::sent).
    pub fn on_its_way(&self) -> CancellationToken {
        self.sent.clone()
    }

    /// Whether somebody waits to hear how it went. If not, it is offered again: sent now, it would come twice.
    pub fn is_awaited(&self) -> bool {
        !self.done.is_closed()
    }

    /// The device has it, as far as the driver can do, and its word is awaited. Nothing to say where no word comes.
    pub fn sent(&self) {
        self.sent.cancel();
    }

    /// The same, of which somebody waits for the answer.
    #[must_use]
    pub fn asking(self) -> Self {
        Self { asks: true, ..self }
    }

    /// The device took it.
    pub fn acknowledge(self) {
        let _ = self.done.send(Ok(None));
    }

    /// The device took it, and said this.
    pub fn answer(self, answer: Message) {
        let _ = self.done.send(Ok(Some(answer)));
    }

    pub fn fail(self, error: CommandError) {
        let _ = self.done.send(Err(error));
    }
}

impl PublicationOffer {
    pub fn new(id: DeliveryId, message: Message) -> (Self, oneshot::Receiver<Done>) {
        let (done, result) = oneshot::channel();
        (Self { id, message, done }, result)
    }

    /// Whether somebody waits to hear how it went. If not, it is offered again: published now, it would come twice.
    pub fn is_awaited(&self) -> bool {
        !self.done.is_closed()
    }

    /// Whoever is to get it has it, or has it kept for them.
    pub fn acknowledge(self) {
        let _ = self.done.send(Ok(None));
    }

    pub fn fail(self, error: CommandError) {
        let _ = self.done.send(Err(error));
    }
}
