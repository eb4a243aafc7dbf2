//! What handlers return, and what becomes of it.

use bytes::Bytes;

use crate::{Attributes, ContentType, DeliveryId, Name, ReadingId, Timestamp, Topic};

/// One thing that a handler returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the route's sinks, and to the routes whose filter it matches.
    Message(Message),
    /// To the reading's sender, over its own connection.
    Reply(Message),
    /// To a device, over whichever ingress it is reached.
    Command(Command),
}

impl Output {
    /// Bytes it takes in memory, about.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        FIXED
            + match self {
                Self::Message(message) | Self::Reply(message) => {
                    message.topic.as_str().len() + message.attributes.size() + message.payload.len()
                }
                Self::Command(command) => command.name.len() + command.payload.len(),
            }
    }
}

/// Also a reply: drivers that have no use for a reply's topic ignore it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: Topic,
    pub device: Option<Box<str>>,
    pub content_type: ContentType,
    pub attributes: Attributes,
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub device: Box<str>,
    /// What to do: `set`, `restart`, `picture` … as the device's driver understands it.
    pub name: Box<str>,
    pub content_type: ContentType,
    pub payload: Bytes,
}

/// Why a handler did not handle a reading; the variant is what the host does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It will never succeed: dead letter.
    #[error("{0}")]
    Reject(String),
    /// It may succeed later: another attempt, after a wait.
    #[error("{0}")]
    Retry(String),
}

/// Who a delivery is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A configured sink.
    Sink(Name),
    /// A device, through the ingress that reaches it.
    Device(Box<str>),
}

/// One item of the outbox: a message for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The same at every attempt.
    pub id: DeliveryId,
    /// The reading whose handling put it out.
    pub reading: ReadingId,
    /// The route that did.
    pub route: Name,
    /// When it was put out.
    pub time: Timestamp,
    /// For [`Target::Device`] the message's topic is the command's name.
    pub message: Message,
}

impl Delivery {
    /// Bytes it takes in memory and in the outbox, about.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        FIXED
            + self.message.topic.as_str().len()
            + self.message.attributes.size()
            + self.message.payload.len()
    }
}
