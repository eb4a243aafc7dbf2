//! What is in memory of what is on its way, and that nothing ends it.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_pipeline::{Filter, Offering, Options, Route};
use sandbar_reading::{Attributes, ContentType, Delivery, DeliveryId, Inbound, Message, SystemClock, Target};
use sandbar_sinks::{AnySink, DeliveryError, Progress};
use sandbar_store::NewCommand;
use sandbar_store::simulated::Simulated;
use tokio::time::{sleep, timeout};

use self::rig::Rig;

const LONG: Duration = Duration::from_secs(300);

impl Rig {
    fn new() -> Self {
        Self::on(Simulated::new(1), Arc::new(SystemClock), Options::default())
    }

    async fn command(&self) -> DeliveryId {
        let message = Message {
            topic: "on".parse().unwrap(),
            device: Some("lamp".into()),
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: "x".into(),
        };
        let command =
            NewCommand { device: "lamp".into(), message, expires: None, asks: false, desired: None };
        let (id, committed) = self.store.put_command(command).unwrap();
        committed.await.unwrap();
        id
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_device_that_is_away_one_command_is_held_and_of_one_that_has_everything_nothing() {
    let rig = Rig::new();
    let mut ordered = Vec::new();
    for _ in 0..5 {
        ordered.push(rig.command().await);
        sleep(LONG).await;
    }
    assert_eq!((rig.pipeline.held(), rig.pipeline.outlets().len()), (1, 1));
    assert_eq!(rig.pipeline.outlets()[0].target, Target::Device("lamp".into()));

    let mut lamp = rig.pipeline.intake().attach(&"coap".parse().unwrap(), "lamp");
    for id in ordered {
        let offer = timeout(LONG, lamp.next()).await.unwrap().unwrap();
        assert_eq!(offer.id, id);
        offer.acknowledge();
    }
    sleep(LONG).await;
    assert_eq!((rig.store.stats().outbox, rig.pipeline.outlets().len()), (0, 0));
    // And another one is made for the next.
    let id = rig.command().await;
    assert_eq!(timeout(LONG, lamp.next()).await.unwrap().unwrap().id, id);
}

/// Panics at first.
#[derive(Default)]
struct Panics(AtomicBool);

impl AnySink for Panics {
    fn kind(&self) -> &'static str {
        "panics"
    }

    fn deliver<'a>(&'a self, _: &'a [Delivery], _: &'a Progress) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async {
            assert!(self.0.swap(true, Ordering::Relaxed), "as on purpose");
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_has_failed_and_is_tried_again() {
    let rig = Rig::new();
    rig.pipeline.set_sink("out".parse().unwrap(), Arc::new(Panics::default()), Offering::default()).await;
    let sinks = vec!["out".parse().unwrap()];
    rig.pipeline.set_routes(vec![Route { filter: Filter::default(), sinks, ..rig::route() }]);
    let inbound = Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into());
    rig.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    sleep(LONG).await;
    let outlet = &rig.pipeline.outlets()[0];
    assert_eq!((outlet.accepted, rig.store.stats().outbox), (1, 0));
    let (_, cause) = outlet.last_error.clone().unwrap();
    assert_eq!(cause, "delivering it panicked");
}

/// Needs a second for each, and tells how far it is only if it delivers one by one.
struct Slow {
    one_by_one: bool,
    batches: Mutex<Vec<usize>>,
    taken: Mutex<Vec<DeliveryId>>,
}

impl AnySink for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    fn deliver<'a>(
        &'a self,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            self.batches.lock().push(batch.len());
            for (at, delivery) in batch.iter().enumerate() {
                sleep(Duration::from_secs(1)).await;
                if self.one_by_one {
                    self.taken.lock().push(delivery.id);
                    progress.reached(at + 1);
                }
            }
            if !self.one_by_one {
                self.taken.lock().extend(batch.iter().map(|delivery| delivery.id));
            }
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_sink_took_is_not_offered_again_when_its_time_is_over() {
    for (one_by_one, batches) in [(true, vec![20, 10, 5, 5]), (false, vec![20, 10, 5, 10, 5, 10, 5, 5])] {
        let rig = Rig::new();
        let sinks = vec!["out".parse().unwrap()];
        rig.pipeline.set_routes(vec![Route { filter: Filter::default(), sinks, ..rig::route() }]);
        for _ in 0..20 {
            let inbound = Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into());
            rig.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
        }
        sleep(LONG).await;
        assert_eq!(rig.store.stats().outbox, 20);

        let slow = Arc::new(Slow { one_by_one, batches: Mutex::default(), taken: Mutex::default() });
        let offering = Offering { timeout: Duration::from_millis(5500), ..Offering::default() };
        rig.pipeline.set_sink("out".parse().unwrap(), slow.clone(), offering).await;
        sleep(LONG).await;
        let mut once = slow.taken.lock().clone();
        assert_eq!((once.len(), rig.store.stats().outbox), (20, 0));
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 20, "each once");
        assert_eq!(*slow.batches.lock(), batches);
    }
}

/// Takes so many, and says nothing more.
struct Hangs(usize);

impl AnySink for Hangs {
    fn kind(&self) -> &'static str {
        "hangs"
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        progress.reached(self.0);
        Box::pin(std::future::pending())
    }
}

/// Each stop of the host, and each change of the sink, waited for its whole time.
#[tokio::test(start_paused = true)]
async fn a_far_end_that_never_answers_holds_up_no_stop_and_no_change() {
    let rig = Rig::new();
    let sinks = vec!["out".parse().unwrap()];
    rig.pipeline.set_routes(vec![Route { filter: Filter::default(), sinks, ..rig::route() }]);
    for _ in 0..5 {
        let inbound = Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into());
        rig.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    }
    let set =
        |taken| rig.pipeline.set_sink("out".parse().unwrap(), Arc::new(Hangs(taken)), Offering::default());
    let soon = Duration::from_secs(10);
    sleep(Duration::from_secs(1)).await;
    set(2).await;
    sleep(Duration::from_secs(1)).await;
    timeout(soon, set(0)).await.unwrap();
    assert_eq!(rig.store.stats().outbox, 3, "two were taken");
    sleep(Duration::from_secs(1)).await;
    timeout(soon, rig.pipeline.stop()).await.unwrap();
    let left = rig.store.outbox(None, 10).unwrap().items;
    assert_eq!(left.iter().map(|queued| queued.attempts).collect::<Vec<_>>(), [0, 0, 0]);
}
