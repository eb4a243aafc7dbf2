//! Files that are not, or no longer, what the store wrote: refused, and left as they are.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, TableDefinition};
use sandbar_reading::SystemClock;
use sandbar_store::simulated::Simulated;
use sandbar_store::{Committer, Disk, Medium, OpenError, Store};

use crate::rig::{Rig, lane, options};

fn open(medium: impl Medium, folder: &Path) -> Result<Store, OpenError> {
    Store::open(Arc::new(medium), folder.join("modules"), options(), Arc::new(SystemClock), Committer::Task)
}

/// Opens a file of `bytes`, expects a refusal, and that the file is as it was.
fn refused(bytes: &[u8]) -> OpenError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, bytes).unwrap();
    let error = open(Disk::new(&path), folder.path()).map(|_| ()).unwrap_err();
    assert!(std::fs::read(&path).unwrap() == bytes, "the file was changed");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

/// A store's file after `count` readings, closed or as a kill leaves it.
async fn file(count: usize, closed: bool) -> Vec<u8> {
    let rig = Rig::new(options());
    for n in 0..count {
        rig.put(&[&lane("r", "k")], &n.to_string().repeat(300)).await;
    }
    if closed {
        rig.store.clone().close().await;
    }
    rig.disk.bytes()
}

fn redb_file(write: impl FnOnce(&Database)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write(&Database::create(&path).unwrap());
    std::fs::read(&path).unwrap()
}

#[tokio::test]
async fn refuses_what_is_no_store() {
    for bytes in [&b"x"[..], &[0; 4096], &b"SQLite format 3\0".repeat(4096)] {
        assert!(matches!(refused(bytes), OpenError::Damaged { .. }));
    }
    let other = redb_file(|database| {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap();
        transaction.commit().unwrap();
    });
    assert!(matches!(refused(&other), OpenError::Damaged { .. }));
}

/// It would be taken for a new one, and what it was would never be missed.
#[tokio::test]
async fn refuses_a_file_that_was_emptied() {
    assert!(matches!(refused(b""), OpenError::Emptied { .. }));
}

#[tokio::test]
async fn a_new_store_has_its_name_once_it_is_whole_and_what_a_crash_left_of_it_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(path.with_extension("unfinished"), [7; 5000]).unwrap();
    open(Disk::new(&path), folder.path()).unwrap().close().await;
    assert!(path.exists() && !path.with_extension("unfinished").exists());
    open(Disk::new(&path), folder.path()).unwrap().close().await;
}

#[tokio::test]
async fn refuses_a_newer_format_by_its_number() {
    let newer = redb_file(|database| {
        let transaction = database.begin_write().unwrap();
        let meta = TableDefinition::<&str, &[u8]>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", &7_u64.to_be_bytes()[..]).unwrap();
        transaction.commit().unwrap();
    });
    let error = refused(&newer);
    assert!(matches!(error, OpenError::Newer { found: 7, known: 3, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_truncated_file_is_refused_or_whole_and_never_changed_by_a_refusal() {
    for closed in [true, false] {
        let bytes = file(400, closed).await;
        for part in 1..40 {
            let cut = &bytes[..bytes.len() * part / 40];
            let error = refused(cut);
            assert!(matches!(error, OpenError::Damaged { .. }), "{part}/40: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_page_of_a_killed_store_is_found() {
    let bytes = file(400, false).await;
    let payload = bytes.windows(300).position(|window| window == "7".repeat(300).as_bytes()).unwrap();
    let mut damaged = bytes.clone();
    damaged[payload] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    // The last commit touched other pages than the one before it: neither is whole.
    let error = open(Simulated::holding(damaged, 1), folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(open(Simulated::holding(bytes, 1), folder.path()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn garbage_anywhere_is_an_error_and_no_panic() {
    let bytes = file(20, false).await;
    let folder = tempfile::tempdir().unwrap();
    for at in (0..bytes.len().min(64 << 10)).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xFF;
        // Either it does not matter, or it is refused.
        match open(Simulated::holding(damaged, 1), folder.path()) {
            Ok(store) => store.close().await,
            Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{at}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path().join("store"));
    let store = open(disk.clone(), folder.path()).unwrap();
    assert!(matches!(open(disk.clone(), folder.path()), Err(OpenError::Locked { .. })));
    store.close().await;
    open(disk, folder.path()).unwrap().close().await;
}

#[tokio::test]
async fn a_missing_folder_is_an_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(Disk::new(folder.path().join("none/store")), folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}
