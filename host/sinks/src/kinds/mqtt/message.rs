//! What a delivery is as a PUBLISH. Pure.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_mqtt_client::{Properties, Publish};
use sandbar_reading::{Attributes, Delivery, RESERVED_PREFIX, Timestamp, Topic};

use super::Plan;
use crate::Cause;

/// What user properties are called as attributes begins with this, as with the `mqtt` driver.
const PROPERTY: &str = "mqtt.property.";

/// Other attributes that say how a message came, not what it says.
const HOP_PREFIX: &str = "mqtt.";

/// Fields of MQTT hold no more bytes (1.5.4).
const FIELD_MAX: usize = 65_535;

/// The error is of this message, and will always be.
pub(super) fn publish(delivery: &Delivery, plan: &Plan, now: Timestamp) -> Result<Publish, Cause> {
    let message = &delivery.message;
    let topic = plan
        .topic
        .fill(|name| match name {
            "topic" => Some(message.topic.as_str()),
            "device" => message.device.as_deref(),
            _ => Some(delivery.route.as_str()),
        })
        .map_err(|name| Cause::new(format!("the message has no {name}, which `topic` asks for")))?;
    let topic: Topic = topic.parse().map_err(|error| Cause::of("the message's topic", &error))?;
    Ok(Publish {
        duplicate: false,
        qos: plan.qos,
        retain: plan.retain || message.attributes.get("mqtt.retain") == Some("true"),
        topic: topic.as_str().into(),
        packet_id: 0,
        properties: properties(delivery, plan, now)?,
        payload: message.payload.clone(),
    })
}

fn properties(delivery: &Delivery, plan: &Plan, now: Timestamp) -> Result<Properties, Cause> {
    let message = &delivery.message;
    let attributes = &message.attributes;
    let own = [
        ("id", Some(delivery.id.to_string())),
        ("sandbar-reading", Some(delivery.reading.to_string())),
        ("sandbar-time", Some(delivery.time.to_string())),
        ("sandbar-device", message.device.as_ref().map(ToString::to_string)),
    ];
    let own = own.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into())));
    let of_message = attributes.iter().filter_map(|(key, value)| Some((property(key)?.into(), value.into())));
    let user: Vec<(Box<str>, Box<str>)> = own.chain(of_message).collect();
    for (key, value) in &user {
        if key.len().max(value.len()) > FIELD_MAX || key.contains('\0') || value.contains('\0') {
            let shown: String = key.chars().take(40).collect();
            return Err(Cause::new(format!("attribute `{shown}` does not fit into a user property")));
        }
    }
    let is_text = message.content_type.is_json() || message.content_type.is_in("text/*");
    let expiry_s = match attributes.get("mqtt.expiry_s") {
        None => plan.expiry_s,
        Some(text) => Some(text.parse().map_err(|_| Cause::new("attribute `mqtt.expiry_s` is no number"))?),
    };
    Ok(Properties {
        is_text: is_text && std::str::from_utf8(&message.payload).is_ok(),
        message_expiry: expiry_s.map(|seconds| remaining(seconds, delivery.time, now)),
        content_type: Some(message.content_type.as_str().into()),
        response_topic: response_topic(attributes)?,
        correlation_data: correlation_data(attributes)?,
        user,
        ..Properties::default()
    })
}

/// The user property that an attribute becomes.
fn property(attribute: &str) -> Option<&str> {
    match attribute.strip_prefix(PROPERTY) {
        Some(name) => Some(name),
        None if attribute.starts_with(HOP_PREFIX) || attribute.starts_with(RESERVED_PREFIX) => None,
        None => Some(attribute),
    }
}

fn response_topic(attributes: &Attributes) -> Result<Option<Box<str>>, Cause> {
    let Some(text) = attributes.get("mqtt.response_topic") else { return Ok(None) };
    let topic: Topic = text.parse().map_err(|error| Cause::of("attribute `mqtt.response_topic`", &error))?;
    Ok(Some(topic.as_str().into()))
}

fn correlation_data(attributes: &Attributes) -> Result<Option<Bytes>, Cause> {
    let Some(text) = attributes.get("mqtt.correlation_data") else { return Ok(None) };
    match STANDARD.decode(text) {
        Ok(data) if data.len() <= FIELD_MAX => Ok(Some(data.into())),
        _ => Err(Cause::new("attribute `mqtt.correlation_data` is not base64, or too long")),
    }
}

/// What waited for longer is sent with the least that there is, not thrown away here: whether it is of use is
/// for the broker and its subscribers to say.
fn remaining(expiry_s: u32, put_out: Timestamp, now: Timestamp) -> u32 {
    let left = Duration::from_secs(expiry_s.into()).saturating_sub(now.since(put_out));
    u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::delivery;
    use crate::kinds::mqtt::Mqtt;

    fn plan(more: &serde_json::Value) -> Plan {
        let mut settings =
            serde_json::json!({ "broker": { "url": "mqtt://localhost", "client_id": "sandbar" } });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        <Mqtt as crate::Sink>::new(sandbar_reading::settings(settings).unwrap()).unwrap().plan
    }

    #[test]
    fn a_message_says_what_it_is() {
        let plan =
            plan(&serde_json::json!({ "topic": "{route}/{device}/{topic}", "expiry_s": 60, "retain": true }));
        let mut delivery = delivery(7);
        for (key, value) in [
            ("unit", "C"),
            ("mqtt.property.zone", "3"),
            ("mqtt.correlation_data", "AAE="),
            ("mqtt.retain", "true"),
        ] {
            delivery.message.attributes.add(key, value);
        }
        let publish = publish(&delivery, &plan, delivery.time.after(Duration::from_secs(20))).unwrap();
        assert_eq!(&*publish.topic, "kitchen/k1/sensors/kitchen");
        assert!(publish.retain && publish.properties.is_text);
        assert_eq!(publish.properties.message_expiry, Some(40));
        assert_eq!(publish.properties.content_type.as_deref(), Some("application/json"));
        let keys: Vec<_> = publish.properties.user.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["id", "sandbar-reading", "sandbar-time", "sandbar-device", "unit", "zone"]);
        assert_eq!(publish.properties.correlation_data.as_deref(), Some(&[0, 1][..]));
        assert_eq!(*publish.properties.user[0].1, *delivery.id.to_string());
    }

    #[test]
    fn what_expired_on_the_way_is_given_a_second() {
        assert_eq!(remaining(5, Timestamp::from_millis(0), Timestamp::from_millis(9_000)), 1);
        assert_eq!(remaining(u32::MAX, Timestamp::from_millis(9), Timestamp::from_millis(0)), u32::MAX);
    }

    #[test]
    fn a_message_that_fits_nowhere_says_why() {
        let plan = plan(&serde_json::json!({ "topic": "{device}" }));
        let mut homeless = delivery(1);
        homeless.message.device = None;
        let cause = publish(&homeless, &plan, homeless.time).unwrap_err();
        assert_eq!(cause.to_string(), "the message has no device, which `topic` asks for");
        let mut strange = delivery(1);
        strange.message.device = Some("a/#".into());
        assert!(publish(&strange, &plan, strange.time).is_err());
        let mut huge = delivery(1);
        huge.message.attributes.add("a", "x".repeat(70_000));
        assert!(publish(&huge, &plan, huge.time).unwrap_err().to_string().contains("`a`"));
        for (key, value) in
            [("mqtt.expiry_s", "soon"), ("mqtt.response_topic", "a/#"), ("mqtt.correlation_data", "?")]
        {
            let mut odd = delivery(1);
            odd.message.attributes.add(key, value);
            assert!(publish(&odd, &plan, odd.time).unwrap_err().to_string().contains(key));
        }
    }
}
