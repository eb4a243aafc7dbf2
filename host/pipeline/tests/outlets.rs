//! What is in memory of what is on its way, and that nothing ends it.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_pipeline::{Attempts, Filter, Key, Offering, Options, Pipeline, Replying, Route};
use sandbar_reading::{Attributes, ContentType, Delivery, DeliveryId, Inbound, Message, SystemClock, Target};
use sandbar_sinks::{AnySink, DeliveryError};
use sandbar_store::simulated::Simulated;
use sandbar_store::{Committer, NewCommand, Store};
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(300);

struct Rig {
    store: Store,
    pipeline: Pipeline,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (medium, clock) = (Arc::new(Simulated::new(1)), Arc::new(SystemClock));
        let options = sandbar_store::Options::default();
        let store =
            Store::open(medium, folder.path().into(), options, clock.clone(), Committer::Task).unwrap();
        let pipeline = Pipeline::start(store.clone(), clock, Options::default()).unwrap();
        Self { store, pipeline, _folder: folder }
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

    fn deliver<'a>(&'a self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), DeliveryError>> {
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
    rig.pipeline.set_routes(vec![Route {
        name: "r".parse().unwrap(),
        filter: Filter::default(),
        key: Key::Device,
        handler: None,
        sinks: vec!["out".parse().unwrap()],
        reply: Replying::Nobody,
        attempts: Attempts::default(),
        concurrency: 1,
        batch: 64,
        version: 1,
        candidate: None,
    }]);
    let inbound = Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into());
    rig.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    sleep(LONG).await;
    let outlet = &rig.pipeline.outlets()[0];
    assert_eq!((outlet.accepted, rig.store.stats().outbox), (1, 0));
    let (_, cause) = outlet.last_error.clone().unwrap();
    assert_eq!(cause, "delivering it panicked");
}
