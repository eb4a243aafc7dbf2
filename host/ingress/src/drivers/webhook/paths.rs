//! The paths of an ingress, compiled from its settings, and which of them takes a request.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderName, Method};
use sandbar_reading::{ConfigError, Topic};

use super::config::PathConfig;
use super::problem::Problem;
use super::reply::Fixed;
use crate::naming::{self, device_in};
use crate::pattern::{Pattern, Template, Values, decode};
use crate::requester::{BadDevice, Requester};

/// One entry of the setting `paths`.
#[derive(Debug)]
pub(super) struct Path {
    pattern: Pattern,
    methods: Vec<Method>,
    /// `None`: the path itself.
    topic: Option<Template>,
    requester: Requester,
    device_pointer: Option<Box<str>>,
    pub(super) content_types: Vec<String>,
    /// Attribute names, in the order of the pattern's values.
    pub(super) segments: Vec<Box<str>>,
    /// Headers, and the attribute names for them.
    pub(super) headers: Vec<(HeaderName, Box<str>)>,
    /// Query parameters, and the attribute names for them.
    pub(super) query: Vec<(Box<str>, Box<str>)>,
    /// To a sender whose reading is taken, if it is not the usual.
    pub(super) answer: Option<Fixed>,
}

impl Path {
    /// Errors name the setting within the entry.
    pub(super) fn new(config: &PathConfig) -> Result<Self, ConfigError> {
        let pattern =
            Pattern::parse(&config.path).map_err(|error| ConfigError::at("path", error.to_string()))?;
        let topic = topic(config, &pattern)?;
        let (device, header) = (config.device.as_deref(), config.device_header.as_deref());
        let requester =
            Requester::new(device, header, config.device_query.as_deref(), pattern.names(), false)?;
        let range = |(index, text): (usize, &String)| match text.split_once('/') {
            Some((kind, subtype)) if !kind.is_empty() && !subtype.is_empty() => Ok(text.clone()),
            _ => Err(ConfigError::at(
                format!("content_types[{index}]"),
                "must be like `application/json` or `image/*`",
            )),
        };
        Ok(Self {
            topic,
            requester,
            device_pointer: config.device_pointer.as_deref().map(naming::pointer).transpose()?,
            methods: methods(&config.methods)?,
            content_types: config.content_types.iter().enumerate().map(range).collect::<Result<_, _>>()?,
            segments: pattern.names().iter().map(|name| format!("http.path.{name}").into()).collect(),
            headers: headers(&config.headers)?,
            query: config
                .query
                .iter()
                .map(|name| (name.as_str().into(), format!("http.query.{name}").into()))
                .collect(),
            answer: config.answer.as_ref().map(Fixed::new).transpose()?,
            pattern,
        })
    }

    /// What the reading of a request is about.
    pub(super) fn device(
        &self,
        parts: &Parts,
        values: &Values<'_>,
        peer: &str,
        payload: &[u8],
    ) -> Result<Option<Box<str>>, Problem> {
        let named = self.device_pointer.as_deref().and_then(|pointer| device_in(payload, pointer));
        let named = match named {
            Some(named) => Some(named),
            None => {
                self.requester.device(parts, values, peer, None).map_err(|BadDevice| Problem::bad_device())?
            }
        };
        match (&self.device_pointer, named) {
            (Some(pointer), None) => Err(Problem::no_device(pointer)),
            (_, named) => Ok(named),
        }
    }

    pub(super) fn topic(
        &self,
        parts: &Parts,
        values: &Values<'_>,
        device: Option<&str>,
    ) -> Result<Topic, Problem> {
        let topic: Result<Topic, _> = match &self.topic {
            Some(template) => {
                let mut values = values.clone();
                values.push(device.unwrap_or_default().into());
                template.fill(&values).parse()
            }
            None => decode(parts.uri.path().strip_prefix('/').unwrap_or_default())
                .map_err(|_| Problem::bad_path())?
                .parse(),
        };
        topic.map_err(|error| Problem::bad_topic(&error))
    }
}

fn topic(config: &PathConfig, pattern: &Pattern) -> Result<Option<Template>, ConfigError> {
    let at = |problem: String| ConfigError::at("topic", problem);
    let Some(text) = &config.topic else {
        return match config.path.as_str() {
            "/" => Err(at("the path `/` alone gives no topic".to_owned())),
            _ => Ok(None),
        };
    };
    let device = (!pattern.names().iter().any(|name| **name == *"device")).then(|| "device".into());
    let names: Vec<Box<str>> = pattern.names().iter().cloned().chain(device).collect();
    let template = Template::parse(text, &names).map_err(|error| at(error.to_string()))?;
    let example: Values<'_> = names.iter().map(|_| Cow::Borrowed("x")).collect();
    template.fill(&example).parse::<Topic>().map_err(|error| at(error.to_string()))?;
    Ok(Some(template))
}

fn methods(names: &[String]) -> Result<Vec<Method>, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::at("methods", "must name at least one"));
    }
    let method = |(index, name): (usize, &String)| match Method::from_bytes(name.as_bytes()) {
        Ok(method) if method != Method::CONNECT && *name == name.to_ascii_uppercase() => Ok(method),
        _ => Err(ConfigError::at(format!("methods[{index}]"), "must be a method such as `POST`")),
    };
    names.iter().enumerate().map(method).collect()
}

fn headers(names: &[String]) -> Result<Vec<(HeaderName, Box<str>)>, ConfigError> {
    let header = |(index, name): (usize, &String)| {
        let at = |problem: &str| ConfigError::at(format!("headers[{index}]"), problem);
        let name: HeaderName = name.parse().map_err(|_| at("is not a header's name"))?;
        if name == http::header::AUTHORIZATION {
            return Err(at("would write secrets into the journal"));
        }
        let attribute = format!("http.header.{name}").into();
        Ok((name, attribute))
    };
    names.iter().enumerate().map(header).collect()
}

/// The first of `paths` that takes `method` at `path`, or what to answer.
pub(super) fn find<'a, 'p>(
    paths: &'a [Path],
    method: &Method,
    path: &'p str,
) -> Result<(&'a Path, Values<'p>), Problem> {
    let mut others: Vec<&Method> = Vec::new();
    for entry in paths {
        if let Some(values) = entry.pattern.matches(path).map_err(|_| Problem::bad_path())? {
            if entry.methods.contains(method) {
                return Ok((entry, values));
            }
            others.extend(entry.methods.iter().filter(|other| !others.contains(other)).collect::<Vec<_>>());
        }
    }
    if others.is_empty() {
        return Err(Problem::no_such_path());
    }
    Err(Problem::method(&others.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ")))
}
