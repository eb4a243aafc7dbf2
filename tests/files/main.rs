//! The `files` driver with the tools that write files: cp, mv, rsync, vi, sed, logrotate; under kill -9; and where the
//! system has no watches left.

mod folder;
mod kills;
mod logs;

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::tool;
use serde_json::Value;
use tokio::process::Command;

/// A host with an ingress of these settings.
async fn host(folder: &Path, settings: &str) -> Result<Host> {
    configure(folder, settings)?;
    Host::start(folder).await
}

fn configure(folder: &Path, settings: &str) -> Result<()> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n[ingress.in]\ndriver = \"files\"\n{settings}\n");
    Ok(std::fs::write(folder.join("sandbar.toml"), text)?)
}

struct Read {
    name: String,
    event: String,
    payload: String,
}

/// What was read so far, in order.
async fn read(host: &Host) -> Result<Vec<Read>> {
    let mut readings = host.all("/v1/readings?ingress=in").await?;
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    readings.iter().map(of).collect()
}

fn of(reading: &Value) -> Result<Read> {
    let attribute = |name: &str| {
        let pairs = reading["attributes"].as_array().into_iter().flatten();
        let value = pairs.filter(|pair| pair[0] == name).find_map(|pair| pair[1].as_str());
        value.or_else(|| reading["attributes"][name].as_str()).unwrap_or_default().to_owned()
    };
    let payload = reading["payload"].as_str().or_else(|| reading["payload_base64"].as_str());
    ensure!(!attribute("file.event").is_empty(), "{reading}");
    Ok(Read {
        name: attribute("file.name"),
        event: attribute("file.event"),
        payload: payload.map_or_else(|| reading["payload_json"].to_string(), str::to_owned),
    })
}

/// Resolves once so many were read.
async fn wait(host: &Host, count: usize) -> Result<Vec<Read>> {
    for _ in 0..1500 {
        let read = read(host).await?;
        if read.len() >= count {
            return Ok(read);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let names: Vec<String> = read(host).await?.into_iter().map(|read| read.name).collect();
    anyhow::bail!("not {count} but {names:?}: {}", host.stderr())
}

async fn sh(folder: &Path, script: &str) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder);
    tool::succeeds(command, 60).await
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}
