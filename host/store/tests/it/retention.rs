//! What leaves the journal by itself, and what must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandbar_reading::{Clock, Timestamp};
use sandbar_store::simulated::Simulated;
use sandbar_store::{
    Committer, FailedAttempt, Kind, Next, Options, Outcome, ReadingQuery, Retention, Store, Subject,
};

use crate::large::{picture, with_files};
use crate::rig::{Rig, accept, delivery, handled, lane, on_disk, options, sink, weight};

fn keeping(age: Option<u64>, bytes: Option<u64>) -> Options {
    Options { retention: Retention { age: age.map(Duration::from_secs), bytes }, ..options() }
}

impl Rig {
    fn journaled(&self) -> Vec<String> {
        let page = self.store.readings(&ReadingQuery { limit: 1000, ..ReadingQuery::default() }).unwrap();
        page.items.iter().map(|reading| String::from_utf8(reading.payload.to_vec()).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_go_when_there_are_too_many_bytes() {
    let each = weight(10, usize::MAX);
    let rig = Rig::new(keeping(None, Some(50 * each)));
    for n in 0..100 {
        rig.put(&[], &format!("{n:010}")).await;
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    let expected: Vec<_> = (50..100).map(|n| format!("{n:010}")).collect();
    assert_eq!(rig.journaled(), expected);
    let stats = rig.store.stats();
    assert_eq!((stats.journal_count, stats.journal_bytes), (50, 50 * each));
}

/// Only payloads counted: a journal of readings without any grew for ever.
#[tokio::test(start_paused = true)]
async fn readings_without_a_payload_count_too() {
    let rig = Rig::new(keeping(None, Some(10 * weight(0, usize::MAX))));
    for _ in 0..100 {
        rig.put(&[], "").await;
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.store.stats().journal_count, 10);
}

/// Each look began at the oldest again after ten seconds, and never came to what is behind very many that wait.
#[tokio::test(start_paused = true)]
async fn what_is_behind_very_many_that_wait_goes_too() {
    const WAIT: u64 = 5000;
    let rig = Rig::new(keeping(None, Some(0)));
    let (stuck, own) = (lane("stuck", "k"), lane("r", "k"));
    let waits: Vec<_> = (0..WAIT).map(|_| rig.store.accept(accept(&[&stuck], "x")).unwrap()).collect();
    for journaling in waits {
        let _ = journaling.committed.await.unwrap();
    }
    for _ in 0..10 {
        rig.put(&[&own], "x").await;
    }
    rig.store.settle(handled(&own, &rig.waiting_ids(&own))).await.unwrap();
    for n in 0..20 {
        rig.clock.forward(Duration::from_secs(11));
        // Whatever is committed has the store look: then, and once more within this time.
        rig.store.put_documents(vec![(Kind::Setting, n.to_string(), None)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(21)).await;
    }
    assert_eq!(rig.store.stats().journal_count, WAIT);
}

#[tokio::test(start_paused = true)]
async fn what_still_waits_stays_and_goes_once_it_is_handled() {
    let rig = Rig::new(keeping(Some(60), Some(50)));
    let lane = lane("stuck", "k");
    let first = rig.put(&[&lane], "waits-0001").await;
    let second = rig.put(&[&lane], "waits-0002").await;
    for n in 0..300 {
        rig.put(&[], &format!("{n:010}")).await;
    }
    rig.clock.forward(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.journaled(), ["waits-0001", "waits-0002"]);
    assert_eq!(rig.waiting_ids(&lane), [first, second]);

    rig.store.settle(handled(&lane, &[first])).await.unwrap();
    rig.clock.forward(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.journaled(), ["waits-0002"]);
    assert_eq!(rig.waiting_ids(&lane), [second]);
}

#[tokio::test(start_paused = true)]
async fn old_readings_go_and_young_ones_stay_also_across_a_restart() {
    let mut rig = Rig::new(keeping(Some(60), None));
    rig.put(&[], "old").await;
    rig.pass(Duration::from_secs(30)).await;
    rig.put(&[], "young").await;
    rig.restart().await;
    assert_eq!(rig.journaled(), ["old", "young"]);
    rig.pass(Duration::from_secs(32)).await;
    assert_eq!(rig.journaled(), ["young"]);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_reading_that_was_forgotten_is_journaled_again() {
    let rig = Rig::new(keeping(Some(60), None));
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "lost").await;
    let failed = FailedAttempt { reading: id, attempts: 5, cause: "trap".into(), next: Next::DeadLetter };
    rig.store.settle(Outcome { failed: Some(failed), ..handled(&lane, &[]) }).await.unwrap();
    rig.pass(Duration::from_secs(62)).await;
    assert_eq!(rig.store.reading(id), Ok(None));

    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.waiting_ids(&lane), [id]);
    rig.store.settle(handled(&lane, &[id])).await.unwrap();
    rig.pass(Duration::from_secs(62)).await;
    assert_eq!(rig.store.reading(id), Ok(None));
    assert_eq!((rig.store.stats().journal_count, rig.store.stats().journal_bytes), (0, 0));
}

/// Found by the simulation: it stayed for ever, behind the place where the look for old readings went on.
#[tokio::test(start_paused = true)]
async fn a_redriven_reading_that_is_older_than_one_that_waits_goes_too() {
    let rig = Rig::new(keeping(Some(60), None));
    let (own, stuck) = (lane("r", "k"), lane("stuck", "k"));
    let old = rig.put(&[&own], "old").await;
    let failed = FailedAttempt { reading: old, attempts: 5, cause: "trap".into(), next: Next::DeadLetter };
    rig.store.settle(Outcome { failed: Some(failed), ..handled(&own, &[]) }).await.unwrap();
    rig.clock.forward(Duration::from_secs(1));
    let waits = rig.put(&[&stuck], "waits").await;
    rig.pass(Duration::from_secs(62)).await;
    assert_eq!(rig.journaled(), ["waits"]);

    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    assert_eq!(rig.journaled(), ["old", "waits"]);
    rig.store.settle(handled(&own, &[old])).await.unwrap();
    for _ in 0..3 {
        rig.pass(Duration::from_secs(62)).await;
    }
    assert_eq!(rig.journaled(), ["waits"]);
    rig.store.settle(handled(&stuck, &[waits])).await.unwrap();
    rig.pass(Duration::from_secs(62)).await;
    assert!(rig.journaled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_store_writes_nothing() {
    let rig = Rig::new(keeping(Some(60), Some(10)));
    let lane = lane("stuck", "k");
    rig.put(&[&lane], "more than ten bytes").await;
    let before = (rig.store.stats().commits, rig.disk.syncs());
    rig.clock.forward(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((rig.store.stats().commits, rig.disk.syncs()), before);
}

/// A box that began with an old clock lost, as soon as it had the time, what it had taken before.
#[tokio::test(start_paused = true)]
async fn what_was_taken_before_the_clock_was_set_forward_is_not_old_for_that() {
    let rig = Rig::new(keeping(Some(60), None));
    rig.put(&[], "before").await;
    rig.pass(Duration::from_secs(10)).await;
    rig.clock.forward(Duration::from_secs(10 * 365 * 24 * 3600));
    rig.put(&[], "after").await;
    rig.pass(Duration::from_secs(40)).await;
    assert_eq!(rig.journaled(), ["before", "after"]);
    rig.pass(Duration::from_secs(15)).await;
    assert_eq!(rig.journaled(), ["after"]);
    rig.pass(Duration::from_secs(15)).await;
    assert!(rig.journaled().is_empty());
}

/// Somebody sets it a year forward after it was read so often.
struct SetAfter(AtomicU64);

impl Clock for SetAfter {
    fn now(&self) -> Timestamp {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let year = if left.is_ok() { 0 } else { 365 * 24 * 3_600_000 };
        Timestamp::from_millis(1_700_000_000_000 + year)
    }
}

/// It was set between the look whether it was and the look for what is old.
#[tokio::test(start_paused = true)]
async fn what_is_young_stays_at_whatever_moment_the_clock_is_set_forward() {
    for reads in 1..60 {
        let folder = tempfile::tempdir().unwrap();
        let (disk, clock) = (Arc::new(Simulated::new(1)), Arc::new(SetAfter(AtomicU64::new(reads))));
        let modules = folder.path().to_owned();
        let store = Store::open(disk, modules, keeping(Some(60), None), clock, Committer::Task).unwrap();
        for _ in 0..5 {
            let _ = store.accept(accept(&[], "x")).unwrap().committed.await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(store.stats().journal_count, 5, "after {reads} reads");
        store.close().await;
    }
}

/// It was looked at again only once the clock had come back to where it had been.
#[tokio::test(start_paused = true)]
async fn what_had_waited_goes_also_when_the_clock_was_set_back_since() {
    let rig = Rig::new(keeping(None, Some(0)));
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "x").await;
    rig.clock.set(1_600_000_000_000);
    rig.store.settle(handled(&lane, &[id])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.store.stats().journal_count, 0);
}

impl Rig {
    /// As many dead letters as there are characters, each with a picture that has a file.
    async fn give_up_on(&self, pictures: &str) {
        let (own, target) = (lane("r", "k"), sink("gone"));
        let id = self.put(&[&own], "x").await;
        let deliveries = pictures.chars().map(|of| delivery(&target, id, &picture(of))).collect();
        self.store.settle(Outcome { deliveries, ..handled(&own, &[id]) }).await.unwrap();
        self.store.discard_target(target).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_dead_letters_go_when_there_are_too_many_and_their_files_with_them() {
    let mut rig = Rig::new(Options { dead_letter_bytes: Some(3000), ..with_files() });
    rig.give_up_on("abcdefghij").await;
    assert_eq!(rig.files().await.len(), 2);
    let left: Vec<_> = rig.dead_letters().iter().map(|letter| picture_of(&letter.subject)).collect();
    assert_eq!(left, ['j', 'i'], "newest first");
    let stats = rig.store.stats();
    assert_eq!((stats.dead_letters, stats.dead_letters_discarded), (2, 8));
    assert_eq!(stats.dead_letter_bytes, 2 * (1000 + 64));

    rig.restart().await;
    assert_eq!(rig.store.stats().dead_letter_bytes, 2 * (1000 + 64));
    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    rig.store.discard_dead_letter(rig.dead_letters()[0].id).await.unwrap();
    let stats = rig.store.stats();
    assert_eq!((stats.dead_letters, stats.dead_letter_bytes), (0, 0));
}

fn picture_of(subject: &Subject) -> char {
    let Subject::Delivery { delivery, .. } = subject else { panic!("{subject:?}") };
    char::from(delivery.message.payload[0])
}

#[tokio::test(start_paused = true)]
async fn one_dead_letter_may_be_larger_than_all_are_to_be() {
    let rig = Rig::new(Options { dead_letter_bytes: Some(10), ..with_files() });
    rig.give_up_on("abc").await;
    assert_eq!(rig.files().await.len(), 1);
    assert_eq!((rig.dead_letters().len(), picture_of(&rig.dead_letters()[0].subject)), (1, 'c'));
}

/// As a version leaves them that does not weigh them.
#[tokio::test]
async fn dead_letters_that_nobody_has_weighed_are_weighed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let open = || on_disk(folder.path());
    let store = open();
    let own = lane("r", "k");
    for _ in 0..3 {
        let id = store.accept(accept(&[&own], "x")).unwrap().committed.await.unwrap().id();
        let failed = FailedAttempt { reading: id, attempts: 5, cause: "trap".into(), next: Next::DeadLetter };
        store.settle(Outcome { failed: Some(failed), ..handled(&own, &[]) }).await.unwrap();
    }
    let bytes = store.stats().dead_letter_bytes;
    assert!(bytes > 3 * 64);
    store.close().await;
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        assert!(transaction.open_table(meta).unwrap().remove("dead letters").unwrap().is_some());
        transaction.commit().unwrap();
    }
    let store = open();
    assert_eq!(store.stats().dead_letter_bytes, bytes);
    store.close().await;
}
