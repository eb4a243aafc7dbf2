//! The real binary against clients that nobody here wrote, and against people: its own command line, changes
//! while it runs, and what is no HTTP at all.

mod cli;
mod curl;
mod garbage;
mod live;
mod load;
mod python;
mod reply;
mod schema;
mod webhook;

use std::path::Path;

use anyhow::Result;
use sandbar_tests::host::Host;

/// A host with this configuration and an API on a free port.
async fn host(folder: &Path, configuration: &str) -> Result<Host> {
    configure(folder, configuration)?;
    Host::start(folder).await
}

fn configure(folder: &Path, configuration: &str) -> Result<()> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    // In one step, as an editor does it: who reloads it sees the old or the new.
    let new = folder.join("sandbar.toml.new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, folder.join("sandbar.toml"))?)
}

/// What the host's log says of a bug of ours.
fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    anyhow::ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}
