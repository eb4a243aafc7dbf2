//! What may be asked.

use std::time::Duration;

use sandbar_reading::{Clock, ReadingId, Scope, StateWrite};
use sandbar_store::{DeadLetterQuery, FailedAttempt, Next, Outcome, ReadingQuery};

use crate::rig::{Rig, accept, delivery, handled, lane, name, options, scope_of, sink, write};

#[tokio::test(start_paused = true)]
async fn readings_are_found_by_what_they_are_in_pages_of_either_order() {
    let rig = Rig::new(options());
    let mut ids = Vec::new();
    let mut half = rig.clock.now();
    for n in 0..10 {
        let mut accept = accept(&[], &n.to_string());
        accept.inbound.topic = format!("site/{}/temp", n % 2).parse().unwrap();
        accept.inbound.device = (n % 3 == 0).then(|| "d".into());
        accept.ingress = name(if n < 8 { "web" } else { "mqtt" });
        rig.clock.forward(Duration::from_millis(1));
        if n == 5 {
            half = rig.clock.now();
        }
        ids.push(rig.store.accept(accept).unwrap().committed.await.unwrap().id());
    }
    let found = |query: ReadingQuery| -> Vec<usize> {
        let page = rig.store.readings(&query).unwrap();
        page.items.iter().map(|reading| ids.iter().position(|id| *id == reading.id).unwrap()).collect()
    };
    let all = || ReadingQuery { limit: 100, ..ReadingQuery::default() };
    assert_eq!(found(all()), (0..10).collect::<Vec<_>>());
    assert_eq!(found(ReadingQuery { newest_first: true, ..all() }), (0..10).rev().collect::<Vec<_>>());
    assert_eq!(found(ReadingQuery { topic: Some("site/1/#".parse().unwrap()), ..all() }), [1, 3, 5, 7, 9]);
    assert_eq!(found(ReadingQuery { device: Some("d".into()), ..all() }), [0, 3, 6, 9]);
    assert_eq!(found(ReadingQuery { ingress: Some(name("mqtt")), ..all() }), [8, 9]);
    assert_eq!(found(ReadingQuery { since: Some(half), ..all() }), [5, 6, 7, 8, 9]);
    assert_eq!(found(ReadingQuery { since: Some(half), newest_first: true, ..all() }), [9, 8, 7, 6, 5]);

    for newest_first in [false, true] {
        let (mut seen, mut cursor) = (Vec::<ReadingId>::new(), None);
        loop {
            let page = rig.store.readings(&ReadingQuery { limit: 3, newest_first, cursor, ..all() }).unwrap();
            seen.extend(page.items.iter().map(|reading| reading.id));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        if newest_first {
            seen.reverse();
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test(start_paused = true)]
async fn lanes_are_listed_once_each_and_in_pages() {
    let rig = Rig::new(options());
    let lanes: Vec<_> = (0..7).map(|n| lane("r", &n.to_string())).collect();
    for lane in lanes.iter().chain(&lanes) {
        rig.put(&[lane, &crate::rig::lane("q", "other"), &crate::rig::lane("s", "other")], "x").await;
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = rig.store.lanes(&name("r"), after, 3).unwrap();
        after = page.last().map(|lane| lane.id());
        found.extend(page.iter().map(|lane| lane.key.to_string()));
        if page.len() < 3 {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(rig.store.lanes(&name("none"), None, 3).unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_given_in_parts_and_without_what_is_known() {
    let rig = Rig::new(options());
    let lane = lane("r", "k");
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(rig.put(&[&lane], &n.to_string().repeat(1000)).await);
    }
    let load = |skip: &dyn Fn(ReadingId) -> bool, count, bytes| {
        let loaded = rig.store.waiting(&lane.route, lane.id(), skip, count, bytes).unwrap();
        (loaded.items.iter().map(|waiting| waiting.reading.id).collect::<Vec<_>>(), loaded.complete)
    };
    assert_eq!(load(&|_| false, 4, usize::MAX), (ids[..4].to_vec(), false));
    assert_eq!(load(&|_| false, 6, usize::MAX), (ids.clone(), true));
    assert_eq!(load(&|_| false, 6, 2000), (ids[..2].to_vec(), false));
    assert_eq!(load(&|_| false, 6, 0), (ids[..1].to_vec(), false));
    assert_eq!(load(&|id| id < ids[4], 6, usize::MAX), (ids[4..].to_vec(), true));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_and_the_outbox_are_given_in_pages() {
    let rig = Rig::new(options());
    let (one, two) = (lane("one", "k"), lane("two", "k"));
    let targets = [sink("a"), sink("b")];
    for lane in [&one, &two, &one, &two, &one] {
        let (fails, works) = (rig.put(&[lane], "x").await, rig.put(&[lane], "y").await);
        let failed = FailedAttempt { reading: fails, attempts: 1, cause: "c".into(), next: Next::DeadLetter };
        rig.store.settle(Outcome { failed: Some(failed), ..handled(lane, &[]) }).await.unwrap();
        let deliveries = targets.iter().map(|target| delivery(target, works, "m")).collect();
        rig.store.settle(Outcome { deliveries, ..handled(lane, &[works]) }).await.unwrap();
    }
    let query = |route: &str, limit, cursor| DeadLetterQuery {
        route: Some(name(route)),
        limit,
        cursor,
        oldest_first: false,
        target: None,
    };
    let page = rig.store.dead_letters(&query("one", 2, None)).unwrap();
    let rest = rig.store.dead_letters(&query("one", 2, page.cursor)).unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.cursor), (2, 1, None));
    assert!(page.items[0].id > page.items[1].id && page.items[1].id > rest.items[0].id);
    let of_target =
        DeadLetterQuery { target: Some(targets[0].clone()), limit: 9, ..DeadLetterQuery::default() };
    assert_eq!(rig.store.dead_letters(&of_target).unwrap().items.len(), 0);
    rig.store.discard_target(targets[0].clone()).await.unwrap();
    assert_eq!(rig.store.dead_letters(&of_target).unwrap().items.len(), 5);

    let page = rig.store.outbox(None, 3).unwrap();
    let rest = rig.store.outbox(page.cursor.as_ref(), 3).unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.cursor), (3, 2, None));
    assert!(page.items[2].delivery.id < rest.items[0].delivery.id);
}

#[tokio::test(start_paused = true)]
async fn state_is_the_scopes_own_and_expires() {
    let rig = Rig::new(options());
    let (own, other) = (scope_of(&lane("r", "k")), scope_of(&lane("r", "k\0x")));
    let soon = rig.clock.now().after(Duration::from_secs(5));
    let expiring = |name: &str, value: &str| StateWrite { expires: Some(soon), ..write(name, value) };
    let writes = vec![
        write("a/1", "12"),
        write("a/2", "3"),
        write("b", "4"),
        expiring("a/soon", "5"),
        expiring("b/kept", "6"),
    ];
    rig.store.keep(own.clone(), writes).await.unwrap();
    rig.store.keep(other.clone(), vec![write("a/other", "7")]).await.unwrap();
    // It no longer expires.
    rig.store.keep(own.clone(), vec![write("b/kept", "8")]).await.unwrap();
    let names = |prefix| {
        rig.store.state_names(&own, prefix).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("a/"), ["a/1", "a/2", "a/soon"]);
    assert_eq!(names(""), ["a/1", "a/2", "a/soon", "b", "b/kept"]);
    assert_eq!(rig.store.state_used(&own).unwrap(), (5 + 4 + 2 + 7 + 7, 5));
    assert_eq!(rig.state_text(&Scope::Ingress(name("r")), "b"), None);

    rig.clock.forward(Duration::from_secs(5));
    // At once for who asks, and from the disk when the time comes.
    assert_eq!(rig.state_text(&own, "a/soon"), None);
    assert_eq!(names("a/"), ["a/1", "a/2"]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.state_text(&own, "b/kept").as_deref(), Some("8"));
    let delete = StateWrite { name: "b".into(), value: None, expires: None };
    rig.store.keep(own.clone(), vec![delete]).await.unwrap();
    assert_eq!(names("b"), ["b/kept"]);
    rig.clock.set(1_000_000);
    assert_eq!(names("a/"), ["a/1", "a/2"], "what expired is off the disk");
}
