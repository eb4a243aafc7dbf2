//! `sandbar check`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sandbar_control::{Control, Declared, Start};
use sandbar_reading::SystemClock;

use crate::output::line;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration
    #[arg(default_value = "sandbar.toml")]
    file: PathBuf,
}

/// Asks a host of its own, on an empty data directory and with nothing running, whether it could run the
/// configuration: the same checks as a reload, down to each module's `configure`.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let declared = Declared::load(&options.file)?;
    let data = tempfile::tempdir().context("making a directory for the check")?;
    let start = Start {
        data_dir: data.path().to_owned(),
        declared: Declared::nothing(data.path().to_owned()),
        clock: Arc::new(SystemClock),
    };
    let control = Control::start(start).await?;
    let checked = control.check(&declared).await;
    control.stop(Duration::from_secs(1)).await;
    let planned = checked?;
    let parts: Vec<String> = planned.added.iter().map(ToString::to_string).collect();
    let summary = if parts.is_empty() { "it declares nothing".to_owned() } else { parts.join(", ") };
    Ok(line(format_args!("{} is sound: {summary}", options.file.display()))?)
}
