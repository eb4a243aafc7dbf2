//! Readings into guests, outputs out of them, without detours: bytes are copied once, at the border.

use bytes::Bytes;
use sandbar_reading::{Attributes, Command, ContentType, Failure, Message, Output, Reading, Topic};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::logs::cut;
use crate::{Fault, Limits};

/// Parameters and result of the export `handle`.
pub(crate) type HandleParams<'a> = (WitReading<'a>,);
pub(crate) type HandleResult = (Result<Vec<WitOutput>, WitFailure>,);
/// Parameters and result of the export `configure`.
pub(crate) type ConfigureParams = ();
pub(crate) type ConfigureResult = (Result<(), String>,);

/// `sandbar:handler/types.reading`
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitReading<'a> {
    id: &'a str,
    ingress: &'a str,
    topic: &'a str,
    device: Option<&'a str>,
    time: u64,
    #[component(name = "content-type")]
    content_type: &'a str,
    attributes: &'a [(Box<str>, Box<str>)],
    payload: &'a [u8],
}

impl<'a> WitReading<'a> {
    /// `id` is where the id's text goes.
    pub(crate) fn new(reading: &'a Reading, id: &'a mut [u8; 26]) -> Self {
        Self {
            id: reading.id.encode(id),
            ingress: reading.ingress.as_str(),
            topic: reading.topic.as_str(),
            device: reading.device.as_deref(),
            time: reading.time.nanos(),
            content_type: reading.content_type.as_str(),
            attributes: reading.attributes.as_slice(),
            payload: &reading.payload,
        }
    }
}

/// `sandbar:handler/types.message`
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct WitMessage {
    topic: Box<str>,
    device: Option<Box<str>>,
    #[component(name = "content-type")]
    content_type: Box<str>,
    attributes: Vec<(Box<str>, Box<str>)>,
    payload: Vec<u8>,
}

/// `sandbar:handler/types.command`
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct WitCommand {
    device: Box<str>,
    name: Box<str>,
    #[component(name = "content-type")]
    content_type: Box<str>,
    payload: Vec<u8>,
}

/// `sandbar:handler/types.output`
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum WitOutput {
    #[component(name = "message")]
    Message(WitMessage),
    #[component(name = "reply")]
    Reply(WitMessage),
    #[component(name = "command")]
    Command(WitCommand),
}

/// `sandbar:handler/types.failure`
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum WitFailure {
    #[component(name = "reject")]
    Reject(String),
    #[component(name = "retry")]
    Retry(String),
}

impl From<WitFailure> for Failure {
    fn from(failure: WitFailure) -> Self {
        /// It is kept with every attempt, and shown in lists.
        const TEXT_BYTES: usize = 4 << 10;
        match failure {
            WitFailure::Reject(text) => Self::Reject(cut(&text, TEXT_BYTES).into()),
            WitFailure::Retry(text) => Self::Retry(cut(&text, TEXT_BYTES).into()),
        }
    }
}

/// Checks and completes what a handler returned for `reading`.
pub(crate) fn outputs(
    returned: Vec<WitOutput>,
    reading: &Reading,
    limits: &Limits,
) -> Result<Vec<Output>, Fault> {
    if returned.len() > limits.outputs {
        let problem = format!("{} outputs, {} are allowed", returned.len(), limits.outputs);
        return Err(Fault::TooMuchOutput { problem });
    }
    let bytes: usize = returned.iter().map(WitOutput::size).sum();
    if bytes > limits.output_bytes {
        let problem = format!("{bytes} bytes, {} are allowed", limits.output_bytes);
        return Err(Fault::TooMuchOutput { problem });
    }
    let mut outputs = Vec::with_capacity(returned.len());
    for (index, output) in returned.into_iter().enumerate() {
        let output = output.check(reading);
        outputs.push(output.map_err(|Wrong { field, problem }| Fault::InvalidOutput {
            index,
            field,
            problem,
        })?);
    }
    Ok(outputs)
}

/// What is wrong with an output.
struct Wrong {
    field: &'static str,
    problem: String,
}

impl Wrong {
    fn at<E: ToString>(field: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { field, problem: error.to_string() }
    }
}

impl WitOutput {
    fn size(&self) -> usize {
        match self {
            Self::Message(message) | Self::Reply(message) => message.size(),
            Self::Command(command) => {
                command.device.len() + command.name.len() + command.content_type.len() + command.payload.len()
            }
        }
    }

    fn check(self, reading: &Reading) -> Result<Output, Wrong> {
        match self {
            Self::Message(message) => message.check(reading).map(Output::Message),
            Self::Reply(mut message) => {
                if message.topic.is_empty() {
                    message.topic = reading.topic.as_str().into();
                }
                message.check(reading).map(Output::Reply)
            }
            Self::Command(command) => command.check().map(Output::Command),
        }
    }
}

impl WitMessage {
    fn size(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
        let device = self.device.as_ref().map_or(0, |device| device.len());
        self.topic.len() + device + self.content_type.len() + attributes + self.payload.len()
    }

    fn check(self, reading: &Reading) -> Result<Message, Wrong> {
        let mut attributes = Attributes::from_iter(self.attributes);
        attributes.remove_reserved();
        Ok(Message {
            topic: Topic::try_from(self.topic).map_err(Wrong::at("topic"))?,
            device: match self.device {
                Some(device) => Some(check_device(device)?),
                None => reading.device.clone(),
            },
            content_type: check_content_type(&self.content_type)?,
            attributes,
            payload: Bytes::from(self.payload),
        })
    }
}

impl WitCommand {
    fn check(self) -> Result<Command, Wrong> {
        // The outbox carries it as the topic of a message.
        self.name.parse::<Topic>().map_err(Wrong::at("name"))?;
        Ok(Command {
            device: check_device(self.device)?,
            name: self.name,
            content_type: check_content_type(&self.content_type)?,
            payload: Bytes::from(self.payload),
        })
    }
}

fn check_device(device: Box<str>) -> Result<Box<str>, Wrong> {
    match device.is_empty() {
        true => Err(Wrong::at("device")("a device's name has at least one character")),
        false => Ok(device),
    }
}

fn check_content_type(text: &str) -> Result<ContentType, Wrong> {
    text.parse().map_err(Wrong::at("content-type"))
}
