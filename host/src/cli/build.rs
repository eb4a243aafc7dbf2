//! `sandbar build` and `sandbar componentize`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::read_bytes;
use crate::componentize::{Texts, componentize};
use crate::output::{bytes, line};
use crate::project::Project;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The module's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ComponentizeOptions {
    /// The core module, as a compiler of C, C++, Zig or Go made it
    core: PathBuf,
    /// Where to [default: beside it, as NAME.component.wasm]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Its texts are UTF-16, as MoonBit's are; not for modules that say it themselves
    #[arg(long)]
    utf16: bool,
}

/// Runs the folder's own command, and checks that a component comes of it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let project = Project::load(&options.folder)?;
    if !project.build()? {
        bail!("{} was not built", project.name);
    }
    let size = project.component()?.len() as u64;
    Ok(line(format_args!("{}: {}, {}", project.name, project.file().display(), bytes(size)))?)
}

pub(crate) fn run_componentize(options: &ComponentizeOptions) -> anyhow::Result<()> {
    let texts = if options.utf16 { Texts::Utf16 } else { Texts::Utf8 };
    let component = componentize(&read_bytes(&options.core)?, texts)
        .with_context(|| format!("{} cannot become a component", options.core.display()))?;
    let out = options.out.clone().unwrap_or_else(|| beside(&options.core));
    std::fs::write(&out, &component).with_context(|| format!("writing {}", out.display()))?;
    Ok(line(format_args!("{}: {}", out.display(), bytes(component.len() as u64)))?)
}

fn beside(core: &Path) -> PathBuf {
    core.with_extension("component.wasm")
}
