//! `sandbar users`: who may connect to an MQTT broker.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use clap::Subcommand;

use super::inherit;
use crate::output::line;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Adds a user, or changes the password; it is asked for, or read as a line of standard input
    Add { file: PathBuf, name: String },
    /// Removes a user
    Remove { file: PathBuf, name: String },
    /// Lists the users
    List { file: PathBuf },
    /// Prints a password's hash, for `[[users]] password_hash`
    Hash,
}

/// The broker reads the file again when it changes: nothing needs to be restarted.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match &options.action {
        Action::Add { file, name } => {
            ensure!(
                !name.is_empty() && !name.contains([':', '\n', '\r']),
                "a name has no colon and no line break"
            );
            let mut users = if file.exists() { read(file)? } else { Vec::new() };
            let hash = hash(&password()?)?;
            users.retain(|line| name_of(line) != Some(name));
            users.push(format!("{name}:{hash}"));
            write(file, &users)
        }
        Action::Remove { file, name } => {
            let mut users = read(file)?;
            let before = users.len();
            users.retain(|line| name_of(line) != Some(name));
            ensure!(users.len() < before, "{} has no user {name}", file.display());
            write(file, &users)
        }
        Action::List { file } => {
            for user in read(file)?.iter().filter_map(|line| name_of(line)) {
                line(user)?;
            }
            Ok(())
        }
        Action::Hash => Ok(line(hash(&password()?)?)?),
    }
}

/// `None` for comments and empty lines, which stay as they are.
fn name_of(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with('#') { None } else { line.split_once(':').map(|(name, _)| name) }
}

fn read(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Whole or not at all, and readable for nobody else.
fn write(file: &Path, lines: &[String]) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writing = || format!("writing {}", file.display());
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    for line in lines {
        writeln!(new, "{line}").with_context(writing)?;
    }
    new.as_file().sync_all().with_context(writing)?;
    inherit(file, new.as_file()).with_context(writing)?;
    new.persist(file).map(drop).with_context(writing)
}

fn hash(password: &str) -> anyhow::Result<String> {
    match Argon2::default().hash_password(password.as_bytes()) {
        Ok(hash) => Ok(hash.to_string()),
        Err(error) => bail!("hashing the password: {error}"),
    }
}

fn password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let _quiet = Quiet::new();
        io::stderr().write_all(b"Password: ")?;
        let password = read_line(&stdin)?;
        io::stderr().write_all(b"\nOnce more: ")?;
        let again = read_line(&stdin)?;
        io::stderr().write_all(b"\n")?;
        ensure!(password == again, "the two are not the same");
        password
    } else {
        read_line(&stdin)?
    };
    ensure!(!password.is_empty(), "an empty password protects nothing");
    Ok(password)
}

fn read_line(stdin: &io::Stdin) -> anyhow::Result<String> {
    let mut text = String::new();
    stdin.lock().read_line(&mut text).context("reading the password")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// Where there is no `stty`, the password is seen: that is no reason not to take it.
fn stty(argument: &str) {
    let _ = Command::new("stty").arg(argument).stdin(Stdio::inherit()).status();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown};

    use super::*;

    /// Root's change was a file of root's, which the broker could not read.
    #[test]
    fn a_file_still_belongs_to_whom_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        write(&file, &["ann:x".to_owned()]).unwrap();
        // Only root may give a file away.
        if chown(&file, Some(4711), Some(4712)).is_ok() {
            write(&file, &["bob:y".to_owned()]).unwrap();
            let metadata = std::fs::metadata(&file).unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (4711, 4712, 0o600));
        }
    }

    #[test]
    fn keeps_comments_and_replaces_a_user() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        write(&file, &["# people".to_owned(), "ann:x".to_owned(), "bob:y".to_owned()]).unwrap();
        run(&Options { action: Action::Remove { file: file.clone(), name: "ann".to_owned() } }).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# people\nbob:y\n");
        let again = run(&Options { action: Action::Remove { file, name: "ann".to_owned() } });
        assert!(again.unwrap_err().to_string().ends_with("has no user ann"));
        assert!(hash("secret").unwrap().starts_with("$argon2id$v=19$"));
    }
}
