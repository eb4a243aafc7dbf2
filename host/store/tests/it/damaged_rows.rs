//! Rows that are not what was written, in a file that is whole otherwise.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use sandbar_reading::{Clock, ReadingId, StateWrite, Target, Timestamp};
use sandbar_store::{
    CommandState, DeadLetterQuery, DeviceRow, DevicesBatch, Fault, HandedOver, Kind, LOST_ATTRIBUTE,
    NewCommand, Options, Outcome, Presence, ReadingQuery, Resource, Retention, StoreError, Subject,
};

use crate::rig::{Rig, delivery, handled, lane, name, options, scope_of, sink, weight, write};

/// No row begins so.
const DAMAGED: &[u8] = &[0xff];

/// Damages a reading or dead letter.
fn damage(transaction: &WriteTransaction, table: &str, id: u128) {
    let table = TableDefinition::<u128, &[u8]>::new(table);
    assert!(transaction.open_table(table).unwrap().insert(id, DAMAGED).unwrap().is_some());
}

/// Damages the first rows of a table.
fn damage_first(transaction: &WriteTransaction, table: &str, count: usize) {
    let mut table = transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(table)).unwrap();
    let keys: Vec<_> = table.iter().unwrap().take(count).map(|row| row.unwrap().0.value().to_vec()).collect();
    for key in keys {
        table.insert(&key[..], DAMAGED).unwrap();
    }
}

impl Rig {
    fn listed(&self) -> Vec<ReadingId> {
        let page = self.store.readings(&ReadingQuery { limit: 99, ..ReadingQuery::default() }).unwrap();
        page.items.iter().map(|reading| reading.id).collect()
    }

    /// After what was lost has become a dead letter.
    async fn lost(&self) {
        self.store.put_documents(vec![(Kind::Setting, "after".into(), None)]).await.unwrap();
    }

    /// Nobody was told that the storage fails.
    fn never_failed(&self) -> bool {
        self.told.recovered.load(Ordering::Relaxed) == 0 && self.store.stats().fault.is_none()
    }
}

/// The store failed at it with each commit, for ever, and no page that it was on could be listed.
#[tokio::test(start_paused = true)]
async fn a_damaged_reading_is_stepped_over_when_it_is_old_and_when_readings_are_listed() {
    let bytes = Some(3 * weight(1, usize::MAX));
    let mut rig = Rig::new(Options { retention: Retention { age: None, bytes }, ..options() });
    let mut ids = Vec::new();
    for payload in ["a", "b", "c"] {
        ids.push(rig.put(&[], payload).await);
    }
    rig.edit(|transaction| damage(transaction, "journal", ids[1].as_u128())).await;
    assert_eq!(rig.listed(), [ids[0], ids[2]]);
    assert!(matches!(rig.store.reading(ids[1]), Err(StoreError::Unavailable(Fault::Io { .. }))));
    for payload in ["d", "e", "f"] {
        ids.push(rig.put(&[], payload).await);
    }
    assert_eq!((rig.listed(), rig.store.stats().journal_count), (ids[4..].to_vec(), 3));
    assert!(rig.never_failed());
}

/// It blocked its lane for ever.
#[tokio::test(start_paused = true)]
async fn a_damaged_reading_that_waits_becomes_a_dead_letter_and_its_lane_goes_on() {
    let mut rig = Rig::new(options());
    let own = lane("r", "k");
    let mut ids = Vec::new();
    for payload in ["a", "b", "c"] {
        ids.push(rig.put(&[&own], payload).await);
    }
    rig.edit(|transaction| damage(transaction, "journal", ids[1].as_u128())).await;
    let load = || rig.store.waiting(&own.route, own.id(), &|_| false, 9, usize::MAX);
    let loaded = load().unwrap();
    assert_eq!((loaded.items.len(), loaded.complete), (1, false));
    rig.store.settle(handled(&own, &ids[..1])).await.unwrap();
    assert_eq!(rig.waiting_ids(&own), ids[2..]);

    let letters = rig.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].cause.ends_with("it is damaged on disk"), "{}", letters[0].cause);
    let Subject::Reading { lane: of, reading } = &letters[0].subject else { panic!("{letters:?}") };
    assert_eq!((of, reading.id), (&own, ids[1]));
    assert!(reading.attributes.get(LOST_ATTRIBUTE).is_some());
    // There is nothing to handle.
    assert!(matches!(rig.store.redrive(letters[0].id).await, Err(StoreError::Unavailable(_))));
    rig.store.discard_dead_letter(letters[0].id).await.unwrap();
    let stats = rig.store.stats();
    assert_eq!((stats.dead_letters, stats.payloads, rig.never_failed()), (0, 0, true));
}

/// The whole route stood still.
#[tokio::test(start_paused = true)]
async fn what_waits_in_a_lane_that_cannot_be_told_becomes_a_dead_letter_and_other_lanes_are_found() {
    let mut rig = Rig::new(options());
    let lanes = [lane("r", "a"), lane("r", "b")];
    for lane in &lanes {
        rig.put(&[lane], "x").await;
    }
    rig.edit(|transaction| damage_first(transaction, "waiting", 1)).await;
    assert!(matches!(rig.store.lanes(&name("r"), None, 9), Err(StoreError::Lost { .. })));
    rig.lost().await;
    assert_eq!((rig.store.lanes(&name("r"), None, 9).unwrap().len(), rig.dead_letters().len()), (1, 1));
    let letters = rig.dead_letters();
    let Subject::Reading { reading, .. } = &letters[0].subject else { panic!("{letters:?}") };
    assert_eq!(&reading.payload[..], b"x", "the reading itself is whole");
    assert!(rig.never_failed());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_delivery_becomes_a_dead_letter_and_what_is_behind_it_goes_on() {
    let mut rig = Rig::new(options());
    let (own, target) = (lane("r", "k"), sink("s"));
    let id = rig.put(&[&own], "x").await;
    let deliveries = vec![delivery(&target, id, "one"), delivery(&target, id, "two")];
    rig.store.settle(Outcome { deliveries, ..handled(&own, &[id]) }).await.unwrap();
    rig.edit(|transaction| damage_first(transaction, "outbox", 1)).await;
    assert_eq!(rig.store.outbox(None, 9).unwrap().items.len(), 1);
    let load = || rig.store.queued(&target, &|_| false, 9, usize::MAX);
    assert!(matches!(load().map(|_| ()), Err(StoreError::Lost { .. })));
    rig.lost().await;
    let loaded = load().unwrap();
    assert_eq!((loaded.items.len(), loaded.complete), (1, true));
    assert_eq!(&loaded.items[0].delivery.message.payload[..], b"two");

    let letters = rig.dead_letters();
    let Subject::Delivery { target: of, delivery } = &letters[0].subject else { panic!("{letters:?}") };
    assert_eq!((of, letters.len(), rig.store.stats().outbox), (&target, 1, 1));
    assert!(delivery.message.attributes.get(LOST_ATTRIBUTE).is_some());
    assert!(rig.never_failed());
}

/// Whatever was committed with it failed, too, and again.
#[tokio::test(start_paused = true)]
async fn a_sinks_delivery_whose_row_is_damaged_by_now_becomes_a_command_as_it_was_offered() {
    let mut rig = Rig::new(options());
    let (own, out, pump) = (lane("r", "k"), sink("out"), Target::Device("pump".into()));
    let id = rig.put(&[&own], "x").await;
    let deliveries = ["one", "two"].map(|payload| delivery(&out, id, payload)).into();
    rig.store.settle(Outcome { deliveries, ..handled(&own, &[id]) }).await.unwrap();
    let offered = rig.queued(&out);
    let handed = offered.iter().map(|queued| HandedOver {
        device: "pump".into(),
        delivery: (*queued.delivery).clone(),
        expires: None,
    });
    let handed = handed.collect();
    rig.edit(|transaction| damage_first(transaction, "outbox", 1)).await;
    rig.store.hand_over(name("out"), handed).await.unwrap();
    assert_eq!((rig.queued(&out).len(), rig.store.stats().outbox), (0, 2));
    let queued: Vec<_> = rig.queued(&pump).iter().map(|queued| queued.delivery.id).collect();
    assert_eq!(queued, offered.iter().map(|queued| queued.delivery.id).collect::<Vec<_>>());
    assert!(rig.never_failed());
}

/// The store failed each time, and the route or sink could not be removed.
#[tokio::test(start_paused = true)]
async fn a_route_and_a_sink_can_be_removed_whatever_of_them_is_damaged() {
    let mut rig = Rig::new(options());
    let (own, target) = (lane("r", "k"), sink("s"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(rig.put(&[&own], "x").await);
    }
    let deliveries = vec![delivery(&target, ids[0], "one"), delivery(&target, ids[0], "two")];
    rig.store.settle(Outcome { deliveries, ..handled(&own, &ids[..1]) }).await.unwrap();
    rig.store.keep(scope_of(&own), vec![write("a", "1"), write("b", "2")]).await.unwrap();
    rig.edit(|transaction| {
        damage(transaction, "journal", ids[1].as_u128());
        damage_first(transaction, "waiting", 2);
        damage_first(transaction, "outbox", 1);
        damage_first(transaction, "state", 1);
    })
    .await;
    rig.store.discard_route(name("r")).await.unwrap();
    rig.store.discard_target(target).await.unwrap();
    let stats = rig.store.stats();
    assert_eq!((stats.waiting, stats.outbox, stats.dead_letters), (0, 0, 4));
    assert_eq!(rig.dead_letters().iter().filter(|letter| letter.cause.contains("damaged")).count(), 2);
    assert_eq!(rig.store.state_names(&scope_of(&own), "").unwrap().len(), 0);
    assert!(rig.never_failed());
}

/// None could be listed, and it could not be discarded.
#[tokio::test(start_paused = true)]
async fn a_damaged_dead_letter_is_listed_discarded_and_makes_room_as_others_do() {
    let mut rig = Rig::new(options());
    let own = lane("r", "k");
    for _ in 0..4 {
        rig.put(&[&own], "x").await;
    }
    rig.store.discard_route(name("r")).await.unwrap();
    let ids: Vec<_> = rig.dead_letters().iter().rev().map(|letter| letter.id).collect();
    rig.edit(|transaction| {
        damage(transaction, "dead letters", ids[0].as_u128());
        damage(transaction, "dead letters", ids[2].as_u128());
    })
    .await;
    let letters = rig.dead_letters();
    assert_eq!(letters.iter().rev().map(|letter| letter.id).collect::<Vec<_>>(), ids);
    assert_eq!(letters[1].cause, "it is damaged on disk");
    let of_route = DeadLetterQuery { route: Some(name("r")), limit: 9, ..DeadLetterQuery::default() };
    assert_eq!(rig.store.dead_letters(&of_route).unwrap().items.len(), 2);
    assert!(matches!(rig.store.redrive(ids[2]).await, Err(StoreError::Unavailable(_))));
    rig.store.discard_dead_letter(ids[2]).await.unwrap();
    assert_eq!((rig.dead_letters().len(), rig.store.dead_letter(ids[2]).unwrap().is_none()), (3, true));

    rig.options.dead_letter_bytes = Some(1);
    rig.restart().await;
    rig.lost().await;
    assert_eq!(rig.dead_letters().iter().map(|letter| letter.id).collect::<Vec<_>>(), ids[3..]);
    assert!(rig.never_failed());
}

fn device(id: &str) -> DeviceRow {
    DeviceRow {
        id: id.into(),
        name: None,
        is_named: false,
        kind: None,
        labels: Vec::new(),
        ingresses: Vec::new(),
        first_seen: Timestamp::default(),
        last_seen: Timestamp::default(),
        presence: Presence::Online,
        since: Timestamp::default(),
        silence_ms: None,
    }
}

/// The registry did not start, and wrote the same again and again.
#[tokio::test(start_paused = true)]
async fn what_is_known_of_devices_is_learnt_anew_where_it_is_damaged() {
    let mut rig = Rig::new(options());
    let value = |value: &str| Resource { name: "t".into(), time: Timestamp::default(), value: value.into() };
    let batch = |value| DevicesBatch {
        rows: vec![device("a"), device("b")],
        resources: vec![("a".into(), vec![value])],
        ..DevicesBatch::default()
    };
    rig.store.put_devices(batch(value("1"))).await.unwrap();
    rig.edit(|transaction| {
        for table in ["devices", "device resources"] {
            let table = TableDefinition::<&str, &[u8]>::new(table);
            transaction.open_table(table).unwrap().insert("a", DAMAGED).unwrap();
        }
    })
    .await;
    let known: Vec<_> = rig.store.devices().unwrap().into_iter().map(|device| device.id).collect();
    assert_eq!((known, rig.store.resources("a").unwrap()), (vec!["b".into()], vec![]));
    rig.store.put_devices(batch(value("2"))).await.unwrap();
    assert_eq!(
        (rig.store.devices().unwrap().len(), rig.store.resources("a").unwrap()),
        (2, vec![value("2")])
    );
    assert!(rig.never_failed());
}

/// It waited, and was looked at each second, for ever.
#[tokio::test(start_paused = true)]
async fn a_command_whose_row_is_damaged_comes_to_its_end_all_the_same() {
    let mut rig = Rig::new(options());
    let (pump, expires) = (Target::Device("pump".into()), rig.clock.now());
    let message = delivery(&pump, ReadingId::from_u128(1), "on").message;
    let expires = Some(expires);
    let command = NewCommand { device: "pump".into(), message, expires, asks: false, desired: None };
    let (id, committed) = rig.store.put_command(command).unwrap();
    committed.await.unwrap();
    rig.edit(|transaction| damage_first(transaction, "device commands", 1)).await;
    assert_eq!((rig.queued(&pump).len(), rig.store.commands_due(None, 9).unwrap().len()), (1, 1));
    let ended = rig.store.end_command("pump", id, CommandState::Expired, None).await;
    assert_eq!((ended, rig.store.commands_due(None, 9).unwrap()), (Err(StoreError::NotFound), vec![]));
    assert_eq!((rig.queued(&pump).len(), rig.store.stats().outbox), (0, 0));
    assert!(rig.never_failed());
}

/// It was due, and nothing could be found that was to leave: fifty transactions began each second.
#[tokio::test(start_paused = true)]
async fn what_is_counted_or_due_and_not_there_is_looked_at_once() {
    const EXPIRY: TableDefinition<'_, &[u8], ()> = TableDefinition::new("state expiry");
    let mut rig = Rig::new(options());
    let is_over = rig.clock.now();
    let soon = StateWrite { expires: Some(is_over), ..write("soon", "1") };
    rig.store.keep(scope_of(&lane("r", "k")), vec![soon]).await.unwrap();
    rig.edit(|transaction| {
        let mut meta = transaction.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        let mut ledger = meta.get("ledger").unwrap().unwrap().value().to_vec();
        ledger[24..].copy_from_slice(&(1_u64 << 40).to_be_bytes());
        meta.insert("ledger", &ledger[..]).unwrap();
        transaction.open_table(EXPIRY).unwrap().insert(DAMAGED, ()).unwrap();
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.store.stats().trace_bytes, 0);
    rig.edit(|transaction| assert!(transaction.open_table(EXPIRY).unwrap().is_empty().unwrap())).await;
    assert!(rig.never_failed());
}
