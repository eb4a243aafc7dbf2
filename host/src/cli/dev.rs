//! `sandbar dev`: builds, tests and deploys a module's folder whenever it changes, and shows what comes of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{deploy, tail};
use crate::client::Client;
use crate::project::Project;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The module's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Do not test before deploying
    #[arg(long)]
    no_test: bool,
}

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What builds make, beside hidden files.
const NOT_WATCHED: [&str; 5] = ["target", "node_modules", "__pycache__", "zig-out", "expected.jsonl"];

/// More files than that are no module's own.
const FILES_MAX: usize = 10_000;

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    Project::load(&options.folder)?;
    let work = async {
        let mut pass = Pass::default();
        loop {
            let seen = look(&options.folder);
            if pass.is_due(seen) {
                match once(client, &options).await {
                    Ok(()) => {}
                    Err(error) => eprintln!("sandbar: {error:#}"),
                }
                pass.done(seen, look(&options.folder));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        ended = tail::run(client, tail::Options::everything()) => ended,
        () = work => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// What was last built, and whether that was for a change which was found after a build.
#[derive(Default)]
struct Pass {
    done: Option<u64>,
    is_second: bool,
}

impl Pass {
    fn is_due(&self, seen: u64) -> bool {
        self.done != Some(seen)
    }

    /// A change meanwhile may be a save, or what the build itself has written: it is built once more, and not for
    /// ever.
    fn done(&mut self, before: u64, after: u64) {
        self.is_second = after != before && !self.is_second;
        self.done = Some(if self.is_second { before } else { after });
    }
}

/// The folder as it is now: a version of the module, or why it is none.
async fn once(client: &Client, options: &Options) -> anyhow::Result<()> {
    let project = Project::load(&options.folder)?;
    eprintln!("sandbar: building {} …", project.name);
    if !tokio::task::block_in_place(|| project.build())? {
        anyhow::bail!("{} was not built; what is deployed stays", project.name);
    }
    if !options.no_test && project.beside("readings.jsonl").is_some() {
        super::test::run(super::test::Options::of_folder(&options.folder)).await?;
    }
    deploy::project(client, &project, None).await
}

/// Changes with every change of a file.
fn look(folder: &Path) -> u64 {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}

type Seen = (PathBuf, u64, Option<std::time::SystemTime>);

fn collect(folder: &Path, files: &mut Vec<Seen>) {
    // What cannot be read now is read at the next look.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ignored = name.starts_with('.')
            || [".wasm", ".log"].iter().any(|end| name.ends_with(end))
            || NOT_WATCHED.contains(&&*name);
        let Ok(metadata) = entry.metadata() else { continue };
        match metadata.is_dir() {
            _ if ignored || files.len() >= FILES_MAX => {}
            true => collect(&entry.path(), files),
            false => files.push((entry.path(), metadata.len(), metadata.modified().ok())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was taken for what the build had written.
    #[test]
    fn a_save_during_a_build_is_built() {
        let mut pass = Pass::default();
        assert!(pass.is_due(1));
        pass.done(1, 2);
        assert!(pass.is_due(2));
        pass.done(2, 2);
        assert!(!pass.is_due(2) && pass.is_due(3));
        // Every build writes.
        pass.done(3, 4);
        assert!(pass.is_due(4));
        pass.done(4, 5);
        assert!(!pass.is_due(5));
    }

    #[test]
    fn what_a_build_makes_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "a");
        let before = look(dir.path());
        for name in ["target/x", "out.wasm", "dev.log", ".git/index", "node_modules/a/b.js"] {
            write(name, "made");
        }
        assert_eq!(look(dir.path()), before);
        write("src/lib.rs", "ab");
        assert_ne!(look(dir.path()), before);
    }
}
