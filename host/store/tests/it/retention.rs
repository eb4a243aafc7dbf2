//! What leaves the journal by itself, and what must not.

use std::time::Duration;

use sandbar_store::{FailedAttempt, Next, Options, Outcome, ReadingQuery, Retention};

use crate::rig::{Rig, handled, lane, options};

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
    let rig = Rig::new(keeping(None, Some(500)));
    for n in 0..100 {
        rig.put(&[], &format!("{n:010}")).await;
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    let expected: Vec<_> = (50..100).map(|n| format!("{n:010}")).collect();
    assert_eq!(rig.journaled(), expected);
    let stats = rig.store.stats();
    assert_eq!((stats.journal_count, stats.journal_bytes), (50, 500));
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
    rig.clock.forward(Duration::from_secs(59));
    rig.put(&[], "young").await;
    rig.restart().await;
    assert_eq!(rig.journaled(), ["old", "young"]);
    rig.clock.forward(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.journaled(), ["young"]);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_reading_that_was_forgotten_is_journaled_again() {
    let rig = Rig::new(keeping(Some(60), None));
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "lost").await;
    let failed = FailedAttempt { reading: id, attempts: 5, cause: "trap".into(), next: Next::DeadLetter };
    rig.store.settle(Outcome { failed: Some(failed), ..handled(&lane, &[]) }).await.unwrap();
    rig.clock.forward(Duration::from_secs(61));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.store.reading(id), Ok(None));

    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.waiting_ids(&lane), [id]);
    rig.store.settle(handled(&lane, &[id])).await.unwrap();
    rig.clock.forward(Duration::from_secs(61));
    tokio::time::sleep(Duration::from_secs(61)).await;
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
    rig.clock.forward(Duration::from_secs(61));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.journaled(), ["waits"]);

    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    assert_eq!(rig.journaled(), ["old", "waits"]);
    rig.store.settle(handled(&own, &[old])).await.unwrap();
    for _ in 0..3 {
        rig.clock.forward(Duration::from_secs(61));
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    assert_eq!(rig.journaled(), ["waits"]);
    rig.store.settle(handled(&stuck, &[waits])).await.unwrap();
    rig.clock.forward(Duration::from_secs(61));
    tokio::time::sleep(Duration::from_secs(61)).await;
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
