//! What Pyaiot's programs say. Pure.

use bytes::Bytes;
use sandbar_reading::{ContentType, Inbound, TopicError};
use serde_json::{Map, Value};

use crate::pattern::Template;

/// From a dashboard, or another client.
#[derive(Debug, PartialEq)]
pub(crate) enum FromClient {
    /// It wants to know all nodes.
    New(Value),
    Write {
        uid: Box<str>,
        endpoint: Box<str>,
        payload: Value,
    },
}

/// From a gateway. `to` is `all`, or one client.
#[derive(Debug, PartialEq)]
pub(crate) enum FromGateway {
    New {
        uid: Box<str>,
        to: Box<str>,
    },
    Update {
        uid: Box<str>,
        endpoint: Box<str>,
        data: Value,
        to: Box<str>,
    },
    Out {
        uid: Box<str>,
    },
    Reset {
        uid: Box<str>,
    },
    /// A sign of life.
    Alive,
}

/// From a CoAP node, to `/alive`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beacon<'a> {
    Alive(&'a str),
    Reset(&'a str),
}

/// From an MQTT node.
#[derive(Debug, PartialEq)]
pub(crate) enum FromMqtt<'a> {
    Check { id: Box<str> },
    Resources { id: &'a str, names: Vec<Box<str>> },
    Value { id: &'a str, resource: &'a str, value: Value },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("not an object in JSON")]
    NoObject,
    #[error("`type` is missing or none that is known")]
    Type,
    #[error("`{0}` is missing, or no text")]
    Missing(&'static str),
    #[error("`data` must have uid, endpoint and payload, and nothing else")]
    Data,
}

/// Longer names are nobody's.
const NAME_MAX: usize = 255;

fn object(text: &str) -> Result<Map<String, Value>, Invalid> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Invalid::NoObject),
    }
}

fn name(object: &Map<String, Value>, key: &'static str) -> Result<Box<str>, Invalid> {
    let value = object.get(key).and_then(Value::as_str);
    value.filter(|text| is_name(text)).map(Into::into).ok_or(Invalid::Missing(key))
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
}

pub(crate) fn client(text: &str) -> Result<FromClient, Invalid> {
    let mut message = object(text)?;
    let data = message.remove("data");
    match message.get("type").and_then(Value::as_str) {
        Some("new") => Ok(FromClient::New(data.ok_or(Invalid::Missing("data"))?)),
        Some("update") => {
            let Some(Value::Object(mut data)) = data else { return Err(Invalid::Data) };
            let payload = data.remove("payload").ok_or(Invalid::Data)?;
            let (uid, endpoint) = (name(&data, "uid")?, name(&data, "endpoint")?);
            match data.len() {
                2 => Ok(FromClient::Write { uid, endpoint, payload }),
                _ => Err(Invalid::Data),
            }
        }
        _ => Err(Invalid::Type),
    }
}

pub(crate) fn gateway(text: &str) -> Result<FromGateway, Invalid> {
    let mut message = object(text)?;
    let to = || message.get("dst").and_then(Value::as_str).unwrap_or("all").into();
    let to: Box<str> = to();
    let kind = message.get("type").and_then(Value::as_str).ok_or(Invalid::Type)?;
    let uid = name(&message, "uid");
    match kind {
        "new" => Ok(FromGateway::New { uid: uid?, to }),
        "out" => Ok(FromGateway::Out { uid: uid? }),
        "reset" => Ok(FromGateway::Reset { uid: uid? }),
        "update" => {
            let uid = uid?;
            if *uid == *"alive" {
                return Ok(FromGateway::Alive);
            }
            let endpoint = name(&message, "endpoint")?;
            let data = message.remove("data").ok_or(Invalid::Missing("data"))?;
            Ok(FromGateway::Update { uid, endpoint, data, to })
        }
        _ => Err(Invalid::Type),
    }
}

/// A WebSocket node's resources and their values.
pub(crate) fn node(text: &str) -> Result<Vec<(Box<str>, Value)>, Invalid> {
    let mut message = object(text)?;
    if message.get("type").and_then(Value::as_str) != Some("update") {
        return Err(Invalid::Type);
    }
    let Some(Value::Object(data)) = message.remove("data") else { return Err(Invalid::Missing("data")) };
    let named = data.into_iter().filter(|(key, _)| is_name(key));
    Ok(named.map(|(key, value)| (key.into(), value)).collect())
}

/// `alive:UID`, `reset:UID`; some nodes write `Alive`.
pub(crate) fn beacon(text: &str) -> Option<Beacon<'_>> {
    let (word, uid) = text.split_once(':')?;
    let uid = uid.trim();
    if !is_name(uid) {
        return None;
    }
    match word.trim().to_ascii_lowercase().as_str() {
        "alive" => Some(Beacon::Alive(uid)),
        "reset" => Some(Beacon::Reset(uid)),
        _ => None,
    }
}

/// `resource:value`, at the first colon.
pub(crate) fn posted(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let resource = std::str::from_utf8(&bytes[..colon]).ok().filter(|resource| is_name(resource))?;
    Some((resource, &bytes[colon + 1..]))
}

pub(crate) fn mqtt<'a>(topic: &'a str, payload: &[u8]) -> Option<FromMqtt<'a>> {
    let rest = topic.strip_prefix("node/")?;
    if rest == "check" {
        let message = object(std::str::from_utf8(payload).ok()?).ok()?;
        return Some(FromMqtt::Check { id: name(&message, "id").ok()? });
    }
    let (id, resource) = rest.split_once('/').filter(|(id, resource)| is_name(id) && is_name(resource))?;
    if resource == "resources" {
        let names: Vec<Value> = serde_json::from_slice(payload).ok()?;
        let names = names.iter().filter_map(Value::as_str).filter(|name| is_name(name));
        return Some(FromMqtt::Resources { id, names: names.map(Into::into).collect() });
    }
    let Value::Object(mut message) = serde_json::from_slice(payload).ok()? else { return None };
    Some(FromMqtt::Value { id, resource, value: message.remove("value")? })
}

/// A value of a node's resource.
#[derive(Clone, Debug)]
pub(crate) enum Datum {
    Json(Value),
    /// As CoAP nodes have them: mostly text.
    Bytes(Bytes),
}

impl Datum {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Json(Value::String(text.into()))
    }

    /// As clients are told of it.
    pub(crate) fn shown(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        }
    }

    fn payload(&self) -> (ContentType, Bytes) {
        match self {
            Self::Json(Value::String(text)) => (ContentType::TEXT, Bytes::copy_from_slice(text.as_bytes())),
            Self::Json(other) => (ContentType::JSON, other.to_string().into()),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(_) => (ContentType::TEXT, bytes.clone()),
                Err(_) => (ContentType::OCTETS, bytes.clone()),
            },
        }
    }
}

/// A value of a node's resource as a reading.
pub(crate) fn inbound(
    topic: &Template,
    uid: &str,
    resource: &str,
    datum: &Datum,
) -> Result<Inbound, TopicError> {
    let topic = topic.fill(&[uid.into(), resource.into()]).parse()?;
    let (content_type, payload) = datum.payload();
    let attributes = [("pyaiot.resource", resource)].into_iter().collect();
    Ok(Inbound { device: Some(uid.into()), attributes, ..Inbound::new(topic, content_type, payload) })
}

/// What a node's own protocol carries of a value.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_clients() {
        assert_eq!(client(r#"{"type":"new","data":""}"#), Ok(FromClient::New(json!(""))));
        let write = r#"{"type":"update","data":{"uid":"u","endpoint":"led","payload":"1"}}"#;
        let (uid, endpoint) = ("u".into(), "led".into());
        assert_eq!(client(write), Ok(FromClient::Write { uid, endpoint, payload: json!("1") }));
        for (text, wrong) in [
            ("", Invalid::NoObject),
            ("[]", Invalid::NoObject),
            ("{}", Invalid::Type),
            (r#"{"type":"new"}"#, Invalid::Missing("data")),
            (r#"{"type":"out","data":{}}"#, Invalid::Type),
            (r#"{"type":"update","data":"x"}"#, Invalid::Data),
            (r#"{"type":"update","data":{"uid":"u","endpoint":"led"}}"#, Invalid::Data),
            (r#"{"type":"update","data":{"uid":1,"endpoint":"led","payload":1}}"#, Invalid::Missing("uid")),
            (r#"{"type":"update","data":{"uid":"u","endpoint":"led","payload":1,"more":1}}"#, Invalid::Data),
        ] {
            assert_eq!(client(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn reads_gateways() {
        let (uid, to): (Box<str>, Box<str>) = ("u".into(), "all".into());
        let new = FromGateway::New { uid: uid.clone(), to };
        assert_eq!(gateway(r#"{"type":"new","uid":"u","dst":"all"}"#), Ok(new));
        let update =
            FromGateway::Update { uid: uid.clone(), endpoint: "t".into(), data: json!(1), to: "c".into() };
        assert_eq!(gateway(r#"{"type":"update","uid":"u","endpoint":"t","data":1,"dst":"c"}"#), Ok(update));
        assert_eq!(gateway(r#"{"type":"update","uid":"alive"}"#), Ok(FromGateway::Alive));
        assert_eq!(gateway(r#"{"type":"out","uid":"u"}"#), Ok(FromGateway::Out { uid }));
        for bad in [r#"{"type":"out"}"#, r#"{"type":"update","uid":"u","data":1}"#, "1", r#"{"uid":"u"}"#] {
            assert!(gateway(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_nodes() {
        assert_eq!(beacon("alive:a:b"), Some(Beacon::Alive("a:b")));
        assert_eq!(beacon("Alive:u"), Some(Beacon::Alive("u")));
        assert_eq!(beacon("reset:u"), Some(Beacon::Reset("u")));
        assert_eq!((beacon("alive"), beacon("alive:"), beacon("x:u")), (None, None, None));
        assert_eq!(posted(b"time:12:30"), Some(("time", &b"12:30"[..])));
        assert_eq!((posted(b":1"), posted(b"led"), posted(b"\xff:1")), (None, None, None));
        let values = node(r#"{"type":"update","data":{"led":1,"name":"n"}}"#).unwrap();
        assert_eq!(values, [("led".into(), json!(1)), ("name".into(), json!("n"))]);
        assert_eq!(node(r#"{"type":"new","data":{}}"#), Err(Invalid::Type));
    }

    #[test]
    fn reads_mqtt_nodes() {
        assert_eq!(mqtt("node/check", br#"{"id":"n"}"#), Some(FromMqtt::Check { id: "n".into() }));
        let names = vec!["led".into(), "t".into()];
        assert_eq!(mqtt("node/n/resources", br#"["led","t"]"#), Some(FromMqtt::Resources { id: "n", names }));
        let value = FromMqtt::Value { id: "n", resource: "led", value: json!("1") };
        assert_eq!(mqtt("node/n/led", br#"{"value":"1"}"#), Some(value));
        for (topic, payload) in [
            ("node/check", "{}"),
            ("node/n", "1"),
            ("node/n/led", "1"),
            ("node//led", "{}"),
            ("gateway/check", ""),
        ] {
            assert_eq!(mqtt(topic, payload.as_bytes()), None, "{topic}");
        }
    }

    #[test]
    fn a_value_is_a_reading() {
        let topic = Template::parse("p/{device}/{resource}", &["device".into(), "resource".into()]).unwrap();
        let shown = |value| {
            let Inbound { topic, device, content_type, payload, .. } =
                inbound(&topic, "u", "led", &value).unwrap();
            format!("{topic} {device:?} {content_type} {payload:?}")
        };
        assert_eq!(shown(Datum::text("23.1°C")), r#"p/u/led Some("u") text/plain b"23.1\xc2\xb0C""#);
        assert_eq!(
            shown(Datum::Json(json!({"lat":1}))),
            r#"p/u/led Some("u") application/json b"{\"lat\":1}""#
        );
        assert_eq!(shown(Datum::Bytes("1".into())), r#"p/u/led Some("u") text/plain b"1""#);
        assert!(shown(Datum::Bytes((&b"\xff"[..]).into())).contains("application/octet-stream"));
        assert!(inbound(&topic, "u", "a/#", &Datum::text("1")).is_err());
    }
}
