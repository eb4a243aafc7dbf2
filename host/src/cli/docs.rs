//! `sandbar docs`.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::Cli;
use crate::output::line;
use crate::reference;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the pages go
    #[arg(default_value = "docs/reference")]
    dir: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let pages = reference::pages(Cli::command())?;
    let changed = reference::write(&options.dir, &pages)
        .with_context(|| format!("writing to {}", options.dir.display()))?;
    for path in &changed {
        line(path.display())?;
    }
    Ok(line(format_args!("{} pages, {} changed", pages.len(), changed.len()))?)
}
