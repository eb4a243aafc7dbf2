//! The settings, checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::ConfigError;

use super::commands::method;
use super::config::{Config, KeyConfig};
use super::decode::Resource;
use super::nodes::Node;
use crate::coap::Method;
use crate::coap::blocks::{Limits, exponent};
use crate::coap::dtls::Keys;
use crate::coap::layer::Parameters;
use crate::network::Network;
use crate::pattern::{Template, hex_digit};

pub(super) struct Settings {
    pub(super) allow: Vec<Network>,
    pub(super) resources: Vec<Resource>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) command_path: Template,
    pub(super) command_method: Method,
    pub(super) command_port: Option<u16>,
    pub(super) keys: Keys,
    pub(super) plain: bool,
    body_max: Option<usize>,
    exponent: u8,
    block_timeout: Duration,
    pub(super) parameters: Parameters,
    pub(super) answer_timeout: Duration,
    pub(super) reply_timeout: Duration,
    pub(super) latest_max: usize,
    pub(super) observers_max: usize,
}

impl Settings {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        for (setting, is_zero) in [
            ("ack_timeout_ms", config.ack_timeout_ms == 0),
            ("answer_timeout_ms", config.answer_timeout_ms == 0),
            ("block_timeout_ms", config.block_timeout_ms == 0),
            ("body_max", config.body_max == Some(0)),
            ("latest_max", config.latest_max == 0),
            ("observers_max", config.observers_max == 0),
            ("remembered_max", config.remembered_max == 0),
            ("reply_timeout_ms", config.reply_timeout_ms == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        if !config.plain && config.secure.is_none() {
            return Err(ConfigError::at("plain", "without `secure`, there is nothing else"));
        }
        let allowed = |(index, text): (usize, &String)| {
            text.parse::<Network>()
                .map_err(|error| ConfigError::at(format!("allow[{index}]"), error.to_string()))
        };
        let resource = |(index, config)| {
            Resource::new(config).map_err(|error: ConfigError| error.within(&format!("resources[{index}]")))
        };
        let keys = match &config.secure {
            Some(secure) => keys(&secure.keys).map_err(|error| error.within("secure"))?,
            None => Keys::default(),
        };
        let exponent = exponent(config.block_size)
            .ok_or_else(|| ConfigError::at("block_size", "must be 16, 32, 64, 128, 256, 512 or 1024"))?;
        let command_path = Template::parse(&config.command_path, &["command".into()])
            .map_err(|error| ConfigError::at("command_path", error.to_string()))?;
        Ok(Self {
            allow: config.allow.iter().enumerate().map(allowed).collect::<Result<_, _>>()?,
            resources: config.resources.iter().enumerate().map(resource).collect::<Result<_, _>>()?,
            nodes: nodes(config, &keys)?,
            command_path,
            command_method: method(config.command_method),
            command_port: config.command_port,
            keys,
            plain: config.plain,
            body_max: config.body_max,
            exponent,
            block_timeout: Duration::from_millis(config.block_timeout_ms),
            parameters: Parameters {
                ack_timeout: Duration::from_millis(config.ack_timeout_ms),
                // Before the sender repeats it.
                separate_after: Duration::from_millis(config.ack_timeout_ms.div_ceil(2)),
                heard_max: config.remembered_max,
                ..Parameters::default()
            },
            answer_timeout: Duration::from_millis(config.answer_timeout_ms),
            reply_timeout: Duration::from_millis(config.reply_timeout_ms),
            latest_max: config.latest_max,
            observers_max: config.observers_max,
        })
    }

    /// `reading_max` is the host's.
    pub(super) fn limits(&self, reading_max: usize) -> Limits {
        let body_max = self.body_max.unwrap_or(usize::MAX).min(reading_max);
        Limits { body_max, exponent: self.exponent, patience: self.block_timeout }
    }

    pub(super) fn node(&self, device: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| *node.device == *device)
    }

    pub(super) fn is_node(&self, device: &str) -> bool {
        self.node(device).is_some()
    }

    pub(super) fn has_node_at(&self, peer: SocketAddr) -> bool {
        self.nodes.iter().any(|node| node.is_at(peer))
    }
}

fn nodes(config: &Config, keys: &Keys) -> Result<Vec<Arc<Node>>, ConfigError> {
    let mut nodes: Vec<Arc<Node>> = Vec::new();
    for (index, node) in config.nodes.iter().enumerate() {
        let within = |error: ConfigError| error.within(&format!("nodes[{index}]"));
        let node = Node::new(node).map_err(within)?;
        if let Some(identity) = &node.identity
            && !keys.0.contains_key(identity)
        {
            return Err(within(ConfigError::at("identity", "is none of secure.keys")));
        }
        if nodes.iter().any(|other| other.device == node.device) {
            return Err(within(ConfigError::at("device", "is another node's, too")));
        }
        nodes.push(Arc::new(node));
    }
    Ok(nodes)
}

fn keys(configs: &[KeyConfig]) -> Result<Keys, ConfigError> {
    let mut keys = HashMap::new();
    if configs.is_empty() {
        return Err(ConfigError::at("keys", "must have at least one"));
    }
    for (index, config) in configs.iter().enumerate() {
        let setting = format!("keys[{index}].key");
        let text = config.key.resolve(&setting, |path| std::fs::read_to_string(path))?;
        let key = match text.strip_prefix("hex:") {
            Some(digits) => hex(digits)
                .ok_or_else(|| ConfigError::at(setting, "`hex:` must be followed by pairs of digits"))?,
            None => text.into_bytes(),
        };
        if keys.insert(config.identity.as_str().into(), key).is_some() {
            return Err(ConfigError::at(format!("keys[{index}].identity"), "is there twice"));
        }
    }
    Ok(Keys(Arc::new(keys)))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.is_empty() || digits.len() % 2 == 1 {
        return None;
    }
    digits.chunks(2).map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)).collect()
}
