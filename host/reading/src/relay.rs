//! What joined hosts say to each other, one frame in each binary message of a WebSocket. The edge host connects, and
//! sends readings; the central host answers each once it is on disk, and sends commands, which the edge answers. Pure.
//!
//! A frame is the length of its head (32 bits, big-endian), the head, which is JSON, and the payload as it is.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Attributes, Command, ContentType, Delivery, DeliveryId, Message, Timestamp, Topic};

/// The sub-protocol that both ask for; another number would be another way to speak.
pub const SUB_PROTOCOL: &str = "sandbar.1";

/// What a frame may have beside its payload: topic, attributes and so on.
pub const HEAD_MAX: usize = 1 << 20;

/// From the edge host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    Reading(Relayed),
    /// What became of a command.
    Told {
        id: DeliveryId,
        told: Told,
    },
}

/// To the edge host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// The reading is on the central host's disk: it may be forgotten.
    Taken {
        id: DeliveryId,
    },
    /// It never will be.
    Refused {
        id: DeliveryId,
        cause: String,
    },
    Command {
        id: DeliveryId,
        command: Command,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "cause", rename_all = "lowercase")]
pub enum Told {
    Done,
    /// Offer it again later.
    Retry(String),
    /// It never will be carried out.
    Reject(String),
}

/// A message on its way from one host to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The same whenever it is sent: who has had it knows it by this.
    pub id: DeliveryId,
    pub time: Timestamp,
    pub message: Message,
}

/// Of the reading, as the edge host had it; the keys of attributes.
pub const ORIGIN_READING: &str = "origin.reading";
pub const ORIGIN_TIME: &str = "origin.time";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    #[error("a frame of {0} bytes has no head")]
    NoHead(usize),
    #[error("a head that cannot be read: {0}")]
    Head(String),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
enum Head {
    Reading {
        id: String,
        time: String,
        topic: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<Box<str>>,
        content_type: String,
        attributes: Vec<(Box<str>, Box<str>)>,
    },
    Told {
        id: String,
        told: Told,
    },
    Taken {
        id: String,
    },
    Refused {
        id: String,
        cause: String,
    },
    Command {
        id: String,
        device: Box<str>,
        name: Box<str>,
        content_type: String,
    },
}

impl Relayed {
    /// What a sink was given. The first host that a reading came to stays its origin.
    pub fn of(delivery: &Delivery) -> Self {
        let mut message = delivery.message.clone();
        message.attributes.remove_reserved();
        for (key, value) in
            [(ORIGIN_READING, delivery.reading.to_string()), (ORIGIN_TIME, delivery.time.to_string())]
        {
            if message.attributes.get(key).is_none() {
                message.attributes.add(key, value);
            }
        }
        Self { id: delivery.id, time: delivery.time, message }
    }
}

impl Up {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Reading(Relayed { id, time, message }) => {
                let head = Head::Reading {
                    id: id.to_string(),
                    time: time.to_string(),
                    topic: message.topic.as_str().to_owned(),
                    device: message.device.clone(),
                    content_type: message.content_type.as_str().to_owned(),
                    attributes: message.attributes.as_slice().to_vec(),
                };
                frame(&head, &message.payload)
            }
            Self::Told { id, told } => frame(&Head::Told { id: id.to_string(), told: told.clone() }, &[]),
        }
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, RelayError> {
        let (head, payload) = cut(bytes)?;
        match head {
            Head::Reading { id, time, topic, device, content_type, attributes } => {
                let message = Message {
                    topic: parsed::<Topic, _>(&topic)?,
                    device,
                    content_type: parsed::<ContentType, _>(&content_type)?,
                    attributes: attributes.into_iter().collect::<Attributes>(),
                    payload,
                };
                Ok(Self::Reading(Relayed { id: parsed(&id)?, time: parsed(&time)?, message }))
            }
            Head::Told { id, told } => Ok(Self::Told { id: parsed(&id)?, told }),
            _ => Err(RelayError::Head("it is not for this side".to_owned())),
        }
    }
}

impl Down {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Taken { id } => frame(&Head::Taken { id: id.to_string() }, &[]),
            Self::Refused { id, cause } => {
                frame(&Head::Refused { id: id.to_string(), cause: cause.clone() }, &[])
            }
            Self::Command { id, command } => {
                let head = Head::Command {
                    id: id.to_string(),
                    device: command.device.clone(),
                    name: command.name.clone(),
                    content_type: command.content_type.as_str().to_owned(),
                };
                frame(&head, &command.payload)
            }
        }
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, RelayError> {
        let (head, payload) = cut(bytes)?;
        match head {
            Head::Taken { id } => Ok(Self::Taken { id: parsed(&id)? }),
            Head::Refused { id, cause } => Ok(Self::Refused { id: parsed(&id)?, cause }),
            Head::Command { id, device, name, content_type } => {
                let command = Command { device, name, content_type: parsed(&content_type)?, payload };
                Ok(Self::Command { id: parsed(&id)?, command })
            }
            _ => Err(RelayError::Head("it is not for this side".to_owned())),
        }
    }
}

fn frame(head: &Head, payload: &[u8]) -> Bytes {
    let head = serde_json::to_vec(head).expect("it has no map whose keys could be refused");
    let mut frame = BytesMut::with_capacity(4 + head.len() + payload.len());
    frame.put_u32(u32::try_from(head.len()).expect("fields are shorter than 4 GiB"));
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    frame.freeze()
}

fn cut(bytes: &Bytes) -> Result<(Head, Bytes), RelayError> {
    let no_head = || RelayError::NoHead(bytes.len());
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(no_head)?;
    let length = u32::from_be_bytes(*length) as usize;
    let head = rest.get(..length).ok_or_else(no_head)?;
    let head = serde_json::from_slice(head).map_err(|error| RelayError::Head(error.to_string()))?;
    Ok((head, bytes.slice(4 + length..)))
}

fn parsed<T: std::str::FromStr<Err = E>, E: fmt::Display>(text: &str) -> Result<T, RelayError> {
    text.parse().map_err(|error: E| RelayError::Head(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadingId;

    fn delivery() -> Delivery {
        Delivery {
            id: DeliveryId::from_u128(7 << 80),
            reading: ReadingId::from_u128(6 << 80),
            route: "all".parse().unwrap(),
            time: Timestamp::from_millis(1_700_000_000_123),
            message: Message {
                topic: "a/ä".parse().unwrap(),
                device: Some("d 1".into()),
                content_type: "application/octet-stream".parse().unwrap(),
                attributes: Attributes::new().with("k", "1").with("k", "\0\"").with("sandbar.depth", "1"),
                payload: Bytes::from_static(b"\0\xff{\r\n"),
            },
        }
    }

    #[test]
    fn a_reading_arrives_as_it_was() {
        let up = Up::Reading(Relayed::of(&delivery()));
        let Ok(Up::Reading(arrived)) = Up::decode(&up.encode()) else { panic!("no reading") };
        let sent = delivery();
        assert_eq!((arrived.id, arrived.time), (sent.id, sent.time));
        assert_eq!(arrived.message.payload, sent.message.payload);
        assert_eq!(
            (arrived.message.topic, arrived.message.device),
            (sent.message.topic, sent.message.device)
        );
        let attributes: Vec<_> = arrived.message.attributes.iter().collect();
        let (reading, time) = (sent.reading.to_string(), sent.time.to_string());
        assert_eq!(
            attributes,
            [("k", "1"), ("k", "\0\""), (ORIGIN_READING, &*reading), (ORIGIN_TIME, &*time)]
        );
    }

    #[test]
    fn the_first_host_stays_the_origin() {
        let mut passed_on = delivery();
        passed_on.message.attributes = Attributes::new().with(ORIGIN_READING, "x").with(ORIGIN_TIME, "y");
        assert_eq!(Relayed::of(&passed_on).message.attributes, passed_on.message.attributes);
    }

    #[test]
    fn answers_and_commands_arrive_as_they_were() {
        let id = DeliveryId::from_u128(9);
        let command = Command {
            device: "d1".into(),
            name: "set".into(),
            content_type: ContentType::JSON,
            payload: Bytes::from_static(b"{\"on\":true}"),
        };
        for down in [
            Down::Taken { id },
            Down::Refused { id, cause: "too large".to_owned() },
            Down::Command { id, command },
        ] {
            assert_eq!(Down::decode(&down.encode()), Ok(down.clone()));
            assert!(Up::decode(&down.encode()).is_err());
        }
        for told in [Told::Done, Told::Retry("later".to_owned()), Told::Reject("never".to_owned())] {
            let up = Up::Told { id, told };
            assert_eq!(Up::decode(&up.encode()), Ok(up.clone()));
            assert!(Down::decode(&up.encode()).is_err());
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (wrong, error) in [
            (&b""[..], "a frame of 0 bytes has no head"),
            (b"\0\0\0", "a frame of 3 bytes has no head"),
            (b"\xff\xff\xff\xff{}", "a frame of 6 bytes has no head"),
        ] {
            assert_eq!(Up::decode(&Bytes::from_static(wrong)).unwrap_err().to_string(), error);
        }
        assert!(Up::decode(&Bytes::from_static(b"\0\0\0\x02{}")).is_err());
        let wrong_id = br#"{"say":"told","id":"x","told":{"is":"done"}}"#;
        let frame = [&u32::try_from(wrong_id.len()).unwrap().to_be_bytes()[..], wrong_id].concat();
        assert!(matches!(Up::decode(&frame.into()), Err(RelayError::Head(_))));
    }
}
