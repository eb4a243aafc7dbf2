//! What becomes of a file whose reading is on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, Signature};
use super::seen::Event;

/// At most one of removing and moving.
#[derive(Clone, Debug, Default)]
pub(super) struct Tidy {
    pub(super) created: bool,
    pub(super) except_modified: bool,
    pub(super) all_files: bool,
    pub(super) folders: bool,
    pub(super) move_to: Option<PathBuf>,
}

/// How many names are tried for a file in a folder that has one of its name, before and after its time is in them.
const NAMES_MAX: u32 = 9;

impl Tidy {
    /// Whether a file goes once it was read because of `event`.
    pub(super) fn takes(&self, event: Event) -> bool {
        self.all_files
            || self.move_to.is_some()
            || (self.created || self.except_modified) && event == Event::Created
    }

    /// Whether one goes that was read before, and is still there. `was_to_be`: it was to go then.
    pub(super) fn takes_earlier(&self, event: Event, was_to_be: bool) -> bool {
        was_to_be && self.takes(event)
            || self.all_files
            || self.move_to.is_some()
            || self.except_modified && event != Event::Modified
    }

    pub(super) fn is_nothing(&self) -> bool {
        !self.created && !self.except_modified && !self.all_files && self.move_to.is_none()
    }

    /// Removes or moves `path`, which is in `folder`, unless it has changed since it was read. Returns whether it did.
    pub(super) fn carry_out(&self, folder: &Path, path: &Path, read: &Signature) -> io::Result<bool> {
        // A link that was followed is what goes; what it points to is what was read.
        if file::look(path, true)? != Some(*read) {
            return Ok(false);
        }
        match &self.move_to {
            Some(to) => move_into(to, path, read)?,
            None => fs::remove_file(path)?,
        }
        if self.folders {
            remove_empty(folder, path);
        }
        Ok(true)
    }
}

/// The folders that `path` was in, up to `folder`, which stays. One that is not empty refuses.
fn remove_empty(folder: &Path, path: &Path) {
    let above = path.ancestors().skip(1).take_while(|above| *above != folder && above.starts_with(folder));
    for empty in above {
        if fs::remove_dir(empty).is_err() {
            return;
        }
    }
}

fn move_into(folder: &Path, path: &Path, read: &Signature) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    let mut names = names(Path::new(name), read.modified).map(|name| folder.join(name));
    let free = names.find(|free| fs::symlink_metadata(free).is_err_and(|error| file::is_gone(&error)));
    let to = free.ok_or_else(|| io::Error::other("too many files of its name are there"))?;
    match fs::rename(path, &to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_over(path, &to),
        done => done,
    }
}

/// `a.csv`, `a-2.csv`, `a-3.csv` …; then, for the many of one name, with the nanoseconds since 1970 at which the file was
/// modified: `a-1790000000000000000.csv`, `a-1790000000000000000-2.csv` …
fn names(name: &Path, modified: u64) -> impl Iterator<Item = PathBuf> {
    let numbered = |name: PathBuf| {
        (1..=NAMES_MAX).map(move |number| match number {
            1 => name.clone(),
            _ => with(&name, number.into()),
        })
    };
    numbered(name.to_owned()).chain(numbered(with(name, modified)))
}

/// `a-2.csv`.
fn with(name: &Path, number: u64) -> PathBuf {
    let mut numbered = name.file_stem().unwrap_or_default().to_owned();
    numbered.push(format!("-{number}"));
    if let Some(extension) = name.extension() {
        numbered.push(".");
        numbered.push(extension);
    }
    numbered.into()
}

/// To another file system: whole under its name, or not at all.
fn copy_over(path: &Path, to: &Path) -> io::Result<()> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let copied = fs::copy(path, &part).and_then(|_| fs::File::open(&part)?.sync_all());
    match copied.and_then(|()| fs::rename(&part, to)) {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            // What is left of it would be in the way of the next try.
            let _ = fs::remove_file(&part);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> Signature {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        file::look(path, false).unwrap().unwrap()
    }

    #[test]
    fn only_what_was_read_is_removed_and_only_folders_that_are_empty() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, tidy) = (folder.path(), Tidy { all_files: true, folders: true, ..Tidy::default() });
        let path = folder.join("a/b/c.txt");
        let read = file(&path);
        file(&folder.join("a/other.txt"));
        fs::write(&path, "more").unwrap();
        assert!(!tidy.carry_out(folder, &path, &read).unwrap() && path.exists());
        let read = file::look(&path, false).unwrap().unwrap();
        assert!(tidy.carry_out(folder, &path, &read).unwrap());
        assert!(!folder.join("a/b").exists() && folder.join("a/other.txt").exists());
    }

    #[test]
    fn what_is_moved_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("done");
        let tidy = Tidy { move_to: Some(done.clone()), ..Tidy::default() };
        for expected in ["a.csv", "a-2.csv", "a-3.csv"] {
            let path = folder.path().join("a.csv");
            let read = file(&path);
            assert!(tidy.carry_out(folder.path(), &path, &read).unwrap());
            assert!(done.join(expected).exists() && !path.exists());
        }
        assert_eq!(with(Path::new(".profile"), 2), Path::new(".profile-2"));
    }

    #[test]
    fn the_many_of_one_name_have_their_time() {
        let names: Vec<_> = names(Path::new("a.csv"), 1_790_000_000).collect();
        assert_eq!(names[0], Path::new("a.csv"));
        assert_eq!(names[8], Path::new("a-9.csv"));
        assert_eq!(names[9], Path::new("a-1790000000.csv"));
        assert_eq!(names[17], Path::new("a-1790000000-9.csv"));
    }

    #[test]
    fn to_another_file_system_it_is_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        file(&from);
        copy_over(&from, &to).unwrap();
        assert!(!from.exists() && fs::read(&to).unwrap() == b"x" && !folder.path().join("b.part").exists());
    }
}
