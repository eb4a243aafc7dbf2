//! One life of the host: from its start to a stop, a power loss, or the end of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use sandbar_pipeline::{Circuit, Filter, Key, Options, Pipeline, Replying, Route};
use sandbar_reading::TopicFilter;
use sandbar_store::{Committer, DeadLetterQuery, News, Observer, OpenError, Store, Subject};
use tokio::task::JoinSet;

use crate::check;
use crate::far_end::{self, Sink};
use crate::handler::Scripted;
use crate::peers;
use crate::plan::{Incident, Operation};
use crate::world::{Passing, World, name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PowerLost,
    Stopped,
    Done,
}

pub(crate) const SINKS: [&str; 3] = ["near", "far", "third"];

/// Nothing takes that long; whoever waits longer waits for ever.
const FOR_EVER: Duration = Duration::from_secs(3 * 24 * 3600);

pub(crate) fn live(world: &World) -> Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let end = runtime.block_on(async {
        world.begin();
        let end = tokio::time::timeout(FOR_EVER, life(world)).await;
        world.trace(|| format!("the host's life ends: {end:?}"));
        world.end();
        end.map_err(|_| anyhow!("the host hangs"))?
    });
    // With the runtime everything that still ran is gone.
    drop(runtime);
    if matches!(end, Ok(End::PowerLost)) {
        world.disk.restore_power();
    }
    match world.memory.lock().wrong.first() {
        Some(wrong) => bail!("{wrong}"),
        None => end,
    }
}

async fn life(world: &World) -> Result<End> {
    let mut around = JoinSet::new();
    around.spawn(disk(world.clone()));
    let host = Host::start(world).await?;
    around.spawn(host.clone().watch());
    for device in 0..world.plan.devices {
        around.spawn(far_end::device(world.clone(), host.pipeline.intake(), format!("d{device}")));
    }
    let mut peers = JoinSet::new();
    for device in 0..world.plan.devices {
        for connection in 0..world.plan.connections {
            let (pipeline, unanswered) = (host.pipeline.clone(), host.unanswered.clone());
            peers.spawn(peers::connection(world.clone(), pipeline, (device, connection), unanswered));
        }
    }
    while let Some(incident) = next_incident(world).await {
        match incident {
            Incident::PowerLoss { operations, later } => {
                world.disk.lose_power_after(operations);
                tokio::time::sleep(later).await;
                world.disk.lose_power_after(0);
                // The observer holds the store that holds it: nobody else would ever let go of them.
                host.store.observe(Arc::new(Nobody));
                return Ok(End::PowerLost);
            }
            Incident::Restart => {
                peers.shutdown().await;
                around.shutdown().await;
                host.stop().await?;
                return Ok(End::Stopped);
            }
            other => host.change(other).await,
        }
    }
    while peers.join_next().await.is_some() {}
    host.finish().await?;
    around.shutdown().await;
    host.stop().await?;
    Ok(End::Done)
}

/// Waits for what happens next; `None` once everything has happened.
async fn next_incident(world: &World) -> Option<Incident> {
    let index = world.memory.lock().incidents_done;
    let next = world.plan.incidents.get(index);
    let at = next.map_or(world.plan.end(), |(at, _)| *at);
    tokio::time::sleep(at.saturating_sub(world.elapsed())).await;
    world.memory.lock().incidents_done += 1;
    next.map(|(_, incident)| {
        world.trace(|| format!("{incident:?}"));
        *incident
    })
}

/// The disk fails when the plan says so.
async fn disk(world: World) {
    let faults = &world.plan.faults;
    loop {
        let now = world.elapsed();
        let active =
            || faults.iter().filter(|fault| fault.from <= now && now < fault.to).map(|fault| fault.of);
        world.disk.fail_writes(
            active().find_map(|of| if let Operation::Write(how) = of { Some(how) } else { None }),
        );
        world
            .disk
            .fail_syncs(active().find_map(|of| if let Operation::Sync(how) = of { Some(how) } else { None }));
        world.disk.fail_reads(active().any(|of| matches!(of, Operation::Read)));
        world.trace(|| format!("the disk fails: {:?}", active().collect::<Vec<_>>()));
        let changes = faults.iter().flat_map(|fault| [fault.from, fault.to]);
        let Some(next) = changes.filter(|at| *at > now).min() else { return };
        tokio::time::sleep(next - now).await;
    }
}

struct Nobody;

impl Observer for Nobody {
    fn committed(&self, _: News) {}
    fn recovered(&self) {}
}

#[derive(Clone)]
struct Host {
    world: World,
    store: Store,
    pipeline: Arc<Pipeline>,
    unanswered: Arc<AtomicUsize>,
}

impl Host {
    async fn start(world: &World) -> Result<Self> {
        loop {
            let store = open(world).await?;
            let plan = &world.plan;
            let options = Options {
                window: plan.window,
                deliveries_held: plan.deliveries_held,
                depth_max: plan.depth_max,
                seed: Some(world.draw()),
                ..Options::default()
            };
            let Ok(pipeline) = Pipeline::start(store.clone(), world.clock(), options) else {
                store.close().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let host = Self {
                world: world.clone(),
                store,
                pipeline: Arc::new(pipeline),
                unanswered: Arc::default(),
            };
            for sink in SINKS {
                host.set_sink(sink).await;
            }
            host.finish_removing().await;
            if world.memory.lock().passing == Passing::Never {
                world.memory.lock().passing = Passing::There(1);
            }
            host.set_routes();
            return Ok(host);
        }
    }

    async fn change(&self, incident: Incident) {
        let memory = &self.world.memory;
        let passing = memory.lock().passing;
        match (incident, passing) {
            (Incident::ClockJump(millis), _) => self.world.jump(millis),
            (Incident::ReplaceRoutes, _) => self.set_routes(),
            (Incident::Redrive, _) => self.redrive().await,
            (Incident::ReplaceSink(index), _) => self.set_sink(SINKS[index]).await,
            (Incident::RemovePassing, Passing::There(epoch)) => {
                memory.lock().passing = Passing::BeingRemoved(epoch);
                if self.pipeline.remove_route(&name("passing")).await.is_ok() {
                    memory.lock().passing = Passing::Removed(epoch);
                }
            }
            (Incident::AddPassing, Passing::BeingRemoved(_) | Passing::Removed(_)) => {
                self.finish_removing().await;
                let Passing::Removed(epoch) = memory.lock().passing else { return };
                memory.lock().passing = Passing::There(epoch + 1);
                self.set_routes();
            }
            _ => {}
        }
    }

    /// Everything that was given up on, but for what a route left behind that was removed.
    async fn redrive(&self) {
        let query = DeadLetterQuery { limit: usize::MAX, ..DeadLetterQuery::default() };
        let letters = self.store.dead_letters(&query).map(|page| page.items).unwrap_or_default();
        for letter in letters {
            match &letter.subject {
                Subject::Reading { lane, .. } if lane.route.as_str() == "passing" => continue,
                Subject::Reading { .. } => {}
                Subject::Delivery { delivery, .. } => {
                    self.world.memory.lock().redriven.insert(delivery.id);
                }
            }
            let result = self.store.redrive(letter.id).await;
            self.world.trace(|| format!("redriven: {} {result:?}", letter.id));
        }
    }

    /// A removal that the storage, or a power loss, kept from being finished.
    async fn finish_removing(&self) {
        let memory = &self.world.memory;
        let Passing::BeingRemoved(epoch) = memory.lock().passing else { return };
        while self.pipeline.remove_route(&name("passing")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        memory.lock().passing = Passing::Removed(epoch);
    }

    async fn set_sink(&self, sink: &'static str) {
        let scripted = Sink { world: self.world.clone(), name: sink };
        self.pipeline.set_sink(name(sink), Arc::new(scripted), self.world.plan.offering).await;
    }

    fn set_routes(&self) {
        let passing = self.world.memory.lock().passing;
        let again_key = if self.world.plan.again_alone { Key::None } else { Key::Device };
        let mut routes = vec![
            self.route("count", "counted", &["sensors/#"], Key::Device, &["near", "far"], 1),
            self.route("again", "again", &["counted/#"], again_key, &["far"], 1),
        ];
        if self.world.plan.loops {
            routes.push(self.route("ping", "ping", &["again/#", "pong/#"], Key::Device, &[], 1));
            routes.push(self.route("pong", "pong", &["ping/#"], Key::Device, &[], 1));
        }
        if let Passing::There(epoch) = passing {
            routes.push(self.route(
                "passing",
                "passed",
                &["sensors/#", "counted/#"],
                Key::Topic,
                &["third"],
                epoch,
            ));
        }
        self.pipeline.set_routes(routes);
    }

    fn route(
        &self,
        route: &'static str,
        topic: &'static str,
        takes: &[&str],
        key: Key,
        sinks: &[&str],
        epoch: u64,
    ) -> Route {
        let topics = takes.iter().map(|text| text.parse::<TopicFilter>().expect("it is a filter")).collect();
        Route {
            name: name(route),
            filter: Filter { topics, ..Filter::default() },
            key,
            handler: Some(Arc::new(Scripted { world: self.world.clone(), route, topic, epoch })),
            sinks: sinks.iter().map(|sink| name(sink)).collect(),
            reply: if route == "count" && self.world.plan.reply {
                Replying::Handler
            } else {
                Replying::Nobody
            },
            attempts: self.world.plan.attempts,
            concurrency: self.world.plan.concurrency,
            batch: 64,
            version: 1,
            candidate: None,
        }
    }

    /// What is held in memory stays within its bounds.
    async fn watch(self) {
        let plan = &self.world.plan;
        let targets = SINKS.len() + plan.devices as usize;
        let most = 5 * plan.window.readings + targets * plan.deliveries_held;
        loop {
            let held = self.pipeline.held();
            if held > most {
                self.world.wrong(format!("{held} readings and deliveries are held; {most} may be"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.world.is_mended() {
                return;
            }
        }
    }

    /// Everything works again: whatever waits goes where it should, and then all must be right.
    async fn finish(&self) -> Result<()> {
        let world = &self.world;
        world.memory.lock().mended = true;
        self.finish_removing().await;
        let began = world.elapsed();
        let mut wait = Duration::from_millis(100);
        loop {
            let stats = self.store.stats();
            if stats.waiting == 0 && stats.outbox == 0 && stats.fault.is_none() {
                break;
            }
            ensure!(
                world.elapsed() - began < Duration::from_secs(24 * 3600),
                "{} readings still wait for {:?}, {} deliveries for {:?}; fault: {:?}",
                stats.waiting,
                self.store.routes_waiting(),
                stats.outbox,
                self.store.targets(),
                stats.fault,
            );
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(600));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        check::check(world, &self.store)?;
        self.forgotten().await?;
        for outlet in self.pipeline.outlets() {
            ensure!(outlet.circuit == Circuit::Closed, "{:?} is not well again", outlet.target);
        }
        ensure!(self.pipeline.held() == 0, "{} are still held in memory", self.pipeline.held());
        let unanswered = self.unanswered.load(Relaxed);
        ensure!(unanswered == 0, "{unanswered} peers wait for an answer that nobody will give");
        Ok(())
    }

    /// What may leave the journal has left it in the end, and of large payloads those are there that are needed.
    async fn forgotten(&self) -> Result<()> {
        let retention = &self.world.plan.retention;
        for _ in 0..400 {
            let stats = self.store.stats();
            let too_many = retention.bytes.is_some_and(|most| stats.journal_bytes > most);
            if !too_many && (retention.age.is_none() || stats.journal_count == 0) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let stats = self.store.stats();
        ensure!(
            retention.bytes.is_none_or(|most| stats.journal_bytes <= most)
                && (retention.age.is_none() || stats.journal_count == 0),
            "{} readings, {} bytes stay in the journal",
            stats.journal_count,
            stats.journal_bytes
        );
        let files = self.world.disk.payloads().len();
        ensure!(
            files as u64 == stats.payloads,
            "{files} files of payloads, {} are referred to",
            stats.payloads
        );
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        self.pipeline.stop().await;
        let busy = self.world.memory.lock().busy.clone();
        ensure!(busy.is_empty(), "after the stop there still work: {busy:?}");
        drop(self.pipeline);
        self.store.close().await;
        Ok(())
    }
}

/// However long the disk fails.
async fn open(world: &World) -> Result<Store> {
    loop {
        let options = sandbar_store::Options {
            cache_bytes: 1 << 20,
            retention: world.plan.retention,
            inline_max: world.plan.inline_max,
            queue_max: world.plan.queue_max,
            commit_max: world.plan.commit_max,
            seed: Some(world.draw()),
            ..sandbar_store::Options::default()
        };
        let disk = Arc::new(world.disk.clone());
        match Store::open(disk, World::modules(), options, world.clock(), Committer::Task) {
            Ok(store) => return Ok(store),
            Err(OpenError::Io { source, .. }) => world.trace(|| format!("cannot open: {source}")),
            Err(error) => bail!("the file does not open: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
