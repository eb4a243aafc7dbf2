//! How many readings are handled at once and before a commit, and whose call counts while a version is on trial.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_pipeline::{Attempts, Candidate, ErrorLimit, Handler, Mode, Options, Route, Sandbox};
use sandbar_reading::{
    Attributes, Clock, Command, ContentType, Inbound, Lineage, Message, Name, Output, Reading, SystemClock,
    Timestamp, TraceContext,
};
use sandbar_runtime::{Call, Fault, Handled, StateView};
use sandbar_store::simulated::Simulated;
use sandbar_store::{Accept, Lane};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use self::rig::Rig;

const LONG: Duration = Duration::from_secs(60);

/// What a call finds, and what it does then.
type Does = Arc<dyn Fn() -> BoxFuture<'static, Result<Handled, Fault>> + Send + Sync>;

struct Doing {
    does: Does,
    /// Why there is no instance of it.
    refuses: Option<Fault>,
}

struct Doer(Does);

impl Handler for Doing {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        let sandbox = match &self.refuses {
            Some(fault) => Err(fault.clone()),
            None => Ok(Box::new(Doer(self.does.clone())) as Box<dyn Sandbox>),
        };
        Box::pin(std::future::ready(sandbox))
    }
}

impl Sandbox for Doer {
    fn handle<'a>(
        &'a mut self,
        _: &'a Reading,
        _: Arc<dyn StateView>,
        _: Timestamp,
        _: Option<TraceContext>,
    ) -> BoxFuture<'a, Call> {
        Box::pin(async {
            let result = (self.0)().await;
            Call { result, logs: Vec::new(), elapsed: Duration::ZERO }
        })
    }
}

fn doing(does: Does) -> Arc<dyn Handler> {
    Arc::new(Doing { does, refuses: None })
}

fn puts_out(outputs: Vec<Output>) -> Arc<dyn Handler> {
    doing(Arc::new(move || {
        let handled = Handled { outputs: outputs.clone(), ..Handled::default() };
        Box::pin(std::future::ready(Ok(handled)))
    }))
}

fn route(handler: Arc<dyn Handler>) -> Route {
    let attempts = Attempts { max: 2_u32.try_into().unwrap(), ..Attempts::default() };
    Route { handler: Some(handler), attempts, concurrency: 4, ..rig::route() }
}

fn route_name() -> Name {
    "r".parse().unwrap()
}

impl Rig {
    fn new() -> Self {
        Self::by(Arc::new(SystemClock))
    }

    fn by(clock: Arc<dyn Clock>) -> Self {
        Self::on(Simulated::new(1), clock, Options::default())
    }

    async fn accept(&self, device: &str) {
        let inbound = Inbound {
            device: Some(device.into()),
            ..Inbound::new("in".parse().unwrap(), ContentType::TEXT, "x".into())
        };
        self.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    }

    /// Readings that wait for the route before it is there.
    async fn waits(&self, device: &str, payload: &'static [u8]) {
        let accept = Accept {
            ingress: "peers".parse().unwrap(),
            inbound: Inbound::new("in".parse().unwrap(), ContentType::TEXT, payload.into()),
            lineage: Lineage::default(),
            lanes: vec![Lane { route: route_name(), key: device.into() }],
            keep: Vec::new(),
        };
        let _receipt = self.store.accept(accept).unwrap().committed.await.unwrap();
    }

    /// Returns how many attempts have failed.
    async fn handles_two_and_goes(&self) -> u64 {
        self.accept("a").await;
        self.accept("b").await;
        sleep(LONG).await;
        let counts = self.pipeline.route_counts(&route_name()).unwrap();
        assert_eq!(counts.handled, 2);
        tokio::time::timeout(LONG, self.pipeline.remove_route(&route_name())).await.unwrap().unwrap();
        counts.failed_attempts
    }

    fn handled(&self) -> u64 {
        self.pipeline.route_counts(&route_name()).unwrap().handled
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_readings_are_handled_at_once_as_the_route_says_each_of_another_key() {
    for concurrency in [1, 3] {
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(0)));
        let (opens, seen) = (gate.clone(), begun.clone());
        let waits = doing(Arc::new(move || {
            let (gate, begun) = (gate.clone(), begun.clone());
            Box::pin(async move {
                *begun.lock() += 1;
                let _passed = gate.acquire().await.unwrap();
                Ok(Handled::default())
            })
        }));
        let rig = Rig::new();
        rig.pipeline.set_routes(vec![Route { concurrency, ..route(waits) }]);
        for device in ["a", "a", "b", "c", "d", "e"] {
            rig.accept(device).await;
        }
        sleep(LONG).await;
        assert_eq!((rig.handled(), *seen.lock()), (0, concurrency));
        opens.add_permits(1);
        sleep(LONG).await;
        assert_eq!((rig.handled(), *seen.lock()), (6, 6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_comes_after_as_many_readings_of_a_key_as_the_route_says() {
    for (batch, expected) in [(1, [6, 5, 4, 3, 2, 1]), (3, [6, 6, 6, 3, 3, 3]), (64, [6; 6])] {
        let rig = Rig::new();
        // How many wait, as far as is committed, when a call goes on.
        let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (opens, seen, store) = (gate.clone(), waiting.clone(), rig.store.clone());
        let looks = doing(Arc::new(move || {
            let (gate, waiting, store) = (gate.clone(), waiting.clone(), store.clone());
            Box::pin(async move {
                let _passed = gate.acquire().await.unwrap();
                waiting.lock().push(store.stats().waiting);
                Ok(Handled::default())
            })
        }));
        rig.pipeline.set_routes(vec![Route { batch, ..route(looks) }]);
        // The first has a turn of its own; the others wait for it.
        for _ in 0..7 {
            rig.accept("a").await;
            sleep(LONG).await;
        }
        opens.add_permits(1);
        sleep(LONG).await;
        assert_eq!(rig.handled(), 7);
        assert_eq!(seen.lock()[1..], expected, "a batch of {batch}");
    }
}

/// How many deliveries were committed at each call, if each reading, of these keys, puts out so many MiB.
async fn committed_at_each_call(devices: &[&str], mib: usize) -> Vec<u64> {
    let rig = Rig::new();
    let (gate, committed) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (opens, seen, store) = (gate.clone(), committed.clone(), rig.store.clone());
    let payload = Bytes::from(vec![b'x'; mib << 20]);
    let puts_out = doing(Arc::new(move || {
        let (gate, committed, store) = (gate.clone(), committed.clone(), store.clone());
        let Output::Message(message) = message("out") else { unreachable!() };
        let outputs = vec![Output::Message(Message { payload: payload.clone(), ..message })];
        Box::pin(async move {
            let _passed = gate.acquire().await.unwrap();
            committed.lock().push(store.stats().outbox);
            Ok(Handled { outputs, ..Handled::default() })
        })
    }));
    let sinks = vec!["out".parse().unwrap()];
    rig.pipeline.set_routes(vec![Route { concurrency: 1, sinks, ..route(puts_out) }]);
    // The first has a turn of its own; the others wait for it.
    for device in devices {
        rig.accept(device).await;
        sleep(LONG).await;
    }
    opens.add_permits(1);
    sleep(LONG).await;
    assert_eq!(rig.store.stats().outbox, devices.len() as u64);
    seen.lock().clone()
}

/// As many readings as a turn may have, in as many turns as may wait: half a gigabyte.
#[tokio::test(start_paused = true)]
async fn much_that_is_put_out_is_committed_before_there_is_more() {
    assert_eq!(committed_at_each_call(&["a"; 7], 2).await, [0, 1, 1, 3, 3, 5, 5]);
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let at_each = committed_at_each_call(&keys, 1).await;
    assert_eq!(at_each.iter().filter(|committed| **committed == 0).count(), 8, "{at_each:?}");
}

/// While something waited, there were as many runners as ever.
#[tokio::test(start_paused = true)]
async fn fewer_readings_are_handled_at_once_as_soon_as_the_route_says_so() {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(0)));
    let (opens, seen) = (gate.clone(), begun.clone());
    let waits = doing(Arc::new(move || {
        let (gate, begun) = (gate.clone(), begun.clone());
        Box::pin(async move {
            *begun.lock() += 1;
            gate.acquire().await.unwrap().forget();
            Ok(Handled::default())
        })
    }));
    let rig = Rig::new();
    rig.pipeline.set_routes(vec![Route { concurrency: 4, ..route(waits.clone()) }]);
    for device in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        rig.accept(device).await;
    }
    sleep(LONG).await;
    assert_eq!(*seen.lock(), 4);
    rig.pipeline.set_routes(vec![Route { concurrency: 1, ..route(waits) }]);
    opens.add_permits(4);
    sleep(LONG).await;
    assert_eq!((rig.handled(), *seen.lock()), (4, 5));
    opens.add_permits(4);
    sleep(LONG).await;
    assert_eq!((rig.handled(), *seen.lock()), (8, 8));
}

fn message(topic: &str) -> Output {
    Output::Message(Message {
        topic: topic.parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "y".into(),
    })
}

fn on_trial(handler: Arc<dyn Handler>, mode: Mode) -> Arc<Candidate> {
    Arc::new(Candidate::new(2, handler, mode, ErrorLimit { percent: 10.0, after: 5 }))
}

const EVERYBODY: Mode = Mode::Canary { percent: 100.0 };

/// Its call went well, and yet nothing can come of it.
#[tokio::test(start_paused = true)]
async fn what_a_canary_puts_out_for_nobody_is_its_failure_and_not_the_readings() {
    let command = Command {
        device: "d".into(),
        name: "a/#".into(),
        content_type: ContentType::TEXT,
        payload: "y".into(),
    };
    let canary = on_trial(puts_out(vec![Output::Command(command)]), EVERYBODY);
    let rig = Rig::new();
    let active = route(puts_out(vec![message("out")]));
    rig.pipeline.set_routes(vec![Route { candidate: Some(canary.clone()), ..active }]);
    for reading in 1..=4 {
        rig.accept("d").await;
        sleep(LONG).await;
        let counts = rig.pipeline.route_counts(&route_name()).unwrap();
        assert_eq!((counts.handled, counts.failed_attempts, counts.dead_letters), (reading, 0, 0));
    }
    let compared = canary.compared();
    assert_eq!((compared.calls, compared.errors, compared.active_calls), (4, 4, 4));
    assert!(compared.differences[0].what.starts_with("it failed: command `a/#`"), "{compared:?}");
    rig.accept("d").await;
    sleep(LONG).await;
    assert!(canary.stops().borrow().as_ref().unwrap().starts_with("it failed at 5 of 5 readings"));
}

#[tokio::test(start_paused = true)]
async fn a_version_on_trial_that_cannot_be_started_is_given_up_on() {
    for mode in [Mode::Shadow, EVERYBODY] {
        let refuses = Some(Fault::Init("trapped: no table".to_owned()));
        let does: Does = Arc::new(|| Box::pin(std::future::ready(Ok(Handled::default()))));
        let candidate = on_trial(Arc::new(Doing { does, refuses }), mode);
        let rig = Rig::new();
        let active = route(puts_out(Vec::new()));
        rig.pipeline.set_routes(vec![Route { candidate: Some(candidate.clone()), ..active }]);
        for _ in 0..4 {
            rig.accept("d").await;
            sleep(LONG).await;
        }
        assert_eq!(rig.handled(), 4);
        let why = candidate.stops().borrow().clone().unwrap();
        assert_eq!(why, "3 times in a row it could not be started: configure: trapped: no table");
        assert_eq!(candidate.compared().errors, 3, "it is left alone then");
    }
}

/// Nobody can say of a machine without room that the version on trial is at fault.
#[tokio::test(start_paused = true)]
async fn what_the_host_lacks_is_no_failure_of_a_version_on_trial() {
    let nowhere: Does = Arc::new(|| Box::pin(std::future::ready(Err(Fault::NoRoom("none".to_owned())))));
    for (mode, refuses) in [
        (Mode::Shadow, None),
        (EVERYBODY, None),
        (Mode::Shadow, Some(Fault::NoRoom("none".to_owned()))),
        (EVERYBODY, Some(Fault::NoRoom("none".to_owned()))),
    ] {
        let candidate = on_trial(Arc::new(Doing { does: nowhere.clone(), refuses }), mode);
        let rig = Rig::new();
        let active = route(puts_out(Vec::new()));
        rig.pipeline.set_routes(vec![Route { candidate: Some(candidate.clone()), ..active }]);
        for _ in 0..6 {
            rig.accept("d").await;
            sleep(LONG).await;
        }
        assert_eq!(rig.handled(), 6);
        let compared = candidate.compared();
        assert_eq!((compared.errors, compared.different), (0, 0), "{mode:?}");
        assert_eq!(*candidate.stops().borrow(), None);
    }
}

/// What a call does the first time; then it goes well.
fn at_first(does: impl Fn() + Send + Sync + 'static) -> Arc<dyn Handler> {
    let (does, was_called) = (Arc::new(does), Arc::new(AtomicBool::new(false)));
    doing(Arc::new(move || {
        let (does, was_called) = (does.clone(), was_called.clone());
        Box::pin(async move {
            if !was_called.swap(true, Ordering::Relaxed) {
                does();
            }
            Ok(Handled::default())
        })
    }))
}

/// Its lane stood still, and its runner was counted for ever: the route could not be removed.
#[tokio::test(start_paused = true)]
async fn a_panic_while_a_reading_is_handled_is_an_attempt() {
    let rig = Rig::new();
    rig.pipeline.set_routes(vec![Route { concurrency: 1, ..route(at_first(|| panic!("as on purpose"))) }]);
    assert_eq!(rig.handles_two_and_goes().await, 1);
}

/// Panics when it is told to, once.
#[derive(Default)]
struct Broken(AtomicBool);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::Relaxed), "as on purpose");
        SystemClock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_dispatch_itself_costs_no_reading() {
    let clock = Arc::new(Broken::default());
    let rig = Rig::by(clock.clone());
    // It is asked next when what came of the turn goes to the store.
    let breaks = at_first(move || clock.0.store(true, Ordering::Relaxed));
    rig.pipeline.set_routes(vec![Route { concurrency: 1, ..route(breaks) }]);
    assert_eq!(rig.handles_two_and_goes().await, 0);
}

/// What it had asked the store for nobody asked for again.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_dispatch_while_it_loads_costs_no_reading() {
    let clock = Arc::new(Broken::default());
    let rig = Rig::by(clock.clone());
    rig.waits("a", b"x").await;
    sleep(Duration::from_secs(1)).await;
    // It is asked next when what waits was loaded.
    clock.0.store(true, Ordering::Relaxed);
    rig.pipeline.set_routes(vec![Route { concurrency: 1, ..route(puts_out(Vec::new())) }]);
    sleep(LONG).await;
    assert!(!clock.0.load(Ordering::Relaxed));
    assert_eq!(rig.handled(), 1);
}

/// The whole route waited with it, half a second before each turn.
#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_loaded_costs_the_others_nothing() {
    let rig = Rig::new();
    for device in ["a", "b", "c", "d"] {
        rig.waits(device, &[b'x'; 100_000]).await;
        rig.waits(&device.to_uppercase(), b"x").await;
    }
    rig.disk.payloads().iter().for_each(|payload| rig.disk.fail_payload(payload, true));
    rig.pipeline.set_routes(vec![Route { concurrency: 1, ..route(puts_out(Vec::new())) }]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.handled(), 4);
    sleep(LONG).await;
    assert_eq!((rig.store.stats().waiting, rig.store.stats().dead_letters), (0, 4));
}
