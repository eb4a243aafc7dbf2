//! What is bound to a placeholder.

use bytes::Bytes;
use sandbar_reading::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

/// What a value is to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    /// A text; numbers and booleans as JSON writes them, arrays and objects as JSON.
    #[default]
    Text,
    /// 64 bits, signed.
    Integer,
    /// 64 bits, floating point.
    Float,
    Boolean,
    /// `json` and `jsonb` of PostgreSQL; text elsewhere.
    Json,
    /// The database's own timestamp, in UTC (RFC 3339 text for SQLite). RFC 3339 text or a number: of seconds
    /// since 1970, or of milliseconds if it is 100,000,000,000 or above.
    Time,
    /// From base64 text.
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null(Type),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Valid JSON.
    Json(String),
    Time(Timestamp),
    Bytes(Bytes),
}

/// `json` as a `wanted`; the error says what it is instead.
pub(super) fn convert(json: &Json, wanted: Type) -> Result<Value, String> {
    let value = match (wanted, json) {
        (_, Json::Null) => Some(Value::Null(wanted)),
        (Type::Text, Json::String(text)) => Some(Value::Text(text.clone())),
        (Type::Text, other) => Some(Value::Text(other.to_string())),
        (Type::Json, other) => Some(Value::Json(other.to_string())),
        (Type::Integer, Json::Number(number)) => integer(number).map(Value::Integer),
        (Type::Float, Json::Number(number)) => number.as_f64().map(Value::Float),
        (Type::Boolean, Json::Bool(truth)) => Some(Value::Boolean(*truth)),
        (Type::Time, Json::Number(number)) => number.as_f64().and_then(time).map(Value::Time),
        (_, Json::String(text)) => return parse(text, wanted),
        _ => None,
    };
    value.ok_or_else(|| format!("{} is no {}", shown(&json.to_string()), wanted.name()))
}

/// `text` as a `wanted`; an empty text is no number, but it is a text.
pub(super) fn parse(text: &str, wanted: Type) -> Result<Value, String> {
    use base64::Engine;
    let value = match wanted {
        Type::Text => Some(Value::Text(text.to_owned())),
        Type::Json => serde_json::from_str::<&serde_json::value::RawValue>(text)
            .map(|json| Value::Json(json.get().to_owned()))
            .ok(),
        Type::Integer => text.trim().parse().map(Value::Integer).ok(),
        Type::Float => text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
        Type::Boolean => match text.trim() {
            "true" | "1" => Some(Value::Boolean(true)),
            "false" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        Type::Time => text.trim().parse().map(Value::Time).ok(),
        Type::Bytes => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .ok(),
    };
    value.ok_or_else(|| format!("{} is no {}", shown(&format!("{text:?}")), wanted.name()))
}

/// A float without a fraction is an integer too.
fn integer(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
    })
}

fn time(number: f64) -> Option<Timestamp> {
    const MILLIS_FROM: f64 = 1e11;
    let millis = if number >= MILLIS_FROM { number } else { number * 1000.0 };
    let nanos = (millis * 1e6).round();
    (nanos >= 0.0 && nanos <= Timestamp::MAX.nanos() as f64).then(|| Timestamp::from_nanos(nanos as u64))
}

/// The beginning of it.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer of 64 bits",
            Self::Float => "number",
            Self::Boolean => "boolean",
            Self::Json => "JSON",
            Self::Time => "time",
            Self::Bytes => "base64",
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_becomes_the_wanted_type_or_says_why_not() {
        let seen: Vec<String> = [
            (json!("a"), Type::Text),
            (json!([1, "b"]), Type::Text),
            (json!(21.5), Type::Text),
            (json!(7), Type::Integer),
            (json!(7.0), Type::Integer),
            (json!(" 7 "), Type::Integer),
            (json!(7.5), Type::Integer),
            (json!(18_446_744_073_709_551_615u64), Type::Integer),
            (json!(7), Type::Float),
            (json!("nan"), Type::Float),
            (json!(true), Type::Boolean),
            (json!("0"), Type::Boolean),
            (json!(1), Type::Boolean),
            (json!({ "a": 1 }), Type::Json),
            (json!("2026-11-20T21:40:00Z"), Type::Time),
            (json!(1_700_000_000.5), Type::Time),
            (json!(1_700_000_000_500u64), Type::Time),
            (json!(-1), Type::Time),
            (json!("AAE="), Type::Bytes),
            (json!("A"), Type::Bytes),
            (json!([1]), Type::Float),
            (Json::Null, Type::Float),
        ]
        .into_iter()
        .map(|(json, wanted)| format!("{json} {wanted:?}: {:?}", convert(&json, wanted)))
        .collect();
        expect![[r#"
            "a" Text: Ok(Text("a"))
            [1,"b"] Text: Ok(Text("[1,\"b\"]"))
            21.5 Text: Ok(Text("21.5"))
            7 Integer: Ok(Integer(7))
            7.0 Integer: Ok(Integer(7))
            " 7 " Integer: Ok(Integer(7))
            7.5 Integer: Err("7.5 is no integer of 64 bits")
            18446744073709551615 Integer: Err("18446744073709551615 is no integer of 64 bits")
            7 Float: Ok(Float(7.0))
            "nan" Float: Err("\"nan\" is no number")
            true Boolean: Ok(Boolean(true))
            "0" Boolean: Ok(Boolean(false))
            1 Boolean: Err("1 is no boolean")
            {"a":1} Json: Ok(Json("{\"a\":1}"))
            "2026-11-20T21:40:00Z" Time: Ok(Time(Timestamp(1795210800000000000)))
            1700000000.5 Time: Ok(Time(Timestamp(1700000000500000000)))
            1700000000500 Time: Ok(Time(Timestamp(1700000000500000000)))
            -1 Time: Err("-1 is no time")
            "AAE=" Bytes: Ok(Bytes(b"\0\x01"))
            "A" Bytes: Err("\"A\" is no base64")
            [1] Float: Err("[1] is no number")
            null Float: Ok(Null(Float))"#]]
        .assert_eq(&seen.join("\n"));
    }
}
