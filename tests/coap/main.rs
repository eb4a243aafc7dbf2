//! CoAP, Pyaiot and MQTT-SN with what others wrote: libcoap's programs, aiocoap, websockets, paho and mqtt-sn-12.

mod aiocoap;
mod guide;
mod libcoap;
mod mqtt_sn;
mod pyaiot;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use serde_json::Value;

/// A host with this configuration and an API on a free port.
async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    std::fs::write(folder.join("sandbar.toml"), text)?;
    Host::start(folder).await
}

/// Where an ingress listens: `127.0.0.1:40123`.
async fn address(host: &Host, ingress: &str) -> Result<String> {
    Ok(host.ingress(ingress).await?.trim_start_matches("http://").to_owned())
}

/// Topic and payload of an ingress's readings, in order.
async fn readings(host: &Host, ingress: &str) -> Result<Vec<(String, String)>> {
    let mut readings = host.all(&format!("/v1/readings?ingress={ingress}")).await?;
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    let payload = |reading: &Value| {
        let texts = [&reading["payload"], &reading["payload_base64"]];
        let text = texts.into_iter().find_map(Value::as_str);
        text.map_or_else(|| reading["payload_json"].to_string(), str::to_owned)
    };
    let topic = |reading: &Value| reading["topic"].as_str().unwrap_or_default().to_owned();
    Ok(readings.iter().map(|reading| (topic(reading), payload(reading))).collect())
}

async fn has_reading(host: &Host, ingress: &str, topic: &str, payload: &str) -> bool {
    let readings = readings(host, ingress).await.unwrap_or_default();
    readings.iter().any(|reading| reading.0 == topic && reading.1 == payload)
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}

/// What a script printed last, which is JSON.
fn last_line(text: &str) -> Result<Value> {
    let line = text.lines().last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| line.to_owned())
}
