//! Settings of the Bluetooth driver, and what is refused of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbar_reading::{ConfigError, Topic};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::decode::{Reader, Sighting};
use crate::pattern::Template;

/// Listens to the advertisements of Bluetooth Low Energy beacons and sensors, with BlueZ. It connects to none.
///
/// The payload is JSON. An iBeacon: `{"uuid", "major", "minor", "tx_power", "rssi", "address"}`. Eddystone:
/// `{"namespace", "instance", "tx_power"}` of a UID, `{"url", "tx_power"}` of a URL, `{"battery_mv", "temperature_c",
/// "advertisements", "uptime_s"}` of TLM, each with `rssi` and `address`. Raw: `{"company", "data"}` or `{"service",
/// "data"}`, likewise, `data` in hexadecimal. Powers are in dBm. The attribute `ble.format` says which it is.
///
/// Nobody repeats what was said on the air: what comes while the disk takes nothing and more than a few hundred
/// advertisements wait is missed, and the log says how many.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which adapter: `hci0`. The first one by default. It is switched on if it is off.
    #[serde(default)]
    pub(super) adapter: Option<String>,
    /// What is looked for. Raw data (`manufacturer`, `service`) is what no other format of the list took.
    #[serde(default = "default_formats")]
    pub(super) formats: Vec<Format>,
    /// What says the same within so many milliseconds is not a reading again; 0: everything is. An iBeacon is the same
    /// by UUID, major and minor, an Eddystone UID by namespace and instance, whatever their signal; telemetry and raw
    /// data by all that they say.
    #[serde(default = "default_duplicate_window_ms")]
    pub(super) duplicate_window_ms: u64,
    /// Only iBeacons with these UUIDs; all of them if there is none, here and in the file.
    #[serde(default)]
    pub(super) allowed_uuids: Vec<String>,
    /// A YAML file with more of them, as a list under `allowed_uuids`. It is read at the start.
    #[serde(default)]
    pub(super) allowed_uuids_file: Option<PathBuf>,
    /// What readings have as their device.
    #[serde(default)]
    pub(super) device: DeviceName,
    /// Topic of the readings, with `{device}`, `{address}` and `{format}`.
    #[serde(default = "default_topic")]
    pub(super) topic: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Apple's.
    Ibeacon,
    /// Google's: UID, URL, and telemetry that is not encrypted.
    Eddystone,
    /// What a manufacturer says in a way of its own.
    Manufacturer,
    /// What is said of a service.
    Service,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeviceName {
    /// What a beacon calls itself: `UUID:MAJOR:MINOR` of an iBeacon, `NAMESPACE:INSTANCE` of an Eddystone UID; the
    /// address of what has no name.
    #[default]
    Beacon,
    /// `11:22:33:44:55:66`. Some change it now and then.
    Address,
}

fn default_formats() -> Vec<Format> {
    vec![Format::Ibeacon]
}

fn default_duplicate_window_ms() -> u64 {
    1000
}

fn default_topic() -> String {
    "ble/{device}".to_owned()
}

/// The settings, checked.
pub(super) struct Plan {
    pub(super) adapter: Option<String>,
    pub(super) reader: Reader,
    pub(super) window: Duration,
    device: DeviceName,
    topic: Template,
}

/// Kraken's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowedFile {
    /// `allowed_uuids:` without a list is nothing, too.
    #[serde(default)]
    allowed_uuids: Option<Vec<String>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.formats.is_empty() {
            return Err(ConfigError::at("formats", "must name at least one"));
        }
        let looks_for = |format| config.formats.contains(&format);
        let mut allowed = uuids(&config.allowed_uuids)?;
        if let Some(path) = &config.allowed_uuids_file {
            allowed.extend(uuids_in(path).map_err(|problem| ConfigError::at("allowed_uuids_file", problem))?);
        }
        if !allowed.is_empty() && !looks_for(Format::Ibeacon) {
            return Err(ConfigError::at("formats", "must have `ibeacon`: there are `allowed_uuids`"));
        }
        let plan = Self {
            adapter: config.adapter.clone(),
            reader: Reader {
                ibeacon: looks_for(Format::Ibeacon),
                eddystone: looks_for(Format::Eddystone),
                manufacturer: looks_for(Format::Manufacturer),
                service: looks_for(Format::Service),
                allowed,
            },
            window: Duration::from_millis(config.duplicate_window_ms),
            device: config.device,
            topic: Template::parse(&config.topic, &["device", "address", "format"].map(Into::into))
                .map_err(|error| ConfigError::at("topic", error.to_string()))?,
        };
        // Whatever they hold, they hold no wildcards, and are no longer than this.
        let example = plan.topic.fill(&["x"; 3].map(|text| text.repeat(64).into()));
        example.parse::<Topic>().map_err(|error| ConfigError::at("topic", error.to_string()))?;
        Ok(plan)
    }

    /// Topic and device of a sighting.
    pub(super) fn name(&self, sighting: &Sighting, address: &str) -> (Topic, Box<str>) {
        let beacon = sighting.beacon.as_deref().filter(|_| self.device == DeviceName::Beacon);
        let device = beacon.unwrap_or(address);
        let topic = self.topic.fill(&[device.into(), address.into(), sighting.format.into()]);
        (topic.parse().expect("an address or hexadecimal digits in a topic is one"), device.into())
    }
}

fn uuids(texts: &[String]) -> Result<BTreeSet<Uuid>, ConfigError> {
    let uuid = |(index, text): (usize, &String)| {
        let setting = format!("allowed_uuids[{index}]");
        text.parse().map_err(|error| ConfigError::at(setting, format!("`{text}` is no UUID: {error}")))
    };
    texts.iter().enumerate().map(uuid).collect()
}

/// The error is a sentence about the file.
fn uuids_in(path: &Path) -> Result<BTreeSet<Uuid>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let file: Option<AllowedFile> = serde_saphyr::from_str(&text).map_err(|error| {
        let error = error.to_string();
        format!("{shown}: {}", error.lines().next().unwrap_or_default())
    })?;
    uuids(&file.unwrap_or_default().allowed_uuids.unwrap_or_default())
        .map_err(|error| format!("{shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const UUID: &str = "f7826da6-4fa2-4e98-8024-bc5b71e0893e";

    fn plan(table: Value) -> Result<Plan, ConfigError> {
        sandbar_reading::settings(table).and_then(|config: Config| Plan::new(&config))
    }

    fn from_file(yaml: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uuids.yaml");
        std::fs::write(&file, yaml).unwrap();
        let plan = plan(json!({ "allowed_uuids_file": file }))
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))?;
        Ok(plan.reader.allowed.iter().map(Uuid::to_string).collect())
    }

    #[test]
    fn krakens_file_is_understood() {
        let one = Ok(vec![UUID.to_owned()]);
        assert_eq!(from_file(&format!("allowed_uuids:\n  - \"{UUID}\"\n")), one);
        assert_eq!(from_file(&format!("# ours\nallowed_uuids: [{}] # all\n", UUID.to_uppercase())), one);
        assert_eq!(from_file(&format!("---\nallowed_uuids:\n- {}\n", UUID.replace('-', ""))), one);
        for all in ["allowed_uuids: []", "allowed_uuids:\n", "{}", "", "# nothing\n"] {
            assert_eq!(from_file(all), Ok(vec![]), "{all:?}");
        }
        let error = from_file("allowed_uuids:\n  - beacon\n").unwrap_err();
        assert!(
            error.starts_with("allowed_uuids_file: /uuids.yaml: allowed_uuids[0]: `beacon` is no UUID"),
            "{error}"
        );
        for bad in ["allowed: []", "allowed_uuids: {", "allowed_uuids: [[]]", "\0"] {
            let error = from_file(bad).unwrap_err();
            assert!(
                error.starts_with("allowed_uuids_file: /uuids.yaml: ") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |table| plan(table).err().unwrap().setting;
        assert_eq!(setting(json!({ "formats": [] })), "formats");
        assert_eq!(setting(json!({ "formats": ["altbeacon"] })), "formats[0]");
        assert_eq!(setting(json!({ "formats": ["service"], "allowed_uuids": [UUID] })), "formats");
        assert_eq!(setting(json!({ "allowed_uuids": [UUID, "x"] })), "allowed_uuids[1]");
        assert_eq!(setting(json!({ "allowed_uuids_file": "/none/such.yaml" })), "allowed_uuids_file");
        assert_eq!(setting(json!({ "topic": "ble/+" })), "topic");
        assert_eq!(setting(json!({ "topic": "ble/{uuid}" })), "topic");
        // A beacon's name would be too much.
        assert_eq!(setting(json!({ "topic": format!("{}/{{device}}", "b".repeat(65_500)) })), "topic");
        assert_eq!(setting(json!({ "device": "name" })), "device");
    }

    #[test]
    fn readings_are_named_by_beacon_or_address() {
        let sighting = |beacon: Option<&str>| Sighting {
            format: "ibeacon",
            beacon: beacon.map(Into::into),
            key: "k".into(),
            payload: "{}".into(),
        };
        let named = |table, beacon| {
            let (topic, device) = plan(table).unwrap().name(&sighting(beacon), "11:22");
            format!("{topic} {device}")
        };
        assert_eq!(named(json!({}), Some("u:1:2")), "ble/u:1:2 u:1:2");
        assert_eq!(named(json!({}), None), "ble/11:22 11:22");
        let by_address = json!({ "device": "address", "topic": "{format}/{address}" });
        assert_eq!(named(by_address, Some("u:1:2")), "ibeacon/11:22 11:22");
    }
}
