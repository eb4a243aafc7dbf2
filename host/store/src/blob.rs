//! Modules' bytes: files named by their digest.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::error::{Fault, StoreError};
use crate::medium::sync_folder_of;
use crate::store::Store;

/// SHA-256 of some bytes. Text form: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| DigestError)?;
        }
        Ok(Self(digest))
    }
}

/// The folder of the files.
pub(crate) struct Blobs {
    folder: PathBuf,
    /// Tells files that are being written at the same time apart.
    writing: AtomicU64,
}

const UNFINISHED: &str = "unfinished";

impl Blobs {
    /// Removes what a crash left half written.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder, writing: AtomicU64::new(0) })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let number = self.writing.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{digest}-{number}.{UNFINISHED}"));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_folder_of(&path)
    }

    /// Nothing if there is no such file, or it is not what its name says.
    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(digest)) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("module {digest} is damaged on disk")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// These touch the disk before they return: not for a thread that must not wait.
impl Store {
    /// Keeps `bytes`; they are on disk when this returns.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.blobs().put(&digest, bytes).map_err(|error| unavailable(&error))?;
        Ok(digest)
    }

    /// What [`put_blob`](Self::put_blob) kept; refused if the disk has changed it since.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.blobs().get(digest).map(|bytes| bytes.map(Bytes::from)).map_err(|error| unavailable(&error))
    }

    /// No error if there is none.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.blobs().remove(digest).map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &io::Error) -> StoreError {
    Fault::of_io(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_and_what_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let digest = Digest::of(b"module");
        assert_eq!(blobs.get(&digest).unwrap(), None);
        blobs.put(&digest, b"module").unwrap();
        blobs.put(&digest, b"module").unwrap();
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"module"[..]));

        fs::write(blobs.path(&digest), b"modulo").unwrap();
        assert_eq!(blobs.get(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        blobs.remove(&digest).unwrap();
        blobs.remove(&digest).unwrap();
        assert_eq!(blobs.get(&digest).unwrap(), None);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("00-1.unfinished"), b"mod").unwrap();
        Blobs::open(folder.path().to_owned()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("e3".parse::<Digest>(), Err(DigestError));
        assert_eq!(format!("{digest:.62}xy").parse::<Digest>(), Err(DigestError));
    }
}
