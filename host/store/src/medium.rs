//! What the store's file lies on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::Advice;

/// Where the store's bytes are: a file, or a simulation of one.
pub trait Medium: Send + Sync + 'static {
    /// What it is called in messages.
    fn path(&self) -> &Path;

    /// Opens the storage, empty if there was none, and makes sure that what will be read is what the device
    /// has. What was opened before is closed.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Called after a fault, before the storage is opened again: makes sure that there is room to write. An
    /// error if there is not.
    fn recover(&self) -> io::Result<()>;
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

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        if file.metadata()?.len() == 0 {
            sync_folder_of(&self.path)?;
        }
        // After a failed fsync Linux holds pages for clean that never reached the device, also when the process
        // that failed is gone: what is read must come from there.
        file.sync_data()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(backend))
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
