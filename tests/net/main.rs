//! The ingresses and sinks of byte streams and WebSocket against programs that others wrote: netcat, socat, openssl,
//! Python's `websockets`, and Autobahn's fuzzing client.

mod autobahn;
mod bytes;
mod certificates;
mod websockets;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;

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

/// The payloads of an ingress's readings, in order.
async fn payloads(host: &Host, ingress: &str) -> Result<Vec<String>> {
    let mut readings = host.all(&format!("/v1/readings?ingress={ingress}")).await?;
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    let payload = |reading: &serde_json::Value| {
        let text =
            [&reading["payload"], &reading["payload_base64"]].into_iter().find_map(serde_json::Value::as_str);
        text.map_or_else(|| reading["payload_json"].to_string(), str::to_owned)
    };
    Ok(readings.iter().map(payload).collect())
}

fn port(address: &str) -> Result<&str> {
    Ok(address.rsplit_once(':').context("no port")?.1)
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}
