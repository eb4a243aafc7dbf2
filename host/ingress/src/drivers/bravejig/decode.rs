//! What the router says to inbounds. Pure.

use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType, Inbound, Topic};
use serde_json::Value;

use super::config::{Payload, Settings};
use super::uplink;
use super::wire::Uplink;

/// The attribute that tells what a reading is: `data`, `answer`, `progress` or `alert`.
const KIND: &str = "bjig";

pub(super) fn decode(settings: &Settings, uplink: &Uplink) -> Vec<Inbound> {
    let payloads: Vec<Bytes> = match settings.payload {
        Payload::Raw => vec![uplink.raw.clone()],
        Payload::Json => uplink::decode(uplink).iter().map(|sample| sample.to_string().into()).collect(),
    };
    let device = uplink.device.to_string();
    let content_type = match settings.payload {
        Payload::Raw => ContentType::OCTETS,
        Payload::Json => ContentType::JSON,
    };
    let inbound = |payload| Inbound {
        device: Some(device.as_str().into()),
        attributes: Attributes::new()
            .with(KIND, "data")
            .with("bjig.sensor", format!("{:04x}", uplink.sensor))
            .with("bjig.rssi", uplink.rssi.to_string())
            .with("bjig.order", uplink.order.to_string()),
        ..Inbound::new(topic(settings, &device, &uplink::name(uplink.sensor)), content_type.clone(), payload)
    };
    payloads.into_iter().map(inbound).collect()
}

/// What is said beside the measurements. `kind` is also the topic's `{sensor}`.
pub(super) fn notice(settings: &Settings, device: &str, kind: &str, payload: &Value) -> Inbound {
    Inbound {
        device: Some(device.into()),
        attributes: Attributes::new().with(KIND, kind),
        ..Inbound::new(topic(settings, device, kind), ContentType::JSON, payload.to_string().into())
    }
}

fn topic(settings: &Settings, device: &str, sensor: &str) -> Topic {
    let topic = settings.topic.fill(&[device.into(), sensor.into()]);
    topic.parse().expect("digits and names, in a template that was tried")
}
