//! What devices and idle connections cost: bytes of memory and of the store's file each.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use sandbar_tests::host::Host;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

const DEVICES: usize = 10_000;

const CONFIG: &str = r#"
[api]
listen = "127.0.0.1:0"
[ingress.meters]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/meters/{device}" }]
[ingress.robots]
driver = "websocket"
listen = "127.0.0.1:0"
connections_max = 12000
paths = [{ path = "/robots/{device}" }]
"#;

pub(crate) async fn devices() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), CONFIG)?;
    let host = Host::start(folder.path()).await?;
    println!("\n## {DEVICES} devices, {DEVICES} idle connections\n");
    println!("| what | resident, bytes each | store's file, bytes each |\n|---|---|---|");
    let mut before = sizes(&host)?;
    readings(&host).await?;
    before = row("a device with two resources, by its first reading", &host, before).await?;
    let address = host.ingress("robots").await?.replace("http://", "");
    let open = |number: usize| {
        let address = address.clone();
        async move {
            let stream = TcpStream::connect(&address).await?;
            anyhow::Ok(client_async(format!("ws://{address}/robots/d{number}"), stream).await?.0)
        }
    };
    let mut sockets = futures::stream::iter((0..DEVICES).map(open)).buffer_unordered(64);
    let mut connected = Vec::with_capacity(DEVICES);
    while let Some(socket) = sockets.next().await {
        connected.push(socket.context("are 12,000 open files allowed? `ulimit -n`")?);
    }
    row("an idle WebSocket connection that speaks for a known device", &host, before).await?;
    let status = host.get("/v1/status").await?;
    ensure!(status["connections"] == DEVICES, "{} connections", status["connections"]);
    ensure!(status["devices"]["online"] == DEVICES, "{}", status["devices"]);
    Ok(())
}

/// One of each device.
async fn readings(host: &Host) -> Result<()> {
    let address = host.ingress("meters").await?;
    let send = |number: usize| {
        let request = host.http.post(format!("{address}/meters/d{number}"));
        async move { request.body(r#"{"kwh":1284.5,"volts":229.8}"#).send().await?.error_for_status() }
    };
    let mut sending = futures::stream::iter((0..DEVICES).map(send)).buffer_unordered(64);
    while let Some(sent) = sending.next().await {
        sent?;
    }
    Ok(())
}

/// Once the registry has written what it knows.
async fn row(what: &str, host: &Host, before: (u64, u64)) -> Result<(u64, u64)> {
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    let after = sizes(host)?;
    let each = |after: u64, before: u64| after.saturating_sub(before) / DEVICES as u64;
    println!("| {what} | {} | {} |", each(after.0, before.0), each(after.1, before.1));
    Ok(after)
}

/// Bytes that are resident, and of the store's file.
fn sizes(host: &Host) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(Path::new("/proc").join(host.id().to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok((kib << 10, std::fs::metadata(host.data("store"))?.len()))
}
