//! Opening the file: proving that it is ours before anything is written to it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, DatabaseError, ReadableDatabase};

use crate::error::OpenError;
use crate::held::{self, Release};
use crate::medium::{Medium, Storage};
use crate::options::Options;
use crate::tables::{self, FORMAT, Format, Ledger};

/// An open database, and what is known of it.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) ledger: Ledger,
    release: Release,
}

impl Opened {
    pub(crate) fn file_len(&self) -> u64 {
        self.release.file_len()
    }
}

/// Opens the store's file. Where there is none a new one is made, if it may be: at a start, and never after a fault, when
/// it would hide that all is gone.
pub(crate) fn open(medium: &dyn Medium, options: &Options, may_make: bool) -> Result<Opened, OpenError> {
    // A damaged file can make the library panic.
    catch_unwind(AssertUnwindSafe(|| open_or_panic(medium, options, may_make))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(damaged(medium, format!("it cannot be read ({message})")))
    })
}

fn open_or_panic(medium: &dyn Medium, options: &Options, may_make: bool) -> Result<Opened, OpenError> {
    let failed = |source| not_opened(medium, source);
    let Storage { backend, is_new } = medium.open(may_make).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if !may_make => OpenError::Gone { path: medium.path().to_owned() },
        _ => failed(source),
    })?;
    // redb would take it for a new one.
    if !is_new && backend.len().map_err(failed)? == 0 {
        return Err(OpenError::Emptied { path: medium.path().to_owned() });
    }
    let (backend, release) = held::hold(backend).map_err(failed)?;
    let database = Database::builder()
        .set_cache_size(options.cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| refusal(medium, error))?;
    let of = |error| storage_refusal(medium, error);
    let format = tables::format(&database).map_err(of)?;
    match format {
        Format::Empty if !may_make => return Err(OpenError::Emptied { path: medium.path().to_owned() }),
        Format::Empty | Format::Known | Format::Older => {}
        Format::Newer(found) => {
            return Err(OpenError::Newer { path: medium.path().to_owned(), found, known: FORMAT });
        }
        Format::Foreign => return Err(damaged(medium, "another program made it".to_owned())),
    }
    let read = || -> Result<_, redb::Error> { tables::ledger(&database.begin_read()?) };
    if !matches!(format, Format::Empty) {
        read().map_err(of)?;
    }
    release.release().map_err(failed)?;
    match format {
        Format::Empty => tables::create(&database).map_err(of)?,
        Format::Older => tables::migrate(&database).map_err(of)?,
        _ => {}
    }
    tables::weigh_dead_letters(&database).map_err(of)?;
    if is_new {
        medium.made().map_err(failed)?;
    }
    let ledger = read().map_err(of)?;
    Ok(Opened { database, ledger, release })
}

fn not_opened(medium: &dyn Medium, source: io::Error) -> OpenError {
    let path = medium.path().to_owned();
    match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path },
        _ => OpenError::Io { path, source },
    }
}

fn damaged(medium: &dyn Medium, cause: String) -> OpenError {
    OpenError::Damaged { path: medium.path().to_owned(), cause }
}

fn refusal(medium: &dyn Medium, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: medium.path().to_owned() },
        DatabaseError::Storage(error) => storage_refusal(medium, redb::Error::from(error)),
        error => damaged(medium, error.to_string()),
    }
}

fn storage_refusal(medium: &dyn Medium, error: redb::Error) -> OpenError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        // What redb says of a foreign file, and of one that is too short.
        redb::Error::Io(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
            damaged(medium, error.to_string())
        }
        redb::Error::Io(source) => OpenError::Io { path: medium.path().to_owned(), source },
        error => damaged(medium, error.to_string()),
    }
}
