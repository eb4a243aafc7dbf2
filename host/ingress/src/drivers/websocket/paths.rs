//! The paths of an ingress, compiled from its settings, and what a connection to one of them is for. Pure.

use http::HeaderName;
use http::request::Parts;
use sandbar_reading::{Attributes, ConfigError, Topic, TopicFilter};

use super::config::PathConfig;
use super::handshake::Unwelcome;
use crate::pattern::{Pattern, Template, Values, decode};
use crate::requester::{BadDevice, Requester, query, text};
use crate::{naming, tls};

/// One entry of the setting `paths`.
pub(super) struct Path {
    pattern: Pattern,
    /// Of the pattern, and `device`.
    names: Vec<Box<str>>,
    /// `None`: the path itself.
    topic: Option<Template>,
    requester: Requester,
    device_pointer: Option<Box<str>>,
    headers: Vec<(HeaderName, Box<str>)>,
    subscribe: bool,
    readings: bool,
}

/// What is known of a connection when it opens.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Values of the path's names, but for the device's.
    values: Vec<String>,
    topic: TopicOf,
    pub(super) device: Option<Box<str>>,
    device_pointer: Option<Box<str>>,
    attributes: Attributes,
    pub(super) filter: Option<TopicFilter>,
    pub(super) readings: bool,
}

#[derive(Clone, Debug)]
enum TopicOf {
    /// The path.
    Path(Topic),
    /// The path's values, and the device.
    Values(Template),
}

impl Path {
    /// `certificates` says whether peers show some. Errors name the setting within the entry.
    pub(super) fn new(config: &PathConfig, certificates: bool) -> Result<Self, ConfigError> {
        let pattern =
            Pattern::parse(&config.path).map_err(|error| ConfigError::at("path", error.to_string()))?;
        let template = |setting: &str, text: &str, names: &[Box<str>]| {
            Template::parse(text, names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let mut names = pattern.names().to_vec();
        let has_device = names.iter().any(|name| **name == *"device");
        let (device, header) = (config.device.as_deref(), config.device_header.as_deref());
        let query = config.device_query.as_deref();
        let requester = Requester::new(device, header, query, &names, certificates)?;
        if !has_device {
            names.push("device".into());
        }
        let topic = config.topic.as_deref().map(|text| template("topic", text, &names)).transpose()?;
        match &topic {
            None if config.path == "/" => {
                return Err(ConfigError::at("topic", "the path `/` alone gives no topic"));
            }
            Some(topic) => {
                let example: Vec<_> = names.iter().map(|_| "x".into()).collect();
                let example = topic.fill(&example).parse::<Topic>();
                example.map_err(|error| ConfigError::at("topic", error.to_string()))?;
            }
            None => {}
        }
        let header = |setting: &str, name: &str| {
            name.parse::<HeaderName>().map_err(|_| ConfigError::at(setting, "is not a header's name"))
        };
        let attribute = |(index, name): (usize, &String)| {
            let header = header(&format!("headers[{index}]"), name)?;
            let attribute = format!("http.header.{header}").into();
            Ok((header, attribute))
        };
        Ok(Self {
            topic,
            requester,
            device_pointer: config.device_pointer.as_deref().map(naming::pointer).transpose()?,
            headers: config.headers.iter().enumerate().map(attribute).collect::<Result<_, _>>()?,
            subscribe: config.subscribe,
            readings: config.readings,
            names,
            pattern,
        })
    }

    /// `None` if it is not this path that the request wants.
    pub(super) fn open(
        &self,
        parts: &Parts,
        (peer, certificate): (&str, Option<&str>),
        sub_protocol: Option<&str>,
    ) -> Result<Option<Opened>, Unwelcome> {
        let path = parts.uri.path();
        let Some(values) = self.pattern.matches(path).map_err(|_| Unwelcome::bad_path())? else {
            return Ok(None);
        };
        let topic = match &self.topic {
            Some(template) => TopicOf::Values(template.clone()),
            None => {
                let text = decode(path.strip_prefix('/').unwrap_or_default());
                let topic = text.ok().and_then(|text| text.parse().ok());
                TopicOf::Path(topic.ok_or(Unwelcome::bad_path())?)
            }
        };
        let filter = match (self.subscribe, query(parts, "topic")) {
            (false, _) => None,
            (true, None) => Some("#".parse().map_err(|_| Unwelcome::bad_filter())?),
            (true, Some(text)) => Some(text.parse().map_err(|_| Unwelcome::bad_filter())?),
        };
        Ok(Some(Opened {
            attributes: self.attributes(parts, &values, (peer, certificate), sub_protocol),
            device: self
                .requester
                .device(parts, &values, peer, certificate)
                .map_err(|BadDevice| Unwelcome::bad_device())?,
            device_pointer: self.device_pointer.clone(),
            values: values.into_iter().map(Into::into).collect(),
            topic,
            filter,
            readings: self.readings,
        }))
    }

    fn attributes(
        &self,
        parts: &Parts,
        values: &Values<'_>,
        (peer, certificate): (&str, Option<&str>),
        sub_protocol: Option<&str>,
    ) -> Attributes {
        let mut attributes = Attributes::new().with("http.path", parts.uri.path()).with("peer", peer);
        if let Some(certificate) = certificate {
            attributes.add(tls::CERTIFICATE, certificate);
        }
        if let Some(sub_protocol) = sub_protocol {
            attributes.add("websocket.sub_protocol", sub_protocol);
        }
        for (name, value) in self.names.iter().zip(values) {
            attributes.add(format!("http.path.{name}"), &**value);
        }
        for (header, name) in &self.headers {
            for value in parts.headers.get_all(header) {
                attributes.add(name.clone(), text(value));
            }
        }
        attributes
    }
}

impl Opened {
    /// As a request for the path `/ws` opens it.
    #[cfg(any(test, feature = "contract-test"))]
    pub(crate) fn example(config: &PathConfig) -> Self {
        let (parts, ()) = http::Request::get("/ws").body(()).expect("a request").into_parts();
        let path = Path::new(config, false).expect("settings that work");
        path.open(&parts, ("127.0.0.1:9", None), None).ok().flatten().expect("a path that fits")
    }

    pub(super) fn device_pointer(&self) -> Option<&str> {
        self.device_pointer.as_deref()
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    pub(super) fn topic(&self, device: Option<&str>) -> Result<Topic, sandbar_reading::TopicError> {
        match &self.topic {
            TopicOf::Path(topic) => Ok(topic.clone()),
            TopicOf::Values(template) => {
                let device = device.unwrap_or_default();
                let values: Vec<_> =
                    self.values.iter().map(String::as_str).chain([device]).map(Into::into).collect();
                template.fill(&values).parse()
            }
        }
    }
}
