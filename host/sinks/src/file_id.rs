//! Which file a name stands for.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Another one once the file was moved away and made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}
