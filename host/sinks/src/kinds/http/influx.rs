//! InfluxDB's line protocol. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use sandbar_reading::{ConfigError, Delivery};
use serde_json::Value;

use super::config::InfluxConfig;
use crate::Cause;
use crate::template::{Fields, Template};

/// How deliveries become lines.
#[derive(Debug)]
pub(super) struct Influx {
    measurement: Template,
    tags: Vec<(String, Template)>,
    /// Escaped names, and where their values are; none for everything.
    fields: Vec<(String, String)>,
}

impl Influx {
    /// The error names the setting.
    pub(super) fn new(config: &InfluxConfig) -> Result<Self, ConfigError> {
        let name = |setting: &str, name: &String| match name.is_empty() || name.starts_with('_') {
            true => Err(ConfigError::at(
                format!("{setting}.{name}"),
                "a name has a character, and does not begin with `_`",
            )),
            false => Ok(escape(name, ", =").into_owned()),
        };
        let tags = config.tags.iter().map(|(key, text)| {
            Ok((name("influxdb.tags", key)?, Template::new(&format!("influxdb.tags.{key}"), text)?))
        });
        let fields =
            config.fields.iter().map(|(key, pointer)| match pointer.is_empty() || pointer.starts_with('/') {
                true => Ok((name("influxdb.fields", key)?, pointer.clone())),
                false => {
                    let problem = "must be a JSON pointer, such as /celsius";
                    Err(ConfigError::at(format!("influxdb.fields.{key}"), problem))
                }
            });
        Ok(Self {
            measurement: Template::new("influxdb.measurement", &config.measurement)?,
            tags: tags.collect::<Result<_, _>>()?,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// Appends the line of `delivery`, with its line break. An error says why it can have none.
    pub(super) fn write(&self, delivery: &Delivery, into: &mut String) -> Result<(), Cause> {
        let known = Fields::of(delivery);
        let measurement = self.measurement.render_fields(&known)?;
        if measurement.is_empty() || measurement.starts_with(['#', '_']) {
            return Err(Cause::new(format!(
                "influxdb.measurement: `{measurement}` cannot be the name of one"
            )));
        }
        let mut line = escape(&measurement, ", ").into_owned();
        for (key, template) in &self.tags {
            let value = template.render_fields(&known)?;
            let value = escape(&value, ", =");
            if !value.is_empty() {
                write!(line, ",{key}={value}").unwrap_or_else(|_| unreachable!("written to memory"));
            }
        }
        let fields = self.field_values(delivery);
        if fields.is_empty() {
            return Err(Cause::new("the payload has nothing that could be a field".to_owned()));
        }
        line.push(' ');
        for (index, (key, value)) in fields.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(line, "{comma}{key}={value}").unwrap_or_else(|_| unreachable!("written to memory"));
        }
        writeln!(into, "{line} {}", delivery.time.nanos())
            .unwrap_or_else(|_| unreachable!("written to memory"));
        Ok(())
    }

    /// Escaped names and values.
    fn field_values(&self, delivery: &Delivery) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let payload = payload(delivery);
        if self.fields.is_empty() {
            flatten("", &payload, &mut found);
        }
        for (name, pointer) in &self.fields {
            if let Some(value) = payload.pointer(pointer) {
                flatten(name, value, &mut found);
            }
        }
        found
    }
}

/// What the payload says; of no JSON, a number or a text.
fn payload(delivery: &Delivery) -> Value {
    let message = &delivery.message;
    let json =
        message.content_type.is_json().then(|| serde_json::from_slice(&message.payload).ok()).flatten();
    json.unwrap_or_else(|| match std::str::from_utf8(&message.payload) {
        Ok(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => number.into(),
            _ => text.into(),
        },
        Err(_) => Value::Null,
    })
}

fn flatten(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let inner = |key: &str| match name {
        "" => escape(key, ", =").into_owned(),
        name => format!("{name}_{}", escape(key, ", =")),
    };
    let mut push = |value: String| {
        found.push((if name.is_empty() { "value".to_owned() } else { name.to_owned() }, value));
    };
    match value {
        Value::Null => {}
        Value::Bool(value) => push(value.to_string()),
        Value::Number(value) => push(value.to_string()),
        Value::String(value) => push(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| flatten(&inner(&index.to_string()), item, found));
        }
        Value::Object(items) => {
            // An empty name cannot be written.
            items
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .for_each(|(key, item)| flatten(&inner(key), item, found));
        }
    }
}

/// A backslash before each of `special`; line breaks, which no name or tag can have, become spaces, and a backslash at
/// the end, which would escape what follows, is dropped.
fn escape<'a>(text: &'a str, special: &str) -> Cow<'a, str> {
    let is_plain = |c: char| !special.contains(c) && !c.is_control() && c != '\\';
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.trim_end_matches('\\').chars() {
        let c = if c.is_control() { ' ' } else { c };
        if special.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::delivery;

    fn line(settings: Value, content_type: &str, payload: &str) -> String {
        let influx = Influx::new(&sandbar_reading::settings(settings).unwrap()).unwrap();
        let mut delivery = delivery(7);
        delivery.message.content_type = content_type.parse().unwrap();
        delivery.message.payload = payload.to_owned().into();
        let mut line = String::new();
        match influx.write(&delivery, &mut line) {
            Ok(()) => line,
            Err(cause) => cause.to_string(),
        }
    }

    const JSON: &str = "application/json";

    #[test]
    fn everything_in_the_payload_is_a_field() {
        let payload =
            r#"{"t":{"c":21.5,"f":70},"ok":true,"none":null,"tags":["a",2],"note":"say \"hi\" \\o/"}"#;
        assert_eq!(
            line(json!({}), JSON, payload),
            "sensors/kitchen,device=k1 note=\"say \\\"hi\\\" \\\\o/\",ok=true,t_c=21.5,t_f=70,tags_0=\"a\",tags_1=2 1700000000007000000\n"
        );
        assert_eq!(
            line(json!({}), "text/plain", " 21.5\n"),
            "sensors/kitchen,device=k1 value=21.5 1700000000007000000\n"
        );
        assert_eq!(
            line(json!({}), "text/plain", "open"),
            "sensors/kitchen,device=k1 value=\"open\" 1700000000007000000\n"
        );
        assert_eq!(line(json!({}), JSON, "{}"), "the payload has nothing that could be a field");
    }

    #[test]
    fn names_tags_and_fields_may_be_chosen_and_are_escaped() {
        let settings = json!({
            "measurement": "a, b={{ route }}",
            "tags": { "the place": "x=1,y 2\\\n", "empty": "" },
            "fields": { "deg C": "/t", "gone": "/x", "all": "/deep" },
        });
        assert_eq!(
            line(settings, JSON, r#"{"t":-1e-7,"deep":{"a b":[1]}}"#),
            "a\\,\\ b=kitchen,the\\ place=x\\=1\\,y\\ 2\\\\  all_a\\ b_0=1,deg\\ C=-1e-7 1700000000007000000\n"
        );
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let setting =
            |settings: Value| Influx::new(&sandbar_reading::settings(settings).unwrap()).unwrap_err().setting;
        assert_eq!(setting(json!({ "fields": { "a": "b" } })), "influxdb.fields.a");
        assert_eq!(setting(json!({ "tags": { "": "b" } })), "influxdb.tags.");
        assert_eq!(setting(json!({ "measurement": "{{" })), "influxdb.measurement");
        assert!(
            line(json!({ "measurement": "#{{ topic }}" }), JSON, "1").starts_with("influxdb.measurement: ")
        );
    }
}
