//! `sandbar new`: a folder with a module that builds, tests and deploys.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::embedded;
use crate::output::line;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder to make; its last part is the module's name
    folder: PathBuf,
    /// What the handler is written in
    #[arg(long, value_enum)]
    lang: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    /// JavaScript, with npm
    #[value(alias = "js")]
    Javascript,
    /// TypeScript, with npm
    #[value(alias = "ts")]
    Typescript,
    Python,
    C,
    Zig,
    Go,
    #[value(alias = "cs")]
    Csharp,
    Moonbit,
    /// JavaScript that the host runs itself: nothing to install
    Script,
}

/// The template's own name for the module.
const NAME: &str = "my-module";

impl Language {
    /// The template's folder.
    fn template(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Javascript => "javascript",
            Self::Typescript => "typescript",
            Self::Python => "python",
            Self::C => "c",
            Self::Zig => "zig",
            Self::Go => "go",
            Self::Csharp => "csharp",
            Self::Moonbit => "moonbit",
            Self::Script => "script",
        }
    }

    /// What it needs of the project beside its template: from which path to which.
    fn shared(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[
                ("guest-sdk/rust/", "sandbar/sdk/rust/"),
                ("wit/", "sandbar/wit/"),
                ("example-modules/Cargo.lock", "Cargo.lock"),
            ],
            Self::Javascript | Self::Typescript => &[("guest-sdk/sources/js/", "sandbar/"), ("wit/", "wit/")],
            Self::Script => &[],
            Self::Python => &[("guest-sdk/sources/python/", ""), ("wit/", "wit/")],
            Self::C | Self::Zig => &[("guest-sdk/sources/c/", "sandbar/")],
            Self::Go | Self::Csharp | Self::Moonbit => &[("wit/", "wit/")],
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let name = options.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    if options.folder.exists() {
        bail!("{} is there already", options.folder.display());
    }
    for (path, text) in files(options.lang, name) {
        let path = options.folder.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let folder = options.folder.display();
    Ok(line(format_args!(
        "{folder} is made; its README.md says what it needs. Then:\n\n  cd {folder}\n  sandbar build\n  sandbar test\n  sandbar deploy"
    ))?)
}

/// A name that a module, a crate and a package of every language may have.
fn check_name(name: &str) -> anyhow::Result<()> {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|first| first.is_ascii_lowercase());
    let goes_on = characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    match begins && goes_on && !name.ends_with('-') && name.len() <= 64 {
        true => Ok(()),
        false => bail!(
            "`{name}` cannot be a module's name: small letters, digits and - between them, such as cold-room"
        ),
    }
}

/// What every template has: readings, and what is expected of them.
const COMMON: &str = "guest-sdk/templates/common/";

fn underscored(text: &str, name: &str) -> String {
    text.replace(&NAME.replace('-', "_"), &name.replace('-', "_"))
}

/// The folder's files by their paths in it.
fn files(language: Language, name: &str) -> Vec<(PathBuf, String)> {
    let template = format!("guest-sdk/templates/{}/", language.template());
    let own = embedded::below(&template).chain(embedded::below(COMMON)).map(|(path, text)| {
        // Cargo and Go take a folder with a manifest of this name for a package of its own.
        let path = path.strip_suffix(".template").unwrap_or(path);
        (PathBuf::from(path.replace(NAME, name)), underscored(&text.replace(NAME, name), name))
    });
    let shared = language.shared().iter().flat_map(|(from, to)| {
        let whole = embedded::file(from).map(|text| ("", text));
        whole.into_iter().chain(embedded::below(from)).map(move |(path, text)| {
            let path = if path.is_empty() { PathBuf::from(to) } else { Path::new(to).join(path) };
            let text = match path.ends_with("sdk/rust/Cargo.toml") {
                true => standing_alone(text),
                false => text.to_owned(),
            };
            (path, text)
        })
    });
    own.chain(shared).collect()
}

/// The SDK's manifest without what it has of the workspace here.
fn standing_alone(manifest: &str) -> String {
    let of_workspace = |line: &&str| {
        line.starts_with("workspace") || line.starts_with("[lints]") || line.starts_with("# Built for")
    };
    manifest.lines().filter(|line| !of_workspace(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{MANIFEST, Project};

    #[test]
    fn every_language_has_a_folder_that_is_a_project() {
        for language in Language::value_variants() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("cold-room");
            run(&Options { folder: folder.clone(), lang: *language }).unwrap();
            let project = Project::load(&folder).unwrap();
            assert_eq!(project.name, "cold-room", "{language:?}");
            for file in ["README.md", "readings.jsonl", "expected.jsonl", MANIFEST] {
                assert!(project.beside(file).is_some(), "{language:?} has no {file}");
            }
            for (path, text) in files(*language, "cold-room") {
                assert!(
                    !text.contains(NAME) && !text.contains("my_module"),
                    "{language:?}: {}",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn a_name_is_a_name_in_every_language() {
        for name in ["", "Cold", "cold_room", "1cold", "cold-", "../x", "kühl"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("cold-room-2").is_ok());
    }
}
