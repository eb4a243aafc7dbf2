//! Components in the store, without keeping anybody waiting for the disk.

use bytes::Bytes;
use sandbar_store::{Digest, Store, StoreError};

use crate::control::Inner;
use crate::views::Blob;

impl Inner {
    pub(crate) async fn put_blob(&self, blob: Blob) -> Result<(), StoreError> {
        self.on_disk(move |store| store.put_blob(&blob.bytes).map(drop)).await
    }

    /// `None` also for what is no digest.
    pub(crate) async fn blob(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        match digest.parse::<Digest>() {
            Ok(digest) => self.on_disk(move |store| store.blob(&digest)).await,
            Err(_) => Ok(None),
        }
    }

    pub(crate) async fn remove_blob(&self, digest: &str) -> Result<(), StoreError> {
        match digest.parse::<Digest>() {
            Ok(digest) => self.on_disk(move |store| store.remove_blob(&digest)).await,
            Err(_) => Ok(()),
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        // It fails only if the work panics, or the host is being stopped.
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(StoreError::Stopping))
    }
}
