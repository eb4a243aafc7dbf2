//! MQTT with what others wrote: the host's own broker with clients of three languages, and its `mqtt` sink and
//! `mqtt-client` ingress with a broker that is not ours.

#![allow(clippy::print_stdout, reason = "what was tried is printed")]

mod certificates;
mod clients;
mod conformance;
mod ingress;
mod malformed;
mod mosquitto;
mod pipeline;
mod restart;
mod sink;

use std::path::Path;

use anyhow::Result;
use sandbar_tests::host::Host;

/// A host with this configuration and an API on a free port.
async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    std::fs::write(folder.join("sandbar.toml"), format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}"))?;
    Host::start(folder).await
}
