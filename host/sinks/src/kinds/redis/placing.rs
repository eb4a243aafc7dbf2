//! Which command a message becomes. Pure.

use std::collections::BTreeSet;

use redis::{Cmd, Pipeline};
use sandbar_reading::{ConfigError, Delivery};

use super::{As, Config, Written};
use crate::template::Template;
use crate::{Cause, encode};

pub(super) struct Placing {
    r#as: As,
    key: Template,
    depends_on_message: bool,
    value: Written,
    max_length: Option<u64>,
    expire_s: Option<u64>,
}

impl Placing {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let kind = config.r#as;
        if config.key.is_empty() {
            return Err(ConfigError::at("key", "must not be empty"));
        }
        if config.max_length.is_some() && !matches!(kind, As::Stream | As::List) {
            return Err(ConfigError::at("max_length", "is for streams and lists"));
        }
        if config.expire_s.is_some() && kind != As::Set {
            return Err(ConfigError::at("expire_s", "is for `as = \"set\"`"));
        }
        Ok(Self {
            r#as: kind,
            key: Template::new("key", &config.key)?,
            depends_on_message: Template::is_one(&config.key),
            value: config.value,
            max_length: config.max_length.map(Into::into),
            expire_s: config.expire_s.map(Into::into),
        })
    }

    pub(super) fn depends_on_message(&self) -> bool {
        self.depends_on_message
    }

    /// The key and the command.
    pub(super) fn command(&self, delivery: &Delivery) -> Result<(String, Cmd), Cause> {
        let key = self.key.render(delivery)?;
        if key.is_empty() {
            return Err(Cause::new("key: is empty for this message"));
        }
        let mut command = redis::cmd(match self.r#as {
            As::Stream => "XADD",
            As::Publish => "PUBLISH",
            As::List => "RPUSH",
            As::Set => "SET",
        });
        command.arg(&key);
        match self.r#as {
            As::Stream => self.entry(delivery, &mut command),
            As::Publish | As::List | As::Set => drop(command.arg(self.value(delivery))),
        }
        if let Some(seconds) = self.expire_s {
            command.arg("EX").arg(seconds);
        }
        Ok((key, command))
    }

    /// Cuts lists to their length, once a batch; streams do it with every entry.
    pub(super) fn trim(&self, keys: &BTreeSet<String>, pipeline: &mut Pipeline) {
        if let (As::List, Some(max)) = (self.r#as, self.max_length) {
            for key in keys {
                pipeline.cmd("LTRIM").arg(key).arg(-i64::try_from(max).unwrap_or(i64::MAX)).arg(-1);
            }
        }
    }

    fn value(&self, delivery: &Delivery) -> Vec<u8> {
        match self.value {
            Written::Payload => delivery.message.payload.to_vec(),
            Written::Json => {
                let mut json = Vec::new();
                encode::json(delivery, &mut json);
                json
            }
        }
    }

    /// Approximately so many entries: exactly would cost Redis a rewrite of a node with each.
    fn entry(&self, delivery: &Delivery, command: &mut Cmd) {
        if let Some(max) = self.max_length {
            command.arg("MAXLEN").arg("~").arg(max);
        }
        command.arg("*");
        if self.value == Written::Json {
            command.arg("json").arg(self.value(delivery));
            return;
        }
        let message = &delivery.message;
        command.arg("id").arg(delivery.id.to_string());
        command.arg("time").arg(delivery.time.to_string());
        command.arg("topic").arg(message.topic.as_str());
        if let Some(device) = &message.device {
            command.arg("device").arg(&**device);
        }
        command.arg("content_type").arg(message.content_type.as_str());
        command.arg("attributes").arg(encode::attributes_json(&message.attributes));
        command.arg("route").arg(delivery.route.as_str());
        command.arg("reading").arg(delivery.reading.to_string());
        command.arg("payload").arg(&message.payload[..]);
    }
}
