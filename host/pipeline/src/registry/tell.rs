//! What handlers are told of a device that came or went. Pure.

use sandbar_reading::{ContentType, Inbound, Topic};
use sandbar_store::{DeviceRow, Presence};
use serde::Serialize;

use super::DEVICES_INGRESS;

#[derive(Serialize)]
struct Change<'a> {
    device: &'a str,
    presence: &'static str,
    /// Not there if it was not known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'static str>,
    since: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    labels: serde_json::Map<String, serde_json::Value>,
}

pub(super) const fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
        Presence::Lost => "lost",
    }
}

/// A reading with the topic `devices/{id}/presence`.
pub(super) fn presence(device: &DeviceRow, was: Option<Presence>) -> Inbound {
    let label = |(key, value): &(Box<str>, Box<str>)| (key.to_string(), (**value).into());
    let change = Change {
        device: &device.id,
        presence: word(device.presence),
        was: was.map(word),
        since: device.since.to_string(),
        last_seen: device.last_seen.to_string(),
        name: device.name.as_deref(),
        kind: device.kind.as_deref(),
        labels: device.labels.iter().map(label).collect(),
    };
    let payload = serde_json::to_vec(&change).expect("texts, written to memory");
    let inbound = Inbound::new(topic(&device.id), ContentType::JSON, payload.into());
    Inbound { device: Some(device.id.clone()), time: Some(device.since), ..inbound }
}

/// What a topic's level cannot hold is written as in URLs.
fn topic(device: &str) -> Topic {
    let mut level = String::with_capacity(device.len());
    for character in device.chars() {
        match character {
            '/' | '+' | '#' | '%' | '\0'..='\u{1f}' | '\u{7f}' => {
                level.push_str(&format!("%{:02X}", u32::from(character)));
            }
            other => level.push(other),
        }
    }
    let topic = format!("{DEVICES_INGRESS}/{level}/presence").parse();
    topic.unwrap_or_else(|_| "devices/presence".parse().expect("it is a topic"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use sandbar_reading::Timestamp;

    use super::*;

    #[test]
    fn a_change_of_presence_is_a_reading() {
        let device = DeviceRow {
            id: "a/b+é".into(),
            name: Some("Boiler".into()),
            is_named: false,
            kind: None,
            labels: vec![("room".into(), "cellar".into())],
            ingresses: Vec::new(),
            first_seen: Timestamp::from_millis(0),
            last_seen: Timestamp::from_millis(1000),
            presence: Presence::Lost,
            since: Timestamp::from_millis(121_000),
            silence_ms: None,
        };
        let inbound = presence(&device, Some(Presence::Online));
        assert_eq!(inbound.topic.as_str(), "devices/a%2Fb%2Bé/presence");
        assert_eq!((inbound.device.as_deref(), inbound.time), (Some("a/b+é"), Some(device.since)));
        expect![[r#"{"device":"a/b+é","presence":"lost","was":"online","since":"1970-01-01T00:02:01.000000Z","last_seen":"1970-01-01T00:00:01.000000Z","name":"Boiler","labels":{"room":"cellar"}}"#]]
            .assert_eq(std::str::from_utf8(&inbound.payload).unwrap());
    }
}
