//! What is kept of how readings were handled and deliveries offered.

use sandbar_reading::{Clock, DeliveryId, ReadingId};
use sandbar_store::{
    Delivered, FailedAttempt, FailedDelivery, Next, Options, Outcome, Part, Trace, TracedCall, TracedEnd,
    TracedLine,
};

use crate::rig::{Rig, delivery, handled, lane, options, sink};

fn call(version: u32, fault: Option<&str>) -> TracedCall {
    let line = TracedLine { level: 3, context: "c".into(), message: "said".into() };
    let fault = fault.map(str::to_owned);
    TracedCall { version, part: Part::Active, began: 7, micros: 12, fault, lines: vec![line] }
}

fn trace(reading: ReadingId, deliveries: usize, fault: Option<&str>) -> Trace {
    Trace { reading, calls: vec![call(1, fault)], deliveries, chained: 0 }
}

#[tokio::test]
async fn a_readings_attempts_and_deliveries_are_told_in_order_also_after_a_restart() {
    let mut rig = Rig::new(options());
    let (own, target) = (lane("r", "k"), sink("out"));
    let first = rig.put(&[&own], "1").await;
    let second = rig.put(&[&own], "2").await;
    let due = rig.clock.now();
    let failed =
        FailedAttempt { reading: first, attempts: 1, cause: "trap".into(), next: Next::RetryAt(due) };
    let traces = vec![trace(first, 0, Some("trap"))];
    rig.store.settle(Outcome { failed: Some(failed), traces, ..handled(&own, &[]) }).await.unwrap();
    let deliveries =
        vec![delivery(&target, first, "a"), delivery(&target, second, "b"), delivery(&target, second, "c")];
    let traces = vec![trace(first, 1, None), trace(second, 2, None)];
    rig.store.settle(Outcome { deliveries, traces, ..handled(&own, &[first, second]) }).await.unwrap();
    let ids: Vec<DeliveryId> = rig.queued(&target).iter().map(|queued| queued.delivery.id).collect();
    let failed = FailedDelivery { id: ids[1], attempts: 1, cause: "503".into(), next: Next::RetryAt(due) };
    let delivered = Delivered { target: target.clone(), accepted: vec![ids[0]], failed: vec![failed] };
    rig.store.delivered(delivered).await.unwrap();

    for restarted in [false, true] {
        if restarted {
            rig.restart().await;
        }
        let told = rig.store.trace(first).unwrap();
        let ends: Vec<_> = told.handlings.iter().map(|handling| handling.end).collect();
        assert_eq!(ends, [TracedEnd::Retry { due }, TracedEnd::Done]);
        assert_eq!(told.handlings[0].calls, [call(1, Some("trap"))]);
        assert_eq!(told.lanes[0].route, "r");
        assert_eq!(told.lanes[0].waits, None);
        assert_eq!((told.deliveries[0].id, told.deliveries[0].waits.as_ref()), (ids[0], None));
        assert_eq!(told.deliveries[0].offers[0].end, TracedEnd::Done);
        let told = rig.store.trace(second).unwrap();
        assert_eq!(told.deliveries.iter().map(|own| own.id).collect::<Vec<_>>(), ids[1..]);
        assert_eq!(told.deliveries[0].offers[0].cause.as_deref(), Some("503"));
        assert_eq!(told.deliveries[0].waits, Some((1, due, Some("503".into()))));
        assert_eq!(told.deliveries[1].offers, []);
    }
}

#[tokio::test]
async fn the_oldest_go_when_there_is_too_much_and_none_is_kept_where_none_is_wanted() {
    let rig = Rig::new(Options { trace_bytes: 4000, ..options() });
    let own = lane("r", "k");
    let mut readings = Vec::new();
    for _ in 0..200 {
        let id = rig.put(&[&own], "x").await;
        let traces = vec![trace(id, 0, None)];
        rig.store.settle(Outcome { traces, ..handled(&own, &[id]) }).await.unwrap();
        readings.push(id);
    }
    assert!(rig.store.stats().trace_bytes <= 4000);
    assert!(rig.store.trace(readings[0]).unwrap().handlings.is_empty());
    assert_eq!(rig.store.trace(readings[199]).unwrap().handlings.len(), 1);

    let rig = Rig::new(Options { trace_bytes: 0, ..options() });
    let id = rig.put(&[&own], "x").await;
    let traces = vec![trace(id, 0, None)];
    rig.store.settle(Outcome { traces, ..handled(&own, &[id]) }).await.unwrap();
    assert_eq!(rig.store.stats().trace_bytes, 0);
    assert!(rig.store.trace(id).unwrap().handlings.is_empty());
}

/// As many rows went as came, and so a file of small ones grew without end once they were large.
#[tokio::test(start_paused = true)]
async fn so_much_goes_as_comes_also_when_what_is_old_is_small() {
    let rig = Rig::new(Options { trace_bytes: 20_000, ..options() });
    let own = lane("r", "k");
    let settle = async |message: &str| {
        let id = rig.put(&[&own], "x").await;
        let line = TracedLine { level: 3, context: "c".into(), message: message.into() };
        let calls = vec![TracedCall { lines: vec![line], ..call(1, None) }];
        let traces = vec![Trace { reading: id, calls, deliveries: 0, chained: 0 }];
        rig.store.settle(Outcome { traces, ..handled(&own, &[id]) }).await.unwrap();
    };
    for _ in 0..500 {
        settle("x").await;
    }
    assert!(rig.store.stats().trace_bytes > 19_000);
    for _ in 0..20 {
        settle(&"x".repeat(10_000)).await;
        assert!(rig.store.stats().trace_bytes <= 20_000);
    }
}

/// Ids had run ahead of the clock, and what was told of the reading lay in front of where it was looked for.
#[tokio::test]
async fn what_became_of_a_reading_is_told_also_when_the_clock_was_set_back_since() {
    let rig = Rig::new(options());
    let own = lane("r", "k");
    let id = rig.put(&[&own], "x").await;
    rig.clock.set(1_600_000_000_000);
    let traces = vec![trace(id, 0, None)];
    rig.store.settle(Outcome { traces, ..handled(&own, &[id]) }).await.unwrap();
    assert_eq!(rig.store.trace(id).unwrap().handlings.len(), 1);
}
