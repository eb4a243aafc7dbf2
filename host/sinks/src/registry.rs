//! Every kind of sink, in one line, and how a configuration becomes one.

use std::sync::Arc;

use futures::future::BoxFuture;
use sandbar_reading::{ConfigError, Delivery, settings};
use serde_json::Value;

use crate::kinds::{
    device, email, file, http, kraken, local_mqtt, log, mongodb, mqtt, redis, sandbar, sql, tcp, websocket,
};
use crate::{DeliveryError, OwnHost, Progress, Sink};

macro_rules! sinks {
    ($($sink:ty),* $(,)?) => {
        const REGISTERED: &[Registered] = &[$(Registered::of::<$sink>()),*];
    };
}

sinks! {
    device::Device, email::Email, file::File, http::Http, kraken::Kraken, local_mqtt::LocalMqtt, log::Log,
    mongodb::MongoDb, mqtt::Mqtt, redis::Redis, sandbar::Sandbar, sql::Sql, tcp::Tcp, websocket::WebSocket,
}

/// A sink of any kind.
pub trait AnySink: Send + Sync + 'static {
    /// What a configuration calls its kind.
    fn kind(&self) -> &'static str;

    /// [`Sink::connect`].
    fn connect(&self, _own: &Arc<dyn OwnHost>) {}

    /// [`Sink::deliver`].
    fn deliver<'a>(
        &'a self,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>>;
}

impl<S: Sink> AnySink for S {
    fn kind(&self) -> &'static str {
        S::NAME
    }

    fn connect(&self, own: &Arc<dyn OwnHost>) {
        Sink::connect(self, own);
    }

    fn deliver<'a>(
        &'a self,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(Sink::deliver(self, batch, progress))
    }
}

/// What the reference and the dashboard show of a kind.
#[derive(Clone, Debug)]
pub struct Kind {
    pub name: &'static str,
    /// A working configuration in TOML, without `kind`.
    pub example: &'static str,
    /// JSON schema of the settings, without `kind`.
    pub schema: Value,
}

/// Builds a sink from its table, without `kind`. Errors name the setting within the table.
pub fn build(kind: &str, table: Value) -> Result<Box<dyn AnySink>, ConfigError> {
    match REGISTERED.iter().find(|registered| registered.name == kind) {
        Some(registered) => (registered.build)(table),
        None => {
            let known: Vec<_> = REGISTERED.iter().map(|registered| registered.name).collect();
            Err(ConfigError::at("kind", format!("`{kind}` is none of {}", known.join(", "))))
        }
    }
}

/// Every kind, sorted by name.
pub fn kinds() -> Vec<Kind> {
    REGISTERED.iter().map(Registered::describe).collect()
}

struct Registered {
    name: &'static str,
    example: &'static str,
    schema: fn() -> schemars::Schema,
    build: fn(Value) -> Result<Box<dyn AnySink>, ConfigError>,
}

impl Registered {
    const fn of<S: Sink>() -> Self {
        Self {
            name: S::NAME,
            example: S::EXAMPLE,
            schema: || schemars::schema_for!(S::Config),
            build: |table| Ok(Box::new(S::new(settings(table)?)?)),
        }
    }

    fn describe(&self) -> Kind {
        Kind { name: self.name, example: self.example, schema: (self.schema)().to_value() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_working_configuration() {
        for kind in kinds() {
            let table: Value = toml::from_str(kind.example).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
            let sink = build(kind.name, table).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            assert_eq!(sink.kind(), kind.name);
        }
    }

    #[test]
    fn every_setting_is_documented() {
        for kind in kinds() {
            let settings = kind.schema["properties"].as_object().expect("settings are a table");
            for (name, schema) in settings {
                assert!(schema["description"].is_string(), "{}.{name}", kind.name);
            }
        }
    }

    #[test]
    fn an_unknown_kind_or_setting_is_named() {
        let error = build("ftp", Value::Null).err().unwrap().to_string();
        let known = "device, email, file, http, kraken, local-mqtt, log, mongodb, mqtt, redis, sandbar, sql, tcp, websocket";
        assert_eq!(error, format!("kind: `ftp` is none of {known}"));
        let table = serde_json::json!({ "path": "/tmp/out.jsonl", "colour": "red" });
        assert_eq!(build("file", table).err().unwrap().setting, "colour");
    }

    #[test]
    fn kinds_are_sorted() {
        assert!(REGISTERED.is_sorted_by_key(|registered| registered.name));
    }
}
