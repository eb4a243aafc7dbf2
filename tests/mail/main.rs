//! E-mail both ways, and alerts, against programs that nobody here wrote: swaks, Python's smtplib, msmtp and openssl
//! send to the `email` driver; aiosmtpd takes what the `email` sink sends; what the `http` sink's presets and the
//! `file` sink's CSV consist of is read by others' parsers.

mod alerts;
mod outbound;
mod peers;
mod refusals;
mod smtplib;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::sender::all_is_done;
use sandbar_tests::tool::{self, Said};
use serde_json::Value;
use tokio::process::Command;

/// A host with this configuration and an API on a free port.
async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    std::fs::write(folder.join("sandbar.toml"), text)?;
    Host::start(folder).await
}

/// The port that an ingress listens at.
async fn port(host: &Host, ingress: &str) -> Result<String> {
    let url = host.ingress(ingress).await?;
    Ok(url.rsplit_once(':').context("an address has a port")?.1.to_owned())
}

/// A certificate for localhost that signs itself, and its key.
fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate, key))
}

/// What the file sink `out` has written, once nothing waits any more.
async fn written(host: &Host) -> Result<Vec<Value>> {
    all_is_done(host, 30).await;
    let text = std::fs::read_to_string(host.folder.join("sandbar-data/out.jsonl")).unwrap_or_default();
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

const OUT: &str = "[sink.out]\nkind = \"file\"\npath = \"sandbar-data/out.jsonl\"\n";

/// Runs a script of Python's with the packages that the peers use.
async fn python(folder: &Path, script: &str, arguments: &[&str]) -> Result<Said> {
    let path = folder.join("script.py");
    std::fs::write(&path, script)?;
    let mut command = Command::new(tool::python_peer("python"));
    command.arg(path).args(arguments).current_dir(folder);
    tool::run(command, 60).await
}

/// The same; it must succeed. Returns what it printed.
async fn python_says(folder: &Path, script: &str, arguments: &[&str]) -> Result<String> {
    let said = python(folder, script, arguments).await?;
    ensure!(said.code == Some(0), "{:?}\n{}\n{}", said.code, said.stdout, said.stderr);
    Ok(said.stdout)
}

/// What the host's log says of a bug of ours.
fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}
