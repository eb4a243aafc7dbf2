//! Settings of a `files` ingress, and what is refused of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbar_reading::{ConfigError, ContentType};
use schemars::JsonSchema;
use serde::Deserialize;

use super::glob::Glob;
use super::naming::Naming;
use super::tidy::Tidy;

/// Reads files: each that appears in a folder or changes, one file again and again, or the lines that are appended to
/// logs. What was read is known over restarts: files that came while the host was down are read at its start, and
/// none twice. A file larger than a reading may be is left where it is, and said so once.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// When it reads.
    #[serde(default)]
    pub(super) mode: Mode,
    /// The folder (`event`), the file (`interval`), or either (`tail`). Relative ones are of the host's working
    /// directory.
    pub(super) path: PathBuf,
    /// Which files of the folder, by their paths in it: `*.csv`, `line-?/**/*.{jpg,png}`, `[ab]*`. A pattern without a
    /// slash is of the file's name alone.
    #[serde(default = "default::patterns")]
    pub(super) patterns: Vec<String>,
    /// Which not, whatever `patterns` say. The default is what programs call files that they have not finished.
    #[serde(default = "default::exclude")]
    pub(super) exclude: Vec<String>,
    /// Whether folders within the folder are looked into.
    #[serde(default)]
    pub(super) recursive: bool,
    /// Whether files and folders whose name begins with a dot are read.
    #[serde(default)]
    pub(super) hidden: bool,
    /// Whether symbolic links are followed, also to where the folder ends.
    #[serde(default)]
    pub(super) follow_links: bool,
    /// `event`: whether a file is read that is new.
    #[serde(default = "default::yes")]
    pub(super) on_create: bool,
    /// `event`: whether a file is read that has changed.
    #[serde(default = "default::yes")]
    pub(super) on_modify: bool,
    /// What becomes of what is there when the ingress first runs, files (`event`) or lines (`tail`): `read` by default.
    #[serde(default = "default::existing")]
    pub(super) existing: Existing,
    /// `event`: milliseconds for which a file must not have changed before it is read.
    #[serde(default = "default::settle_ms")]
    pub(super) settle_ms: u64,
    /// `event`: milliseconds without a change after which a file is read although its writer has not closed it.
    #[serde(default = "default::stalled_ms")]
    pub(super) stalled_ms: u64,
    /// `interval`: milliseconds from one reading to the next.
    #[serde(default = "default::interval_ms")]
    pub(super) interval_ms: u64,
    /// How it learns of changes.
    #[serde(default)]
    pub(super) watch: Watch,
    /// Milliseconds from one look to the next, where the system tells of no changes.
    #[serde(default = "default::poll_ms")]
    pub(super) poll_ms: u64,
    /// Bytes above which a file becomes several readings, in order, with the attributes `file.chunk`, `file.chunks`
    /// and `file.offset`; not more than the host's limit of a reading. Without it, a larger file is not read.
    #[serde(default)]
    pub(super) chunk_bytes: Option<usize>,
    /// `tail`: the most bytes of a line; longer ones are cut there, and go on in the next reading.
    #[serde(default = "default::line_max")]
    pub(super) line_max: usize,
    /// Removes a file that was new, once its reading is on disk.
    #[serde(default)]
    pub(super) remove_created: bool,
    /// Removes every file that was read, also earlier ones that are still there, but not those whose last reading was of
    /// a change.
    #[serde(default)]
    pub(super) remove_except_modified: bool,
    /// Removes every file that was read, once its reading is on disk, also earlier ones that are still there.
    #[serde(default)]
    pub(super) remove_all_files: bool,
    /// The same, and removes folders within the folder that are empty then.
    #[serde(default)]
    pub(super) remove_all_folders: bool,
    /// Instead of removing: moves every file that was read into this folder, once its reading is on disk. It may be
    /// within `path`. Where files of its name are, a number is added to it, and then the time at which it was modified.
    #[serde(default)]
    pub(super) move_to: Option<PathBuf>,
    /// Topic of the readings. `{path}` is the file's path in the folder, `{name}` its name, `{stem}` that without its
    /// extension, `{folder}` the folder it is in; `+` and `#` become `_`.
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// Device of the readings; the same can be used.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Content type of the readings; by default by the file's extension, `text/plain` for lines.
    #[serde(default)]
    pub(super) content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Each file of a folder, once it is there whole, and again when it has changed.
    #[default]
    Event,
    /// The whole of one file, every `interval_ms`.
    Interval,
    /// Each line that is appended to a file, through rotations: by renaming, or by copying and truncating.
    Tail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Existing {
    Read,
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watch {
    /// From the system (inotify). Where that has no watches left, the folder is looked at every `poll_ms`.
    #[default]
    Auto,
    /// By looking, every `poll_ms`: for network file systems, which tell nothing of what others write.
    Poll,
}

mod default {
    use super::Existing;

    pub(super) fn patterns() -> Vec<String> {
        vec!["*".to_owned()]
    }

    pub(super) fn exclude() -> Vec<String> {
        ["*~", "*.tmp", "*.part", "*.partial", "*.swp", "*.crdownload"].map(str::to_owned).into()
    }

    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn existing() -> Existing {
        Existing::Read
    }

    pub(super) fn settle_ms() -> u64 {
        500
    }

    pub(super) fn stalled_ms() -> u64 {
        600_000
    }

    pub(super) fn interval_ms() -> u64 {
        10_000
    }

    pub(super) fn poll_ms() -> u64 {
        2000
    }

    pub(super) fn line_max() -> usize {
        65_536
    }

    pub(super) fn topic() -> String {
        "files/{path}".to_owned()
    }
}

/// Where the files are, and which of them count.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) patterns: Vec<Glob>,
    pub(super) exclude: Vec<Glob>,
    pub(super) recursive: bool,
    pub(super) hidden: bool,
    pub(super) follow_links: bool,
    /// Nothing in it is read.
    pub(super) outside: Option<PathBuf>,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) mode: Mode,
    pub(super) path: PathBuf,
    pub(super) on_create: bool,
    pub(super) on_modify: bool,
    pub(super) existing: Existing,
    pub(super) settle: Duration,
    pub(super) stalled: Duration,
    pub(super) interval: Duration,
    pub(super) watch: Watch,
    pub(super) poll: Duration,
    pub(super) chunk: Option<usize>,
    pub(super) line_max: usize,
    pub(super) tidy: Tidy,
    pub(super) naming: Naming,
    pub(super) content_type: Option<ContentType>,
}

impl Config {
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        for (setting, is_zero) in [
            ("settle_ms", self.settle_ms == 0),
            ("stalled_ms", self.stalled_ms == 0),
            ("interval_ms", self.interval_ms == 0),
            ("poll_ms", self.poll_ms == 0),
            ("chunk_bytes", self.chunk_bytes == Some(0)),
            ("line_max", self.line_max == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        if self.path.as_os_str().is_empty() {
            return Err(ConfigError::at("path", "must name a folder or a file"));
        }
        let content_type = self.content_type.as_deref().map(str::parse::<ContentType>).transpose();
        Ok(Settings {
            place: self.place()?,
            mode: self.mode,
            path: self.path.clone(),
            on_create: self.on_create,
            on_modify: self.on_modify,
            existing: self.existing,
            settle: Duration::from_millis(self.settle_ms),
            stalled: Duration::from_millis(self.stalled_ms.max(self.settle_ms)),
            interval: Duration::from_millis(self.interval_ms),
            watch: self.watch,
            poll: Duration::from_millis(self.poll_ms),
            chunk: self.chunk_bytes,
            line_max: self.line_max,
            tidy: self.tidy()?,
            naming: Naming::new(&self.topic, self.device.as_deref())?,
            content_type: content_type.map_err(|error| ConfigError::at("content_type", error.to_string()))?,
        })
    }

    fn place(&self) -> Result<Place, ConfigError> {
        let globs = |setting: &str, texts: &[String]| {
            let glob = |(index, text): (usize, &String)| {
                Glob::parse(text)
                    .map_err(|error| ConfigError::at(format!("{setting}[{index}]"), error.to_string()))
            };
            texts.iter().enumerate().map(glob).collect::<Result<Vec<_>, _>>()
        };
        if self.patterns.is_empty() {
            return Err(ConfigError::at("patterns", "must have at least one"));
        }
        let absolute = |setting: &str, path: &Path| {
            std::path::absolute(path).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        Ok(Place {
            folder: absolute("path", &self.path)?,
            patterns: globs("patterns", &self.patterns)?,
            exclude: globs("exclude", &self.exclude)?,
            recursive: self.recursive,
            hidden: self.hidden,
            follow_links: self.follow_links,
            outside: self.move_to.as_deref().map(|folder| absolute("move_to", folder)).transpose()?,
        })
    }

    fn tidy(&self) -> Result<Tidy, ConfigError> {
        let all = [
            ("remove_created", self.remove_created),
            ("remove_except_modified", self.remove_except_modified),
            ("remove_all_files", self.remove_all_files),
            ("remove_all_folders", self.remove_all_folders),
            ("move_to", self.move_to.is_some()),
        ];
        let chosen = |names: &[&str]| all.iter().find(|(name, on)| *on && names.contains(name)).copied();
        let removes =
            chosen(&["remove_created", "remove_except_modified", "remove_all_files", "remove_all_folders"]);
        if let (Some((setting, _)), true) = (removes, self.move_to.is_some()) {
            return Err(ConfigError::at(setting, "set either this or `move_to`"));
        }
        let useless = match self.mode {
            Mode::Event => None,
            Mode::Interval => chosen(&["remove_created", "remove_except_modified"]),
            Mode::Tail => all.into_iter().find(|(_, on)| *on),
        };
        if let Some((setting, _)) = useless {
            return Err(ConfigError::at(setting, format!("is of no use in the mode `{}`", self.mode.name())));
        }
        if self.move_to.as_deref().is_some_and(|folder| folder == self.path || folder == Path::new("")) {
            return Err(ConfigError::at("move_to", "must be another folder"));
        }
        Ok(Tidy {
            created: self.remove_created,
            except_modified: self.remove_except_modified,
            all_files: self.remove_all_files || self.remove_all_folders,
            folders: self.remove_all_folders,
            move_to: self.move_to.clone(),
        })
    }
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Interval => "interval",
            Self::Tail => "tail",
        }
    }
}
