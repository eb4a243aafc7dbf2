//! `sandbar keys`: the keys that Pyaiot's gateways show themselves with.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
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
    /// Makes a file with new keys, for `keys_file` of a Pyaiot ingress and for Pyaiot's gateways
    Generate {
        /// Where Pyaiot's own programs look for it by default
        #[arg(default_value_os_t = default_file())]
        file: PathBuf,
        /// Replaces the keys in a file that is there: gateways with the old ones are not let in any more
        #[arg(long)]
        replace: bool,
    },
}

fn default_file() -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".pyaiot/keys")
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Action::Generate { file, replace } = &options.action;
    ensure!(*replace || !file.exists(), "{} is there already; --replace makes new keys", file.display());
    write(file, &keys()).with_context(|| format!("writing {}", file.display()))?;
    Ok(line(file.display())?)
}

/// A secret of 192 bits, and the key of 256 bits that gateways hide it with.
fn keys() -> String {
    let (secret, private): ([u8; 24], [u8; 32]) = (rand::random(), rand::random());
    format!("[keys]\nsecret = {}\nprivate = {}\n", URL_SAFE.encode(secret), URL_SAFE.encode(private))
}

/// Whole or not at all, and readable for nobody else, but for who could read the file that it replaces.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    inherit(file, new.as_file())?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_replaced_by_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/keys");
        let generate = |replace| run(&Options { action: Action::Generate { file: file.clone(), replace } });
        generate(false).unwrap();
        let first = std::fs::read_to_string(&file).unwrap();
        assert!(first.starts_with("[keys]\nsecret = ") && first.contains("\nprivate = "));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(generate(false).unwrap_err().to_string().contains("--replace"));
        generate(true).unwrap();
        assert_ne!(std::fs::read_to_string(&file).unwrap(), first);
    }
}
