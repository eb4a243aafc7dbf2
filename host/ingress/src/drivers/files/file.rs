//! A file as it is on the disk: what tells one state of it from another, and its bytes.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sandbar_reading::Timestamp;
use serde::{Deserialize, Serialize};

/// Two that are the same mean that nothing was written between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signature {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: u64,
}

impl Signature {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let seconds = u64::try_from(metadata.mtime()).unwrap_or_default();
        let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or_default();
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
        }
    }

    /// How long ago it was modified.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_nanos(self.modified))
    }
}

/// `None` if it is not there, or is no file: a folder, a pipe, a link where these are not followed.
pub(super) fn look(path: &Path, follow_links: bool) -> io::Result<Option<Signature>> {
    let looked = if follow_links { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    match looked {
        Ok(metadata) => Ok(metadata.is_file().then(|| Signature::of(&metadata))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// `None` as with [`look`].
pub(super) fn open(path: &Path, follow_links: bool) -> io::Result<Option<(File, Signature)>> {
    // A pipe in a file's place would hold the opening up.
    let mut flags = OFlags::NONBLOCK;
    flags.set(OFlags::NOFOLLOW, !follow_links);
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then(|| (file, Signature::of(&metadata))))
}

/// Up to `most` bytes from `offset` on; fewer at the file's end.
pub(super) fn bytes_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let there = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(most)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(size) => filled += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
