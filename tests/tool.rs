//! Programs that others wrote.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Where an installed program is.
pub fn path(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: `make setup` first"))
}

/// A program of the peers written in Python.
pub fn python_peer(name: &str) -> PathBuf {
    cached(&format!("peers/bin/{name}"))
}

/// What `make setup` put into its cache.
pub fn cached(path: &str) -> PathBuf {
    let cache = std::env::var_os("SANDBAR_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/sandbar")
    });
    let path = cache.join(path);
    assert!(path.is_file(), "{} is not there: `make setup` first", path.display());
    path
}

/// Where the peers written in JavaScript are, for `NODE_PATH`.
pub fn node_peers() -> PathBuf {
    let path =
        python_peer("python3").ancestors().nth(2).expect("in a folder of a folder").join("node/node_modules");
    assert!(path.is_dir(), "{} is not there: `make setup` first", path.display());
    path
}

/// What a program that ended has said.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end, which must come within `seconds`.
pub async fn run(mut command: Command, seconds: u64) -> Result<Said> {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std().get_program());
    let output = tokio::time::timeout(Duration::from_secs(seconds), command.output()).await;
    let output = output.with_context(|| format!("{what} still runs after {seconds} s"))?;
    let output = output.with_context(|| format!("starting {what}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// The same; what it returned must be 0. Returns what it wrote to standard output.
pub async fn succeeds(command: Command, seconds: u64) -> Result<String> {
    let what = format!("{:?}", command.as_std());
    let said = run(command, seconds).await?;
    ensure!(said.code == Some(0), "{what}: {:?}\n{}\n{}", said.code, said.stdout, said.stderr);
    Ok(said.stdout)
}
