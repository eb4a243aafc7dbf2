//! The drivers `ble` and `camera` on the real host, against what others wrote: BlueZ's D-Bus by python3-dbusmock, the
//! cameras by ffmpeg and by web servers. Their hardware is in the lab (`tests/lab`).

mod ble;
mod bluez;
mod cameras;
#[path = "../net/certificates.rs"]
mod certificates;

use anyhow::{Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;

async fn wait_for(host: &Host, ingress: &str, state: &str) -> Result<()> {
    let path = format!("/v1/ingresses/{ingress}");
    let is_so = || async { host.get(&path).await.is_ok_and(|ingress| ingress["status"]["state"] == state) };
    eventually(&format!("{ingress} is {state}"), 40, is_so).await;
    Ok(())
}

/// What the last session failed of.
async fn last_error(host: &Host, ingress: &str) -> Result<String> {
    Ok(host.get(&format!("/v1/ingresses/{ingress}")).await?["status"]["last_error"].to_string())
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}
