//! A message as a call, and an answer as a message. Pure.

use std::collections::BTreeMap;

use sandbar_reading::{Attributes, ConfigError, ContentType, Delivery, Message, TRACEPARENT, TRACESTATE};
use serde_json::{Map, Value};
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::proto::{KrakenRequest, KrakenResponse};
use crate::Cause;
use crate::template::Template;

/// What brokers take.
pub(super) const MESSAGE_MAX: usize = 16 << 20;

/// What stands beside a payload.
const BESIDE: usize = 64 << 10;

pub(super) struct Calls {
    collector: Template,
    metadata: Vec<(String, Template)>,
}

impl Calls {
    pub(super) fn new(collector: &str, metadata: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let metadata = metadata.iter().map(|(key, text)| {
            Template::new(&format!("metadata.{key}"), text).map(|template| (key.clone(), template))
        });
        Ok(Self {
            collector: Template::new("collector", collector)?,
            metadata: metadata.collect::<Result<_, _>>()?,
        })
    }

    /// The collector's name, and the call.
    pub(super) fn request(&self, delivery: &Delivery) -> Result<(String, Request<KrakenRequest>), Cause> {
        let message = &delivery.message;
        if message.payload.len() + BESIDE > MESSAGE_MAX {
            let size = message.payload.len();
            return Err(Cause::new(format!("a payload of {size} bytes is more than a broker takes")));
        }
        let collector = self.collector.render(delivery)?;
        let mut request = Request::new(KrakenRequest {
            collector_name: collector.clone(),
            content_type: message.content_type.to_string(),
            metadata: self.metadata(delivery)?,
            payload: message.payload.clone(),
        });
        if let Ok(id) = MetadataValue::try_from(delivery.id.to_string()) {
            request.metadata_mut().insert("idempotency-key", id);
        }
        for key in [TRACEPARENT, TRACESTATE] {
            let value = message.attributes.get(key).and_then(|value| MetadataValue::try_from(value).ok());
            if let Some(value) = value {
                request.metadata_mut().insert(key, value);
            }
        }
        Ok((collector, request))
    }

    /// What a Kraken Collector said, if the message has it still, and over that what is configured.
    fn metadata(&self, delivery: &Delivery) -> Result<String, Cause> {
        let said = delivery.message.attributes.get("kraken.metadata");
        let mut fields: Map<String, Value> =
            said.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        for (key, template) in &self.metadata {
            fields.insert(key.clone(), template.render(delivery)?.into());
        }
        Ok(Value::Object(fields).to_string())
    }
}

/// Whom an answer's metadata names.
pub(super) fn response_type(answer: &KrakenResponse) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_str(&answer.metadata).ok()?;
    Some(fields.get("response_type")?.as_str()?.to_owned())
}

/// An answer as a reply; an empty one is none.
pub(super) fn reply(answer: KrakenResponse) -> Option<Message> {
    if answer.payload.is_empty() {
        return None;
    }
    let mut attributes = Attributes::new().with("kraken.collector", answer.collector_name);
    let fields: Map<String, Value> = serde_json::from_str(&answer.metadata).unwrap_or_default();
    for (key, value) in fields {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        attributes.add(format!("kraken.metadata.{key}"), text);
    }
    Some(Message {
        topic: "kraken/reply".parse().ok()?,
        device: None,
        content_type: answer.content_type.parse().unwrap_or(ContentType::OCTETS),
        attributes,
        payload: answer.payload,
    })
}
