//! Files named by the SHA-256 of what they hold, each written once: modules, and payloads that are too large for
//! the journal.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::digest::Digest;
use crate::medium::sync_folder_of;

/// Where such files are: a folder, or a simulation of one.
pub trait Folder: Send + Sync + 'static {
    /// They are on disk under this name when it returns. What is there already is not written again.
    fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()>;

    /// What the file holds now; nothing if there is none.
    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>>;

    /// No error if there is none.
    fn remove(&self, digest: &Digest) -> io::Result<()>;

    /// All that there are.
    fn digests(&self) -> io::Result<Vec<Digest>>;

    /// How long a simulation takes to write so many bytes.
    fn takes(&self, _bytes: usize) -> Duration {
        Duration::ZERO
    }
}

/// A folder on a disk.
pub(crate) struct Files {
    path: PathBuf,
    /// Tells files that are being written at the same time apart.
    writing: AtomicU64,
}

const UNFINISHED: &str = "unfinished";

/// So much is flushed at a time: a flush of the journal comes between two of these instead of waiting for all
/// of a picture.
const FLUSH_BYTES: usize = 512 << 10;

impl Files {
    /// Makes the folder if there is none, and removes what a crash left half written.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            sync_folder_of(&path)?;
        }
        for file in fs::read_dir(&path)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { path, writing: AtomicU64::new(0) })
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    /// Whether these bytes are there, whole: a damaged file is written again.
    fn holds(&self, digest: &Digest, bytes: &[u8]) -> bool {
        let path = self.file(digest);
        let is_as_long = fs::metadata(&path).is_ok_and(|file| file.len() == bytes.len() as u64);
        is_as_long && fs::read(&path).is_ok_and(|held| held == bytes)
    }
}

impl Folder for Files {
    fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.file(digest);
        if self.holds(digest, bytes) {
            // Whoever wrote it may not have come that far.
            return sync_folder_of(&path);
        }
        let number = self.writing.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.path.join(format!("{digest}-{number}.{UNFINISHED}"));
        let written = File::create(&unfinished).and_then(|mut file| {
            for part in bytes.chunks(FLUSH_BYTES) {
                file.write_all(part)?;
                file.sync_data()?;
            }
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_folder_of(&path)
    }

    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.file(digest)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.file(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for file in fs::read_dir(&self.path)? {
            // Whatever else somebody put there is none of ours.
            digests.extend(file?.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        Ok(digests)
    }
}

/// What the file holds; refused if that is not what its name says.
pub(crate) fn whole(folder: &dyn Folder, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
    match folder.get(digest)? {
        Some(bytes) if Digest::of(&bytes) != *digest => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{digest} is damaged on disk")))
        }
        held => Ok(held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_and_what_was_changed_is_refused_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("new")).unwrap();
        let digest = Digest::of(b"module");
        assert_eq!(whole(&files, &digest).unwrap(), None);
        files.put(&digest, b"module").unwrap();
        files.put(&digest, b"module").unwrap();
        assert_eq!(whole(&files, &digest).unwrap().as_deref(), Some(&b"module"[..]));
        assert_eq!(files.digests().unwrap(), [digest]);

        fs::write(files.file(&digest), b"modulo").unwrap();
        assert_eq!(whole(&files, &digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        files.put(&digest, b"module").unwrap();
        assert_eq!(whole(&files, &digest).unwrap().as_deref(), Some(&b"module"[..]));
        files.remove(&digest).unwrap();
        files.remove(&digest).unwrap();
        assert_eq!(whole(&files, &digest).unwrap(), None);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("00-1.unfinished"), b"mod").unwrap();
        Files::open(folder.path().to_owned()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn several_flushes_make_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().to_owned()).unwrap();
        let picture: Vec<u8> = (0..2 * FLUSH_BYTES + 7).map(|at| at as u8).collect();
        let digest = Digest::of(&picture);
        files.put(&digest, &picture).unwrap();
        assert_eq!(whole(&files, &digest).unwrap(), Some(picture));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
