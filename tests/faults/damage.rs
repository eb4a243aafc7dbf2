//! The store's file is not as it was written.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::{Sender, all_is_done, check_journal};
use tempfile::TempDir;

use crate::configure;

/// In the data directory.
const FILE: &str = "store";

/// What a host does with such a file.
enum Outcome {
    Runs(Host, TempDir),
    /// With its last words.
    Refuses(String),
}

/// Starts a host on a data directory that has this file and nothing else.
async fn start_on(store: &[u8]) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let path = folder.path().join("sandbar-data").join(FILE);
    std::fs::create_dir(folder.path().join("sandbar-data"))?;
    std::fs::write(&path, store)?;
    match Host::start(folder.path()).await {
        Ok(host) => Ok(Outcome::Runs(host, folder)),
        Err(refused) => {
            let said = refused.to_string();
            ensure!(said.contains("the host ended with exit status: 1"), "{said}");
            ensure!(said.contains(&path.display().to_string()), "{said} does not name {}", path.display());
            ensure!(std::fs::read(&path)? == store, "the refusal has changed the file: {said}");
            Ok(Outcome::Refuses(said))
        }
    }
}

fn store_in(folder: &Path) -> Result<Vec<u8>> {
    std::fs::read(folder.join("sandbar-data").join(FILE)).context("the store has no file")
}

/// A killed host's file, and what it had acknowledged.
async fn killed_with(readings: usize) -> Result<(Vec<u8>, Vec<String>)> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/a", readings).await?;
    all_is_done(&host, 60).await;
    host.kill();
    Ok((store_in(folder.path())?, sender.acknowledged))
}

/// A power cut in the middle of a commit: some sectors of it are on the disk, others are not. What was
/// acknowledged before is there, and the host starts without anybody's help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_commit_costs_nothing_that_was_acknowledged() -> Result<()> {
    const SECTOR: usize = 512;
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/a", 50).await?;
    all_is_done(&host, 60).await;
    let before = store_in(folder.path())?;
    let acknowledged = sender.acknowledged.clone();
    // One commit: no route takes it.
    sender.send("/plain/last", &"x".repeat(3000)).await?;
    let after = store_in(folder.path())?;
    host.kill();

    let changed: Vec<usize> = (0..after.len().div_ceil(SECTOR))
        .map(|sector| sector * SECTOR)
        .filter(|at| before.get(*at..at + SECTOR) != after.get(*at..at + SECTOR))
        .collect();
    ensure!(changed.len() > 3, "a commit that changes {} sectors cannot be torn", changed.len());
    for _ in 0..6 {
        let mut torn = before.clone();
        torn.resize(after.len().max(before.len()), 0);
        for at in &changed {
            let end = (at + SECTOR).min(after.len());
            if random.chance(50) {
                torn[*at..end].copy_from_slice(&after[*at..end]);
            }
        }
        match start_on(&torn).await? {
            Outcome::Runs(host, _folder) => check_journal(&host, &acknowledged).await?,
            Outcome::Refuses(said) => anyhow::bail!("a torn commit needs somebody's help: {said}"),
        }
    }
    Ok(())
}

/// Whoever cut off what was synced lost it; the host says so rather than to go on with less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_is_refused_or_has_everything() -> Result<()> {
    let (store, acknowledged) = killed_with(100).await?;
    let mut refused = 0;
    for keep in [store.len() - 1, store.len() - 4096, store.len() / 2, 4096, 100, 1] {
        match start_on(&store[..keep]).await? {
            Outcome::Runs(host, _folder) => {
                check_journal(&host, &acknowledged).await.with_context(|| format!("{keep} bytes kept"))?;
            }
            Outcome::Refuses(said) => {
                ensure!(said.contains("damaged"), "{said}");
                refused += 1;
            }
        }
    }
    ensure!(refused >= 3, "only {refused} files were refused, though a page of most was gone");
    Ok(())
}

/// It looks like one that nothing was ever written to: a new store in its place would hide that all is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_to_nothing_is_refused_and_left_alone() -> Result<()> {
    match start_on(b"").await? {
        Outcome::Runs(..) => anyhow::bail!("an emptied store was taken for a new one"),
        Outcome::Refuses(said) => ensure!(said.contains("is empty, which no store is"), "{said}"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scribbled_file_is_refused_or_has_everything_but_the_last_commit() -> Result<()> {
    let mut random = Random::new(seed());
    let (store, acknowledged) = killed_with(100).await?;
    // What is at the end of the file, at the beginning, and anywhere.
    let anywhere = random.below(store.len() as u64 - 4096) as usize;
    for at in [store.len() - 4096, 0, 64, 4096, anywhere] {
        let mut scribbled = store.clone();
        let size = if at == 64 { 64 } else { 4096 };
        scribbled[at..at + size].copy_from_slice(&random.bytes(size));
        match start_on(&scribbled).await? {
            Outcome::Runs(host, _folder) => {
                let all_but_the_last = &acknowledged[..acknowledged.len() - 1];
                check_journal(&host, all_but_the_last).await.with_context(|| format!("scribbled at {at}"))?;
            }
            Outcome::Refuses(said) => ensure!(said.contains("damaged"), "{said}"),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_newer_version_is_refused_and_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    Sender::new(&host).await?.send_many("/d/a", 3).await?;
    ensure!(host.terminate().await? == Some(0));
    let mut store = store_in(folder.path())?;
    // Names of rows lie beside each other, then their values: that of `format` is the first with its number.
    let (names, format) = (b"formatledger", 3_u64.to_be_bytes());
    let places: Vec<usize> =
        (0..store.len() - names.len()).filter(|at| store[*at..].starts_with(names)).collect();
    ensure!(!places.is_empty(), "the format's row is not found");
    for at in places {
        let value = store[at..].windows(format.len()).position(|bytes| bytes == format);
        store[at + value.context("the format's value is not found")? + format.len() - 1] = 99;
    }
    match start_on(&store).await? {
        Outcome::Runs(..) => anyhow::bail!("a file of format 99 was opened"),
        Outcome::Refuses(said) => {
            ensure!(said.contains("is of format 99") && said.contains("a newer sandbar wrote it"), "{said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_file_is_refused_and_left_alone() -> Result<()> {
    for foreign in [b"SQLite format 3\0".repeat(600), vec![0; 8192], b"{}".to_vec()] {
        match start_on(&foreign).await? {
            Outcome::Runs(..) => anyhow::bail!("what is no store was opened"),
            Outcome::Refuses(said) => ensure!(said.contains("damaged, or no store"), "{said}"),
        }
    }
    Ok(())
}
