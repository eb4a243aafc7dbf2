//! A request to an inbound. Pure.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Topic};

use super::config::ResourceConfig;
use crate::coap::packet::{self, MessageClass, problem};
use crate::coap::{Code, Method, Opt, Packet, answers, formats};
use crate::pattern::{Pattern, Template, Values};

/// One entry of the setting `resources`.
#[derive(Debug)]
pub(crate) struct Resource {
    pattern: Pattern,
    methods: Vec<Method>,
    topic: Option<Template>,
    device: Option<Template>,
    content_type: ContentType,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<&'a str>,
}

const METHODS: [(&str, Method); 6] = [
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("FETCH", Method::Fetch),
    ("PATCH", Method::Patch),
    ("iPATCH", Method::IPatch),
];

const DEVICE_MAX: usize = 255;

impl Resource {
    /// Errors name the setting within the entry.
    pub(crate) fn new(config: &ResourceConfig) -> Result<Self, ConfigError> {
        let pattern =
            Pattern::parse(&config.path).map_err(|error| ConfigError::at("path", error.to_string()))?;
        let template = |setting: &str, text: &str, names: &[Box<str>]| {
            Template::parse(text, names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let mut names = pattern.names().to_vec();
        let has_device = names.iter().any(|name| **name == *"device");
        names.extend(["ip", "port", "identity"].map(Box::<str>::from));
        let device = config.device.as_deref().or(has_device.then_some("{device}"));
        let device = device.map(|text| template("device", text, &names)).transpose()?;
        if !has_device {
            names.push("device".into());
        }
        let topic = config.topic.as_deref().map(|text| template("topic", text, &names)).transpose()?;
        let example: Values<'_> = names.iter().map(|_| Cow::Borrowed("x")).collect();
        match &topic {
            None if config.path == "/" => {
                return Err(ConfigError::at("topic", "the path `/` alone gives no topic"));
            }
            Some(topic) => {
                let topic = topic.fill(&example).parse::<Topic>();
                topic.map_err(|error| ConfigError::at("topic", error.to_string()))?;
            }
            None => {}
        }
        let content_type = config.content_type.as_deref().map_or(Ok(ContentType::OCTETS), str::parse);
        Ok(Self {
            pattern,
            methods: methods(&config.methods)?,
            topic,
            device,
            content_type: content_type.map_err(|error| ConfigError::at("content_type", error.to_string()))?,
        })
    }

    fn name(
        &self,
        path: &str,
        values: Values<'_>,
        from: From<'_>,
    ) -> Result<(Topic, Option<Box<str>>), Packet> {
        let mut values = values;
        values.push(from.address.ip().to_canonical().to_string().into());
        values.push(from.address.port().to_string().into());
        values.push(from.identity.unwrap_or_default().into());
        let device: Option<Box<str>> = self.device.as_ref().map(|device| device.fill(&values).into());
        if device.as_ref().is_some_and(|device| !(1..=DEVICE_MAX).contains(&device.len())) {
            return Err(problem(Code::BadRequest, "the request names no device"));
        }
        values.push(device.as_deref().unwrap_or_default().into());
        let topic = match &self.topic {
            Some(topic) => topic.fill(&values),
            None => path.strip_prefix('/').unwrap_or(path).to_owned(),
        };
        let topic = topic.parse();
        drop(values);
        topic
            .map(|topic| (topic, device))
            .map_err(|error| problem(Code::BadRequest, &format!("the path gives no topic: {error}")))
    }
}

fn methods(names: &[String]) -> Result<Vec<Method>, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::at("methods", "must name at least one"));
    }
    let method = |(index, name): (usize, &String)| {
        METHODS.iter().find(|(known, _)| known == name).map(|(_, method)| *method).ok_or_else(|| {
            ConfigError::at(format!("methods[{index}]"), "must be POST, PUT, DELETE, FETCH, PATCH or iPATCH")
        })
    };
    names.iter().enumerate().map(method).collect()
}

/// An error is what the sender is told.
pub(crate) fn decode(resources: &[Resource], from: From<'_>, packet: &Packet) -> Result<Inbound, Packet> {
    let path = answers::path(packet)?;
    let MessageClass::Request(method) = packet.header.code else {
        return Err(problem(Code::MethodNotAllowed, "a method that is not known"));
    };
    // What patterns take is percent-encoded; CoAP's paths are not.
    let encoded = path.replace('%', "%25");
    let mut is_there = false;
    for resource in resources {
        if let Ok(Some(values)) = resource.pattern.matches(&encoded) {
            if resource.methods.contains(&method) {
                let (topic, device) = resource.name(&path, values, from)?;
                return inbound(resource, topic, device, &path, method, from, packet);
            }
            is_there = true;
        }
    }
    Err(match is_there {
        true => problem(Code::MethodNotAllowed, "this resource does not take the method"),
        false => problem(Code::NotFound, "nothing is taken at this path"),
    })
}

fn inbound(
    resource: &Resource,
    topic: Topic,
    device: Option<Box<str>>,
    path: &str,
    method: Method,
    from: From<'_>,
    packet: &Packet,
) -> Result<Inbound, Packet> {
    let content_type = content_type(packet, &resource.content_type);
    let name = METHODS.iter().find(|(_, known)| *known == method).map_or("", |(name, _)| name);
    let mut attributes = Attributes::new()
        .with("coap.method", name)
        .with("coap.path", path)
        .with("peer", from.address.to_string());
    if let Some(identity) = from.identity {
        attributes.add("coap.identity", identity);
    }
    let queries = packet::queries(packet).ok_or_else(|| problem(Code::BadRequest, "the query is no text"))?;
    for query in queries {
        let (name, value) = query.split_once('=').unwrap_or((query, ""));
        attributes.add(format!("coap.query.{name}"), value);
    }
    let payload = Bytes::copy_from_slice(&packet.payload);
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type, payload) })
}

/// As its content format says.
pub(crate) fn content_type(packet: &Packet, otherwise: &ContentType) -> ContentType {
    let format = packet::uint(packet, Opt::ContentFormat).and_then(|format| u16::try_from(format).ok());
    format.map_or_else(|| otherwise.clone(), formats::content_type)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn resources() -> Vec<Resource> {
        let config = r#"
            [[resources]]
            path = "/sensors/{device}/{quantity}"
            topic = "s/{device}/{quantity}"
            [[resources]]
            path = "/open"
            methods = ["POST"]
            device = "{ip}"
            content_type = "text/plain"
            [[resources]]
            path = "/key"
            device = "{identity}"
        "#;
        let table: toml::Table = toml::from_str(config).unwrap();
        let configs: Vec<ResourceConfig> = table["resources"].clone().try_into().unwrap();
        configs.iter().map(|config| Resource::new(config).unwrap()).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "it reads better at the call")]
    fn check(method: Method, path: &str, queries: &[&str], format: Option<u32>, expected: Expect) {
        let mut request = packet::request(method, path, queries);
        if let Some(format) = format {
            packet::set_uint(&mut request, Opt::ContentFormat, format);
        }
        request.payload = b"1".to_vec();
        let from = From { address: ([10, 0, 0, 7], 4001).into(), identity: None };
        expected.assert_eq(&match decode(&resources(), from, &request) {
            Ok(Inbound { topic, device, content_type, attributes, .. }) => {
                let attributes: Vec<_> =
                    attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{topic} {device:?} {content_type} {}", attributes.join(" "))
            }
            Err(answer) => format!("{} {}", answer.header.code, String::from_utf8_lossy(&answer.payload)),
        });
    }

    #[test]
    fn the_path_names_topic_and_device() {
        check(
            Method::Put,
            "/sensors/d1/temp",
            &["unit=C", "raw"],
            Some(50),
            expect![[
                r#"s/d1/temp Some("d1") application/json coap.method=PUT coap.path=/sensors/d1/temp peer=10.0.0.7:4001 coap.query.unit=C coap.query.raw="#
            ]],
        );
        check(
            Method::Post,
            "/open",
            &[],
            None,
            expect![[
                r#"open Some("10.0.0.7") text/plain coap.method=POST coap.path=/open peer=10.0.0.7:4001"#
            ]],
        );
        check(
            Method::Post,
            "/sensors/100%/%2F",
            &[],
            None,
            expect![[
                r#"s/100%/%2F Some("100%") application/octet-stream coap.method=POST coap.path=/sensors/100%/%2F peer=10.0.0.7:4001"#
            ]],
        );
    }

    #[test]
    fn what_is_not_taken_is_told_so() {
        check(Method::Post, "/other", &[], None, expect!["4.04 nothing is taken at this path"]);
        check(Method::Put, "/open", &[], None, expect!["4.05 this resource does not take the method"]);
        check(Method::Post, "/key", &[], None, expect!["4.00 the request names no device"]);
        check(
            Method::Post,
            "/sensors/a+b/#",
            &[],
            None,
            expect!["4.00 the path gives no topic: a topic cannot contain '+' (at byte 3)"],
        );
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |text: &str| {
            let config: ResourceConfig = toml::from_str(text).unwrap();
            Resource::new(&config).unwrap_err().setting
        };
        assert_eq!(setting("path = \"a\""), "path");
        assert_eq!(setting("path = \"/\""), "topic");
        assert_eq!(setting("path = \"/a\"\ntopic = \"{b}\""), "topic");
        assert_eq!(setting("path = \"/a\"\ntopic = \"a/#\""), "topic");
        assert_eq!(setting("path = \"/a\"\ndevice = \"{device}\""), "device");
        assert_eq!(setting("path = \"/a\"\nmethods = [\"GET\"]"), "methods[0]");
        assert_eq!(setting("path = \"/a\"\nmethods = []"), "methods");
        assert_eq!(setting("path = \"/a\"\ncontent_type = \"x\""), "content_type");
    }
}
