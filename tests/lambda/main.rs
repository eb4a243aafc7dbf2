//! In the manner of Lambda: permissions, trials, replays, provenance, on the real binary.

#![allow(clippy::print_stdout, reason = "what was measured is printed")]

mod asking;
mod guide;
mod permissions;
mod provenance;
mod replays;
mod telemetry;
mod trials;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use sandbar_tests::host::Host;
use serde_json::{Value, json};

/// A host with the ingress `web` (the path is the topic, the first part of it the device) and the file sink `out`;
/// `more` is added to its file.
async fn host(folder: &Path, more: &str) -> Result<Host> {
    write_config(folder, more)?;
    Host::start(folder).await
}

fn write_config(folder: &Path, more: &str) -> Result<()> {
    let text = format!(
        r#"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/{{*topic}}", topic = "{{topic}}" }}]
[sink.out]
kind = "file"
path = "out.jsonl"
# A quick machine fills more than one file.
rotate_bytes = 1073741824
{more}
"#
    );
    Ok(std::fs::write(folder.join("sandbar.toml"), text)?)
}

/// The answer's JSON, whatever it says, and its status.
async fn call(host: &Host, method: Method, path: &str, body: Value) -> Result<(StatusCode, Value)> {
    let mut request = host.request(method, path);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

/// The same; it must be done.
async fn done(host: &Host, method: Method, path: &str, body: Value) -> Result<Value> {
    let (status, answer) = call(host, method, path, body).await?;
    ensure!(status.is_success(), "{path}: {status} {answer}");
    Ok(answer)
}

async fn upload(host: &Host, module: &str, wasm: &Path, activate: bool) -> Result<u64> {
    let request = host.request(Method::PUT, &format!("/v1/modules/{module}"));
    let request = request.header("sandbar-activate", activate.to_string()).body(std::fs::read(wasm)?);
    let answer = request.send().await?;
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(status.is_success(), "{status} {body}");
    body["version"].as_u64().context("no version")
}

/// Hands a reading over through the API; its id.
async fn send(host: &Host, topic: &str, payload: &str) -> Result<String> {
    let body = json!({ "topic": topic, "payload": payload });
    let accepted = done(host, Method::POST, "/v1/readings", body).await?;
    Ok(accepted["id"].as_str().context("no id")?.to_owned())
}

/// What the file sink has written.
fn delivered(host: &Host) -> Vec<Value> {
    let text = std::fs::read_to_string(host.folder.join("out.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
