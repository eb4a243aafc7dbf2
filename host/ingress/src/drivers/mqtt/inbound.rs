//! What a message becomes as a reading. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Topic};

use super::codec::{Properties, Qos};
use super::config::DeviceName;
use super::message::About;
use crate::trace;

/// What a client published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) properties: Option<Box<Properties>>,
}

impl Published {
    pub(super) const fn about(&self, publisher: u32) -> About<'_> {
        About { topic: &self.topic, qos: self.qos, retain: self.retain, publisher }
    }
}

/// The client that did.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) client: Box<str>,
    pub(super) user: Option<Box<str>>,
    /// Its session.
    pub(super) number: u32,
}

/// How readings are made, as configured.
#[derive(Debug)]
pub(super) struct Mapping {
    device: DeviceName,
    device_topics: Vec<DevicePattern>,
    content_type: ContentType,
}

/// `sensors/{device}/#`
#[derive(Debug)]
struct DevicePattern(Vec<Level>);

#[derive(Debug)]
enum Level {
    Exact(Box<str>),
    Any,
    Rest,
    Device,
}

impl Mapping {
    pub(super) fn new(
        device: DeviceName,
        device_topics: &[String],
        content_type: &str,
    ) -> Result<Self, ConfigError> {
        let pattern = |(index, text): (usize, &String)| {
            DevicePattern::parse(text).ok_or_else(|| {
                let problem = "must be a topic filter with one level `{device}`: `sensors/{device}/#`";
                ConfigError::at(format!("device_topics[{index}]"), problem)
            })
        };
        Ok(Self {
            device,
            device_topics: device_topics.iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
            content_type: content_type.parse().map_err(|error: sandbar_reading::ContentTypeError| {
                ConfigError::at("content_type", error.to_string())
            })?,
        })
    }

    /// The device that the client itself is.
    pub(super) fn device_of_client<'a>(&self, by: &'a By) -> Option<&'a str> {
        match self.device {
            DeviceName::Client => Some(&by.client),
            DeviceName::User => by.user.as_deref(),
            DeviceName::None => None,
        }
    }

    /// The device that a message on `topic` is about.
    pub(super) fn device<'a>(&self, topic: &'a Topic, by: &'a By) -> Option<&'a str> {
        let named = self.device_topics.iter().find_map(|pattern| pattern.device(topic));
        named.or_else(|| self.device_of_client(by))
    }

    pub(super) fn inbound(&self, published: Published, by: &By) -> Inbound {
        let Published { topic, payload, qos, retain, properties } = published;
        let mut attributes = Attributes::new();
        attributes.add("mqtt.qos", ["0", "1", "2"][qos as usize]);
        attributes.add("mqtt.client", by.client.clone());
        if let Some(user) = &by.user {
            attributes.add("mqtt.user", user.clone());
        }
        if retain {
            attributes.add("mqtt.retain", "true");
        }
        let mut content_type = None;
        if let Some(properties) = properties {
            content_type = properties.content_type.as_ref().and_then(|text| text.parse().ok());
            if content_type.is_none() && properties.payload_format == Some(1) {
                content_type = Some(ContentType::TEXT);
            }
            add_properties(&mut attributes, *properties);
        }
        let content_type = content_type.unwrap_or_else(|| self.content_type.clone());
        let device = self.device(&topic, by).map(Into::into);
        Inbound { device, attributes, ..Inbound::new(topic, content_type, payload) }
    }
}

fn add_properties(attributes: &mut Attributes, properties: Properties) {
    let Properties { payload_format, message_expiry, response_topic, correlation_data, user, .. } =
        properties;
    if payload_format == Some(1) {
        attributes.add("mqtt.format", "text");
    }
    if let Some(seconds) = message_expiry {
        attributes.add("mqtt.expiry_s", seconds.to_string());
    }
    if let Some(topic) = response_topic {
        attributes.add("mqtt.response_topic", topic);
    }
    if let Some(data) = correlation_data {
        attributes.add("mqtt.correlation_data", STANDARD.encode(data));
    }
    let said = |wanted: &str| user.iter().find(|(name, _)| **name == *wanted);
    trace::follow(attributes, |name| said(name).map(|(_, value)| &**value));
    for (name, value) in user.into_iter().filter(|(name, _)| !trace::is_name(name)) {
        attributes.add(format!("{PROPERTY}{name}"), value);
    }
}

/// What user properties are called as attributes begins with this.
const PROPERTY: &str = "mqtt.property.";

/// The other way: a message's attributes as a PUBLISH's quality of service, retain flag and properties.
pub(super) fn outbound(message: &sandbar_reading::Message) -> Result<Published, String> {
    let attributes = &message.attributes;
    let qos = match attributes.get("mqtt.qos") {
        None => Qos::AtLeastOnce,
        Some(text) => text
            .parse()
            .ok()
            .and_then(Qos::of)
            .ok_or_else(|| format!("the attribute mqtt.qos is {text:?}, not 0, 1 or 2"))?,
    };
    let mut properties = Box::new(Properties {
        content_type: Some(message.content_type.as_str().into()),
        payload_format: (attributes.get("mqtt.format") == Some("text")).then_some(1),
        ..Properties::default()
    });
    if let Some(text) = attributes.get("mqtt.expiry_s") {
        let seconds =
            text.parse().map_err(|_| format!("the attribute mqtt.expiry_s is {text:?}, not a number"))?;
        properties.message_expiry = Some(seconds);
    }
    if let Some(topic) = attributes.get("mqtt.response_topic") {
        let topic: Topic =
            topic.parse().map_err(|error| format!("the attribute mqtt.response_topic: {error}"))?;
        properties.response_topic = Some(topic.as_str().into());
    }
    if let Some(data) = attributes.get("mqtt.correlation_data") {
        let data = STANDARD
            .decode(data)
            .map_err(|_| "the attribute mqtt.correlation_data is not base64".to_owned())?;
        properties.correlation_data = Some(data.into());
    }
    let sayable = |text: &str| text.len() <= usize::from(u16::MAX) && !text.contains('\0');
    for (name, value) in attributes.iter() {
        let property = if trace::is_name(name) { Some(name) } else { name.strip_prefix(PROPERTY) };
        if let Some(name) = property
            && sayable(name)
            && sayable(value)
        {
            properties.user.push((name.into(), value.into()));
        }
    }
    Ok(Published {
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        qos,
        retain: attributes.get("mqtt.retain") == Some("true"),
        properties: Some(properties),
    })
}

impl DevicePattern {
    fn parse(text: &str) -> Option<Self> {
        let last = text.split('/').count();
        let level = |(at, level): (usize, &str)| match level {
            "{device}" => Some(Level::Device),
            "+" => Some(Level::Any),
            "#" if at == last => Some(Level::Rest),
            exact if exact.contains(['+', '#', '{', '}', '\0']) => None,
            exact => Some(Level::Exact(exact.into())),
        };
        let levels: Vec<Level> = (1..).zip(text.split('/')).map(level).collect::<Option<_>>()?;
        (levels.iter().filter(|level| matches!(level, Level::Device)).count() == 1).then_some(Self(levels))
    }

    fn device<'a>(&self, topic: &'a Topic) -> Option<&'a str> {
        let mut parts = topic.levels();
        let mut device = None;
        for level in &self.0 {
            match (level, parts.next()) {
                (Level::Rest, _) => return device,
                (Level::Device, Some(part)) if !part.is_empty() => device = Some(part),
                (Level::Any, Some(_)) => {}
                (Level::Exact(wanted), Some(part)) if **wanted == *part => {}
                _ => return None,
            }
        }
        if parts.next().is_none() { device } else { None }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn by() -> By {
        By { client: "c1".into(), user: Some("ann".into()), number: 1 }
    }

    fn mapping(device: DeviceName, topics: &[&str]) -> Mapping {
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        Mapping::new(device, &topics, "application/octet-stream").unwrap()
    }

    fn published() -> Published {
        let properties = Properties {
            payload_format: Some(1),
            message_expiry: Some(60),
            response_topic: Some("answers/1".into()),
            correlation_data: Some(Bytes::from_static(b"\0\x01")),
            user: vec![("unit".into(), "C".into()), ("unit".into(), "K".into())],
            ..Properties::default()
        };
        Published {
            topic: "sensors/d7/temp".parse().unwrap(),
            payload: Bytes::from_static(b"21.5\0\xff"),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: Some(Box::new(properties)),
        }
    }

    #[test]
    fn says_everything_that_the_packet_said() {
        let inbound = mapping(DeviceName::Client, &[]).inbound(published(), &by());
        assert_eq!(&inbound.payload[..], b"21.5\0\xff");
        assert_eq!((inbound.device.as_deref(), inbound.content_type.as_str()), (Some("c1"), "text/plain"));
        expect![[r#"
            [("mqtt.qos", "1"), ("mqtt.client", "c1"), ("mqtt.user", "ann"), ("mqtt.retain", "true"), ("mqtt.format", "text"), ("mqtt.expiry_s", "60"), ("mqtt.response_topic", "answers/1"), ("mqtt.correlation_data", "AAE="), ("mqtt.property.unit", "C"), ("mqtt.property.unit", "K")]"#]]
        .assert_eq(&format!("{:?}", inbound.attributes.iter().collect::<Vec<_>>()));
    }

    #[test]
    fn a_trace_is_an_attribute_of_its_own_and_goes_on_as_a_property() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut published = published();
        let properties = published.properties.as_mut().unwrap();
        properties.user = vec![("tracestate".into(), "a=b".into()), ("traceparent".into(), given.into())];
        let inbound = mapping(DeviceName::Client, &[]).inbound(published, &by());
        assert_eq!(inbound.attributes.get("traceparent"), Some(given));
        assert_eq!(inbound.attributes.get("mqtt.property.traceparent"), None);
        let message = sandbar_reading::Message {
            topic: inbound.topic,
            device: None,
            content_type: inbound.content_type,
            attributes: inbound.attributes,
            payload: inbound.payload,
        };
        let user = outbound(&message).unwrap().properties.unwrap().user;
        assert_eq!(user, [("traceparent".into(), given.into()), ("tracestate".into(), "a=b".into())]);
    }

    #[test]
    fn and_back() {
        let inbound = mapping(DeviceName::Client, &[]).inbound(published(), &by());
        let message = sandbar_reading::Message {
            topic: inbound.topic,
            device: None,
            content_type: inbound.content_type,
            attributes: inbound.attributes,
            payload: inbound.payload,
        };
        let back = outbound(&message).unwrap();
        let mut wanted = published();
        wanted.properties.as_mut().unwrap().content_type = Some("text/plain".into());
        assert_eq!((back.qos, back.retain, back.properties), (wanted.qos, wanted.retain, wanted.properties));
        let wrong = |name: &str| {
            let attributes = Attributes::new().with(name, "?");
            outbound(&sandbar_reading::Message { attributes, ..message.clone() }).unwrap_err()
        };
        expect!["the attribute mqtt.qos is \"?\", not 0, 1 or 2"].assert_eq(&wrong("mqtt.qos"));
        expect!["the attribute mqtt.correlation_data is not base64"]
            .assert_eq(&wrong("mqtt.correlation_data"));
    }

    #[test]
    fn names_the_device() {
        let topic: Topic = "sensors/d7/temp".parse().unwrap();
        let by = by();
        for (device, topics, wanted) in [
            (DeviceName::Client, &["sensors/{device}/#"][..], Some("d7")),
            (DeviceName::Client, &["other/{device}", "+/{device}/temp"], Some("d7")),
            (DeviceName::Client, &["sensors/{device}"], Some("c1")),
            (DeviceName::User, &[], Some("ann")),
            (DeviceName::None, &[], None),
        ] {
            assert_eq!(mapping(device, topics).device(&topic, &by), wanted, "{topics:?}");
        }
    }

    #[test]
    fn refuses_patterns_without_a_device() {
        for bad in ["a/b", "a/#/{device}", "{device}/{device}", "a/x{device}", ""] {
            assert!(Mapping::new(DeviceName::Client, &[bad.to_owned()], "text/plain").is_err(), "{bad}");
        }
    }
}
