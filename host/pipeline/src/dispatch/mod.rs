//! Calls handlers: for every route its readings, in order for each key, as often as an attempt is worth it.
//! The only place that retries a handler.

mod calls;
mod lanes;
mod look;
mod rest;
mod stats;
mod turn;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::{Mutex, RwLock};
use sandbar_reading::{Clock, Name, ReadingId, Timestamp};
use sandbar_runtime::Fault;
use sandbar_store::{LaneId, Store, StoreError, Waiting};
use sandbar_telemetry::{Span, Telemetry};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::calls::Hands;
pub use self::lanes::Window;
use self::lanes::{Ended, Lanes, Need, Turn, Wanted};
use self::look::look_round;
use self::rest::Waste;
pub use self::stats::Counts;
use self::stats::RouteStats;
pub(crate) use self::turn::Context;
use self::turn::Done;
use crate::candidate::Candidate;
use crate::delivery::Means;
use crate::handlers::Sandbox;
use crate::jitter::Jitter;
use crate::logs::{LogRecord, LogWatch, RouteLogs};
use crate::pipeline::Options;
use crate::replies::{Awaited, Said};
use crate::route::Route;
use crate::router::Router;
use crate::unloadable::{STORE_WAIT, Unloadable};

/// How many readings, and bytes of them, one turn may hold.
const TURN_READINGS: usize = 1024;
const TURN_BYTES: usize = 1 << 20;
/// A turn that has taken longer, or put out more bytes, lets other lanes have theirs.
const TURN_TIME: Duration = Duration::from_millis(5);
const TURN_OUTPUT_BYTES: usize = 4 << 20;
/// How many turns of one runner may wait for their commit, and with how many bytes no further one begins.
const SETTLING_MAX: usize = 64;
const SETTLING_BYTES: usize = 8 << 20;
/// A shorter rest is nobody's concern.
const REST_TOLD: Duration = Duration::from_secs(1);
/// How long a lane waits whose turn could not be committed: its handler is called again for nothing if the
/// storage still fails then.
const UNSETTLED_WAIT: Duration = Duration::from_secs(2);

/// What all routes share.
pub(crate) struct Dispatch {
    shared: Arc<Shared>,
    routes: RwLock<HashMap<Name, Arc<RouteDispatch>>>,
}

struct Shared {
    store: Store,
    router: Arc<ArcSwap<Router>>,
    awaited: Arc<Awaited>,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    telemetry: Telemetry,
    options: Options,
    stop: CancellationToken,
    watch: LogWatch,
    /// The store tells its news on a thread of its own.
    runtime: Handle,
}

impl Dispatch {
    pub(crate) fn new(
        means: &Means,
        router: Arc<ArcSwap<Router>>,
        options: Options,
        stop: CancellationToken,
    ) -> Self {
        let Means { store, clock, jitter, awaited, telemetry, .. } = means.clone();
        let runtime = Handle::current();
        let watch = LogWatch::default();
        let shared =
            Shared { store, router, awaited, clock, jitter, telemetry, options, stop, watch, runtime };
        let shared = Arc::new(shared);
        Self { shared, routes: RwLock::default() }
    }

    /// Sets or replaces a route: turns that have begun end with the old handler, all others take the new one.
    pub(crate) fn set(&self, route: Arc<Route>) {
        let mut routes = self.routes.write();
        if let Some(known) = routes.get(&route.name) {
            known.route.store(route);
            return;
        }
        let name = route.name.clone();
        let dispatch = Arc::new(RouteDispatch {
            route: ArcSwap::new(route),
            shared: self.shared.clone(),
            work: Mutex::new(RouteWork { lanes: Lanes::new(self.shared.options.window), runners: 0 }),
            stats: RouteStats::default(),
            waste: Mutex::default(),
            logs: Arc::new(RouteLogs::new(self.shared.watch.clone())),
            doubted: Mutex::default(),
            unloadable: Unloadable::default(),
            stop: self.shared.stop.child_token(),
        });
        dispatch.need(None, Need::Runner);
        routes.insert(name, dispatch);
    }

    /// No new turn begins; returns once none is under way.
    pub(crate) async fn remove(&self, name: &Name) {
        let removed = self.routes.write().remove(name);
        if let Some(route) = removed {
            route.stop.cancel();
            route.idle().await;
        }
    }

    pub(crate) fn push(&self, waiting: Waiting) {
        let route = self.routes.read().get(&waiting.lane.route).cloned();
        if let Some(route) = route {
            let id = waiting.lane.id();
            let need = route.work.lock().lanes.push(waiting, self.shared.clock.now());
            route.need(Some(id), need);
        }
    }

    /// The store may have what nobody told of.
    pub(crate) fn look_again(&self) {
        let mut routes: Vec<_> =
            self.routes.read().iter().map(|(name, route)| (name.clone(), route.clone())).collect();
        // Always in one order: runs of one seed are to be alike.
        routes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (_, route) in routes {
            route.work.lock().lanes.look_again();
            route.need(None, Need::Runner);
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.routes.read().values().map(|route| route.work.lock().lanes.held()).sum()
    }

    pub(crate) fn stats(&self, route: &Name) -> Option<Counts> {
        self.routes.read().get(route).map(|route| route.stats.counts())
    }

    /// The newest `limit` lines of the route's handler of which `wanted` is true, oldest first.
    pub(crate) fn logs(
        &self,
        route: &Name,
        limit: usize,
        wanted: impl Fn(&LogRecord) -> bool,
    ) -> Vec<Arc<LogRecord>> {
        let route = self.routes.read().get(route).cloned();
        route.map(|route| route.logs.newest(limit, wanted)).unwrap_or_default()
    }

    /// Where lines about the route go; nowhere, if there is no such route.
    pub(crate) fn logs_of(&self, route: &Name) -> Arc<RouteLogs> {
        let known = self.routes.read().get(route).map(|route| route.logs.clone());
        known.unwrap_or_else(|| Arc::new(RouteLogs::new(self.shared.watch.clone())))
    }

    pub(crate) fn depth_max(&self) -> u8 {
        self.shared.options.depth_max
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(crate) fn watch_logs(&self) -> tokio::sync::broadcast::Receiver<Arc<LogRecord>> {
        self.shared.watch.watch()
    }

    /// Returns once no turn is under way.
    pub(crate) async fn stop(&self) {
        self.shared.stop.cancel();
        let routes: Vec<_> = self.routes.read().values().cloned().collect();
        for route in routes {
            route.idle().await;
        }
    }
}

struct RouteDispatch {
    route: ArcSwap<Route>,
    shared: Arc<Shared>,
    work: Mutex<RouteWork>,
    stats: RouteStats,
    waste: Mutex<Waste>,
    logs: Arc<RouteLogs>,
    /// Readings of which nobody knows whether they were handled, until their lane's next turn is settled or it is
    /// loaded from the store.
    doubted: Mutex<HashMap<LaneId, BTreeSet<ReadingId>>>,
    unloadable: Unloadable,
    stop: CancellationToken,
}

struct RouteWork {
    lanes: Lanes,
    runners: usize,
}

/// The lanes whose turns a runner has taken and not settled.
type Taken = Mutex<BTreeSet<LaneId>>;
type Settled = (Settling, Result<(), StoreError>);

/// A runner's turns on their way through the store.
#[derive(Default)]
struct Settlings<'a> {
    under_way: FuturesUnordered<BoxFuture<'a, Settled>>,
    /// What came of them, in memory until it is committed.
    bytes: usize,
}

impl<'a> Settlings<'a> {
    fn are_enough(&self) -> bool {
        self.under_way.len() >= SETTLING_MAX || self.bytes >= SETTLING_BYTES
    }

    fn push(&mut self, settles: BoxFuture<'a, Settled>, bytes: usize) {
        self.bytes += bytes;
        self.under_way.push(settles);
    }

    /// `None` if there are none.
    async fn next(&mut self) -> Option<Settled> {
        let settled = self.under_way.next().await?;
        self.bytes -= settled.0.bytes;
        Some(settled)
    }
}

/// A turn on its way through the store.
struct Settling {
    lane: LaneId,
    ended: Ended,
    said: Vec<(ReadingId, Said)>,
    counts: Counts,
    spans: Vec<Span>,
    bytes: usize,
}

impl RouteDispatch {
    /// Does for a lane what it needs.
    fn need(self: &Arc<Self>, lane: Option<LaneId>, need: Need) {
        match (need, lane) {
            (Need::Nothing, _) | (Need::WakeAt(_) | Need::WakeAfter(_), None) => {}
            (Need::Runner, _) => self.start_runner(),
            (Need::WakeAt(due), Some(lane)) => {
                // No longer than that, should the clock have been set back meanwhile.
                let wait = due.since(self.shared.clock.now()).min(self.route.load().attempts.longest_wait);
                self.wake_after(lane, wait, due);
            }
            (Need::WakeAfter(wait), Some(lane)) => self.wake_after(lane, wait, Timestamp::default()),
        }
    }

    /// Then it is `due`, whatever the clock says.
    fn wake_after(self: &Arc<Self>, lane: LaneId, wait: Duration, due: Timestamp) {
        let route = self.clone();
        route.shared.runtime.clone().spawn(async move {
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                () = route.stop.cancelled() => return,
            }
            let now = route.shared.clock.now().max(due);
            let need = route.work.lock().lanes.wake(lane, now);
            route.need(Some(lane), need);
        });
    }

    /// Another runner, unless there are as many as the route may have.
    fn start_runner(self: &Arc<Self>) {
        let mut work = self.work.lock();
        if work.runners < self.runners_max() && !self.stop.is_cancelled() {
            work.runners += 1;
            self.shared.runtime.spawn(self.clone().run());
        }
    }

    fn runners_max(&self) -> usize {
        self.route.load().concurrency.max(1)
    }

    /// One runner, whatever panics: it is counted until it has nothing to do.
    async fn run(self: Arc<Self>) {
        let taken = Taken::default();
        while AssertUnwindSafe(self.take_turns(&taken)).catch_unwind().await.is_err() {
            self.give_back(&taken);
            tokio::time::sleep(STORE_WAIT).await;
        }
    }

    /// A bug of ours: the store may have taken what came of these lanes' turns. They are tried again, and then it says so.
    fn give_back(self: &Arc<Self>, taken: &Taken) {
        let route = self.route.load();
        tracing::error!(route = %route.name, "dispatch panicked; its turns are taken again");
        let now = self.shared.clock.now();
        for lane in std::mem::take(&mut *taken.lock()) {
            let need = {
                let mut work = self.work.lock();
                if route.reply.is_somebody() {
                    self.doubted.lock().entry(lane).or_default().extend(work.lanes.readings(lane));
                }
                work.lanes.ended(lane, Ended::Unsettled { again_at: now.after(UNSETTLED_WAIT) }, now)
            };
            self.need(Some(lane), need);
        }
    }

    /// Takes turns while there are any, with one sandbox.
    async fn take_turns(self: &Arc<Self>, taken: &Taken) {
        let mut sandbox = Sandboxed::default();
        let mut settling = Settlings::default();
        loop {
            if !self.stop.is_cancelled() && !self.load() {
                tokio::time::sleep(STORE_WAIT).await;
            }
            let turn =
                if self.stop.is_cancelled() || settling.are_enough() { None } else { self.next_turn() };
            match turn {
                Some(turn) => {
                    taken.lock().insert(turn.lane.id());
                    let (settles, bytes) = {
                        let mut handled = pin!(self.handle(&turn, &mut sandbox));
                        loop {
                            // Earlier turns must not wait for a slow handler to be told that they are committed.
                            tokio::select! {
                                biased;
                                settles = &mut handled => break settles,
                                Some(settled) = settling.next() => self.settled(settled, taken),
                            }
                        }
                    };
                    settling.push(settles, bytes);
                    let rest = self.waste(sandbox.wasted.take());
                    self.rest(rest, &mut settling, taken).await;
                }
                None => match settling.next().await {
                    Some(settled) => self.settled(settled, taken),
                    None if self.end_runner() => return,
                    None => {}
                },
            }
        }
    }

    /// `None` also if there are more runners than there may be now.
    fn next_turn(&self) -> Option<Turn> {
        let route = self.route.load();
        let mut work = self.work.lock();
        if work.runners > route.concurrency.max(1) {
            return None;
        }
        work.lanes.take(route.batch.clamp(1, TURN_READINGS), TURN_BYTES)
    }

    /// How long to rest for what the last turn wasted.
    fn waste(&self, wasted: Option<Duration>) -> Duration {
        let rest = wasted.map_or(Duration::ZERO, |wasted| self.waste.lock().add(wasted, Instant::now()));
        if rest >= REST_TOLD {
            let route = &self.route.load().name;
            tracing::warn!(%route, rest_ms = rest.as_millis(), "rests: its handler's failed calls take too much time");
        }
        rest
    }

    /// Turns that were taken before are settled meanwhile.
    async fn rest(self: &Arc<Self>, rest: Duration, settling: &mut Settlings<'_>, taken: &Taken) {
        if rest.is_zero() {
            return;
        }
        let mut rested = pin!(tokio::time::sleep(rest));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = &mut rested => return,
                Some(settled) = settling.next() => self.settled(settled, taken),
            }
        }
    }

    /// False if somebody found more to do in the meantime, and no other runner is to do it.
    fn end_runner(&self) -> bool {
        let runners_max = self.runners_max();
        let mut work = self.work.lock();
        if work.lanes.has_work() && work.runners <= runners_max && !self.stop.is_cancelled() {
            return false;
        }
        work.runners -= 1;
        true
    }

    /// Loads what is wanted from the store. False if the store cannot be asked.
    fn load(self: &Arc<Self>) -> bool {
        loop {
            let Some(wanted) = self.work.lock().lanes.wanted() else { return true };
            let lane = match &wanted {
                Wanted::Readings { lane, .. } => Some(lane.id()),
                Wanted::Lanes { .. } => None,
            };
            let answered = catch_unwind(AssertUnwindSafe(|| self.answer(wanted)));
            let answered = answered.unwrap_or_else(|panic| {
                // Nobody else asks it again.
                self.work.lock().lanes.not_answered(lane);
                resume_unwind(panic)
            });
            let Err(error) = answered else { continue };
            let store = &self.shared.store;
            if self.unloadable.is_told(store, &error) {
                let route = &self.route.load().name;
                tracing::warn!(%route, %error, "what waits cannot be loaded; tried again");
            }
            // What was at the lane's head is in nobody's way any more.
            let goes_on = matches!(error, StoreError::Lost { .. });
            // Of its own faults the store says when they are over; this is one of this lane.
            let is_the_lanes = goes_on || matches!(error, StoreError::Unavailable(_));
            let is_the_lanes = is_the_lanes && store.stats().fault.is_none();
            let Some(lane) = lane.filter(|_| is_the_lanes) else {
                self.work.lock().lanes.not_answered(lane);
                return false;
            };
            let need = self.work.lock().lanes.unloadable(lane, goes_on);
            self.need(Some(lane), need);
        }
    }

    fn answer(self: &Arc<Self>, wanted: Wanted) -> Result<(), StoreError> {
        let store = &self.shared.store;
        match wanted {
            Wanted::Readings { lane, count, bytes } => {
                let id = lane.id();
                let readings = store.waiting(&lane.route, id, &|_| false, count, bytes)?;
                let all = readings.complete;
                let now = self.shared.clock.now();
                // If nothing of it waits any more, it has no turn that would tell. Its next one has yet to begin.
                self.tell(id, Vec::new());
                let need = self.work.lock().lanes.loaded(id, readings.items, all, now);
                self.need(Some(id), need);
            }
            Wanted::Lanes { count, behind } => {
                let name = self.route.load().name.clone();
                let lanes = |after, limit| store.lanes(&name, after, limit);
                let is_known = |id| self.work.lock().lanes.knows(id);
                let (unknown, all) = look_round(behind, count, lanes, is_known)?;
                self.work.lock().lanes.found(unknown, all);
            }
        }
        Ok(())
    }

    /// Handles a turn, and gives what it came to, so many bytes, to the store.
    async fn handle<'a>(&'a self, turn: &Turn, sandbox: &mut Sandboxed) -> (BoxFuture<'a, Settled>, usize) {
        // In this order: a route that was replaced since is of a router that was, and whose end is waited for.
        let router = self.shared.router.load_full();
        let route = self.route.load_full();
        let context = Context {
            route: &route,
            router: &router,
            store: &self.shared.store,
            logs: &self.logs,
            depth_max: self.shared.options.depth_max,
            now: self.shared.clock.now(),
            random: self.shared.jitter.next(),
            sampling: self.shared.telemetry.sampling(),
        };
        let began = Instant::now();
        let enough = |bytes: usize| bytes >= TURN_OUTPUT_BYTES || began.elapsed() > TURN_TIME;
        let handled = async {
            match sandbox.ready(&route, turn).await {
                Ok(hands) => turn::run(&context, hands, turn, enough).await,
                Err(fault) => Done::without_sandbox(&context, turn, fault),
            }
        };
        let done = match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(done) => done,
            // What is done with it must come to an end, too: it is an attempt like any other.
            Err(_panic) => {
                *sandbox = Sandboxed::default();
                let cause = "the host panicked".to_owned();
                Done::without_sandbox(&context, turn, Fault::Trap { cause })
            }
        };
        sandbox.after(&done);
        let counts = Counts::of(&done, began.elapsed());
        let nothing = done.is_nothing();
        // A sender waits for the routes that may reply, and must not take another's end for theirs.
        let said = if route.reply.is_somebody() { done.said } else { Vec::new() };
        let Done { bytes, ended, spans, outcome, .. } = done;
        let settling = Settling { lane: turn.lane.id(), ended, said, counts, spans, bytes };
        if nothing {
            return (std::future::ready((settling, Ok(()))).boxed(), bytes);
        }
        let settled = self.shared.store.settle(outcome);
        let settles = async move {
            let result = settled.await;
            // Kept for so long: the removal of a route waits for whatever still goes to it.
            drop(router);
            (settling, result)
        };
        (settles.boxed(), bytes)
    }

    fn settled(self: &Arc<Self>, (settling, result): Settled, taken: &Taken) {
        let now = self.shared.clock.now();
        let Settling { lane, ended, said, counts, spans, bytes: _ } = settling;
        let ended = match result {
            Ok(()) => {
                self.stats.count(&counts);
                spans.into_iter().for_each(|span| self.shared.telemetry.record(span));
                self.tell(lane, said);
                ended
            }
            Err(StoreError::Stale) => {
                self.doubt(lane, &said);
                self.tell(lane, Vec::new());
                Ended::Stale
            }
            Err(_unavailable) => {
                self.doubt(lane, &said);
                Ended::Unsettled { again_at: now.after(UNSETTLED_WAIT) }
            }
        };
        let need = self.work.lock().lanes.ended(lane, ended, now);
        taken.lock().remove(&lane);
        self.need(Some(lane), need);
    }

    /// A commit that was told to have failed may have handled them all the same.
    fn doubt(&self, lane: LaneId, said: &[(ReadingId, Said)]) {
        if !said.is_empty() {
            self.doubted.lock().entry(lane).or_default().extend(said.iter().map(|(reading, _)| *reading));
        }
    }

    /// Says what is to be said of a lane's readings. Doubted ones that no longer wait were handled: nobody
    /// knows the answer any more, and no other comes. Those that wait are handled again, and get theirs.
    fn tell(&self, lane: LaneId, said: Vec<(ReadingId, Said)>) {
        let mut doubted = self.doubted.lock().remove(&lane).unwrap_or_default();
        for (reading, said) in said {
            doubted.remove(&reading);
            self.shared.awaited.say(reading, said);
        }
        let name = self.route.load().name.clone();
        for reading in doubted {
            match self.shared.store.waits(&name, lane, reading) {
                Ok(true) => {}
                Ok(false) => self.shared.awaited.say(reading, Said::Last(Vec::new())),
                Err(_unavailable) => {
                    self.doubted.lock().entry(lane).or_default().insert(reading);
                }
            }
        }
    }

    /// Returns once no runner is left.
    async fn idle(&self) {
        while self.work.lock().runners > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A runner's sandboxes, kept from turn to turn as long as they are the route's handlers'.
#[derive(Default)]
struct Sandboxed {
    active: Option<Box<dyn Sandbox>>,
    candidate: Option<Box<dyn Sandbox>>,
    of: Option<Arc<Route>>,
    /// What the last turn took for nothing.
    wasted: Option<Duration>,
}

impl Sandboxed {
    /// What a lane's turn is handled with. A candidate that cannot be had is passed over.
    async fn ready<'a>(&'a mut self, route: &'a Arc<Route>, turn: &Turn) -> Result<Hands<'a>, Fault> {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, route)) {
            *self = Self { of: Some(route.clone()), ..Self::default() };
        }
        let Some(handler) = &route.handler else { return Ok(Hands { active: None, candidate: None }) };
        if self.active.is_none() {
            self.active = Some(handler.checkout().await?);
        }
        let candidate = route.candidate.as_deref().filter(|candidate| candidate.takes(&turn.lane.key));
        let candidate = match candidate {
            None => None,
            Some(candidate) => candidate_sandbox(&mut self.candidate, candidate, turn).await,
        };
        let active = self.active.as_deref_mut().map(|sandbox| sandbox as &mut dyn Sandbox);
        Ok(Hands { active, candidate })
    }

    /// Those that were used up are not used again.
    fn after(&mut self, done: &Done) {
        self.wasted = done.wasted;
        if !done.sandbox_usable {
            self.active = None;
        }
        if !done.candidate_usable {
            self.candidate = None;
        }
    }
}

async fn candidate_sandbox<'a>(
    kept: &'a mut Option<Box<dyn Sandbox>>,
    candidate: &'a Candidate,
    turn: &Turn,
) -> Option<(&'a Candidate, &'a mut dyn Sandbox)> {
    if kept.is_none() {
        let began = Instant::now();
        match candidate.handler.checkout().await {
            Ok(sandbox) => *kept = Some(sandbox),
            Err(fault) => {
                tracing::debug!(%fault, version = candidate.version, "the candidate is passed over");
                if let Some(head) = turn.readings.first().filter(|_| fault.is_the_handlers()) {
                    candidate.not_started(head.reading.id, began.elapsed(), &fault.to_string());
                }
                return None;
            }
        }
    }
    kept.as_deref_mut().map(|sandbox| (candidate, sandbox as &mut dyn Sandbox))
}
