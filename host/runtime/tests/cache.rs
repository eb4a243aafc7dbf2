//! Compiled code on disk: what is wrong with it costs time, never more.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sandbar_runtime::test_components as components;
use sandbar_runtime::{Options, Runtime};
use support::{call, settings};

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn echo_works(dir: &Path) {
    let runtime = Runtime::new(Options::new(dir)).unwrap();
    let component = runtime.load(&components::echo()).unwrap();
    call(&runtime.handler(&component, settings()).await.unwrap()).await.result.unwrap();
}

#[tokio::test]
async fn code_is_private_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("deep/code");
    echo_works(&cache).await;
    let [code] = &files(&cache, "code")[..] else { panic!("one file") };
    assert_eq!((mode(&cache), mode(code), mode(&code.with_extension("sum"))), (0o700, 0o600, 0o600));
    let written = fs::metadata(code).unwrap().created().unwrap();
    echo_works(&cache).await;
    assert_eq!(fs::metadata(code).unwrap().created().unwrap(), written, "it was not compiled again");
}

#[tokio::test]
async fn damaged_code_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    echo_works(dir.path()).await;
    let code = files(dir.path(), "code").remove(0);
    let sum = code.with_extension("sum");
    let whole = fs::read(&code).unwrap();
    for damage in 0..5 {
        match damage {
            0 => fs::write(&code, &whole[..whole.len() / 2]).unwrap(),
            1 => {
                let mut flipped = whole.clone();
                flipped[whole.len() / 2] ^= 1;
                fs::write(&code, flipped).unwrap();
            }
            2 => fs::remove_file(&sum).unwrap(),
            3 => fs::write(&sum, "").unwrap(),
            _ => fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap(),
        }
        echo_works(dir.path()).await;
        assert_eq!(fs::read(&code).unwrap().len(), whole.len(), "damage {damage} is repaired");
        assert_eq!(mode(&code), 0o600);
    }
}

/// As another version of wasmtime would leave it, with a checksum that fits.
#[tokio::test]
async fn foreign_code_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    echo_works(dir.path()).await;
    let code = files(dir.path(), "code").remove(0);
    let foreign = b"not an ELF image, but well kept";
    fs::write(&code, foreign).unwrap();
    let sum = twox_hash::XxHash3_64::oneshot(foreign);
    fs::write(code.with_extension("sum"), format!("{sum:016x}")).unwrap();
    echo_works(dir.path()).await;
    assert_ne!(fs::read(&code).unwrap(), foreign);
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    echo_works(dir.path()).await;
    let echo = files(dir.path(), "code").remove(0);
    Runtime::new(Options::new(dir.path())).unwrap().load(&components::counter()).unwrap();
    let long_ago = fs::File::open(&echo).unwrap();
    long_ago.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();

    // Room for either, not for both.
    let sizes = files(dir.path(), "code").iter().map(|path| fs::metadata(path).unwrap().len()).max();
    let options = Options { cache_max: sizes.unwrap(), ..Options::new(dir.path()) };
    Runtime::new(options).unwrap();
    assert_eq!((files(dir.path(), "code").len(), files(dir.path(), "sum").len()), (1, 1));
    assert!(!echo.exists());
}

#[tokio::test]
async fn being_used_keeps_code() {
    let dir = tempfile::tempdir().unwrap();
    echo_works(dir.path()).await;
    let echo = files(dir.path(), "code").remove(0);
    let used = || fs::metadata(&echo).unwrap().modified().unwrap();
    fs::File::open(&echo).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    echo_works(dir.path()).await;
    assert!(used() > std::time::SystemTime::UNIX_EPOCH);
}
