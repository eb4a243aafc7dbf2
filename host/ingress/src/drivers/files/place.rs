//! Which files of a folder count, and finding all of them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::config::Place;
use super::file::{Signature, is_gone};

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path in the folder, as text: what it is known by.
    pub(super) key: Box<str>,
    pub(super) path: PathBuf,
    pub(super) signature: Signature,
}

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) found: Vec<Found>,
    pub(super) unread: Option<io::Error>,
    /// What could not be looked at is known by these, or is below them; an empty one is of the whole folder.
    unseen: Vec<Box<str>>,
    /// The folder's. Where nothing is mounted now, it is another's.
    pub(super) inode: u64,
}

impl Place {
    /// What the file at `path` is known by, if it counts.
    pub(super) fn key_of(&self, path: &Path) -> Option<Box<str>> {
        let inner = path.strip_prefix(&self.folder).ok()?;
        let key = key(inner)?;
        let is_below = self.outside.as_deref().is_some_and(|outside| path.starts_with(outside));
        let too_deep = !self.recursive && key.contains('/');
        let is_hidden = !self.hidden && key.split('/').any(|part| part.starts_with('.'));
        let fits = |globs: &[super::glob::Glob]| globs.iter().any(|glob| glob.matches(&key));
        let counts = !is_below && !too_deep && !is_hidden && fits(&self.patterns) && !fits(&self.exclude);
        counts.then_some(key)
    }

    /// All files that count. An error is of the folder itself.
    pub(super) fn scan(&self) -> io::Result<Scan> {
        let folder = std::fs::metadata(&self.folder)?;
        if !folder.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut scan = Scan { inode: folder.ino(), ..Scan::default() };
        let depth = if self.recursive { usize::MAX } else { 1 };
        let walk = WalkDir::new(&self.folder).min_depth(1).max_depth(depth).follow_links(self.follow_links);
        for entry in walk.into_iter().filter_entry(|entry| self.looks_into(entry)) {
            match entry {
                Ok(entry) => self.add(&mut scan, &entry),
                Err(error) if error.depth() == 0 => return Err(error.into()),
                Err(error) => {
                    let unseen = error.path().and_then(|path| key(path.strip_prefix(&self.folder).ok()?));
                    scan.complain(unseen, error.into());
                }
            }
        }
        Ok(scan)
    }

    fn looks_into(&self, entry: &walkdir::DirEntry) -> bool {
        let is_hidden = || entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_outside = || self.outside.as_deref() == Some(entry.path());
        entry.depth() == 0 || (self.hidden || !is_hidden()) && !is_outside()
    }

    fn add(&self, scan: &mut Scan, entry: &walkdir::DirEntry) {
        if !entry.file_type().is_file() {
            return;
        }
        let Some(key) = self.key_of(entry.path()) else { return };
        match entry.metadata() {
            Ok(metadata) => scan.found.push(Found {
                key,
                path: entry.path().to_owned(),
                signature: Signature::of(&metadata),
            }),
            Err(error) => scan.complain(Some(key), error.into()),
        }
    }
}

impl Scan {
    /// Whether what is known by `key` may be there though it was not found.
    pub(super) fn may_have(&self, key: &str) -> bool {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        let mut unseen = self.unseen.iter();
        unseen.any(|unseen| unseen.is_empty() || key.strip_prefix(&**unseen).is_some_and(is_below))
    }

    fn complain(&mut self, unseen: Option<Box<str>>, error: io::Error) {
        // What vanished while it was looked at is not missing.
        if !is_gone(&error) {
            self.unseen.push(unseen.unwrap_or_default());
            self.unread.get_or_insert(error);
        }
    }
}

/// A path in a folder as text that no other path has.
fn key(inner: &Path) -> Option<Box<str>> {
    if inner.as_os_str().is_empty() {
        return None;
    }
    Some(match inner.to_str() {
        Some(text) => text.into(),
        None => inner.as_os_str().as_encoded_bytes().escape_ascii().to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};

    use super::super::config::Config;
    use super::*;

    fn found(folder: &Path, more: &Value) -> Vec<String> {
        let mut settings = json!({ "path": folder });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: Config = sandbar_reading::settings(settings).unwrap();
        let found = config.settings().unwrap().place.scan().unwrap().found;
        let mut keys: Vec<String> = found.into_iter().map(|found| found.key.into()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn finds_what_the_settings_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for file in ["a.csv", "b.txt", ".hidden", "c.tmp", "deep/d.csv", ".git/e", "done/f.csv"] {
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), "x").unwrap();
        }
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("g.csv"), "x").unwrap();
        symlink(other.path(), path.join("linked")).unwrap();
        symlink(other.path().join("g.csv"), path.join("h.csv")).unwrap();
        symlink(path, path.join("loop")).unwrap();
        assert_eq!(found(path, &json!({})), ["a.csv", "b.txt"]);
        assert_eq!(found(path, &json!({ "patterns": ["*.csv"] })), ["a.csv"]);
        let deep = json!({ "recursive": true, "patterns": ["*.csv"], "move_to": path.join("done") });
        assert_eq!(found(path, &deep), ["a.csv", "deep/d.csv"]);
        let all = json!({ "hidden": true, "exclude": [], "recursive": true });
        assert_eq!(
            found(path, &all),
            [".git/e", ".hidden", "a.csv", "b.txt", "c.tmp", "deep/d.csv", "done/f.csv"]
        );
        let followed = json!({ "follow_links": true, "recursive": true, "patterns": ["*.csv"] });
        assert_eq!(found(path, &followed), ["a.csv", "deep/d.csv", "done/f.csv", "h.csv", "linked/g.csv"]);
    }

    #[test]
    fn what_is_below_an_unread_folder_may_be_there() {
        let mut scan = Scan::default();
        scan.complain(Some("deep".into()), io::ErrorKind::PermissionDenied.into());
        scan.complain(Some("gone".into()), io::ErrorKind::NotFound.into());
        assert!(scan.may_have("deep/a") && scan.may_have("deep"));
        assert!(!scan.may_have("deeper/a") && !scan.may_have("gone/a"));
        scan.complain(None, io::ErrorKind::StaleNetworkFileHandle.into());
        assert!(scan.may_have("a"));
    }

    #[test]
    fn names_that_are_no_text_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes: &[u8]| key(Path::new(std::ffi::OsStr::from_bytes(bytes))).unwrap();
        assert_eq!(&*name(b"a\xff"), r"a\xff");
        assert_ne!(name(b"a\xff"), name(b"a\xfe"));
        assert_eq!(key(Path::new("")), None);
    }
}
