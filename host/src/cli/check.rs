//! `sandbar check`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sandbar_control::{Control, Declared, Start};
use sandbar_reading::SystemClock;

use crate::kraken::FromKraken;
use crate::output::line;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration
    #[arg(default_value = "sandbar.toml")]
    file: PathBuf,
    /// Checks what Kraken's environment variables (KRKNC_…) say instead, and prints it as a configuration
    #[arg(long, conflicts_with = "file")]
    from_kraken: bool,
}

/// Asks a host of its own, on an empty data directory and with nothing running, whether it could run the
/// configuration: the same checks as a reload, down to each module's `configure`.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    if options.from_kraken {
        let kraken = FromKraken::of_environment()?.context("none of Kraken's variables (KRKNC_…) is set")?;
        check(&kraken.declared()?).await?;
        return Ok(line(kraken.text().trim_end())?);
    }
    let parts = check(&Declared::load(&options.file)?).await?;
    let summary = if parts.is_empty() { "it declares nothing".to_owned() } else { parts.join(", ") };
    Ok(line(format_args!("{} is sound: {summary}", options.file.display()))?)
}

/// What it would add.
async fn check(declared: &Declared) -> anyhow::Result<Vec<String>> {
    let data = tempfile::tempdir().context("making a directory for the check")?;
    let start = Start {
        data_dir: data.path().to_owned(),
        declared: Declared::nothing(data.path().to_owned()),
        clock: Arc::new(SystemClock),
    };
    let control = Control::start(start).await?;
    let checked = control.check(declared).await;
    control.stop(Duration::from_secs(1)).await;
    let planned = checked?;
    Ok(planned.added.iter().map(ToString::to_string).collect())
}
