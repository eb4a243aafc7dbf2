//! What others answer a handler that is tested: one JSON object a line, the folder's `http.jsonl`.
//!
//! `{method?, url, status?, headers?}` and one of `payload`, `payload_json`, `payload_base64`, as recorded readings
//! have them; or `{method?, url, error: "why"}` where no answer comes. Several lines for one method and URL are
//! given one after the other, the last again and again.

use std::collections::BTreeMap;

use anyhow::Context;
use sandbar_control::HttpAnswer;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::recording::{Payload, Values};

/// Its name in a module's folder.
pub(crate) const FILE: &str = "http.jsonl";

const CONTENT_TYPE: &str = "content-type";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(default = "get")]
    method: String,
    url: String,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    payload_json: Option<&'a RawValue>,
    payload_base64: Option<String>,
    error: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// The answers of a file's text.
pub(crate) fn answers(text: &str) -> anyhow::Result<Vec<HttpAnswer>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| answer(line).with_context(|| format!("line {}", at + 1))).collect()
}

fn answer(line: &str) -> anyhow::Result<HttpAnswer> {
    let line: Line<'_> = serde_json::from_str(line)?;
    if let Some(why) = line.error {
        return Ok(HttpAnswer::failure(&line.method, &line.url, &why)?);
    }
    let payload = Payload {
        payload: line.payload,
        payload_json: line.payload_json,
        payload_base64: line.payload_base64.as_deref(),
    };
    let (body, natural) = payload.read()?;
    let headers = line.headers.into_iter().flat_map(|(name, values)| {
        values.into_vec().into_iter().map(move |value| (name.to_ascii_lowercase(), value))
    });
    let mut headers: Vec<(String, String)> = headers.collect();
    if !body.is_empty() && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        headers.push((CONTENT_TYPE.to_owned(), natural.as_str().to_owned()));
    }
    Ok(HttpAnswer::new(&line.method, &line.url, line.status.unwrap_or(200), &headers, body.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_wrong_is_said_with_its_line() {
        let good = r#"{"url":"https://a/x","payload":{"b":1}}

{"method":"POST","url":"https://a/x","status":201,"headers":{"Set-Cookie":["a=1","b=2"]}}
{"url":"https://a/y","error":"no one is there"}"#;
        assert_eq!(answers(good).unwrap().len(), 3);
        for (line, says) in [
            (r#"{"url":"https://a/x"}{"#, "line 1"),
            (r#"{"url":"https://a/x","status":99}"#, "99 is no status"),
            (r#"{"url":"https://a/x","payload":1,"payload_json":1}"#, "give one of"),
            (r#"{"url":"https://a/x","satus":200}"#, "satus"),
        ] {
            let error = format!("{:#}", answers(line).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
