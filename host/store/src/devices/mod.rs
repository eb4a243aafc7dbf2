//! What is known of devices: the registry's rows, their resources' last values, what those should be, and the
//! commands for them.
//!
//! Rows of devices are a projection of the journal that is written in batches: with each goes the id of the last
//! reading that is in it, so that the next start can make up for what was journaled behind it.

mod apply;
mod forget;
mod row;
mod store;

use bytes::Bytes;
use sandbar_reading::{ContentType, Delivery, DeliveryId, Message, Name, ReadingId, Timestamp};

pub(crate) use self::forget::EndedCommands;
use crate::change::Accept;

/// A device as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    pub id: Box<str>,
    pub name: Option<Box<str>>,
    /// A person named it: what the device says is not heard.
    pub is_named: bool,
    pub kind: Option<Box<str>>,
    /// By key.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Through which it spoke, in the order of the first time.
    pub ingresses: Vec<Name>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub presence: Presence,
    /// Since when it is so.
    pub since: Timestamp,
    /// What the device's driver said of how long it may be silent, in milliseconds.
    pub silence_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// It is connected, or was heard of not long ago.
    Online,
    /// It said farewell.
    Offline,
    /// It is gone without a word.
    Lost,
}

/// The last value of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: Box<str>,
    pub time: Timestamp,
    /// As JSON text.
    pub value: Box<str>,
}

/// What the registry writes at once.
#[derive(Debug, Default)]
pub struct DevicesBatch {
    pub rows: Vec<DeviceRow>,
    /// Resources that have new values, by device; the others stay.
    pub resources: Vec<(Box<str>, Vec<Resource>)>,
    /// Presence changes, as readings.
    pub readings: Vec<Accept>,
    /// Every reading up to this one is in what was written so far.
    pub seen: Option<ReadingId>,
}

/// How many resources of a device are kept: the first so many.
pub const RESOURCES_MAX: usize = 64;

/// How many commands of a device are remembered, about, as long as there are not too many of all
/// ([`Options::commands`](crate::Options::commands)); those that wait are always.
pub const COMMANDS_KEPT: usize = 64;

/// A command that somebody wants a device to carry out.
#[derive(Clone, Debug)]
pub struct NewCommand {
    pub device: Box<str>,
    pub message: Message,
    /// Not to be sent after that.
    pub expires: Option<Timestamp>,
    /// Somebody waits for the answer.
    pub asks: bool,
    /// The desired value that it is for.
    pub desired: Option<Box<str>>,
}

/// A sink's delivery that is to be a command.
#[derive(Clone, Debug)]
pub struct HandedOver {
    pub device: Box<str>,
    /// With the id and the payload that it has at the sink. Its topic is the command's name.
    pub delivery: Delivery,
    /// Not to be sent after that.
    pub expires: Option<Timestamp>,
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandState {
    /// In the outbox.
    Queued,
    /// Still there: its driver has sent it, and waits for the device's word. It may have to be sent again.
    Sent,
    /// The device took it, as far as its protocol tells.
    Acknowledged,
    /// The device, or its driver, refused it, or it was given up on: a dead letter.
    Failed,
    /// Its time was over before it was sent, or answered.
    Expired,
    Cancelled,
}

impl CommandState {
    /// Whether it is in the outbox.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Sent)
    }
}

/// When a command expires, its device and its id.
pub type CommandDue = (Timestamp, Box<str>, DeliveryId);

/// What is known of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRow {
    pub id: DeliveryId,
    pub device: Box<str>,
    pub name: Box<str>,
    pub state: CommandState,
    pub asks: bool,
    /// The route that put it out; none if it came in through the API.
    pub route: Option<Name>,
    pub desired: Option<Box<str>>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    /// When `state` became what it is.
    pub changed: Timestamp,
    pub cause: Option<String>,
    pub answer: Option<(ContentType, Bytes)>,
}

/// The route that commands of the API have in the outbox.
pub(crate) const NO_ROUTE: &str = "api";

/// One atomic change of what is known of devices.
#[derive(Debug)]
pub(crate) enum DevicesWork {
    Batch(DevicesBatch),
    /// The device, its resources, what they should be and its commands are forgotten. What waits for it in the
    /// outbox is discarded by its own change.
    Remove(Box<str>),
    Command(NewCommand),
    /// Out of the outbox of this sink, into those of the devices.
    HandOver {
        sink: Name,
        handed: Vec<HandedOver>,
    },
    /// The device has it; nothing happens to what does not wait any more.
    Sent {
        device: Box<str>,
        id: DeliveryId,
    },
    /// It leaves the outbox, if it is there; nothing happens to what has ended already.
    End {
        device: Box<str>,
        id: DeliveryId,
        state: CommandState,
        cause: Option<String>,
    },
    Answer {
        device: Box<str>,
        id: DeliveryId,
        answer: (ContentType, Bytes),
    },
    /// A resource is to have this value, as JSON text; or no value any more.
    Desire {
        device: Box<str>,
        resource: Box<str>,
        value: Option<Box<str>>,
    },
}

impl DevicesWork {
    pub(crate) fn ids(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.readings.len(),
            Self::Command(_) => 1,
            _ => 0,
        }
    }

    pub(crate) fn size(&self) -> usize {
        const FIXED: usize = 256;
        match self {
            Self::Batch(batch) => {
                let resources = batch.resources.iter().flat_map(|(_, resources)| resources);
                let values = resources.map(|resource| 64 + resource.value.len()).sum::<usize>();
                FIXED * (1 + batch.rows.len() + batch.readings.len()) + values
            }
            Self::Command(command) => FIXED + command.message.payload.len(),
            Self::HandOver { handed, .. } => {
                FIXED + handed.iter().map(|handed| handed.delivery.size()).sum::<usize>()
            }
            Self::Answer { answer, .. } => FIXED + answer.1.len(),
            _ => FIXED,
        }
    }
}
