//! Handlers in every language: the example modules on their recorded readings, what `sandbar new` makes, scripts,
//! and whether the SDKs say what the contract says. `make guests` has built the components and keeps the compilers.

mod examples;
mod projects;
mod scripts;
mod sdks;

use std::path::PathBuf;

use sandbar_tests::host::binary;
use tokio::process::Command;

/// Where `make guests` keeps its compilers.
fn cache() -> PathBuf {
    std::env::var_os("SANDBAR_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/sandbar")
    })
}

/// `sandbar` without a host.
fn sandbar(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    command
}
