//! Readings from files: of a folder, as they appear and change; of one file, again and again; of logs, line by line.

mod config;
mod decode;
mod event;
mod file;
mod glob;
mod handing;
mod interval;
pub(crate) mod lines;
mod naming;
mod pending;
mod place;
mod reader;
mod seen;
mod tail;
#[cfg(test)]
mod tests;
mod tidy;
mod watching;

use std::sync::Arc;

use sandbar_reading::ConfigError;

pub(crate) use self::config::Config;
use self::config::{Mode, Place, Settings};
use self::glob::Glob;
use crate::{Driver, LinkError, Session};

pub(crate) struct Files {
    settings: Arc<Settings>,
}

impl Driver for Files {
    const NAME: &'static str = "files";
    const EXAMPLE: &'static str = r#"
path = "/srv/scans"
patterns = ["*.{pdf,jpg}"]
recursive = true
move_to = "/srv/scans/done"
topic = "scans/{folder}"
device = "scanner-1"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { settings: Arc::new(config.settings()?) })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let settings = Arc::clone(&self.settings);
        match settings.mode {
            Mode::Event => event::run(settings, session).await,
            Mode::Interval => interval::run(settings, session).await,
            Mode::Tail => tail::run(within_folder(&settings)?, session).await,
        }
    }
}

/// A log is followed in the folder that it is in: what it is renamed to is there. The error says that there is neither.
fn within_folder(settings: &Arc<Settings>) -> Result<Arc<Settings>, LinkError> {
    let path = &settings.place.folder;
    let reading = |error| LinkError::new(format!("reading {}", settings.path.display()), error);
    let is_folder = std::fs::metadata(path).map_err(reading)?.is_dir();
    let (false, Some(folder), Some(name)) = (is_folder, path.parent(), path.file_name()) else {
        return Ok(Arc::clone(settings));
    };
    Ok(Arc::new(Settings {
        place: Place {
            folder: folder.to_owned(),
            patterns: vec![Glob::exactly(&name.to_string_lossy())],
            exclude: Vec::new(),
            recursive: false,
            hidden: true,
            follow_links: settings.place.follow_links,
            outside: None,
        },
        ..Settings::clone(settings)
    }))
}
