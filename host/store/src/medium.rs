//! What the store's file lies on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, CWD, RenameFlags};
use rustix::io::Errno;

use crate::folder::{Files, Folder};

/// Where the store's bytes are: a file, or a simulation of one.
pub trait Medium: Send + Sync + 'static {
    /// What it is called in messages.
    fn path(&self) -> &Path;

    /// Opens the storage, and makes sure that what will be read is what the device has. What was opened before is
    /// closed. If there is none, and none may be made, that is an error of the kind `NotFound`.
    fn open(&self, may_make: bool) -> io::Result<Storage>;

    /// Gives the new storage that [`open`](Self::open) made its name, now that it is whole: the next one finds it.
    fn made(&self) -> io::Result<()>;

    /// The folder beside it, made if need be, for payloads that are too large for it.
    fn payloads(&self) -> io::Result<Box<dyn Folder>>;

    /// How long a simulation takes to write so many bytes of a payload.
    fn takes(&self, _bytes: usize) -> Duration {
        Duration::ZERO
    }

    /// Called after a fault, before the storage is opened again: makes sure that there is room to write. An
    /// error if there is not.
    fn recover(&self) -> io::Result<()>;
}

/// What a medium opened.
pub struct Storage {
    pub backend: Box<dyn StorageBackend>,
    /// There was none. It is empty, and has no name before [`Medium::made`].
    pub is_new: bool,
}

/// A file on a disk.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
}

/// Space that must be there before writing is tried again.
const PROBE_BYTES: usize = 256 << 10;

impl Disk {
    /// `path` is the store's file; its folder must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where a new store is made: what has the store's name is whole, or was once.
    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    /// Whatever a crash left of it is of no use. An error of the kind `WouldBlock` if another process is at it.
    fn open_unfinished(&self) -> io::Result<File> {
        let path = self.unfinished();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        file.set_len(0)?;
        Ok(file)
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.path.with_extension("probe");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_data()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }
}

impl Medium for Disk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, may_make: bool) -> io::Result<Storage> {
        let found = OpenOptions::new().read(true).write(true).open(&self.path);
        let (file, is_new) = match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {
                (self.open_unfinished()?, true)
            }
            found => (found?, false),
        };
        // After a failed fsync Linux holds pages for clean that never reached the device, also when the process
        // that failed is gone: what is read must come from there.
        file.sync_data()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Storage { backend: Box::new(backend), is_new })
    }

    fn made(&self) -> io::Result<()> {
        let unfinished = self.unfinished();
        // Somebody else may have made one meanwhile.
        match rustix::fs::renameat_with(CWD, &unfinished, CWD, &self.path, RenameFlags::NOREPLACE) {
            // A filesystem that cannot promise it.
            Err(Errno::INVAL | Errno::NOSYS) if !self.path.exists() => {
                std::fs::rename(&unfinished, &self.path)?;
            }
            renamed => renamed?,
        }
        sync_folder_of(&self.path)
    }

    fn payloads(&self) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(Files::open(self.path.with_extension("payloads"))?))
    }

    fn recover(&self) -> io::Result<()> {
        self.probe()
    }
}

/// Makes the names of files in `path`'s folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_none_may_be_made_a_missing_file_is_told_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("store"));
        let missing = disk.open(false).map(|_| ()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(disk.open(true).unwrap().is_new);
    }
}
