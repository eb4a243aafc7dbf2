//! What a PUBLISH says as a reading. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_mqtt_client::{Publish, Qos};
use sandbar_reading::{Attributes, ContentType, Inbound, Topic, TopicError};

use crate::trace;

/// How messages become readings.
pub(super) struct Reader {
    pub(super) patterns: Vec<Pattern>,
    /// Of those that do not say.
    pub(super) content_type: ContentType,
}

/// A topic filter with one level that names the device: `sensors/{device}/#`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Level>);

#[derive(Debug, PartialEq, Eq)]
enum Level {
    Is(Box<str>),
    Any,
    Device,
    Rest,
}

impl Reader {
    /// The attributes are those of the `mqtt` driver: `mqtt.qos`, and where they are so `mqtt.retain`, `mqtt.format`,
    /// `mqtt.expiry_s`, `mqtt.response_topic`, `mqtt.correlation_data` (base64), `mqtt.property.NAME` for every
    /// user property, and `traceparent` and `tracestate` for those of these names.
    pub(super) fn decode(&self, publish: &Publish) -> Result<Inbound, TopicError> {
        let topic: Topic = publish.topic.parse()?;
        let properties = &publish.properties;
        let device = self.patterns.iter().find_map(|pattern| pattern.device(&topic)).map(Into::into);
        // What is no content type is not worth losing a message for.
        let named = properties.content_type.as_deref().and_then(|text| text.parse().ok());
        let content_type = named.unwrap_or_else(|| match properties.is_text {
            true => ContentType::TEXT,
            false => self.content_type.clone(),
        });
        let attributes = attributes(publish);
        Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type, publish.payload.clone()) })
    }
}

fn attributes(publish: &Publish) -> Attributes {
    let properties = &publish.properties;
    let mut attributes = Attributes::new().with("mqtt.qos", qos(publish.qos));
    if publish.retain {
        attributes.add("mqtt.retain", "true");
    }
    if properties.is_text {
        attributes.add("mqtt.format", "text");
    }
    if let Some(seconds) = properties.message_expiry {
        attributes.add("mqtt.expiry_s", seconds.to_string());
    }
    if let Some(topic) = &properties.response_topic {
        attributes.add("mqtt.response_topic", topic.clone());
    }
    if let Some(data) = &properties.correlation_data {
        attributes.add("mqtt.correlation_data", STANDARD.encode(data));
    }
    let said = |wanted: &str| properties.user.iter().find(|(name, _)| **name == *wanted);
    trace::follow(&mut attributes, |name| said(name).map(|(_, value)| &**value));
    for (name, value) in properties.user.iter().filter(|(name, _)| !trace::is_name(name)) {
        attributes.add(format!("mqtt.property.{name}"), value.clone());
    }
    attributes
}

const fn qos(qos: Qos) -> &'static str {
    match qos {
        Qos::AtMostOnce => "0",
        Qos::AtLeastOnce => "1",
        Qos::ExactlyOnce => "2",
    }
}

impl Pattern {
    /// The error is a sentence about the setting.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut levels: Vec<Level> = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err("`#` must be the last level");
            }
            levels.push(match level {
                "+" => Level::Any,
                "#" => Level::Rest,
                "{device}" if levels.contains(&Level::Device) => return Err("`{device}` is there twice"),
                "{device}" => Level::Device,
                text if text.contains(['+', '#', '{', '}', '\0']) => {
                    return Err("a level is text, `+`, `{device}`, or last `#`");
                }
                text => Level::Is(text.into()),
            });
        }
        match levels.contains(&Level::Device) {
            true => Ok(Self(levels)),
            false => Err("one level must be `{device}`: `sensors/{device}/#`"),
        }
    }

    /// The device that the topic names, if it fits and names one.
    fn device<'a>(&self, topic: &'a Topic) -> Option<&'a str> {
        let mut levels = topic.levels();
        let mut device = None;
        for wanted in &self.0 {
            let level = match (wanted, levels.next()) {
                (Level::Rest, _) => return device,
                (_, Some(level)) => level,
                (_, None) => return None,
            };
            match wanted {
                Level::Is(text) if **text != *level => return None,
                Level::Device if level.is_empty() => return None,
                Level::Device => device = Some(level),
                _ => {}
            }
        }
        device.filter(|_| levels.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use sandbar_mqtt_client::Properties;

    use super::*;

    fn reader() -> Reader {
        let patterns = ["sensors/{device}/#", "+/{device}"].map(|text| Pattern::parse(text).unwrap());
        Reader { patterns: patterns.into(), content_type: ContentType::OCTETS }
    }

    fn check(attributes: &Attributes, expected: &Expect) {
        let text: String = attributes.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn says_all_that_a_message_says() {
        let properties = Properties {
            content_type: Some("application/json".into()),
            response_topic: Some("answers/7".into()),
            correlation_data: Some(Bytes::from_static(b"\0\xff")),
            is_text: true,
            message_expiry: Some(60),
            user: vec![("unit".into(), "C".into()), ("unit".into(), "K".into())],
            ..Properties::default()
        };
        let publish = Publish {
            qos: Qos::ExactlyOnce,
            retain: true,
            duplicate: true,
            topic: "sensors/k1/temp".into(),
            packet_id: 7,
            properties,
            payload: Bytes::from_static(b"21"),
        };
        let inbound = reader().decode(&publish).unwrap();
        assert_eq!(inbound.device.as_deref(), Some("k1"));
        assert_eq!(inbound.content_type, ContentType::JSON);
        check(
            &inbound.attributes,
            &expect![[r#"
                mqtt.qos=2
                mqtt.retain=true
                mqtt.format=text
                mqtt.expiry_s=60
                mqtt.response_topic=answers/7
                mqtt.correlation_data=AP8=
                mqtt.property.unit=C
                mqtt.property.unit=K
            "#]],
        );
    }

    #[test]
    fn a_level_of_the_topic_names_the_device() {
        let device = |topic: &str| {
            let topic = topic.parse().unwrap();
            reader().patterns.iter().find_map(|pattern| pattern.device(&topic)).map(ToOwned::to_owned)
        };
        assert_eq!(device("sensors/k1/a/b").as_deref(), Some("k1"));
        assert_eq!(device("sensors/k1").as_deref(), Some("k1"), "`#` is also none");
        assert_eq!(device("other/k2").as_deref(), Some("k2"));
        assert_eq!(device("sensors//x"), None);
        assert_eq!(device("other/k2/x"), None);
    }

    #[test]
    fn a_pattern_that_names_nothing_is_refused() {
        for bad in ["a/b", "{device}/{device}", "a{device}", "#/{device}", "{device}/+x", "{name}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_content_type_is_text_or_as_configured() {
        for (is_text, expected) in [(false, ContentType::OCTETS), (true, ContentType::TEXT)] {
            let content_type = Some("json".into());
            let properties = Properties { content_type, is_text, ..Properties::default() };
            let publish = Publish { topic: "a".into(), properties, ..Publish::default() };
            assert_eq!(reader().decode(&publish).unwrap().content_type, expected);
        }
    }

    proptest! {
        #[test]
        fn no_topic_makes_it_panic(topic in ".{0,40}", content_type in ".{0,20}") {
            let properties = Properties { content_type: Some(content_type.into()), ..Properties::default() };
            let publish = Publish { topic: topic.as_str().into(), properties, ..Publish::default() };
            let decoded = reader().decode(&publish);
            prop_assert_eq!(decoded.is_ok(), topic.parse::<Topic>().is_ok());
        }
    }
}
