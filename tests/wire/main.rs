//! Serial ports, receivers of satellite navigation, Modbus and joined hosts, on the real host: against socat's pseudo
//! terminals, gpsd and gpsfake, pymodbus, and another host.

mod gps;
mod joined;
mod modbus;
mod serial;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::tool;
use serde_json::Value;

/// A host with this configuration and an API on a free port.
async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    std::fs::write(folder.join("sandbar.toml"), text)?;
    Host::start(folder).await
}

/// An ingress's readings, in order.
async fn readings(host: &Host, ingress: &str) -> Result<Vec<Value>> {
    let mut readings = host.all(&format!("/v1/readings?ingress={ingress}")).await?;
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    Ok(readings)
}

fn payload(reading: &Value) -> String {
    let text = [&reading["payload"], &reading["payload_base64"]].into_iter().find_map(Value::as_str);
    text.map_or_else(|| reading["payload_json"].to_string(), str::to_owned)
}

/// Once there is one whose payload is as wanted.
async fn until(host: &Host, ingress: &str, wanted: impl Fn(&str) -> bool) -> Result<Value> {
    for _ in 0..1500 {
        let found = readings(host, ingress).await?.into_iter().find(|reading| wanted(&payload(reading)));
        if let Some(found) = found {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen: Vec<_> = readings(host, ingress).await?.iter().map(payload).collect();
    anyhow::bail!("no such reading among {seen:?}; the log: {}", host.stderr())
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}

/// Two pseudo terminals that socat joins, until it is unplugged or dropped.
struct Cable {
    socat: Option<Child>,
    folder: tempfile::TempDir,
}

impl Cable {
    async fn new() -> Result<Self> {
        let mut cable = Self { socat: None, folder: tempfile::tempdir()? };
        cable.plug_in().await?;
        Ok(cable)
    }

    fn end(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> PathBuf {
        self.end("host")
    }

    fn device(&self) -> PathBuf {
        self.end("device")
    }

    async fn plug_in(&mut self) -> Result<()> {
        let ends = [self.host(), self.device()];
        let of = |end: &PathBuf| format!("pty,raw,echo=0,link={}", end.display());
        let socat =
            Command::new(tool::path("socat")).args(ends.iter().map(of)).stderr(Stdio::null()).spawn()?;
        self.socat = Some(socat);
        for _ in 0..500 {
            if ends.iter().all(|end| end.exists()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("socat makes no terminals")
    }

    fn unplug(&mut self) {
        if let Some(mut socat) = self.socat.take() {
            drop(socat.kill());
            drop(socat.wait());
        }
        for end in [self.host(), self.device()] {
            drop(std::fs::remove_file(end));
        }
    }

    /// Writes to the device's end.
    async fn say(&self, bytes: &[u8]) -> Result<()> {
        let device = tokio::fs::File::options().write(true).open(self.device()).await;
        let mut device = device.context("the device's end")?;
        tokio::io::AsyncWriteExt::write_all(&mut device, bytes).await?;
        Ok(tokio::io::AsyncWriteExt::flush(&mut device).await?)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.unplug();
    }
}
