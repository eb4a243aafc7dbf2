//! Templates in settings: what a sink sends, made of a delivery (Jinja's language, by minijinja).
//!
//! Fields of a delivery:
//!
//! | field | is |
//! |---|---|
//! | `id` | the delivery's id, the same at every attempt |
//! | `reading` | the id of the reading that it came of |
//! | `route` | the route that put it out |
//! | `time` | when, as RFC 3339 |
//! | `time_ns` | the same in nanoseconds since 1970 |
//! | `topic` | of the message |
//! | `device` | of the message, if it has one; else undefined |
//! | `content_type` | of the message |
//! | `attributes` | by name: `attributes["mqtt.qos"]`; one that occurs more than once is a list |
//! | `payload` | the value itself for JSON, text for other UTF-8; else undefined |
//! | `text` | the payload as text, also for JSON; what is no UTF-8 is replaced |
//! | `payload_base64` | the payload's bytes |
//! | `size` | how many bytes it has |
//!
//! What a delivery lacks is an error, which names it: a message with a hole is worse than a dead letter. Where
//! it may be missing, say so: `{{ payload.unit | default("°C") }}`, `{% if device %}…{% endif %}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior, filters};
use sandbar_reading::{ConfigError, Delivery};
use serde::Serialize;

use crate::Cause;

/// A template of one setting, compiled.
#[derive(Debug)]
pub(crate) struct Template {
    setting: Box<str>,
    environment: Environment<'static>,
}

/// What becomes of values between `{{` and `}}`, unless they are marked `| safe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// They stay as they are.
    Nothing,
    /// What is not a letter, digit or one of `-._~` becomes `%XX` (RFC 3986), so that no value can add a path
    /// segment or a parameter.
    Url,
    /// `&`, `<` and `>` become entities, so that no value can mention people or make links (Slack's "mrkdwn").
    Slack,
    /// The same, and quotation marks.
    Html,
}

/// The name under which an environment holds its only template.
const NAME: &str = "template";

impl Template {
    /// Compiles `text`; an error names `setting` and the line.
    pub(crate) fn new(setting: &str, text: &str) -> Result<Self, ConfigError> {
        Self::escaping(setting, text, Escape::Nothing)
    }

    /// The same; values are escaped.
    pub(crate) fn escaping(setting: &str, text: &str, escape: Escape) -> Result<Self, ConfigError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_syntax(syntax(setting)?);
        if escape != Escape::Nothing {
            environment.set_formatter(move |output, _, value| write_escaped(output, value, escape));
        }
        if escape == Escape::Url {
            // Once is enough.
            environment.add_filter("urlencode", |value: &Value| {
                let mut encoded = String::new();
                percent_encode(&value.to_string(), &mut encoded);
                Value::from_safe_string(encoded)
            });
            // What is safe within JSON or HTML is not within an address.
            environment.add_filter("tojson", json_to_escape);
            for name in ["e", "escape"] {
                environment.add_filter(name, |value: &Value| value.clone());
            }
        }
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| ConfigError::at(setting, explain(&error)))?;
        Ok(Self { setting: setting.into(), environment })
    }

    /// Whether `text` says anything that depends on the delivery.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains("{{") || text.contains("{%")
    }

    /// An error says which setting cannot be filled, and why: this delivery never will be.
    pub(crate) fn render(&self, delivery: &Delivery) -> Result<String, Cause> {
        self.render_fields(&Fields::of(delivery))
    }

    /// For several templates over one delivery.
    pub(crate) fn render_fields(&self, fields: &Fields) -> Result<String, Cause> {
        let rendered =
            self.environment.get_template(NAME).and_then(|template| template.render(fields.0.clone()));
        rendered.map_err(|error| Cause::new(format!("{}: {}", self.setting, explain(&error))))
    }
}

fn json_to_escape(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    filters::tojson(value, indent, options).map(|json| Value::from(json.to_string()))
}

/// What a template ends with is sent, a line break too.
fn syntax(setting: &str) -> Result<SyntaxConfig, ConfigError> {
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    syntax.map_err(|error| ConfigError::at(setting, explain(&error)))
}

/// A delivery as templates see it.
#[derive(Debug)]
pub(crate) struct Fields(Value);

#[derive(Serialize)]
struct Context<'a> {
    id: String,
    reading: String,
    route: &'a str,
    time: String,
    time_ns: u64,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    content_type: &'a str,
    attributes: BTreeMap<&'a str, OneOrMore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    text: Cow<'a, str>,
    payload_base64: String,
    size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore<'a> {
    One(&'a str),
    More(Vec<&'a str>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(serde_json::Value),
    Text(&'a str),
}

impl Fields {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let message = &delivery.message;
        let context = Context {
            id: delivery.id.to_string(),
            reading: delivery.reading.to_string(),
            route: delivery.route.as_str(),
            time: delivery.time.to_string(),
            time_ns: delivery.time.nanos(),
            topic: message.topic.as_str(),
            device: message.device.as_deref(),
            content_type: message.content_type.as_str(),
            attributes: attributes(delivery),
            payload: payload(delivery),
            text: String::from_utf8_lossy(&message.payload),
            payload_base64: STANDARD.encode(&message.payload),
            size: message.payload.len(),
        };
        Self(Value::from(Serde(&context)))
    }
}

fn attributes(delivery: &Delivery) -> BTreeMap<&str, OneOrMore<'_>> {
    let mut by_name: BTreeMap<&str, OneOrMore<'_>> = BTreeMap::new();
    for (name, value) in delivery.message.attributes.iter() {
        by_name
            .entry(name)
            .and_modify(|values| match values {
                OneOrMore::One(first) => *values = OneOrMore::More(vec![first, value]),
                OneOrMore::More(values) => values.push(value),
            })
            .or_insert(OneOrMore::One(value));
    }
    by_name
}

fn payload(delivery: &Delivery) -> Option<Payload<'_>> {
    let message = &delivery.message;
    let json =
        message.content_type.is_json().then(|| serde_json::from_slice(&message.payload).ok()).flatten();
    json.map(Payload::Json).or_else(|| std::str::from_utf8(&message.payload).ok().map(Payload::Text))
}

fn write_escaped(output: &mut Output<'_>, value: &Value, escape: Escape) -> Result<(), Error> {
    let text = value.to_string();
    let escaped = match escape {
        _ if value.is_safe() => text,
        Escape::Nothing => text,
        Escape::Url => {
            let mut encoded = String::with_capacity(text.len());
            percent_encode(&text, &mut encoded);
            encoded
        }
        Escape::Slack => entities(&text),
        Escape::Html => entities(&text).replace('"', "&quot;").replace('\'', "&#39;"),
    };
    output.write_str(&escaped).map_err(|_| ErrorKind::WriteFailure.into())
}

fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            _ => write!(into, "%{byte:02X}").unwrap_or_else(|_| unreachable!("written to memory")),
        }
    }
}

/// ``undefined value: `payload.unit` is undefined, in line 2 of the template``.
fn explain(error: &Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    match error.line() {
        Some(line) => format!("{text}, in line {line} of the template"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::delivery;
    use sandbar_reading::Attributes;

    fn sample() -> Delivery {
        let mut sample = delivery(7);
        sample.message.payload =
            r#"{"celsius":21.5,"big":9007199254740993,"tags":["a","b"],"note":"<a&b> \"c\""}"#.into();
        sample.message.attributes = Attributes::new().with("mqtt.qos", "1").with("tag", "a").with("tag", "b");
        sample
    }

    fn render(text: &str) -> String {
        Template::new("body", text).unwrap().render(&sample()).unwrap_or_else(|cause| cause.to_string())
    }

    #[test]
    fn every_field_can_be_named() {
        assert_eq!(
            render("{{ topic }} {{ device }} {{ route }} {{ content_type }} {{ size }}"),
            "sensors/kitchen k1 kitchen application/json 77"
        );
        assert_eq!(
            render("{{ time }} {{ time_ns }} {{ id }} {{ reading }}"),
            "2023-11-14T22:13:20.007000Z 1700000000007000000 01HF7YAT000000000000000007 01H5XXK1000000000000000007"
        );
        assert_eq!(render("{{ attributes['mqtt.qos'] }} {{ attributes.tag | join('+') }}"), "1 a+b");
        assert_eq!(
            render("{{ payload.celsius }} {{ payload.big }} {{ payload.tags[1] }}"),
            "21.5 9007199254740993 b"
        );
        assert_eq!(render("{{ text | length }} {{ payload_base64 | length }}\n"), "77 104\n");
        assert_eq!(render("{{ payload.note | tojson }}"), r#""\u003ca\u0026b\u003e \"c\"""#);
    }

    #[test]
    fn a_payload_that_is_no_json_is_text_or_missing() {
        let template = Template::new("body", "{{ payload }}").unwrap();
        let mut delivery = sample();
        delivery.message.payload = "21,5 °C".into();
        assert_eq!(template.render(&delivery).unwrap(), "21,5 °C");
        delivery.message.payload = b"\xff\x00"[..].into();
        assert!(template.render(&delivery).unwrap_err().to_string().contains("undefined value"));
    }

    #[test]
    fn what_is_missing_is_named_unless_it_may_be() {
        assert_eq!(
            render("a\n{{ payload.unit }}"),
            "body: undefined value: `payload.unit` is undefined, in line 2 of the template"
        );
        assert_eq!(render("{{ payload.unit | default('C') }}{% if payload.x %}x{% endif %}"), "C");
        let error = Template::new("url", "{{ a").unwrap_err();
        assert_eq!(error.setting, "url");
        assert!(error.problem.ends_with("in line 1 of the template"), "{error}");
        assert!(Template::new("url", "{{ topic | shout }}").unwrap().render(&sample()).is_err());
        assert!(Template::is_one("a{{b") && Template::is_one("{% if x %}") && !Template::is_one("{a}"));
    }

    #[test]
    fn values_are_escaped_and_the_template_is_not() {
        let url = |text| Template::escaping("url", text, Escape::Url).unwrap().render(&sample()).unwrap();
        assert_eq!(
            url("http://h/{{ topic }}?n={{ payload.note }}"),
            "http://h/sensors%2Fkitchen?n=%3Ca%26b%3E%20%22c%22"
        );
        assert_eq!(url("{{ topic | safe }} {{ topic | urlencode }}"), "sensors/kitchen sensors%2Fkitchen");
        assert_eq!(
            url("{{ payload.note | tojson }} {{ payload.note | e }}"),
            "%22%5Cu003ca%5Cu0026b%5Cu003e%20%5C%22c%5C%22%22 %3Ca%26b%3E%20%22c%22"
        );
        let slack = Template::escaping("text", "<http://h|{{ payload.note }}>", Escape::Slack).unwrap();
        assert_eq!(slack.render(&sample()).unwrap(), "<http://h|&lt;a&amp;b&gt; \"c\">");
    }
}
