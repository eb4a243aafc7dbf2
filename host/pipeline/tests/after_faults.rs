//! What the simulation found: readings, commands and senders that were forgotten when the storage failed in
//! the wrong moment, or a route or sink went.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_ingress::Accepted;
use sandbar_pipeline::{Filter, Handler, Offering, Options, Replying, Route, Sandbox};
use sandbar_reading::{
    Attributes, Clock, Command, ContentType, Delivery, Inbound, Message, Output, Reading, Timestamp,
    TraceContext,
};
use sandbar_runtime::{Call, Fault, Handled, StateView};
use sandbar_sinks::{AnySink, DeliveryError, Progress};
use sandbar_store::simulated::{Failure, Simulated};
use tokio::time::{sleep, timeout};

use self::rig::Rig;

/// Whether a commit that is told to have failed is there afterwards depends on it.
const SEEDS: u64 = 80;
/// So short that a turn has time for two.
const MOMENT: Duration = Duration::from_millis(4);
const LONG: Duration = Duration::from_secs(60);

/// Takes a moment for every reading, and puts this out.
#[derive(Clone)]
struct Slow(Output);

impl Handler for Slow {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Sandbox>) })
    }
}

impl Sandbox for Slow {
    fn handle<'a>(
        &'a mut self,
        _: &'a Reading,
        _: Arc<dyn StateView>,
        _: Timestamp,
        _: Option<TraceContext>,
    ) -> BoxFuture<'a, Call> {
        Box::pin(async {
            sleep(MOMENT).await;
            let handled = Handled { outputs: vec![self.0.clone()], ..Handled::default() };
            Call { result: Ok(handled), logs: Vec::new(), elapsed: MOMENT }
        })
    }
}

/// Takes everything.
struct Takes;

impl AnySink for Takes {
    fn kind(&self) -> &'static str {
        "takes"
    }

    fn deliver<'a>(&'a self, _: &'a [Delivery], _: &'a Progress) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Goes with the paused time.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).after(self.0.elapsed())
    }
}

impl Rig {
    fn new(seed: u64, routes: Vec<Route>) -> Self {
        let clock = Arc::new(Paused(tokio::time::Instant::now()));
        let rig = Self::on(Simulated::new(seed), clock, Options::default());
        rig.pipeline.set_routes(routes);
        rig
    }

    async fn accept(&self) -> Accepted {
        let inbound = Inbound::new("first".parse().unwrap(), ContentType::TEXT, "x".into());
        self.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap()
    }

    /// The disk fails while what came of the reading is being committed.
    async fn fail_the_commit(&self) {
        self.disk.fail_syncs(Some(Failure::Broken));
        sleep(4 * MOMENT).await;
        self.disk.fail_syncs(None);
        sleep(LONG).await;
        assert_eq!(self.store.stats().fault, None);
    }
}

fn route(name: &str, puts_out: Output) -> Route {
    Route {
        name: name.parse().unwrap(),
        filter: Filter { topics: vec![name.parse().unwrap()], ..Filter::default() },
        handler: Some(Arc::new(Slow(puts_out))),
        reply: Replying::Handler,
        ..rig::route()
    }
}

fn message(topic: &str) -> Message {
    Message {
        topic: topic.parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "y".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_for_a_route_that_is_removed_meanwhile_does_not_wait_for_ever() {
    let routes = vec![
        route("first", Output::Message(message("second"))),
        route("second", Output::Message(message("nobody"))),
    ];
    let rig = Rig::new(1, routes);
    rig.accept().await;
    sleep(MOMENT / 2).await;
    rig.pipeline.remove_route(&"second".parse().unwrap()).await.unwrap();
    sleep(LONG).await;
    assert_eq!(rig.store.routes_waiting().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_for_a_sink_that_is_removed_meanwhile_does_not_wait_for_ever() {
    let puts_out = |sinks: &[&str]| Route {
        sinks: sinks.iter().map(|sink| sink.parse().unwrap()).collect(),
        ..route("first", Output::Message(message("nobody")))
    };
    let rig = Rig::new(1, vec![puts_out(&["out"])]);
    rig.pipeline.set_sink("out".parse().unwrap(), Arc::new(Takes), Offering::default()).await;
    rig.accept().await;
    sleep(MOMENT / 2).await;
    rig.pipeline.set_routes(vec![puts_out(&[])]);
    rig.pipeline.remove_sink(&"out".parse().unwrap()).await.unwrap();
    sleep(LONG).await;
    assert_eq!((rig.store.targets().unwrap(), rig.store.stats().dead_letters), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_commit_was_told_to_have_failed_reaches_its_device() {
    for seed in 0..SEEDS {
        let command = Command {
            device: "d".into(),
            name: "set".into(),
            content_type: ContentType::TEXT,
            payload: "y".into(),
        };
        let rig = Rig::new(seed, vec![route("first", Output::Command(command))]);
        let attach = || rig.pipeline.intake().attach(&"peers".parse().unwrap(), "d");
        // Half of them had a command before, and an outlet that has ended.
        if seed % 2 == 0 {
            rig.accept().await;
            attach().next().await.unwrap().acknowledge();
            sleep(LONG).await;
        }
        rig.accept().await;
        rig.fail_the_commit().await;
        let mut device = attach();
        let offer = timeout(LONG, device.next()).await;
        assert!(matches!(offer, Ok(Some(_))), "seed {seed}: {offer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_answer_whose_commit_was_told_to_have_failed() {
    for seed in 0..SEEDS {
        let rig = Rig::new(seed, vec![route("first", Output::Reply(message("reply")))]);
        let (first, second) = tokio::join!(rig.accept(), rig.accept());
        rig.fail_the_commit().await;
        for mut replies in [first.replies.unwrap(), second.replies.unwrap()] {
            let end = timeout(LONG, async { while replies.next().await.is_some() {} }).await;
            assert!(end.is_ok(), "seed {seed}");
        }
    }
}
