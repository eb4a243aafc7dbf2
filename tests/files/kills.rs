//! `kill -9` at any moment: each file is read once, and removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::seed::{Random, seed};

use crate::{check_log, host, read};

const KILLS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_file_is_read_once_and_removed_whenever_it_was_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let into = folder.path().join("in");
    std::fs::create_dir(&into)?;
    let settings = "path = \"in\"\nsettle_ms = 20\nremove_all_files = true";
    let (stopped, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let dropping = {
        let (into, stopped, count) = (into.clone(), Arc::clone(&stopped), Arc::clone(&count));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let part = into.join(format!(".{number}"));
                std::fs::write(&part, format!("content {number}"))?;
                std::fs::rename(part, into.join(format!("{number}.txt")))?;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            anyhow::Ok(())
        })
    };
    let mut random = Random::new(seed());
    for _ in 0..KILLS {
        let host = host(folder.path(), settings).await?;
        tokio::time::sleep(Duration::from_millis(100 + random.below(400))).await;
        host.kill();
    }
    stopped.store(true, Ordering::Relaxed);
    dropping.await??;
    let count = count.load(Ordering::Relaxed);
    let host = host(folder.path(), settings).await?;
    let is_empty = || async { std::fs::read_dir(&into).is_ok_and(|files| files.count() == 0) };
    eventually("all files are gone", 60, is_empty).await;
    let mut times = BTreeMap::<String, usize>::new();
    for read in read(&host).await? {
        *times.entry(read.payload).or_default() += 1;
    }
    eprintln!("{KILLS} kills, {count} files");
    let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(wrong.is_empty(), "not once: {wrong:?}");
    ensure!(times.len() == count, "{} of {count} files were read", times.len());
    check_log(&host)
}
