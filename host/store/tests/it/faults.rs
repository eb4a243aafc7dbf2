//! A disk that is full or fails, and is well again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbar_reading::Refused;
use sandbar_store::simulated::Failure;
use sandbar_store::{Fault, Kind, Retention, StoreError};

use crate::rig::{Rig, accept, handled, lane, options, scope_of, write};

impl Rig {
    /// Longer than the store waits before it opens its file again.
    async fn a_while(&self) {
        tokio::time::sleep(Duration::from_secs(11)).await;
    }

    fn recoveries(&self) -> u64 {
        self.told.recovered.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_by_name_keeps_what_it_has_and_recovers_by_itself() {
    let rig = Rig::new(options());
    let lane = lane("r", "k");
    let before = rig.put(&[&lane], "before").await;
    rig.disk.fail_writes(Some(Failure::Full));
    assert_eq!(rig.accept(&[&lane], "lost").await, Err(Refused::DiskFull));
    // At once now, without the disk being asked.
    assert_eq!(rig.store.accept(accept(&[&lane], "lost")).map(|_| ()), Err(Refused::DiskFull));
    assert!(rig.store.stats().fault.is_some_and(|fault| fault.contains("full")));
    assert!(matches!(rig.store.settle(handled(&lane, &[before])).await, Err(StoreError::Unavailable(_))));
    rig.a_while().await;
    assert_eq!((rig.accept(&[&lane], "lost").await, rig.recoveries()), (Err(Refused::DiskFull), 0));

    rig.disk.fail_writes(None);
    rig.a_while().await;
    assert_eq!((rig.recoveries(), rig.store.stats().fault), (1, None));
    let after = rig.put(&[&lane], "after").await;
    assert_eq!(rig.waiting_ids(&lane), [before, after]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_not_believed() {
    for seed in 0..200 {
        let mut rig = Rig::new(sandbar_store::Options { seed: Some(seed), ..options() });
        let lane = lane("r", "k");
        // So large that what follows does not write the same pages again.
        let payload = "x".repeat(3000);
        let before = rig.put(&[&lane], &payload).await;
        rig.disk.fail_syncs(Some(Failure::Broken));
        let journaling = rig.store.accept(accept(&[&lane], &payload)).unwrap();
        let unknown = journaling.id;
        assert!(matches!(journaling.committed.await, Err(Refused::Storage { .. })));
        rig.disk.fail_syncs(None);
        rig.a_while().await;
        let after = rig.put(&[&lane], &payload).await;
        // What was refused may be there, whole, or not.
        let waiting = rig.waiting_ids(&lane);
        let journaled = rig.store.reading(unknown).unwrap().is_some();
        let expected = if journaled { vec![before, unknown, after] } else { vec![before, after] };
        assert_eq!(waiting, expected, "seed {seed}");
        assert_eq!(rig.store.stats().journal_count, expected.len() as u64, "seed {seed}");
        // And the device has it, not only the system's memory.
        rig.disk.restore_power();
        rig.open();
        assert_eq!(rig.waiting_ids(&lane), expected, "seed {seed} after a power loss");
    }
}

/// Found by the simulation: the next process believed pages that only the system's memory had, built upon
/// them, and a power loss left a file without a whole tree.
#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_not_believed_after_a_restart_either() {
    for seed in 0..100 {
        let mut rig = Rig::new(sandbar_store::Options { seed: Some(seed), ..options() });
        let lane = lane("r", "k");
        let payload = "x".repeat(3000);
        let before = rig.put(&[&lane], &payload).await;
        rig.disk.fail_syncs(Some(Failure::Broken));
        assert!(matches!(rig.accept(&[&lane], &payload).await, Err(Refused::Storage { .. })));
        rig.store.clone().close().await;
        rig.disk.fail_syncs(None);
        rig.open();
        let after = rig.put(&[&lane], &payload).await;
        let waiting = rig.waiting_ids(&lane);
        assert!(waiting.starts_with(&[before]) && waiting.ends_with(&[after]), "seed {seed}");
        rig.disk.restore_power();
        rig.open();
        assert_eq!(rig.waiting_ids(&lane), waiting, "seed {seed} after a power loss");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_finds_the_disk_failing_has_the_store_mend_itself() {
    // Too small a cache to answer from memory.
    let mut rig = Rig::new(sandbar_store::Options { cache_bytes: 0, ..options() });
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "1").await;
    rig.restart().await;
    rig.disk.fail_reads(true);
    assert!(matches!(rig.store.reading(id), Err(StoreError::Unavailable(_))));
    rig.a_while().await;
    assert!(matches!(rig.store.reading(id), Err(StoreError::Unavailable(_))));
    rig.disk.fail_reads(false);
    rig.a_while().await;
    assert!(rig.store.reading(id).unwrap().is_some());
    assert!(rig.recoveries() > 0);
}

#[tokio::test(start_paused = true)]
async fn everything_that_shared_the_failed_commit_or_waited_is_told() {
    let rig = Rig::new(sandbar_store::Options { commit_max: 2, ..options() });
    let lane = lane("r", "k");
    rig.disk.fail_writes(Some(Failure::Broken));
    let accepts: Vec<_> = (0..5).map(|_| rig.store.accept(accept(&[&lane], "x")).unwrap()).collect();
    let document = rig.store.put_documents(vec![(Kind::Route, "r".into(), Some(vec![1]))]);
    for journaling in accepts {
        assert!(matches!(journaling.committed.await, Err(Refused::Storage { .. })));
    }
    assert!(matches!(document.await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_failed_store_can_be_closed() {
    let mut rig = Rig::new(options());
    let id = rig.put(&[], "1").await;
    rig.disk.fail_writes(Some(Failure::Full));
    assert_eq!(rig.accept(&[], "2").await, Err(Refused::DiskFull));
    rig.store.clone().close().await;
    rig.disk.fail_writes(None);
    rig.open();
    assert!(rig.store.reading(id).unwrap().is_some());
}

/// What was acknowledged would be lost without a word, and the file, once it is back, not used.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_after_a_fault_is_not_made_anew_and_is_used_again_once_it_is_back() {
    let rig = Rig::new(options());
    let id = rig.put(&[], "1").await;
    rig.disk.take_away(true);
    rig.disk.fail_writes(Some(Failure::Broken));
    assert!(rig.accept(&[], "2").await.is_err());
    rig.disk.fail_writes(None);
    rig.a_while().await;
    let fault = rig.store.stats().fault.unwrap();
    assert!(fault.contains("simulated is gone"), "{fault}");
    rig.disk.take_away(false);
    rig.a_while().await;
    assert_eq!((rig.store.stats().fault, rig.recoveries()), (None, 1));
    assert!(rig.store.reading(id).unwrap().is_some());
}

/// A damaged page can make the storage's library panic.
#[tokio::test(start_paused = true)]
async fn a_panic_while_the_storage_is_asked_is_an_answer() {
    let rig = Rig::new(options());
    let scope = scope_of(&lane("r", "k"));
    rig.store.keep(scope.clone(), vec![write("a", "1")]).await.unwrap();
    let asked = rig.store.each_state(&scope, "", |_, _| panic!("as on purpose"));
    assert!(matches!(asked, Err(StoreError::Unavailable(Fault::Io { .. }))), "{asked:?}");
    assert_eq!(rig.state_text(&scope, "a").as_deref(), Some("1"));
    assert_eq!(rig.store.stats().fault, None);
}

/// Each commit looked at the oldest reading first, and failed with it: the store was in a fault for ever.
#[tokio::test(start_paused = true)]
async fn where_the_oldest_reading_cannot_be_read_it_stays_for_a_while_and_all_else_goes_on() {
    let retention = Retention { age: None, bytes: None };
    // Too small a cache to answer from memory.
    let mut rig = Rig::new(sandbar_store::Options { cache_bytes: 0, retention, ..options() });
    // So large that its page is its own.
    let oldest = "old".repeat(1000);
    rig.put(&[], &oldest).await;
    for _ in 0..20 {
        rig.put(&[], &"x".repeat(3000)).await;
    }
    rig.options.retention.bytes = Some(30_000);
    rig.restart().await;
    rig.disk.fail_reads_of(oldest.as_bytes());
    while rig.store.stats().fault.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // To open the file anew it may have to be read whole.
    rig.disk.fail_reads_of(b"");
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.disk.fail_reads_of(oldest.as_bytes());
    for _ in 0..50 {
        rig.put(&[], "x").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((rig.recoveries(), rig.store.stats().journal_count), (1, 21 + 50));

    rig.disk.fail_reads_of(b"");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.store.stats().journal_bytes <= 30_000);
    assert_eq!(rig.recoveries(), 1);
}
