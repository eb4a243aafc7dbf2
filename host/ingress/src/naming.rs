//! How readings of a peer get their topic and device. Pure.

use std::borrow::Cow;
use std::net::SocketAddr;

use sandbar_reading::{ConfigError, Topic, TopicError};

use crate::pattern::Template;

/// Topic and device of the readings of peers that say neither.
#[derive(Debug)]
pub(crate) struct Naming {
    topic: Template,
    device: Option<Template>,
    /// A JSON pointer (RFC 6901) into the payload.
    device_pointer: Option<Box<str>>,
    /// Peers may have certificates.
    certificates: bool,
}

/// The far end, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer<'a> {
    pub(crate) address: Option<SocketAddr>,
    /// The common name of its certificate.
    pub(crate) certificate: Option<&'a str>,
}

impl From<SocketAddr> for Peer<'_> {
    fn from(address: SocketAddr) -> Self {
        Self { address: Some(address), certificate: None }
    }
}

/// What a payload's topic and device are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) topic: Topic,
    pub(crate) device: Option<Box<str>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NamingError {
    #[error("the payload names no device at {pointer}")]
    NoDevice { pointer: Box<str> },
    #[error("its topic would be `{topic}`: {error}")]
    Topic { topic: String, error: TopicError },
}

const DEVICE_MAX: usize = 255;

impl Naming {
    /// `{ip}` and `{port}` of the peer can be used in both, `{device}` in the topic. Errors name the settings
    /// `topic`, `device` and `device_pointer`.
    pub(crate) fn new(
        topic: &str,
        device: Option<&str>,
        device_pointer: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let names = ["ip", "port", "device"].map(Box::<str>::from);
        Self::with(&names, topic, device, device_pointer)
    }

    /// The same for peers with certificates: `{certificate}` can be used, too.
    pub(crate) fn with_certificates(
        topic: &str,
        device: Option<&str>,
        device_pointer: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let names = ["ip", "port", "certificate", "device"].map(Box::<str>::from);
        let named = Self::with(&names, topic, device, device_pointer)?;
        Ok(Self { certificates: true, ..named })
    }

    /// The same for peers without an address: `{device}` can be used in the topic.
    pub(crate) fn without_address(
        topic: &str,
        device: Option<&str>,
        device_pointer: Option<&str>,
    ) -> Result<Self, ConfigError> {
        Self::with(&["device".into()], topic, device, device_pointer)
    }

    /// The last of `names` is the device.
    fn with(
        names: &[Box<str>],
        topic: &str,
        device: Option<&str>,
        device_pointer: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let template = |setting: &str, text: &str, names: &[Box<str>]| {
            Template::parse(text, names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let named = Self {
            topic: template("topic", topic, names)?,
            device: device.map(|text| template("device", text, &names[..names.len() - 1])).transpose()?,
            device_pointer: device_pointer.map(pointer).transpose()?,
            certificates: false,
        };
        let example: Vec<_> = names.iter().map(|_| Cow::Borrowed("x")).collect();
        let example = named.topic.fill(&example);
        match example.parse::<Topic>() {
            Ok(_) => Ok(named),
            Err(error) => Err(ConfigError::at("topic", error.to_string())),
        }
    }

    /// The device of all that the peer sends, if its payloads do not name it.
    pub(crate) fn device<'a>(&self, peer: impl Into<Peer<'a>>) -> Option<Box<str>> {
        let device = self.device.as_ref()?.fill(&self.of_peer(peer.into()));
        (!device.is_empty()).then(|| device.into())
    }

    pub(crate) fn name<'a>(&self, peer: impl Into<Peer<'a>>, payload: &[u8]) -> Result<Named, NamingError> {
        let peer = peer.into();
        let device = match &self.device_pointer {
            Some(pointer) => device_in(payload, pointer).or_else(|| self.device(peer)).map_or_else(
                || Err(NamingError::NoDevice { pointer: pointer.clone() }),
                |device| Ok(Some(device)),
            )?,
            None => self.device(peer),
        };
        let mut values = self.of_peer(peer);
        values.push(device.as_deref().unwrap_or_default().into());
        let topic = self.topic.fill(&values);
        match topic.parse() {
            Ok(topic) => Ok(Named { topic, device }),
            Err(error) => Err(NamingError::Topic { topic, error }),
        }
    }

    fn of_peer<'a>(&self, peer: Peer<'a>) -> Vec<Cow<'a, str>> {
        let of =
            |peer: SocketAddr| [peer.ip().to_canonical().to_string().into(), peer.port().to_string().into()];
        let mut values: Vec<_> = peer.address.into_iter().flat_map(of).collect();
        if self.certificates {
            values.push(peer.certificate.unwrap_or_default().into());
        }
        values
    }
}

/// Also checks it: the error names `device_pointer`.
pub(crate) fn pointer(text: &str) -> Result<Box<str>, ConfigError> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(ConfigError::at("device_pointer", "must be a JSON pointer, such as /id")),
    }
}

/// The text or number at a place of a JSON payload.
pub(crate) fn device_in(payload: &[u8], pointer: &str) -> Option<Box<str>> {
    let payload: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let device = match payload.pointer(pointer)? {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (1..=DEVICE_MAX).contains(&device.len()).then(|| device.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "[::ffff:10.0.0.7]:4001".parse().unwrap()
    }

    fn name(naming: &Naming, payload: &str) -> String {
        match naming.name(peer(), payload.as_bytes()) {
            Ok(Named { topic, device }) => format!("{topic} {device:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_by_address_or_by_what_the_payload_says() {
        let fixed = Naming::new("press/4", Some("press-4"), None).unwrap();
        assert_eq!(name(&fixed, "x"), r#"press/4 Some("press-4")"#);
        let by_address = Naming::new("tcp/{ip}/{port}", Some("{ip}"), None).unwrap();
        assert_eq!(name(&by_address, "x"), r#"tcp/10.0.0.7/4001 Some("10.0.0.7")"#);
        let by_payload = Naming::new("meters/{device}", None, Some("/meter/id")).unwrap();
        assert_eq!(name(&by_payload, r#"{"meter":{"id":"m1"}}"#), r#"meters/m1 Some("m1")"#);
        assert_eq!(name(&by_payload, r#"{"meter":{"id":17}}"#), r#"meters/17 Some("17")"#);
        for bad in ["", "{", r#"{"meter":{"id":""}}"#, r#"{"meter":{"id":null}}"#, "\u{1}"] {
            assert_eq!(name(&by_payload, bad), "the payload names no device at /meter/id");
        }
        assert!(name(&by_payload, r##"{"meter":{"id":"a/#"}}"##).starts_with("its topic would be"));
        let line = Naming::without_address("press/{device}", None, Some("/id")).unwrap();
        let named = line.name(Peer::default(), br#"{"id":"p"}"#).unwrap();
        assert_eq!((named.topic.as_str(), named.device.as_deref()), ("press/p", Some("p")));
        assert_eq!(Naming::without_address("a/{ip}", None, None).unwrap_err().setting, "topic");
        let either = Naming::new("a", Some("{ip}"), Some("/id")).unwrap();
        assert_eq!(name(&either, "{}"), r#"a Some("10.0.0.7")"#);
        let shown = Naming::with_certificates("tcp/{ip}/{device}", Some("{certificate}"), None).unwrap();
        let named = shown.name(Peer { certificate: Some("press"), ..peer().into() }, b"x").unwrap();
        assert_eq!((named.topic.as_str(), named.device.as_deref()), ("tcp/10.0.0.7/press", Some("press")));
        assert_eq!(shown.device(peer()), None);
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |topic, device, pointer| Naming::new(topic, device, pointer).unwrap_err().setting;
        assert_eq!(setting("a/+", None, None), "topic");
        assert_eq!(setting("a/{other}", None, None), "topic");
        assert_eq!(setting("a", Some("{device}"), None), "device");
        assert_eq!(setting("a", None, Some("id")), "device_pointer");
    }
}
