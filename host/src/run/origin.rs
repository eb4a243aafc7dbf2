//! Where the configuration comes from.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sandbar_control::{ConfigProblem, Declared};

use super::DATA_DIR;
use crate::demo;
use crate::kraken::FromKraken;

const FILE: &str = "sandbar.toml";

#[derive(Clone, Debug)]
pub(crate) enum Origin {
    File(PathBuf),
    /// Not in its file yet.
    Demo {
        file: PathBuf,
        text: String,
    },
    /// There is no file, but Kraken's environment variables.
    Kraken(FromKraken),
    /// There is none: only what the API keeps runs.
    Nothing,
}

impl Origin {
    /// `config`: the file that was named. Without one it is `sandbar.toml`, if that is there; without that, what
    /// Kraken's variables say.
    pub(crate) fn find(
        config: Option<PathBuf>,
        is_demo: bool,
        data: Option<&Path>,
        guests: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        if is_demo {
            let guests = demo::guests(guests)?;
            let (file, text) = demo::prepare(data.unwrap_or(Path::new(DATA_DIR)), &guests)?;
            return Ok(Self::Demo { file, text });
        }
        Ok(match config {
            Some(file) => Self::File(file),
            None if Path::new(FILE).exists() => Self::File(FILE.into()),
            None => FromKraken::of_environment()?.map_or(Self::Nothing, Self::Kraken),
        })
    }

    pub(crate) fn load(&self) -> Result<Declared, ConfigProblem> {
        match self {
            Self::File(file) => Declared::load(file),
            Self::Demo { file, text } => Declared::parse(text, file),
            Self::Kraken(kraken) => kraken.declared(),
            Self::Nothing => Ok(Declared::nothing(DATA_DIR.into())),
        }
    }

    /// Once the data directory is this host's own: another one may run the demo's file until then.
    pub(crate) fn settle(self) -> anyhow::Result<Self> {
        let Self::Demo { file, text } = self else { return Ok(self) };
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self::File(file))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) | Self::Demo { file, .. } => {
                std::path::absolute(file).unwrap_or_else(|_| file.clone()).display().fmt(f)
            }
            Self::Kraken(_) => f.write_str("Kraken's environment variables (KRKNC_…)"),
            Self::Nothing => write!(f, "no {FILE} here: only what the API keeps is run"),
        }
    }
}
