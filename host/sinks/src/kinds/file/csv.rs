//! Deliveries as records of comma-separated values (RFC 4180). Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use csv::WriterBuilder;
use sandbar_reading::{ConfigError, Delivery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// A column: what it holds, or its name too.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "must be a text such as \"/celsius\", or { name = \"°C\", from = \"/celsius\" }"
)]
pub(super) enum ColumnConfig {
    From(String),
    Named(NamedColumn),
}

/// A column with a name of its own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedColumn {
    /// What stands in the header line.
    name: String,
    /// What the column holds.
    from: String,
}

/// The columns of a file, `id` the last one.
#[derive(Debug)]
pub(super) struct Columns {
    all: Vec<(String, From)>,
    header: Vec<u8>,
}

#[derive(Debug)]
enum From {
    Time,
    Topic,
    Device,
    ContentType,
    /// As text, or in base64 if it is none.
    Payload,
    Route,
    Reading,
    Attribute(String),
    /// A JSON pointer into the payload.
    Pointer(String),
}

impl Columns {
    /// The error names the setting.
    pub(super) fn new(configured: &[ColumnConfig]) -> Result<Self, ConfigError> {
        let mut all = Vec::new();
        for (index, column) in configured.iter().enumerate() {
            let (name, from) = match column {
                ColumnConfig::From(from) => (default_name(from), from),
                ColumnConfig::Named(column) => (column.name.clone(), &column.from),
            };
            let setting = format!("columns[{index}]");
            // It stands last, where the end of a line is found by it.
            if name == "id" || from == "id" {
                return Err(ConfigError::at(setting, "`id` is always there, as the last column"));
            }
            if all.iter().any(|(known, _)| *known == name) {
                return Err(ConfigError::at(setting, format!("there are two columns `{name}`")));
            }
            all.push((name, From::parse(from).map_err(|problem| ConfigError::at(setting, problem))?));
        }
        if all.is_empty() {
            return Err(ConfigError::at("columns", "must be at least one, such as \"time\" or \"/celsius\""));
        }
        let names = all.iter().map(|(name, _)| name.as_str()).chain(["id"]);
        let header = record(names);
        Ok(Self { all, header })
    }

    /// The first line of every file, with its line break.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// A line, with its line break. What a delivery lacks is an empty field.
    pub(super) fn line(&self, delivery: &Delivery) -> Vec<u8> {
        let needs_json = self.all.iter().any(|(_, from)| matches!(from, From::Pointer(_)));
        let payload = needs_json.then(|| serde_json::from_slice(&delivery.message.payload).ok()).flatten();
        let fields = self.all.iter().map(|(_, from)| from.value(delivery, payload.as_ref()));
        record(fields.chain([delivery.id.to_string()]))
    }
}

impl From {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "time" => Self::Time,
            "topic" => Self::Topic,
            "device" => Self::Device,
            "content_type" => Self::ContentType,
            "payload" => Self::Payload,
            "route" => Self::Route,
            "reading" => Self::Reading,
            pointer if pointer.starts_with('/') => Self::Pointer(pointer.to_owned()),
            other => match other.strip_prefix("attribute:") {
                Some(name) if !name.is_empty() => Self::Attribute(name.to_owned()),
                _ => {
                    return Err(format!(
                        "`{other}` is none of time, topic, device, content_type, payload, route, reading, \
                         attribute:NAME and a JSON pointer such as /celsius"
                    ));
                }
            },
        })
    }

    fn value(&self, delivery: &Delivery, payload: Option<&Value>) -> String {
        let message = &delivery.message;
        match self {
            Self::Time => delivery.time.to_string(),
            Self::Topic => message.topic.to_string(),
            Self::Device => message.device.as_deref().unwrap_or_default().to_owned(),
            Self::ContentType => message.content_type.to_string(),
            Self::Payload => match std::str::from_utf8(&message.payload) {
                Ok(text) => text.to_owned(),
                Err(_) => STANDARD.encode(&message.payload),
            },
            Self::Route => delivery.route.to_string(),
            Self::Reading => delivery.reading.to_string(),
            Self::Attribute(name) => message.attributes.get(name).unwrap_or_default().to_owned(),
            Self::Pointer(pointer) => match payload.and_then(|payload| payload.pointer(pointer)) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            },
        }
    }
}

/// `/t/celsius` becomes `t/celsius`.
fn default_name(from: &str) -> String {
    let from = from.strip_prefix("attribute:").unwrap_or(from);
    from.strip_prefix('/').unwrap_or(from).to_owned()
}

fn record(fields: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(fields).expect("written to memory");
    writer.into_inner().expect("written to memory")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::delivery;

    fn columns(configured: Value) -> Result<Columns, ConfigError> {
        let configured: Vec<ColumnConfig> = sandbar_reading::settings(configured)?;
        Columns::new(&configured)
    }

    #[test]
    fn a_record_holds_what_was_asked_for_and_the_id_last() {
        let columns = columns(json!([
            "time", "device", "/t/c", { "name": "a \"name\", quoted", "from": "/note" }, "attribute:mqtt.qos", "/gone",
        ]))
        .unwrap();
        assert_eq!(
            String::from_utf8_lossy(columns.header()),
            "time,device,t/c,\"a \"\"name\"\", quoted\",mqtt.qos,gone,id\n"
        );
        let mut delivery = delivery(7);
        delivery.message.payload = r#"{"t":{"c":21.5},"note":"one,\n\"two\""}"#.into();
        assert_eq!(
            String::from_utf8(columns.line(&delivery)).unwrap(),
            "2023-11-14T22:13:20.007000Z,k1,21.5,\"one,\n\"\"two\"\"\",1,,01HF7YAT000000000000000007\n"
        );
        delivery.message.payload = b"\xff"[..].into();
        delivery.message.device = None;
        assert!(String::from_utf8(columns.line(&delivery)).unwrap().contains("Z,,,,1,,01HF"));
    }

    #[test]
    fn columns_that_cannot_work_are_named() {
        for (configured, at) in [
            (json!([]), "columns"),
            (json!(["time", "celsius"]), "columns[1]"),
            (json!(["attribute:"]), "columns[0]"),
            (json!(["time", "time"]), "columns[1]"),
            (json!(["id"]), "columns[0]"),
            (json!([{ "name": "id", "from": "/id" }]), "columns[0]"),
        ] {
            assert_eq!(columns(configured.clone()).unwrap_err().setting, at, "{configured}");
        }
    }
}
