//! A clock that is set while the host runs: a box without one of its own is told the time after its start.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_pipeline::{DeviceOptions, Offering, Options, Order, Route};
use sandbar_reading::{Clock, ContentType, Delivery, DeliveryId, Inbound, Timestamp};
use sandbar_sinks::{AnySink, Cause, DeliveryError, Progress};
use sandbar_store::simulated::Simulated;
use sandbar_store::{CommandState, Presence, ReadingQuery};
use tokio::time::{Instant, sleep};

use self::rig::Rig;

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// Goes with the paused time, and is set forward and back.
struct Set {
    began: Instant,
    ahead_s: AtomicI64,
}

impl Set {
    fn forward(&self, by: Duration) {
        self.ahead_s.fetch_add(by.as_secs().cast_signed(), Ordering::Relaxed);
    }

    fn back(&self, by: Duration) {
        self.ahead_s.fetch_sub(by.as_secs().cast_signed(), Ordering::Relaxed);
    }
}

impl Clock for Set {
    fn now(&self) -> Timestamp {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        let ahead = Duration::from_secs(ahead_s.unsigned_abs());
        let right = Timestamp::from_millis(1_800_000_000_000).after(self.began.elapsed());
        if ahead_s < 0 { right.before(ahead) } else { right.after(ahead) }
    }
}

/// Its far end is never there, however often it is offered something.
#[derive(Default)]
struct Down(AtomicUsize);

impl AnySink for Down {
    fn kind(&self) -> &'static str {
        "down"
    }

    fn deliver<'a>(&'a self, _: &'a [Delivery], _: &'a Progress) -> BoxFuture<'a, Result<(), DeliveryError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let down = DeliveryError::Retry { delivered: 0, after: None, cause: Cause::new("down") };
        Box::pin(std::future::ready(Err(down)))
    }
}

impl Rig {
    fn new() -> (Self, Arc<Set>) {
        let clock = Arc::new(Set { began: Instant::now(), ahead_s: AtomicI64::new(0) });
        let silence = Some(Duration::from_secs(60));
        let devices = Some(DeviceOptions { max: 10, silence, silence_by_type: Default::default() });
        let options = Options { devices, ..Options::default() };
        (Self::on(Simulated::new(1), clock.clone(), options), clock)
    }

    async fn accept(&self) {
        let inbound = Inbound {
            device: Some("d".into()),
            ..Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into())
        };
        self.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    }

    async fn order(&self, within: Duration) -> DeliveryId {
        let order = Order {
            device: "d".into(),
            name: "open".parse().unwrap(),
            content_type: ContentType::TEXT,
            payload: "now".into(),
            within: Some(within),
            at_once: false,
        };
        self.pipeline.registry().unwrap().order(order).await.unwrap()
    }

    fn state_of(&self, id: DeliveryId) -> CommandState {
        self.store.command("d", id).unwrap().unwrap().state
    }

    fn presence(&self) -> Presence {
        self.pipeline.registry().unwrap().get("d").unwrap().presence
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_is_not_lost_because_the_clock_was_set() {
    let (rig, clock) = Rig::new();
    rig.accept().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.presence(), Presence::Online);
    clock.forward(MONTH);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(rig.presence(), Presence::Online);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.presence(), Presence::Lost);
}

/// It waited until the clock was where it had been, and all other devices behind it.
#[tokio::test(start_paused = true)]
async fn what_a_device_said_is_written_though_the_clock_was_set_back() {
    let (rig, clock) = Rig::new();
    rig.accept().await;
    sleep(Duration::from_secs(5)).await;
    rig.accept().await;
    sleep(Duration::from_secs(1)).await;
    clock.back(MONTH);
    sleep(Duration::from_secs(15)).await;
    let newest = ReadingQuery { newest_first: true, limit: 1, ..ReadingQuery::default() };
    let newest = rig.store.readings(&newest).unwrap().items[0].id;
    assert_eq!(rig.store.devices_seen().unwrap(), Some(newest));
}

#[tokio::test(start_paused = true)]
async fn a_command_is_not_over_because_the_clock_was_set() {
    let (rig, clock) = Rig::new();
    rig.accept().await;
    sleep(Duration::from_secs(5)).await;
    let id = rig.order(Duration::from_secs(60)).await;
    clock.forward(MONTH);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(rig.state_of(id), CommandState::Queued);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(rig.state_of(id), CommandState::Expired);
}

/// They were looked at first, and were as many as are looked at.
#[tokio::test(start_paused = true)]
async fn commands_that_the_clock_leapt_over_do_not_keep_others_from_being_over() {
    let (rig, clock) = Rig::new();
    rig.accept().await;
    for _ in 0..70 {
        rig.order(Duration::from_secs(600)).await;
    }
    sleep(Duration::from_secs(5)).await;
    clock.forward(MONTH);
    sleep(Duration::from_secs(5)).await;
    let id = rig.order(Duration::from_secs(30)).await;
    sleep(Duration::from_secs(40)).await;
    assert_eq!(rig.state_of(id), CommandState::Expired);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_sink_is_not_given_up_on_because_the_clock_was_set() {
    let (rig, clock) = Rig::new();
    rig.pipeline.set_sink("out".parse().unwrap(), Arc::new(Down::default()), Offering::default()).await;
    rig.pipeline.set_routes(vec![Route { sinks: vec!["out".parse().unwrap()], ..rig::route() }]);
    rig.accept().await;
    sleep(Duration::from_secs(5)).await;
    clock.forward(MONTH);
    let counts = || {
        let stats = rig.store.stats();
        (stats.outbox, stats.dead_letters)
    };
    sleep(Duration::from_secs(50 * 60)).await;
    assert_eq!(counts(), (1, 0));
    sleep(Duration::from_secs(15 * 60)).await;
    assert_eq!(counts(), (0, 1), "it failed for an hour, whatever the clock says");
}

/// Each delivery that came woke its outlet, which then waited for the head's time by the clock anew.
#[tokio::test(start_paused = true)]
async fn a_sink_is_tried_again_though_the_clock_was_set_back_and_more_comes_meanwhile() {
    let (rig, clock) = Rig::new();
    let down = Arc::new(Down::default());
    let wait = Duration::from_secs(60);
    let offering = Offering { first_wait: wait, longest_wait: wait, ..Offering::default() };
    rig.pipeline.set_sink("out".parse().unwrap(), down.clone(), offering).await;
    rig.pipeline.set_routes(vec![Route { sinks: vec!["out".parse().unwrap()], ..rig::route() }]);
    rig.accept().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(down.0.load(Ordering::Relaxed), 1);
    clock.back(MONTH);
    for _ in 0..70 {
        rig.accept().await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(down.0.load(Ordering::Relaxed) >= 2);
}
