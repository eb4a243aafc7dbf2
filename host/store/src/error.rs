//! What can go wrong, by what the caller does about it.

use std::io;
use std::path::PathBuf;

use sandbar_reading::Refused;

/// Why a change was not made, or a question not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Ask again later: the store mends itself, and tells [`Observer::recovered`](crate::Observer::recovered).
    /// Whether the change was made is known only then.
    #[error(transparent)]
    Unavailable(#[from] Fault),
    /// What comes next is damaged, or has lost its payload, and becomes a dead letter: ask again for what is behind it.
    #[error("{cause}: it becomes a dead letter")]
    Lost { cause: String },
    /// What it was about no longer waits: it was handled or discarded. Nothing was written.
    #[error("what this was about no longer waits")]
    Stale,
    #[error("there is no such thing")]
    NotFound,
    #[error("the store is being closed")]
    Stopping,
}

/// What ails the storage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the disk is full")]
    DiskFull,
    #[error("storage fails: {cause}")]
    Io { cause: String },
}

/// Why there is no store. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is of format {found}, and this version knows up to {known}: a newer sandbar wrote it")]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("{path} is damaged, or no store: {cause}")]
    Damaged { path: PathBuf, cause: String },
    #[error(
        "{path} is empty, which no store is: what it held is lost, by a hand or by a filesystem that was damaged. \
             If it may be lost, remove the file, and a new store is made"
    )]
    Emptied { path: PathBuf },
    /// It was there when the store was opened first.
    #[error(
        "{path} is gone: somebody removed it, or what it is on is not mounted any more. \
             It is not made anew before the next start; once it is back, the store goes on with it"
    )]
    Gone { path: PathBuf },
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("cannot open {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(fault) => fault.into(),
            StoreError::Stopping => Self::Stopping,
            StoreError::Lost { cause } => Self::Storage { cause },
            StoreError::Stale | StoreError::NotFound => Self::Storage { cause: error.to_string() },
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::DiskFull => Self::DiskFull,
            Fault::Io { cause } => Self::Storage { cause },
        }
    }
}

impl Fault {
    pub(crate) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull,
            _ => Self::Io { cause: error.to_string() },
        }
    }

    pub(crate) fn of(error: &redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::of_io(error),
            error => Self::Io { cause: error.to_string() },
        }
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io { source, .. } => Self::of_io(&source),
            error => Self::Io { cause: error.to_string() },
        }
    }
}

impl From<crate::row::Damaged> for redb::Error {
    fn from(damaged: crate::row::Damaged) -> Self {
        Self::Corrupted(damaged.to_string())
    }
}

/// A page that is damaged can make the storage's library panic: an answer, and no end of whoever asked.
pub(crate) fn panicked() -> redb::Error {
    redb::Error::Corrupted("the storage library panicked".to_owned())
}

/// Whether redb will serve nothing more until it is opened anew.
pub(crate) fn needs_reopening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_))
}
