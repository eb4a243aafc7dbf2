//! Settings of an ingress for other hosts, and what is refused of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sandbar_reading::{ConfigError, Name, Secret, Topic};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bearer::Bearer;
use crate::pattern::Template;
use crate::tls::{Acceptor, ServerTls};

/// Takes what other hosts send with their `sandbar` sink, over a WebSocket that they keep open: boxes on many sites feed
/// one central host. Each reading arrives once, as it was: topic, device, content type, attributes and payload; its time is
/// that of the message, and the attributes `origin.reading`, `origin.time` and `origin.host` say what it was on the host
/// that had it first. A host is told once a reading is on disk, and forgets it only then; while no more can be taken, it
/// waits.
///
/// Commands for a device that a host sent readings of go down to that host, which has its device carry them out and
/// says what became of it. They wait while the host is not connected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Encrypts. Without it anybody on the way can read the tokens, and the readings.
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
    /// Which hosts may connect: by name, each with a token of its own.
    hosts: BTreeMap<String, HostConfig>,
    /// Topic of the readings: `{topic}` as the host has it, `{host}` is the host's name here.
    #[serde(default = "default::topic")]
    topic: String,
    /// Device of the readings that have one: `{device}` as the host has it, `{host}` is the host's name here. If two hosts
    /// may have devices of one name, say `{host}.{device}`.
    #[serde(default = "default::device")]
    device: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostConfig {
    /// What the host's sink has as its `token`: a text, or where one is.
    token: Secret,
}

mod default {
    pub(super) fn topic() -> String {
        "{topic}".to_owned()
    }

    pub(super) fn device() -> String {
        "{device}".to_owned()
    }
}

/// The settings, checked.
pub(super) struct Settings {
    pub(super) tls: Option<Acceptor>,
    hosts: Vec<(Name, Bearer)>,
    topic: Template,
    device: Template,
}

impl Config {
    pub(super) fn settings(self) -> Result<Settings, ConfigError> {
        if self.hosts.is_empty() {
            return Err(ConfigError::at("hosts", "there is none"));
        }
        let host = |(name, host): (&String, &HostConfig)| {
            let setting = format!("hosts.{name}");
            let bearer = Bearer::new(&host.token).map_err(|error| error.within(&setting))?;
            let name = name.parse::<Name>().map_err(|error| ConfigError::at(setting, error.to_string()))?;
            Ok((name, bearer))
        };
        let template = |setting: &str, text: &str, own: &str| {
            let names = [Box::<str>::from("host"), own.into()];
            Template::parse(text, &names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let tls = self.tls.clone().map(Acceptor::new).transpose();
        let settings = Settings {
            hosts: self.hosts.iter().map(host).collect::<Result<_, _>>()?,
            topic: template("topic", &self.topic, "topic")?,
            device: template("device", &self.device, "device")?,
            tls: tls.map_err(|error| error.within("tls"))?,
        };
        let example = settings.topic.fill(&["host".into(), "topic".into()]);
        match example.parse::<Topic>() {
            Ok(_) => Ok(settings),
            Err(error) => Err(ConfigError::at("topic", error.to_string())),
        }
    }
}

impl Settings {
    /// The host that has this token.
    pub(super) fn host(&self, headers: &http::HeaderMap) -> Option<&Name> {
        self.hosts.iter().find(|(_, bearer)| bearer.is_in(headers)).map(|(name, _)| name)
    }

    pub(super) fn topic(&self, host: &Name, topic: &Topic) -> Option<Topic> {
        self.topic.fill(&[host.as_str().into(), topic.as_str().into()]).parse().ok()
    }

    pub(super) fn device(&self, host: &Name, device: &str) -> Box<str> {
        self.device.fill(&[host.as_str().into(), device.into()]).into()
    }
}
