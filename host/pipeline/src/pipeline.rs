//! The parts put together.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sandbar_ingress::{Connections, Intake};
use sandbar_reading::{Clock, Name, Sampling, Target, Timestamp};
use sandbar_sinks::{AnySink, OwnHost};
use sandbar_store::{News, Observer, Store, StoreError};
use sandbar_telemetry::{Span, Telemetry};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Deliveries, Means, Offering, OutletStatus};
use crate::devices::Devices;
use crate::dispatch::{Counts, Dispatch, Window};
use crate::intake::Door;
use crate::jitter::Jitter;
use crate::logs::{LogRecord, RouteLogs};
use crate::own_host::{Outward, Own, Within};
use crate::registry::{DeviceOptions, Registry};
use crate::replies::Awaited;
use crate::route::Route;
use crate::router::Router;
use crate::tail::{Seen, Tail};

#[derive(Clone, Debug)]
pub struct Options {
    /// The most bytes of payload that a reading may have.
    pub reading_max: usize,
    /// How many routes a message may go through before it is taken for a loop.
    pub depth_max: u8,
    /// How much of what waits each route holds in memory.
    pub window: Window,
    /// How many deliveries each target holds in memory.
    pub deliveries_held: usize,
    /// Fixes the random part of waits, for simulations.
    pub seed: Option<u64>,
    /// How devices are kept; none are without it.
    pub devices: Option<DeviceOptions>,
    /// Where what is done with readings is told; nowhere by default.
    pub telemetry: Telemetry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reading_max: 16 << 20,
            depth_max: 8,
            window: Window::default(),
            deliveries_held: 512,
            seed: None,
            devices: None,
            telemetry: Telemetry::default(),
        }
    }
}

/// A running pipeline.
pub struct Pipeline {
    store: Store,
    router: Arc<ArcSwap<Router>>,
    dispatch: Arc<Dispatch>,
    deliveries: Arc<Deliveries>,
    devices: Devices,
    connections: Connections,
    own: Arc<Within>,
    tail: Arc<Tail>,
    door: Arc<Door>,
    registry: Option<Arc<Registry>>,
    telemetry: Telemetry,
    /// Route changes are made one after the other.
    changing: Mutex<Replaced>,
}

/// Routers that are no longer the current one. An intake or turn that began with one keeps it until what it
/// brings is committed.
#[derive(Default)]
struct Replaced(Vec<Weak<Router>>);

impl Replaced {
    fn replace(&mut self, current: &ArcSwap<Router>, new: Router) {
        self.0.retain(|router| router.strong_count() > 0);
        self.0.push(Arc::downgrade(&current.swap(Arc::new(new))));
    }

    fn in_use(&self) -> Vec<Weak<Router>> {
        self.0.clone()
    }
}

/// What the store tells goes on to whom it concerns.
struct Told {
    dispatch: Arc<Dispatch>,
    deliveries: Arc<Deliveries>,
    tail: Arc<Tail>,
    registry: Option<Arc<Registry>>,
}

impl Observer for Told {
    fn committed(&self, news: News) {
        self.tail.show(&news);
        if let Some(registry) = &self.registry {
            registry.journaled(&news.readings);
        }
        for waiting in news.waiting {
            self.dispatch.push(waiting);
        }
        for queued in news.queued {
            self.deliveries.push(queued);
        }
    }

    fn recovered(&self) {
        self.dispatch.look_again();
        self.deliveries.look_again();
        if let Some(registry) = &self.registry {
            registry.look_again();
        }
    }
}

impl Pipeline {
    /// Without routes and sinks: they are set, then drivers are started. Needs a tokio runtime.
    pub fn start(store: Store, clock: Arc<dyn Clock>, options: Options) -> Result<Self, StoreError> {
        let (registered, reading_max) = (options.devices.clone(), options.reading_max);
        let telemetry = options.telemetry.clone();
        let router = Arc::new(ArcSwap::from_pointee(Router::default()));
        let awaited = Arc::new(Awaited::default());
        let devices = Devices::default();
        let outward = Outward::default();
        let connections = Connections::default();
        let tail = Arc::new(Tail::default());
        let stop = CancellationToken::new();
        let means = Means {
            store: store.clone(),
            clock: clock.clone(),
            jitter: Jitter::new(options.seed),
            held: options.deliveries_held,
            awaited: awaited.clone(),
            telemetry: telemetry.clone(),
        };
        let deliveries = Arc::new(Deliveries::new(means.clone(), devices.clone(), stop.child_token()));
        let dispatch = Arc::new(Dispatch::new(&means, router.clone(), options, stop));
        let start = |options: DeviceOptions| {
            let (store, router) = (store.clone(), router.clone());
            Registry::start(store, clock.clone(), router, devices.clone(), deliveries.clone(), options)
        };
        let registry = registered.map(start).transpose()?;
        store.observe(Arc::new(Told {
            dispatch: dispatch.clone(),
            deliveries: deliveries.clone(),
            tail: tail.clone(),
            registry: registry.clone(),
        }));
        deliveries.resume()?;
        let door = Arc::new(Door {
            store: store.clone(),
            router: router.clone(),
            awaited: awaited.clone(),
            devices: devices.clone(),
            outward: outward.clone(),
            connections: connections.clone(),
            deliveries: deliveries.clone(),
            clock: clock.clone(),
            reading_max,
            registry: registry.clone(),
            telemetry: telemetry.clone(),
        });
        let own = Arc::new(Within {
            store: store.clone(),
            clock,
            outward,
            devices: devices.clone(),
            deliveries: deliveries.clone(),
            registry: registry.clone(),
            awaited,
        });
        let changing = Mutex::default();
        Ok(Self {
            store,
            router,
            dispatch,
            deliveries,
            devices,
            connections,
            own,
            tail,
            door,
            registry,
            telemetry,
            changing,
        })
    }

    /// Where drivers hand readings over.
    pub fn intake(&self) -> Arc<dyn Intake> {
        self.door.clone()
    }

    pub fn router(&self) -> Arc<Router> {
        self.router.load_full()
    }

    /// Sets or replaces routes, all at once: a reading is routed by the old ones or by the new ones.
    pub fn set_routes(&self, routes: Vec<Route>) {
        self.change_routes(routes, &[]);
    }

    /// The same, and in the same step those of `without` take no more readings: `remove_route` is to follow for
    /// each. A route that is renamed neither misses a reading nor takes one twice.
    pub fn change_routes(&self, routes: Vec<Route>, without: &[Name]) {
        let mut replaced = self.changing.lock();
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        // Handlers first: what the new router routes must find its handler.
        for route in &routes {
            self.dispatch.set(route.clone());
        }
        let old = self.router.load_full();
        let stays = |old: &&Arc<Route>| {
            !without.contains(&old.name) && !routes.iter().any(|new| new.name == old.name)
        };
        let kept = old.routes().filter(stays).cloned();
        replaced.replace(&self.router, Router::new(kept.chain(routes.iter().cloned())));
    }

    /// The route takes no more readings; what waits for it becomes dead letters, its state is dropped.
    pub async fn remove_route(&self, name: &Name) -> Result<(), StoreError> {
        {
            let mut replaced = self.changing.lock();
            let old = self.router.load_full();
            let kept = old.routes().filter(|route| route.name != *name).cloned();
            replaced.replace(&self.router, Router::new(kept));
        }
        self.dispatch.remove(name).await;
        self.old_ones_are_through().await;
        self.store.discard_route(name.clone()).await
    }

    /// What is under way was routed by an older router, and may yet put something out for what is being removed.
    async fn old_ones_are_through(&self) {
        let old_ones = self.changing.lock().in_use();
        while old_ones.iter().any(|router| router.strong_count() > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn set_sink(&self, name: Name, sink: Arc<dyn AnySink>, offering: Offering) {
        let own: Arc<dyn OwnHost> = Arc::new(Own::new(name.clone(), Arc::clone(&self.own)));
        sink.connect(&own);
        self.deliveries.set_sink(name, sink, offering).await;
    }

    /// What is queued for the sink becomes dead letters. No route puts anything out for it any more.
    pub async fn remove_sink(&self, name: &Name) -> Result<(), StoreError> {
        self.deliveries.remove_sink(name).await;
        self.old_ones_are_through().await;
        self.store.discard_target(Target::Sink(name.clone())).await
    }

    /// Does not wait for a failing target's time-out.
    pub fn try_now(&self, target: &Target) {
        self.deliveries.try_now(target);
    }

    /// Everything that is journaled, put out or given up on from now on.
    pub fn watch(&self) -> broadcast::Receiver<Seen> {
        self.tail.watch()
    }

    /// The newest `limit` lines of a route's handler of which `wanted` is true, oldest first.
    pub fn logs(
        &self,
        route: &Name,
        limit: usize,
        wanted: impl Fn(&LogRecord) -> bool,
    ) -> Vec<Arc<LogRecord>> {
        self.dispatch.logs(route, limit, wanted)
    }

    pub(crate) fn logs_of(&self, route: &Name) -> Arc<RouteLogs> {
        self.dispatch.logs_of(route)
    }

    pub(crate) fn sampling(&self) -> Sampling {
        self.telemetry.sampling()
    }

    /// Of what is committed.
    pub fn record(&self, spans: Vec<Span>) {
        spans.into_iter().for_each(|span| self.telemetry.record(span));
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn depth_max(&self) -> u8 {
        self.dispatch.depth_max()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.dispatch.now()
    }

    /// Lines of all routes' handlers, from now on.
    pub fn watch_logs(&self) -> broadcast::Receiver<Arc<LogRecord>> {
        self.dispatch.watch_logs()
    }

    /// Which devices there are, if that is kept.
    pub fn registry(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref()
    }

    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// What drivers have open.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Since the start of the host.
    pub fn route_counts(&self, route: &Name) -> Option<Counts> {
        self.dispatch.stats(route)
    }

    /// Readings and deliveries in memory: parts of what waits.
    pub fn held(&self) -> usize {
        self.dispatch.held() + self.deliveries.held()
    }

    pub fn outlets(&self) -> Vec<OutletStatus> {
        self.deliveries.status()
    }

    /// Ends turns and offers that are under way, and begins no more. Drivers are stopped before.
    pub async fn stop(&self) {
        // First, since it waits for nobody: what is journaled after it, the next start makes up for.
        if let Some(registry) = &self.registry {
            registry.stop().await;
        }
        self.dispatch.stop().await;
        self.deliveries.stop().await;
    }
}
