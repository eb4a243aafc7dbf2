//! Payloads that have files of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::ReadableDatabase;
use sandbar_reading::{ReadingId, Scope, SystemClock, Target};
use sandbar_store::simulated::Simulated;
use sandbar_store::{
    Committer, Delivered, Digest, Disk, FailedAttempt, FailedDelivery, HandedOver, Next, Options, Outcome,
    ReadingQuery, Replayed, Retention, Store,
};

use crate::rig::{Rig, accept, delivery, handled, lane, name, options, sink, weight, write};

/// With files from 100 bytes on, which take a while.
pub(crate) fn with_files() -> Options {
    Options { inline_max: 100, ..options() }
}

pub(crate) fn rig() -> Rig {
    let rig = Rig::new(with_files());
    rig.disk.set_payload_time(Duration::from_secs(1));
    rig
}

pub(crate) fn picture(of: char) -> String {
    of.to_string().repeat(1000)
}

impl Rig {
    /// After what is done later is done.
    pub(crate) async fn files(&self) -> Vec<Digest> {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let files = self.disk.payloads();
        assert_eq!(files.len() as u64, self.store.stats().payloads, "files, and what is counted of them");
        files
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_large_payload_is_read_as_it_was_written_also_after_a_restart_and_is_not_in_the_store() {
    let mut rig = rig();
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], &picture('x')).await;
    let small = rig.put(&[&lane], &"y".repeat(100)).await;
    assert_eq!(rig.files().await, [digest(&picture('x'))]);
    let bytes = rig.disk.bytes();
    assert!(!bytes.windows(200).any(|window| window == "x".repeat(200).as_bytes()));
    assert!(bytes.windows(100).any(|window| window == "y".repeat(100).as_bytes()));
    for _ in 0..2 {
        let waiting = rig.waiting(&lane);
        assert_eq!(waiting[0].reading.payload, picture('x'));
        assert_eq!(rig.waiting_ids(&lane), [id, small]);
        assert_eq!(rig.store.reading(id).unwrap().unwrap().payload, picture('x'));
        let page = rig.store.readings(&ReadingQuery { limit: 9, ..ReadingQuery::default() }).unwrap();
        assert_eq!((page.items[0].payload.len(), page.items[1].payload.len()), (1000, 100));
        assert_eq!(rig.store.stats().journal_bytes, weight(1000, 100) + weight(100, 100));
        rig.restart().await;
    }
}

#[tokio::test(start_paused = true)]
async fn small_readings_go_by_and_what_shares_a_lane_does_not() {
    let rig = rig();
    let (own, other) = (lane("r", "k"), lane("r", "other"));
    let picture = rig.store.accept(accept(&[&own], &picture('x'))).unwrap();
    let behind = rig.store.accept(accept(&[&own], "behind")).unwrap();
    let by = rig.store.accept(accept(&[&other], "by")).unwrap();
    let nowhere = rig.store.accept(accept(&[], "nowhere")).unwrap();
    let before = tokio::time::Instant::now();
    for small in [by, nowhere] {
        let _ = small.committed.await.unwrap();
    }
    assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
    assert_eq!(rig.waiting_ids(&own), []);
    let ids = [picture.id, behind.id];
    let _ = behind.committed.await.unwrap();
    assert_eq!(rig.waiting_ids(&own), ids);
    let _ = picture.committed.await.unwrap();
    // What was told has the same order.
    let told: Vec<_> = rig.told.news.lock().waiting.iter().map(|waiting| waiting.reading.id).collect();
    assert_eq!(told[1..], ids);
}

/// Who sent it may be gone: nobody but the store knows that it is on its way.
#[tokio::test(start_paused = true)]
async fn a_route_that_is_deleted_leaves_nothing_of_what_was_on_its_way_to_it() {
    let rig = rig();
    let lane = lane("r", "k");
    let picture = rig.store.accept(accept(&[&lane], &picture('x'))).unwrap();
    rig.store.discard_route(name("r")).await.unwrap();
    assert_eq!(rig.waiting_ids(&lane), []);
    assert_eq!(rig.dead_letters().len(), 1);
    assert_eq!(picture.committed.await.unwrap().id(), picture.id);
}

/// A driver that writes how far it has come must not be told further than what is journaled.
#[tokio::test(start_paused = true)]
async fn what_a_driver_keeps_is_written_in_the_order_of_the_calls() {
    let rig = rig();
    let position = |at: &str, payload: &str| {
        let keep = vec![write("position", at)];
        rig.store.accept(sandbar_store::Accept { keep, ..accept(&[], payload) }).unwrap()
    };
    let first = position("1", &picture('x'));
    let second = position("2", "small");
    let scope = Scope::Ingress(name("web"));
    let kept = tokio::spawn(rig.store.keep(scope.clone(), vec![write("position", "3")]));
    let other = rig.store.keep(scope.clone(), vec![write("other", "1")]);
    other.await.unwrap();
    assert_eq!(rig.state_text(&scope, "position"), None);
    let _ = second.committed.await.unwrap();
    let _ = first.committed.await.unwrap();
    kept.await.unwrap().unwrap();
    assert_eq!(rig.state_text(&scope, "position").as_deref(), Some("3"));
}

/// One file, whatever refers to it, and none once nothing does.
#[tokio::test(start_paused = true)]
async fn a_file_goes_with_the_last_that_refers_to_it() {
    let rig = Rig::new(Options {
        retention: Retention { age: Some(Duration::from_secs(60)), bytes: None },
        ..with_files()
    });
    let (lane, target) = (lane("r", "k"), sink("s"));
    let first = rig.put(&[&lane], &picture('x')).await;
    let second = rig.put(&[&lane], &picture('x')).await;
    assert_eq!(rig.files().await.len(), 1);
    // Put out twice, and once as something else.
    let deliveries = vec![
        delivery(&target, first, &picture('x')),
        delivery(&sink("t"), first, &picture('x')),
        delivery(&target, first, &picture('o')),
    ];
    let chained = vec![accept(&[&lane], &picture('x'))];
    rig.store.settle(Outcome { deliveries, chained, ..handled(&lane, &[first]) }).await.unwrap();
    assert_eq!(rig.files().await.len(), 2);
    let queued = rig.queued(&target);
    assert_eq!(
        (&queued[0].delivery.message.payload[..1], &queued[1].delivery.message.payload[..1]),
        (&b"x"[..], &b"o"[..])
    );

    let accepted =
        Delivered { target: target.clone(), accepted: vec![queued[1].delivery.id], failed: vec![] };
    rig.store.delivered(accepted).await.unwrap();
    assert_eq!(rig.files().await, [digest(&picture('x'))]);

    // Given up on: a delivery and a reading. Retention takes the journal's rows.
    let dead =
        |id, cause: &str| FailedDelivery { id, attempts: 3, cause: cause.into(), next: Next::DeadLetter };
    let failed = vec![dead(queued[0].delivery.id, "gone")];
    rig.store.delivered(Delivered { target, accepted: vec![], failed }).await.unwrap();
    rig.store.discard_target(sink("t")).await.unwrap();
    let failed = FailedAttempt { reading: second, attempts: 5, cause: "trap".into(), next: Next::DeadLetter };
    rig.store.settle(Outcome { failed: Some(failed), ..handled(&lane, &[]) }).await.unwrap();
    let third = rig.waiting_ids(&lane);
    rig.store.settle(handled(&lane, &third)).await.unwrap();
    rig.pass(Duration::from_secs(61)).await;
    assert_eq!(rig.store.stats().journal_count, 0);
    assert_eq!(rig.files().await, [digest(&picture('x'))]);
    let letters = rig.dead_letters();
    assert_eq!(letters.len(), 3);

    // Two wait again, from what the dead letters kept.
    for letter in &letters[..2] {
        rig.store.redrive(letter.id).await.unwrap();
    }
    rig.store.discard_dead_letter(letters[2].id).await.unwrap();
    assert_eq!(rig.files().await, [digest(&picture('x'))]);
    let waiting = rig.waiting(&lane);
    assert_eq!(waiting[0].reading.payload, picture('x'));
    assert_eq!(rig.told.news.lock().waiting.last().unwrap().reading.payload, picture('x'));
    rig.store.settle(handled(&lane, &[waiting[0].reading.id])).await.unwrap();
    for target in rig.store.targets().unwrap() {
        let accepted = rig.queued(&target).iter().map(|queued| queued.delivery.id).collect();
        rig.store.delivered(Delivered { target, accepted, failed: vec![] }).await.unwrap();
    }
    assert_eq!(rig.dead_letters().len(), 0);
    rig.pass(Duration::from_secs(61)).await;
    assert_eq!(rig.files().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_replay_brings_and_what_a_deleted_route_leaves_have_files_too() {
    let rig = rig();
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], &picture('x')).await;
    let letter = {
        rig.store.discard_route(name("r")).await.unwrap();
        rig.dead_letters()[0].clone()
    };
    assert_eq!(letter.cause, "route `r` was deleted");
    let replayed = Replayed {
        route: name("r"),
        deliveries: vec![delivery(&sink("s"), id, &picture('o'))],
        chained: vec![accept(&[], &picture('c'))],
        state: vec![],
        traces: vec![],
        dead_letters: vec![letter.id],
        documents: vec![],
    };
    rig.store.replayed(replayed).await.unwrap();
    assert_eq!(rig.files().await.len(), 3);
    assert_eq!(rig.queued(&sink("s"))[0].delivery.message.payload, picture('o'));
    // What no longer waits is not written, and leaves no file.
    let stale =
        Outcome { deliveries: vec![delivery(&sink("s"), id, &picture('n'))], ..handled(&lane, &[id]) };
    assert_eq!(rig.store.settle(stale).await, Err(sandbar_store::StoreError::Stale));
    assert_eq!(rig.files().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_window_counts_bytes_that_are_in_files() {
    let rig = rig();
    let lane = lane("r", "k");
    let mut ids = Vec::new();
    for of in ['a', 'b', 'c', 'd'] {
        let id = rig.put(&[&lane], &picture(of)).await;
        let outcome = Outcome {
            deliveries: vec![delivery(&sink("s"), id, &picture(of))],
            ..handled(&crate::rig::lane("r", "none"), &[])
        };
        rig.store.settle(outcome).await.unwrap();
        ids.push(id);
    }
    let loaded = rig.store.waiting(&lane.route, lane.id(), &|_| false, 100, 2000).unwrap();
    assert_eq!((loaded.items.len(), loaded.complete), (2, false));
    let loaded = rig.store.queued(&sink("s"), &|_| false, 100, 1).unwrap();
    assert_eq!((loaded.items.len(), loaded.complete), (1, false));
    let loaded = rig.store.queued(&sink("s"), &|_| false, 4, usize::MAX).unwrap();
    assert_eq!((loaded.items.len(), loaded.complete), (4, true));
}

#[tokio::test(start_paused = true)]
async fn a_page_is_full_of_bytes_before_it_is_full_of_readings() {
    let rig = Rig::new(options());
    let payload = "x".repeat(3 << 20);
    for _ in 0..4 {
        rig.put(&[], &payload).await;
    }
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let page =
            rig.store.readings(&ReadingQuery { limit: 100, cursor, ..ReadingQuery::default() }).unwrap();
        pages.push(page.items.len());
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [3, 1]);
}

#[tokio::test(start_paused = true)]
async fn files_that_nothing_refers_to_are_removed_at_the_start() {
    let mut rig = rig();
    rig.put(&[], &picture('x')).await;
    rig.disk.damage_payload(&digest("orphan"), Some(b"orphan".to_vec()));
    rig.restart().await;
    assert_eq!(rig.files().await, [digest(&picture('x'))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_file_is_committed_before_the_store_closes() {
    let mut rig = rig();
    let journaling = rig.store.accept(accept(&[], &picture('x'))).unwrap();
    rig.restart().await;
    let id = journaling.committed.await.unwrap().id();
    assert_eq!(rig.store.reading(id).unwrap().unwrap().payload, picture('x'));
}

/// A store of the first format: as this version makes it, but for the table and the number.
#[tokio::test(start_paused = true)]
async fn a_file_of_the_first_format_is_read_and_becomes_one_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let modules = folder.path().join("modules");
    let open = || {
        let disk = Arc::new(Disk::new(&path));
        Store::open(disk, modules.clone(), with_files(), Arc::new(SystemClock), Committer::Task).unwrap()
    };
    let store = open();
    let old = store.accept(accept(&[], "old")).unwrap().committed.await.unwrap().id();
    store.close().await;
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let payloads = redb::TableDefinition::<&[u8; 32], u64>::new("payloads");
        assert!(transaction.delete_table(payloads).unwrap());
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", &1_u64.to_be_bytes()[..]).unwrap();
        transaction.commit().unwrap();
    }
    let store = open();
    assert_eq!(store.reading(old).unwrap().unwrap().payload, "old");
    let large = store.accept(accept(&[], &picture('x'))).unwrap().committed.await.unwrap().id();
    store.close().await;
    assert_eq!(std::fs::read_dir(path.with_extension("payloads")).unwrap().count(), 1);
    let database = redb::Database::open(&path).unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let read = database.begin_read().unwrap();
    assert_eq!(read.open_table(meta).unwrap().get("format").unwrap().unwrap().value(), 3_u64.to_be_bytes());
    drop((read, database));
    let store = open();
    assert_eq!(store.reading(large).unwrap().unwrap().payload, picture('x'));
    store.close().await;
}

/// With the threads and the disk that a host has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_on_a_real_disk_are_whole_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = || Options {
        inline_max: 1000,
        retention: Retention { age: None, bytes: Some(0) },
        ..Options::default()
    };
    let open = || {
        let disk = Arc::new(Disk::new(&path));
        let modules = folder.path().join("modules");
        Store::open(disk, modules, options(), Arc::new(SystemClock), Committer::Thread).unwrap()
    };
    let files = || std::fs::read_dir(path.with_extension("payloads")).unwrap().count();
    let payload = |user: u8, round: u8| Bytes::from([user, round].repeat(20_000));
    let store = open();
    let users: Vec<_> = (0..8_u8)
        .map(|user| {
            let store = store.clone();
            tokio::spawn(async move {
                let lane = lane("r", &user.to_string());
                let mut ids: Vec<ReadingId> = Vec::new();
                for round in 0..10_u8 {
                    let mut accept = accept(&[&lane], "");
                    // Every second one is another user's, too.
                    accept.inbound.payload = payload(if round % 2 == 0 { user } else { 0 }, round);
                    ids.push(store.accept(accept).unwrap().committed.await.unwrap().id());
                }
                let waiting =
                    store.waiting(&lane.route, lane.id(), &|_| false, 100, usize::MAX).unwrap().items;
                assert_eq!(waiting.iter().map(|waiting| waiting.reading.id).collect::<Vec<_>>(), ids);
                for (round, waiting) in (0..).zip(&waiting) {
                    assert_eq!(
                        waiting.reading.payload,
                        payload(if round % 2 == 0 { user } else { 0 }, round)
                    );
                }
                (lane, ids)
            })
        })
        .collect();
    let mut all = Vec::new();
    for user in users {
        all.push(user.await.unwrap());
    }
    assert_eq!((files(), store.stats().payloads), (45, 45));
    // A kill leaves everything as it is; what waits stays whatever retention says.
    store.close().await;
    let store = open();
    assert_eq!((files(), store.stats().journal_count), (45, 80));
    for (lane, ids) in &all {
        store.settle(handled(lane, ids)).await.unwrap();
    }
    for _ in 0..400 {
        if files() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((files(), store.stats().payloads), (0, 0));
    store.close().await;
}

#[tokio::test]
async fn a_folder_of_payloads_is_made_where_there_was_none() {
    let folder = tempfile::tempdir().unwrap();
    let open = |disk: Arc<dyn sandbar_store::Medium>| {
        let modules = folder.path().join("modules");
        Store::open(disk, modules, with_files(), Arc::new(SystemClock), Committer::Task)
    };
    let disk = Disk::new(folder.path().join("store"));
    open(Arc::new(disk.clone())).unwrap().close().await;
    std::fs::remove_dir(folder.path().join("store.payloads")).unwrap();
    open(Arc::new(disk)).unwrap().close().await;
    assert!(folder.path().join("store.payloads").is_dir());
    open(Arc::new(Simulated::new(1))).unwrap().close().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_a_sink_handed_over_keeps_the_file_of_its_payload() {
    let rig = rig();
    let (lane, out, pump) = (lane("r", "k"), sink("out"), Target::Device("pump".into()));
    let id = rig.put(&[&lane], "small").await;
    let deliveries = vec![delivery(&out, id, &picture('x'))];
    rig.store.settle(Outcome { deliveries, ..handled(&lane, &[id]) }).await.unwrap();
    let delivery = (*rig.queued(&out)[0].delivery).clone();
    let accepted = vec![delivery.id];
    let handed = vec![HandedOver { device: "pump".into(), delivery, expires: None }];
    rig.store.hand_over(name("out"), handed).await.unwrap();
    assert_eq!(rig.files().await, [digest(&picture('x'))]);
    assert_eq!(rig.queued(&pump)[0].delivery.message.payload, picture('x'));
    rig.store.delivered(Delivered { target: pump, accepted, failed: vec![] }).await.unwrap();
    assert_eq!(rig.files().await, []);
}
