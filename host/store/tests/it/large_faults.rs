//! Payloads whose files cannot be written, or are not what was written.

use std::time::Duration;

use sandbar_reading::Refused;
use sandbar_store::simulated::Failure;
use sandbar_store::{Digest, Kind, LOST_ATTRIBUTE, Outcome, ReadingQuery, StoreError};

use crate::large::{picture, rig, with_files};
use crate::rig::{Rig, accept, delivery, handled, lane, sink};

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_refuses_its_reading_and_what_comes_behind_it_and_nothing_else() {
    let rig = rig();
    let (own, other) = (lane("r", "k"), lane("r", "other"));
    rig.disk.fail_payloads(Some(Failure::Full));
    let large = rig.store.accept(accept(&[&own], &picture('x'))).unwrap();
    let behind = rig.store.accept(accept(&[&own], "behind")).unwrap();
    let by = rig.store.accept(accept(&[&other], "by")).unwrap();
    assert!(by.committed.await.is_ok());
    assert_eq!(large.committed.await, Err(Refused::DiskFull));
    // In order, or not at all.
    assert_eq!(behind.committed.await, Err(Refused::DiskFull));
    assert_eq!(rig.store.stats().fault, None);

    let id = rig.put(&[&own], "small").await;
    rig.disk.fail_payloads(Some(Failure::Broken));
    assert!(matches!(rig.accept(&[&own], &picture('x')).await, Err(Refused::Storage { .. })));
    let outcome =
        || Outcome { deliveries: vec![delivery(&sink("s"), id, &picture('o'))], ..handled(&own, &[id]) };
    assert!(matches!(rig.store.settle(outcome()).await, Err(StoreError::Unavailable(_))));
    assert_eq!((rig.waiting_ids(&own), rig.queued(&sink("s")).len()), (vec![id], 0));
    rig.disk.fail_payloads(None);
    rig.store.settle(outcome()).await.unwrap();
    rig.put(&[&own], &picture('x')).await;
    assert_eq!(rig.files().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn room_for_what_waits_counts_payloads_and_comes_back() {
    let rig = Rig::new(sandbar_store::Options { queue_bytes: 3000, ..with_files() });
    rig.disk.set_payload_time(Duration::from_secs(1));
    rig.disk.fail_payloads(Some(Failure::Full));
    for _ in 0..3 {
        let taken: Vec<_> = (0..4).map(|_| rig.store.accept(accept(&[], &picture('x')))).collect();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 2);
        assert!(matches!(taken[3], Err(Refused::Busy { .. })));
        for journaling in taken.into_iter().flatten() {
            assert_eq!(journaling.committed.await, Err(Refused::DiskFull));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_may_have_failed_keeps_its_files_until_that_is_known() {
    for seed in 0..200 {
        let mut rig = Rig::new(sandbar_store::Options { seed: Some(seed), ..with_files() });
        let lane = lane("r", "k");
        let before = rig.put(&[&lane], &picture('b')).await;
        let journaling = rig.store.accept(accept(&[&lane], &picture('x'))).unwrap();
        let unknown = journaling.id;
        // Its file is written before the disk fails; the commit comes after.
        while rig.disk.payloads().len() == 1 {
            tokio::task::yield_now().await;
        }
        rig.disk.fail_syncs(Some(Failure::Broken));
        let is_refused = journaling.committed.await.is_err();
        rig.disk.fail_syncs(None);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let journaled = rig.store.reading(unknown).unwrap();
            assert!(is_refused || journaled.is_some(), "seed {seed}");
            if let Some(reading) = journaled {
                assert_eq!(reading.payload, picture('x'), "seed {seed}");
            }
            assert_eq!(rig.waiting(&lane)[0].reading.id, before, "seed {seed}");
            // Not more files than what is referred to.
            rig.files().await;
            rig.disk.restore_power();
            rig.open();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_power_may_go_at_any_operation_of_a_large_reading() {
    for operations in 1..30 {
        for seed in 0..8 {
            let mut rig = Rig::new(sandbar_store::Options { seed: Some(seed), ..with_files() });
            let lane = lane("r", "k");
            rig.disk.lose_power_after(operations);
            let first = rig.accept(&[&lane], &picture('x')).await;
            let second = match &first {
                Ok(receipt) => {
                    let outcome = Outcome {
                        deliveries: vec![delivery(&sink("s"), receipt.id(), &picture('o'))],
                        ..handled(&lane, &[receipt.id()])
                    };
                    rig.store.settle(outcome).await
                }
                Err(_) => Err(StoreError::Stopping),
            };
            rig.store.clone().close().await;
            rig.disk.restore_power();
            rig.open();
            if let Ok(receipt) = first {
                let reading = rig.store.reading(receipt.id()).unwrap().expect("acknowledged, and gone");
                assert_eq!(reading.payload, picture('x'));
            }
            let queued = rig.queued(&sink("s"));
            assert!(second.is_err() || queued.len() == 1, "{operations} seed {seed}");
            assert!(queued.iter().all(|queued| queued.delivery.message.payload == picture('o')));
            assert!(rig.waiting(&lane).iter().all(|waiting| waiting.reading.payload == picture('x')));
            rig.files().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_lost_its_payload_becomes_a_dead_letter_and_keeps_nobody_waiting() {
    let rig = rig();
    let (own, target) = (lane("r", "k"), sink("s"));
    let lost = rig.put(&[&own], &picture('x')).await;
    let next = rig.put(&[&own], &picture('y')).await;
    let outcome = Outcome {
        deliveries: vec![delivery(&target, next, &picture('o')), delivery(&target, next, "small")],
        ..handled(&lane("r", "none"), &[])
    };
    rig.store.settle(outcome).await.unwrap();
    rig.disk.damage_payload(&Digest::of(picture('x').as_bytes()), None);
    rig.disk.damage_payload(&Digest::of(picture('o').as_bytes()), Some(b"other bytes".to_vec()));
    let load = || rig.store.waiting(&own.route, own.id(), &|_| false, 9, usize::MAX);
    let deliver = || rig.store.queued(&target, &|_| false, 9, usize::MAX);
    assert!(matches!(load().map(|_| ()), Err(StoreError::Lost { .. })));
    assert!(matches!(deliver().map(|_| ()), Err(StoreError::Lost { .. })));
    rig.store.put_documents(vec![(Kind::Setting, "after".into(), None)]).await.unwrap();
    assert_eq!(load().unwrap().items.iter().map(|waiting| waiting.reading.id).collect::<Vec<_>>(), [next]);
    assert_eq!(deliver().unwrap().items.len(), 1);

    let letters = rig.dead_letters();
    let causes: Vec<_> = letters.iter().map(|letter| letter.cause.split_once(", ").unwrap().0).collect();
    assert_eq!((letters.len(), causes), (2, vec!["its payload", "its payload"]));
    assert!(letters.iter().any(|letter| letter.cause.ends_with("is missing on disk")));
    assert!(letters.iter().any(|letter| letter.cause.ends_with("is damaged on disk")));
    // It can be looked at, and says what is wrong, but does not wait again.
    let shown = rig.store.readings(&ReadingQuery { limit: 1, ..ReadingQuery::default() }).unwrap().items;
    assert_eq!((shown[0].id, shown[0].payload.len()), (lost, 0));
    assert!(shown[0].attributes.get("sandbar.payload-lost").is_some());
    for letter in letters {
        assert!(matches!(rig.store.redrive(letter.id).await, Err(StoreError::Unavailable(_))));
        rig.store.discard_dead_letter(letter.id).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_say_what_a_payload_is_is_asked_again() {
    let rig = Rig::new(with_files());
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], &picture('x')).await;
    rig.disk.fail_reads(true);
    let loaded = rig.store.waiting(&lane.route, lane.id(), &|_| false, 9, usize::MAX);
    assert!(matches!(loaded.map(|_| ()), Err(StoreError::Unavailable(_))));
    rig.disk.fail_reads(false);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(rig.waiting_ids(&lane), [id]);
    assert_eq!(rig.dead_letters().len(), 0);
}

/// It was asked again for ever: its lane stood still, and no page that it was on could be listed.
#[tokio::test(start_paused = true)]
async fn a_payload_that_the_disk_cannot_read_becomes_a_dead_letter_and_hides_nothing() {
    let rig = rig();
    let own = lane("r", "k");
    let digest = Digest::of(picture('x').as_bytes());
    let unreadable = rig.put(&[&own], &picture('x')).await;
    let next = rig.put(&[&own], "next").await;
    rig.disk.fail_payload(&digest, true);
    let load = || rig.store.waiting(&own.route, own.id(), &|_| false, 9, usize::MAX);
    assert!(matches!(load().map(|_| ()), Err(StoreError::Lost { .. })));
    rig.store.put_documents(vec![(Kind::Setting, "after".into(), None)]).await.unwrap();
    assert_eq!(load().unwrap().items.iter().map(|waiting| waiting.reading.id).collect::<Vec<_>>(), [next]);

    let letters = rig.dead_letters();
    assert!(letters[0].cause.contains("cannot be read"), "{}", letters[0].cause);
    let shown = rig.store.readings(&ReadingQuery { limit: 9, ..ReadingQuery::default() }).unwrap().items;
    assert_eq!(shown.iter().map(|reading| reading.id).collect::<Vec<_>>(), [unreadable, next]);
    assert!(shown[0].attributes.get(LOST_ATTRIBUTE).is_some());

    // The disk has thought better of it: nothing is lost.
    rig.disk.fail_payload(&digest, false);
    rig.store.redrive(letters[0].id).await.unwrap();
    assert_eq!(rig.waiting(&own)[0].reading.payload, picture('x'));
}
