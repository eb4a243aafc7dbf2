//! Readings, and what drivers make them from.

use bytes::Bytes;

use crate::{Attributes, ContentType, Name, ReadingId, Timestamp, Topic};

/// What a driver decoded: a reading without what the host stamps on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    pub topic: Topic,
    /// What the reading is about, if the driver knows: a device id as the user's systems know it.
    pub device: Option<Box<str>>,
    /// When it was measured, if the peer said so; else the host stamps the time of acceptance.
    pub time: Option<Timestamp>,
    pub content_type: ContentType,
    pub attributes: Attributes,
    pub payload: Bytes,
}

impl Inbound {
    /// The rest is set by field: `Inbound { device, ..Inbound::new(topic, content_type, payload) }`.
    pub fn new(topic: Topic, content_type: ContentType, payload: Bytes) -> Self {
        Self { topic, device: None, time: None, content_type, attributes: Attributes::new(), payload }
    }
}

/// An inbound that was accepted: the record that handlers see (`sandbar:handler/types.reading`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub id: ReadingId,
    /// The ingress it came in through; `route/<name>` for a message of a route.
    pub ingress: Name,
    pub topic: Topic,
    pub device: Option<Box<str>>,
    pub time: Timestamp,
    pub content_type: ContentType,
    pub attributes: Attributes,
    pub payload: Bytes,
    pub lineage: Lineage,
}

/// Where a chained reading comes from. The default is a reading from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The reading whose handling put out the message that this reading was.
    pub parent: Option<ReadingId>,
    /// How many routes it came through.
    pub depth: u8,
}

impl Reading {
    /// Bytes it takes in memory and in the journal, about.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        FIXED + self.topic.as_str().len() + self.attributes.size() + self.payload.len()
    }
}
