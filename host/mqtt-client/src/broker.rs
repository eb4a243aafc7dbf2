//! Where the broker is, and who we are there.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{ConfigError, Secret};
use sandbar_tls::{ClientTls, Connector, Renewed};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Qos, Version};

/// An MQTT broker, and who we are there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `mqtt://host:1883`, or `mqtts://host:8883` for TLS. The ports shown are the defaults.
    pub url: String,
    /// Of MQTT: `5` or `3.1.1`.
    #[serde(default)]
    pub version: Protocol,
    /// Under which the broker keeps our session; no two clients of a broker may have the same.
    pub client_id: String,
    /// User name.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of the user. A file is read again when it changes, for the next connection.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Seconds without a packet after which a sign of life is exchanged; 10 to 65535, or 0 for none.
    #[serde(default = "default_keep_alive_s")]
    pub keep_alive_s: u16,
    /// Connecting, until the broker has answered, may take so long; so may a sign of life.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: NonZeroU64,
    /// Whom to trust, and as whom to connect, with `mqtts://`.
    #[serde(default)]
    pub tls: Option<ClientTls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Protocol {
    #[default]
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V3,
}

/// Quality of service: 0 for at most once, 1 for at least once, 2 for exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u8")]
#[schemars(with = "u8")]
pub struct QosLevel(pub Qos);

impl TryFrom<u8> for QosLevel {
    type Error = &'static str;

    fn try_from(level: u8) -> Result<Self, &'static str> {
        Qos::from_bits(level).map(Self).ok_or("must be 0, 1 or 2")
    }
}

/// A broker to connect to: settings that were checked.
#[derive(Clone)]
pub struct Broker {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<Connector>>,
    pub(crate) version: Version,
    pub(crate) client_id: Box<str>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) password: Option<Arc<Renewed<Bytes>>>,
    pub(crate) keep_alive: Duration,
    pub(crate) timeout: Duration,
}

const fn default_keep_alive_s() -> u16 {
    60
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

/// Text and binary fields of MQTT hold no more (1.5.4).
const FIELD_MAX: usize = 65_535;

impl Broker {
    /// Reads the secret and the certificates that the settings name. Errors name the setting within them.
    pub fn new(config: &BrokerConfig) -> Result<Self, ConfigError> {
        let (secure, host, port) = address(&config.url).map_err(|problem| ConfigError::at("url", problem))?;
        let tls = match (secure, &config.tls) {
            (false, None) => None,
            (false, Some(_)) => return Err(ConfigError::at("tls", "is for mqtts://, the url is mqtt://")),
            (true, tls) => {
                let tls = tls.clone().unwrap_or_default();
                Some(Arc::new(tls.connector(&host).map_err(|error| error.within("tls"))?))
            }
        };
        let renewed = |secret: Secret| Renewed::new(secret.file(), move || password(&secret)).map(Arc::new);
        let password = config.password.clone().map(renewed).transpose()?;
        let broker = Self {
            host,
            port,
            tls,
            version: match config.version {
                Protocol::V5 => Version::V5,
                Protocol::V3 => Version::V3,
            },
            client_id: field("client_id", &config.client_id)?,
            user: config.user.as_deref().map(|user| field("user", user)).transpose()?,
            password,
            keep_alive: Duration::from_secs(config.keep_alive_s.into()),
            timeout: Duration::from_millis(config.timeout_ms.get()),
        };
        broker.check(config)?;
        Ok(broker)
    }

    fn check(&self, config: &BrokerConfig) -> Result<(), ConfigError> {
        if self.client_id.is_empty() {
            return Err(ConfigError::at("client_id", "must have at least one character"));
        }
        if (1..10).contains(&config.keep_alive_s) {
            return Err(ConfigError::at("keep_alive_s", "must be 0, or 10 to 65535"));
        }
        if self.version == Version::V3 && self.user.is_none() && self.password.is_some() {
            return Err(ConfigError::at("user", "is missing: MQTT 3.1.1 has no password without a user"));
        }
        Ok(())
    }

    pub const fn version(&self) -> Version {
        self.version
    }

    /// How long an answer of the broker is waited for.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// `mqtts://host:8883`
    pub fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

fn password(secret: &Secret) -> Result<Bytes, ConfigError> {
    let password = secret.resolve("password", |path| std::fs::read_to_string(path))?;
    match password.len() > FIELD_MAX {
        true => Err(ConfigError::at("password", "has more than 65535 bytes")),
        false => Ok(password.into()),
    }
}

fn field(setting: &str, text: &str) -> Result<Box<str>, ConfigError> {
    match text.len() > FIELD_MAX || text.contains('\0') {
        true => Err(ConfigError::at(setting, "must be at most 65535 bytes without NUL")),
        false => Ok(text.into()),
    }
}

/// Whether it is TLS, the host, and the port.
fn address(url: &str) -> Result<(bool, Box<str>, u16), &'static str> {
    const FORM: &str = "must be mqtt://host[:port] or mqtts://host[:port]";
    let (secure, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(FORM),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("name the user and password in their own settings");
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(FORM)?)),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("the port must be 1 to 65535")?,
        None if secure => 8883,
        None => 1883,
    };
    match host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        true => Err(FORM),
        false => Ok((secure, host.into(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_has_a_scheme_a_host_and_perhaps_a_port() {
        assert_eq!(address("mqtt://broker"), Ok((false, "broker".into(), 1883)));
        assert_eq!(address("mqtts://[::1]/"), Ok((true, "::1".into(), 8883)));
        assert_eq!(address("mqtts://[::1]:9"), Ok((true, "::1".into(), 9)));
        for bad in ["broker:1883", "mqtt://", "mqtt://a:0", "mqtt://a:x", "mqtt://a/b", "mqtt://u:p@a"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (more, at) in [
            (json!({ "url": "http://a" }), "url"),
            (json!({ "tls": { "ca_file": "/nowhere" } }), "tls"),
            (json!({ "url": "mqtts://a", "tls": { "ca_file": "/nowhere" } }), "tls.ca_file"),
            (json!({ "url": "mqtts://a", "tls": { "key_file": "/nowhere" } }), "tls.certificate_file"),
            (json!({ "client_id": "" }), "client_id"),
            (json!({ "user": "a\0" }), "user"),
            (json!({ "version": "3.1.1", "password": "x" }), "user"),
            (json!({ "password": { "env": "SANDBAR_NOT_SET" } }), "password"),
            (json!({ "keep_alive_s": 3 }), "keep_alive_s"),
            (json!({ "version": "4" }), "version"),
            (json!({ "colour": "red" }), "colour"),
        ] {
            let mut settings = json!({ "url": "mqtt://localhost", "client_id": "sandbar" });
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let built = sandbar_reading::settings(settings).and_then(|config| Broker::new(&config));
            assert_eq!(built.err().map(|error| error.setting).as_deref(), Some(at), "{more}");
        }
    }
}
