//! Modules' bytes.

use std::io;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Fault, StoreError};
use crate::folder::{Folder, whole};
use crate::store::Store;

/// These touch the disk before they return: not for a thread that must not wait.
impl Store {
    /// Keeps `bytes`; they are on disk when this returns.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.modules().put(&digest, bytes).map_err(|error| unavailable(&error))?;
        Ok(digest)
    }

    /// What [`put_blob`](Self::put_blob) kept; refused if the disk has changed it since.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        whole(self.modules(), digest).map(|bytes| bytes.map(Bytes::from)).map_err(|error| unavailable(&error))
    }

    /// No error if there is none.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.modules().remove(digest).map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &io::Error) -> StoreError {
    Fault::of_io(error).into()
}
