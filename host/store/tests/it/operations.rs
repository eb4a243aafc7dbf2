//! What each change does.

use std::time::Duration;

use sandbar_reading::{Clock, DeliveryId, Lineage, ReadingId, Refused, Scope, StateWrite, Target, Timestamp};
use sandbar_store::{
    Accept, COMMANDS_KEPT, CommandState, Delivered, FailedAttempt, FailedDelivery, HandedOver, Kind,
    NewCommand, Next, Options, Outcome, StoreError, Subject,
};

use crate::rig::{Rig, accept, delivery, handled, lane, name, on_disk, options, scope_of, sink, write};

#[tokio::test(start_paused = true)]
async fn an_accepted_reading_is_journaled_waits_in_its_lanes_and_is_told() {
    let rig = Rig::new(options());
    let (alarm, log) = (lane("alarm", "d1"), lane("log", "küche\0"));
    let mut accept = accept(&[&alarm, &log], "{}");
    accept.inbound.device = Some("d1".into());
    accept.keep = vec![write("position", "7")];
    let journaling = rig.store.accept(accept.clone()).unwrap();
    let (announced, receipt) = (journaling.id, journaling.committed.await.unwrap());

    assert_eq!(receipt.id(), announced);
    let reading = rig.store.reading(announced).unwrap().unwrap();
    assert_eq!((&reading.topic, &reading.payload), (&accept.inbound.topic, &accept.inbound.payload));
    assert_eq!((reading.time, reading.device.as_deref()), (rig.clock.now(), Some("d1")));
    for lane in [&alarm, &log] {
        let waiting = rig.waiting(lane);
        assert_eq!((&waiting[0].lane, &*waiting[0].reading, waiting.len()), (lane, &reading, 1));
    }
    assert_eq!(rig.store.routes_waiting().unwrap(), [name("alarm"), name("log")]);
    assert_eq!(rig.state_text(&Scope::Ingress(name("web")), "position").as_deref(), Some("7"));
    let news = rig.told.news.lock();
    assert_eq!((news.readings.len(), news.waiting.len(), &*news.readings[0]), (1, 2, &reading));
}

#[tokio::test(start_paused = true)]
async fn the_order_of_calls_is_the_order_of_ids_and_one_commit_takes_them_all() {
    let rig = Rig::new(options());
    let lane = lane("r", "k");
    let calls: Vec<_> =
        (0..200).map(|n| rig.store.accept(accept(&[&lane], &n.to_string())).unwrap()).collect();
    let mut ids = Vec::new();
    // Asked in another order than called.
    for journaling in calls.into_iter().rev() {
        ids.push(journaling.committed.await.unwrap().id());
    }
    ids.reverse();
    assert!(ids.is_sorted());
    assert_eq!(rig.waiting_ids(&lane), ids);
    let payloads: Vec<_> = rig.waiting(&lane).iter().map(|waiting| waiting.reading.payload.clone()).collect();
    assert!(payloads.iter().enumerate().all(|(n, payload)| payload == n.to_string().as_bytes()));
    assert_eq!(rig.store.stats().commits, 1);
}

/// The clock is paused: it only moves on while everybody waits.
#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_shares_a_commit_with_what_comes_next() {
    let rig = Rig::new(options());
    let lane = lane("celsius", "d1");
    let first = rig.put(&[&lane], "1").await;
    let before = rig.store.stats().commits;
    let settled = rig.store.settle(handled(&lane, &[first]));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.store.stats().commits, before, "it waits for company");
    let second = rig.put(&[&lane], "2").await;
    settled.await.unwrap();
    assert_eq!((rig.store.stats().commits, rig.waiting_ids(&lane)), (before + 1, vec![second]));

    // Nobody comes: it is committed all the same.
    rig.store.settle(handled(&lane, &[second])).await.unwrap();
    assert_eq!(rig.waiting_ids(&lane), []);

    // A sender waits for its reply: no time passes.
    let third = rig.put(&[&lane], "3").await;
    let began = tokio::time::Instant::now();
    rig.store.settle(Outcome { prompt: true, ..handled(&lane, &[third]) }).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_keeps_and_does_not_wait_for_shares_a_commit_likewise() {
    let rig = Rig::new(options());
    let scope = Scope::Ingress(name("web"));
    let before = rig.store.stats().commits;
    let kept = rig.store.keep_patiently(scope.clone(), vec![write("position", "1")]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.store.stats().commits, before, "it waits for company");
    rig.store.keep(scope.clone(), vec![write("position", "2")]).await.unwrap();
    kept.await.unwrap();
    assert_eq!(rig.store.stats().commits, before + 1);
    assert_eq!(rig.state_text(&scope, "position").as_deref(), Some("2"), "in the order of the calls");
    rig.store.keep_patiently(scope.clone(), vec![write("position", "3")]).await.unwrap();
    assert_eq!(rig.state_text(&scope, "position").as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_committed_whole() {
    let rig = Rig::new(options());
    let (from, to, target) = (lane("celsius", "d1"), lane("alarm", "d1"), sink("out"));
    let id = rig.put(&[&from], "{}").await;
    let lineage = Lineage { parent: Some(id), depth: 1 };
    let chained =
        Accept { ingress: sandbar_reading::Name::of_route(&from.route), lineage, ..accept(&[&to], "21") };
    let outcome = Outcome {
        deliveries: vec![delivery(&target, id, "one"), delivery(&target, id, "two")],
        chained: vec![chained],
        state: vec![write("last", "21")],
        ..handled(&from, &[id])
    };
    rig.store.settle(outcome).await.unwrap();

    assert_eq!(rig.waiting_ids(&from), []);
    assert_eq!(rig.state_text(&scope_of(&from), "last").as_deref(), Some("21"));
    let waiting = rig.waiting(&to);
    assert_eq!((waiting.len(), waiting[0].reading.lineage), (1, lineage));
    assert_eq!(waiting[0].reading.ingress.as_str(), "route/celsius");
    let queued = rig.queued(&target);
    let payloads: Vec<_> = queued.iter().map(|queued| &queued.delivery.message.payload[..]).collect();
    assert_eq!(payloads, [b"one", b"two"]);
    assert_eq!((queued[0].delivery.reading, &queued[0].delivery.route), (id, &from.route));
    assert_eq!(rig.told.news.lock().queued.len(), 2);
    assert_eq!(rig.store.targets().unwrap(), [target]);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_takes_effect_once_and_a_stale_one_writes_nothing() {
    let rig = Rig::new(options());
    let (lane, target) = (lane("r", "k"), sink("out"));
    let (first, second) = (rig.put(&[&lane], "1").await, rig.put(&[&lane], "2").await);
    let outcome = |readings: &[_], value| Outcome {
        deliveries: vec![delivery(&target, first, value)],
        state: vec![write("last", value)],
        ..handled(&lane, readings)
    };
    rig.store.settle(outcome(&[first], "once")).await.unwrap();
    // Alone, first of several, last of several, and as the failed one.
    for readings in [&[first][..], &[first, second], &[second, first]] {
        assert_eq!(rig.store.settle(outcome(readings, "again")).await, Err(StoreError::Stale));
    }
    let next = Next::RetryAt(rig.clock.now());
    let failed = Some(FailedAttempt { reading: first, attempts: 1, cause: "x".into(), next });
    let stale = Outcome { failed, ..outcome(&[second], "again") };
    assert_eq!(rig.store.settle(stale).await, Err(StoreError::Stale));

    assert_eq!(rig.waiting_ids(&lane), [second]);
    assert_eq!(rig.queued(&target).len(), 1);
    assert_eq!(rig.state_text(&scope_of(&lane), "last").as_deref(), Some("once"));
    let stats = rig.store.stats();
    assert_eq!((stats.waiting, stats.outbox), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stale_outcome_does_not_harm_those_it_shares_a_commit_with() {
    let rig = Rig::new(options());
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "1").await;
    let once = rig.store.settle(handled(&lane, &[id]));
    let twice = rig.store.settle(handled(&lane, &[id]));
    let other = rig.store.accept(accept(&[&lane], "2")).unwrap();
    assert_eq!((once.await, twice.await), (Ok(()), Err(StoreError::Stale)));
    let other = other.committed.await.unwrap().id();
    assert_eq!(rig.waiting_ids(&lane), [other]);
    assert_eq!(rig.store.stats().commits, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_waits_on_and_then_becomes_a_dead_letter() {
    let rig = Rig::new(options());
    let lane = lane("r", "k");
    let (id, later) = (rig.put(&[&lane], "poison").await, rig.put(&[&lane], "fine").await);
    let due = rig.clock.now().after(Duration::from_secs(9));
    let failed = |attempts, next| Outcome {
        failed: Some(FailedAttempt { reading: id, attempts, cause: "trap".into(), next }),
        ..handled(&lane, &[])
    };
    rig.store.settle(failed(1, Next::RetryAt(due))).await.unwrap();
    let waiting = rig.waiting(&lane);
    assert_eq!((waiting[0].reading.id, waiting[0].attempts, waiting[0].due), (id, 1, due));

    rig.store.settle(failed(2, Next::DeadLetter)).await.unwrap();
    assert_eq!(rig.waiting_ids(&lane), [later]);
    let dead = rig.dead_letters();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].cause.as_str()), (1, 2, "trap"));
    let Subject::Reading { lane: of, reading } = &dead[0].subject else { panic!("{dead:?}") };
    assert_eq!((of, &reading.payload[..]), (&lane, &b"poison"[..]));
    assert_eq!(rig.told.news.lock().dead_letters[0], dead[0].id);
}

#[tokio::test(start_paused = true)]
async fn deliveries_leave_the_outbox_wait_on_or_become_dead_letters() {
    let rig = Rig::new(options());
    let (lane, target) = (lane("r", "k"), Target::Device("\0pump".into()));
    let id = rig.put(&[&lane], "1").await;
    let deliveries = ["a", "b", "c"].map(|payload| delivery(&target, id, payload)).into();
    rig.store.settle(Outcome { deliveries, ..handled(&lane, &[id]) }).await.unwrap();
    let ids: Vec<_> = rig.queued(&target).iter().map(|queued| queued.delivery.id).collect();
    let before = rig.queued(&target)[1].delivery.clone();
    let due = rig.clock.now().after(Duration::from_secs(1));
    let failed = |id, next| FailedDelivery { id, attempts: 4, cause: "503".into(), next };
    let unknown = DeliveryId::from_u128(1);
    let delivered = Delivered {
        target: target.clone(),
        accepted: vec![ids[0], unknown],
        failed: vec![
            failed(ids[1], Next::RetryAt(due)),
            failed(ids[2], Next::DeadLetter),
            failed(unknown, Next::DeadLetter),
        ],
    };
    rig.store.delivered(delivered).await.unwrap();

    let queued = rig.queued(&target);
    assert_eq!((queued.len(), &queued[0].delivery), (1, &before));
    assert_eq!((queued[0].attempts, queued[0].due, queued[0].last_cause.as_deref()), (4, due, Some("503")));
    let dead = rig.dead_letters();
    let [Subject::Delivery { target: of, delivery }] = [&dead[0].subject] else { panic!("{dead:?}") };
    assert_eq!((of, delivery.id, &delivery.message.payload[..]), (&target, ids[2], &b"c"[..]));
    let stats = rig.store.stats();
    assert_eq!((stats.outbox, stats.dead_letters, dead.len()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_redriven_waits_again_under_its_old_id() {
    let rig = Rig::new(options());
    let (lane, target) = (lane("r", "k"), sink("out"));
    let id = rig.put(&[&lane], "1").await;
    let cause = || "trap".to_owned();
    let failed = FailedAttempt { reading: id, attempts: 5, cause: cause(), next: Next::DeadLetter };
    rig.store.settle(Outcome { failed: Some(failed), ..handled(&lane, &[]) }).await.unwrap();
    let letter = rig.dead_letters()[0].id;
    rig.store.redrive(letter).await.unwrap();
    let waiting = rig.waiting(&lane);
    assert_eq!((waiting[0].reading.id, waiting[0].attempts), (id, 0));
    assert_eq!(rig.store.dead_letter(letter).unwrap().map(|letter| letter.id), None);

    let outcome = Outcome { deliveries: vec![delivery(&target, id, "x")], ..handled(&lane, &[id]) };
    rig.store.settle(outcome).await.unwrap();
    let queued = rig.queued(&target)[0].delivery.clone();
    let failed = vec![FailedDelivery { id: queued.id, attempts: 9, cause: cause(), next: Next::DeadLetter }];
    rig.store.delivered(Delivered { target: target.clone(), accepted: vec![], failed }).await.unwrap();
    rig.store.redrive(rig.dead_letters()[0].id).await.unwrap();
    assert_eq!((&rig.queued(&target)[0].delivery, rig.queued(&target)[0].attempts), (&queued, 0));

    assert_eq!(rig.store.redrive(letter).await, Err(StoreError::NotFound));
    assert_eq!(rig.store.discard_dead_letter(letter).await, Err(StoreError::NotFound));
    let stats = rig.store.stats();
    assert_eq!((stats.journal_count, stats.dead_letters, stats.outbox), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_discarded_routes_readings_become_dead_letters_and_its_state_goes() {
    let rig = Rig::new(options());
    let (gone, stays) = (lane("r", "k"), lane("r2", "k"));
    let all: Vec<_> =
        (0..600).map(|n| rig.store.accept(accept(&[&gone, &stays], &n.to_string())).unwrap()).collect();
    for journaling in all {
        let _ = journaling.committed.await.unwrap();
    }
    for lane in [&gone, &stays] {
        let expires = Some(rig.clock.now().after(Duration::from_secs(60)));
        let writes = (0..300).map(|n| StateWrite { expires, ..write(&n.to_string(), "v") }).collect();
        rig.store.keep(scope_of(lane), writes).await.unwrap();
    }
    rig.store.discard_route(name("r")).await.unwrap();

    assert_eq!(rig.store.routes_waiting().unwrap(), [name("r2")]);
    assert_eq!((rig.dead_letters().len(), rig.waiting(&stays).len()), (600, 600));
    assert_eq!(rig.store.state_used(&scope_of(&gone)).unwrap(), (0, 0));
    assert_eq!(rig.store.state_used(&scope_of(&stays)).unwrap().1, 300);
    assert_eq!(rig.told.news.lock().dead_letters.len(), 600);
    assert!(rig.dead_letters()[0].cause.contains("`r`"));
    rig.store.discard_dead_letter(rig.dead_letters()[0].id).await.unwrap();
    assert_eq!((rig.dead_letters().len(), rig.store.stats().dead_letters), (599, 599));
}

#[tokio::test(start_paused = true)]
async fn a_discarded_targets_deliveries_become_dead_letters() {
    let rig = Rig::new(options());
    let (lane, gone, stays) = (lane("r", "k"), sink("a"), sink("ab"));
    let id = rig.put(&[&lane], "1").await;
    let deliveries = (0..300).flat_map(|_| [delivery(&gone, id, "x"), delivery(&stays, id, "y")]).collect();
    rig.store.settle(Outcome { deliveries, ..handled(&lane, &[id]) }).await.unwrap();
    rig.store.discard_target(gone.clone()).await.unwrap();
    assert_eq!(rig.store.targets().unwrap(), std::slice::from_ref(&stays));
    assert_eq!((rig.queued(&stays).len(), rig.dead_letters().len()), (300, 300));
}

#[tokio::test(start_paused = true)]
async fn documents_are_written_and_deleted_together() {
    let rig = Rig::new(options());
    let put = |kind, name: &str, bytes: &[u8]| (kind, name.to_owned(), Some(bytes.to_vec()));
    rig.store
        .put_documents(vec![
            put(Kind::Route, "b", b"2"),
            put(Kind::Route, "a", b"1"),
            put(Kind::Sink, "a", b"s"),
        ])
        .await
        .unwrap();
    rig.store
        .put_documents(vec![(Kind::Route, "b".into(), None), put(Kind::Route, "c", b"3")])
        .await
        .unwrap();
    let documents = rig.store.documents(Kind::Route).unwrap();
    assert_eq!(documents, [("a".to_owned(), b"1".to_vec()), ("c".to_owned(), b"3".to_vec())]);
    assert_eq!(rig.store.documents(Kind::Sink).unwrap().len(), 1);
    assert_eq!(rig.store.documents(Kind::Module).unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn ids_grow_across_a_restart_with_a_clock_that_jumped_back() {
    let mut rig = Rig::new(options());
    let lane = lane("r", "k");
    let before = rig.put(&[&lane], "1").await;
    rig.clock.set(1_000_000);
    rig.restart().await;
    let after = rig.put(&[&lane], "2").await;
    assert!(after > before);
    assert_eq!(rig.waiting_ids(&lane), [before, after]);
    assert_eq!(rig.store.stats().journal_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_drivers_at_once_and_lets_the_hosts_own_wait() {
    let rig = Rig::new(Options { queue_max: 2, ..options() });
    let lane = lane("r", "k");
    let id = rig.put(&[&lane], "0").await;
    let taken: Vec<_> = (0..2).map(|_| rig.store.accept(accept(&[&lane], "1")).unwrap()).collect();
    assert!(matches!(rig.store.accept(accept(&[&lane], "1")).map(|_| ()), Err(Refused::Busy { .. })));
    assert!(matches!(rig.store.keep(scope_of(&lane), vec![]).await, Err(Refused::Busy { .. })));
    let own: Vec<_> = (0..5).map(|_| rig.store.settle(handled(&lane, &[id]))).collect();
    let mut settled = 0;
    for own in own {
        settled += usize::from(own.await.is_ok());
    }
    assert_eq!(settled, 1);
    for journaling in taken {
        let _ = journaling.committed.await.unwrap();
    }
    rig.put(&[&lane], "2").await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_bytes_refuses_but_takes_any_single_reading() {
    let rig = Rig::new(Options { queue_bytes: 1000, ..options() });
    let lane = lane("r", "k");
    let large = "x".repeat(5000);
    let first = rig.store.accept(accept(&[&lane], &large)).unwrap();
    assert!(matches!(rig.store.accept(accept(&[&lane], "1")).map(|_| ()), Err(Refused::Busy { .. })));
    let _ = first.committed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_commits_what_waits_and_refuses_what_comes_after() {
    let mut rig = Rig::new(options());
    let lane = lane("r", "k");
    let journaling = rig.store.accept(accept(&[&lane], "1")).unwrap();
    rig.store.clone().close().await;
    let id = journaling.committed.await.unwrap().id();
    assert_eq!(rig.accept(&[&lane], "2").await, Err(Refused::Stopping));
    assert_eq!(rig.store.settle(handled(&lane, &[id])).await, Err(StoreError::Stopping));
    assert_eq!(rig.store.reading(id), Err(StoreError::Stopping));
    rig.open();
    assert_eq!(rig.waiting_ids(&lane), [id]);
}

/// Those that somebody ordered were never forgotten, and each order looks through all of the device's.
#[tokio::test(start_paused = true)]
async fn of_commands_that_have_ended_the_newest_are_remembered_whoever_ordered_them() {
    let rig = Rig::new(options());
    let target = Target::Device("pump".into());
    let expires = Some(rig.clock.now().after(Duration::from_secs(3600)));
    let order = async || {
        let message = delivery(&target, ReadingId::from_u128(1), "on").message;
        let command = NewCommand { device: "pump".into(), message, expires, asks: true, desired: None };
        let (id, committed) = rig.store.put_command(command).unwrap();
        committed.await.unwrap();
        id
    };
    let waits = order().await;
    for _ in 0..300 {
        // Nobody answers: that is looked for to its end.
        let accepted = vec![order().await];
        rig.store.delivered(Delivered { target: target.clone(), accepted, failed: vec![] }).await.unwrap();
    }
    let kept = rig.store.commands("pump", None, 1000, &|_| true).unwrap();
    assert!((COMMANDS_KEPT..COMMANDS_KEPT + 20).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().map(|oldest| oldest.id), Some(waits), "what waits is always kept");
    assert_eq!(rig.store.commands_due(None, 1000).unwrap().len(), kept.len());
}

/// A kill behind the hand-over has the sink hand over once more.
#[tokio::test(start_paused = true)]
async fn what_a_sink_hands_over_is_a_command_once() {
    let rig = Rig::new(options());
    let (lane, out, pump) = (lane("r", "k"), sink("out"), Target::Device("pump".into()));
    let id = rig.put(&[&lane], "1").await;
    let deliveries = ["a", "b", "c"].map(|payload| delivery(&out, id, payload)).into();
    rig.store.settle(Outcome { deliveries, ..handled(&lane, &[id]) }).await.unwrap();
    let before: Vec<_> = rig.queued(&out).iter().map(|queued| (*queued.delivery).clone()).collect();
    let expires = Some(rig.clock.now().after(Duration::from_secs(60)));
    let mut handed = Vec::new();
    for mut delivery in before[..2].iter().cloned() {
        delivery.message.topic = "set".parse().unwrap();
        handed.push(HandedOver { device: "pump".into(), delivery, expires });
    }
    let accepted = vec![before[0].id, before[1].id];
    let commands = || rig.store.commands("pump", None, 9, &|_| true).unwrap();
    for _ in 0..2 {
        rig.store.hand_over(name("out"), handed.clone()).await.unwrap();
        let queued: Vec<_> = rig.queued(&pump).iter().map(|queued| (*queued.delivery).clone()).collect();
        assert!(queued.iter().eq(handed.iter().map(|handed| &handed.delivery)), "{queued:?}");
        assert_eq!((rig.queued(&out).len(), rig.store.stats().outbox), (1, 3));
        let known: Vec<_> = commands().into_iter().map(|row| (row.id, row.state, row.expires)).collect();
        let waits = |id| (id, CommandState::Queued, expires);
        assert_eq!(known, [waits(accepted[1]), waits(accepted[0])]);
        // The sink's own word comes later, or never.
        let delivered = Delivered { target: out.clone(), accepted: accepted.clone(), failed: vec![] };
        rig.store.delivered(delivered).await.unwrap();
    }
    assert_eq!((&*commands()[0].name, commands()[0].route.clone()), ("set", Some(name("r"))));
    assert_eq!((rig.store.queued_count(&pump, 1), rig.store.queued_count(&pump, 9)), (Ok(1), Ok(2)));
    assert_eq!(rig.told.news.lock().queued.len(), 3 + 2);

    rig.store.delivered(Delivered { target: pump.clone(), accepted, failed: vec![] }).await.unwrap();
    rig.store.hand_over(name("out"), handed).await.unwrap();
    assert_eq!((rig.queued(&pump).len(), rig.store.stats().outbox), (0, 1));
    assert!(commands().iter().all(|row| row.state == CommandState::Acknowledged));
}

/// There is no end of devices whose ids are made anew each time, and so there was none of their commands.
#[tokio::test(start_paused = true)]
async fn of_very_many_commands_the_oldest_that_have_ended_are_forgotten_whatever_devices_they_were_for() {
    let rig = Rig::new(Options { commands: 50, ..options() });
    let own = lane("r", "k");
    let devices: Vec<_> = (0..300).map(|n| format!("device-{n}")).collect();
    let target = |device: &str| Target::Device(device.into());
    let reading = rig.put(&[&own], "x").await;
    let deliveries = devices.iter().map(|device| delivery(&target(device), reading, "on")).collect();
    rig.store.settle(Outcome { deliveries, ..handled(&own, &[reading]) }).await.unwrap();
    // One waits.
    for device in &devices[1..] {
        let target = target(device);
        let accepted = vec![rig.queued(&target)[0].delivery.id];
        rig.store.delivered(Delivered { target, accepted, failed: vec![] }).await.unwrap();
    }
    rig.pass(Duration::from_secs(60)).await;
    let remembered = |device: &String| !rig.store.commands(device, None, 9, &|_| true).unwrap().is_empty();
    let count = devices.iter().filter(|device| remembered(device)).count();
    assert!((40..=55).contains(&count), "{count}");
    assert!(remembered(&devices[0]) && remembered(&devices[299]) && !remembered(&devices[1]));
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_kept_as_a_discarded_ingress_is_dropped() {
    let rig = Rig::new(options());
    let scopes = ["web", "web2"].map(|ingress| Scope::Ingress(name(ingress)));
    for scope in &scopes {
        let expires = Some(rig.clock.now().after(Duration::from_secs(60)));
        let writes = (0..300).map(|n| StateWrite { expires, ..write(&n.to_string(), "v") }).collect();
        rig.store.keep(scope.clone(), writes).await.unwrap();
    }
    rig.store.discard_ingress(name("web")).await.unwrap();
    assert_eq!(rig.store.state_used(&scopes[0]).unwrap(), (0, 0));
    assert_eq!(rig.store.state_used(&scopes[1]).unwrap().1, 300);
}

/// It was looked at every second for ever.
#[tokio::test]
async fn that_a_command_is_due_which_is_not_known_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let open = || on_disk(folder.path());
    open().close().await;
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let due = redb::TableDefinition::<&[u8], ()>::new("device commands due");
        let key = [&1_u64.to_be_bytes()[..], b"pump\0", &7_u128.to_be_bytes()].concat();
        transaction.open_table(due).unwrap().insert(&key[..], ()).unwrap();
        transaction.commit().unwrap();
    }
    let store = open();
    let id = DeliveryId::from_u128(7);
    assert_eq!(store.commands_due(None, 9).unwrap(), [(Timestamp::from_nanos(1), "pump".into(), id)]);
    let ended = store.end_command("pump", id, CommandState::Expired, None).await;
    assert_eq!((ended, store.commands_due(None, 9).unwrap()), (Err(StoreError::NotFound), vec![]));
    store.close().await;
}
