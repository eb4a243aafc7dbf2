//! Which drivers there are, and how an ingress is built from its table of settings.

use futures::FutureExt;
use futures::future::BoxFuture;
use sandbar_reading::{ConfigError, settings};
use schemars::Schema;
use serde_json::Value;

use crate::drivers::{
    ble, bravejig, camera, coap, email, files, gps, kraken, modbus, mqtt, mqtt_client, pyaiot, sandbar,
    schedule, serial, simulator, tcp, udp, webhook, websocket,
};
use crate::{Driver, LinkError, Session};

macro_rules! drivers {
    ($($driver:ty),+ $(,)?) => {
        const KINDS: &[DriverKind] = &[$(DriverKind::of::<$driver>()),+];
    };
}

drivers! {
    webhook::Webhook, kraken::Kraken, mqtt::Mqtt, mqtt_client::MqttClient, simulator::Simulator, tcp::Tcp, udp::Udp,
    websocket::WebSocket, schedule::Schedule, email::Email, serial::Serial, gps::Gps, modbus::Modbus, files::Files, bravejig::BraveJig, coap::Coap, pyaiot::Pyaiot, sandbar::Sandbar, ble::Ble, camera::Camera,
}

/// One of the drivers that this host was built with.
#[derive(Clone, Copy)]
pub struct DriverKind {
    /// What a configuration calls it.
    pub name: &'static str,
    /// A working configuration in TOML, without `driver`.
    pub example: &'static str,
    /// Of its settings.
    pub schema: fn() -> Schema,
    build: fn(Value) -> Result<Box<dyn AnyDriver>, ConfigError>,
}

impl DriverKind {
    const fn of<D: Driver>() -> Self {
        Self {
            name: D::NAME,
            example: D::EXAMPLE,
            schema: || schemars::schema_for!(D::Config),
            build: |table| Ok(Box::new(D::new(settings(table)?)?)),
        }
    }
}

/// Any [`Driver`], built from its settings.
pub trait AnyDriver: Send + Sync + 'static {
    /// See [`Driver::NAME`].
    fn driver(&self) -> &'static str;
    /// See [`Driver::run`].
    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), LinkError>>;
}

impl<D: Driver> AnyDriver for D {
    fn driver(&self) -> &'static str {
        D::NAME
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), LinkError>> {
        Driver::run(self, session).boxed()
    }
}

/// Builds an ingress of `driver` from `table`, its settings without `driver`. The error names the setting.
pub fn build(driver: &str, table: Value) -> Result<Box<dyn AnyDriver>, ConfigError> {
    match KINDS.iter().find(|kind| kind.name == driver) {
        Some(kind) => (kind.build)(table),
        None => Err(ConfigError::at("driver", unknown(driver))),
    }
}

/// Every driver that this host was built with.
pub fn kinds() -> impl Iterator<Item = DriverKind> {
    KINDS.iter().copied()
}

fn unknown(driver: &str) -> String {
    let mut known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    known.sort_by_key(|name| edits(driver, name));
    format!("there is no driver `{driver}`; there are: {}", known.join(", "))
}

/// How many letters to add, drop or change to come from `a` to `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_the_known_drivers_nearest_first() {
        let error = build("simulater", json!({})).err().unwrap();
        let error = error.to_string();
        let nearest = "driver: there is no driver `simulater`; there are: simulator, ";
        assert!(error.starts_with(nearest) && error.contains("webhook"), "{error}");
        assert_eq!(edits("webhook", "web-hok"), 2);
    }

    #[test]
    fn names_the_setting_that_is_wrong() {
        let error = build("webhook", json!({ "paths": [{ "path": 1 }] })).err().unwrap();
        assert_eq!(error.setting, "paths[0].path");
    }

    #[test]
    fn every_setting_is_described() {
        for kind in kinds() {
            let schema = serde_json::to_value((kind.schema)()).unwrap();
            let properties = schema["properties"].as_object().unwrap();
            for (setting, about) in properties {
                assert!(about["description"].is_string(), "{}: {setting} has no doc comment", kind.name);
            }
        }
    }
}
