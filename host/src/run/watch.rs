//! Which of a few files changed, found by looking now and then: it works on every file system, over network
//! mounts and whichever way an editor saves.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files and what was last seen of them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    files: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    /// Of the content; `None` for a file that is not there.
    digest: Option<u64>,
    /// A new stamp, seen once: somebody may still be writing.
    unsettled: Option<Option<Stamp>>,
}

/// Differs once a file was written to or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Watch {
    /// Watches these from now on; of those watched already, changes since the last look still count.
    pub(crate) fn set(&mut self, files: &[PathBuf]) {
        self.files.retain(|path, _| files.contains(path));
        for path in files {
            self.files.entry(path.clone()).or_insert_with(|| Seen {
                stamp: stamp(path),
                digest: digest(path),
                unsettled: None,
            });
        }
    }

    /// Whether the content of one changed since the last call that said so, and has stayed the same since
    /// the last call. Reads only files that were written to.
    pub(crate) fn look(&mut self) -> bool {
        self.files.iter_mut().fold(false, |changed, (path, seen)| seen.look(path) || changed)
    }
}

impl Seen {
    fn look(&mut self, path: &Path) -> bool {
        let stamp = stamp(path);
        if stamp == self.stamp {
            self.unsettled = None;
            return false;
        }
        if self.unsettled != Some(stamp) {
            self.unsettled = Some(stamp);
            return false;
        }
        let digest = digest(path);
        let changed = digest != self.digest;
        *self = Self { stamp, digest, unsettled: None };
        changed
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        len: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn digest(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(content: &str) -> (tempfile::TempDir, PathBuf, Watch) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbar.toml");
        fs::write(&path, content).unwrap();
        let mut watch = Watch::default();
        watch.set(std::slice::from_ref(&path));
        (dir, path, watch)
    }

    /// As an editor does it: another file takes the place.
    fn replace(path: &Path, content: &str) {
        let new = path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_change_is_told_once_it_has_settled_and_only_once() {
        let (_dir, path, mut watch) = watched("a");
        assert!(!watch.look());
        replace(&path, "ab");
        assert!(!watch.look(), "somebody may still write");
        replace(&path, "abc");
        assert!(!watch.look(), "somebody does");
        assert!(watch.look());
        assert!(!watch.look());
    }

    #[test]
    fn the_same_content_again_is_no_change() {
        let (_dir, path, mut watch) = watched("a");
        replace(&path, "a");
        assert!(!watch.look() && !watch.look() && !watch.look());
    }

    #[test]
    fn a_file_may_go_and_come() {
        let (_dir, path, mut watch) = watched("a");
        fs::remove_file(&path).unwrap();
        assert!(!watch.look() && watch.look());
        fs::write(&path, "a").unwrap();
        assert!(!watch.look() && watch.look());
    }

    #[test]
    fn a_change_before_the_files_are_set_again_still_counts() {
        let (_dir, path, mut watch) = watched("a");
        replace(&path, "b");
        watch.set(&[path.clone(), path.with_extension("wasm")]);
        assert!(!watch.look() && watch.look());
        watch.set(&[]);
        replace(&path, "c");
        assert!(!watch.look() && !watch.look());
    }
}
