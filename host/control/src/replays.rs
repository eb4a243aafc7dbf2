//! Replays: readings of a time range, or dead letters, through a version of one's choice, for real. How far a
//! replay has come is committed with what came of it: one that is interrupted goes on where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_pipeline::{Handler, Replay as Step, ReplayDone, Router};
use sandbar_reading::{DeadLetterId, Name, Reading, ReadingId, Timestamp, TopicFilter};
use sandbar_store::{DeadLetterQuery, Kind, LOST_ATTRIBUTE, ReadingQuery, Subject};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::build;
use crate::control::{Control, Inner};
use crate::documents::read_all;
use crate::error::ControlError;
use crate::tables::Text;
use crate::what::What;

/// Readings that one commit takes, and bytes of them, and of what they put out.
const AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 4 << 20;
/// Failures that are told one by one.
const FAILURES_MAX: usize = 50;
/// Replays that are kept: the oldest that are over go.
const KEPT_MAX: usize = 50;
/// How long to wait when the store or the machine has no room, or the version could not be started.
const WAIT: Duration = Duration::from_millis(500);
/// A version that cannot be started so many times in a row ends its replay.
const STARTS_MAX: usize = 3;

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct NewReplay {
    pub route: Name,
    /// Of the route's module; the active one, unless said otherwise.
    pub version: Option<u32>,
    pub of: ReplayOf,
    /// Whether devices get what the handler commands.
    pub commands: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplayOf {
    /// Readings that the route takes, by the time of their acceptance.
    Journal {
        #[serde(with = "crate::documents::nanos")]
        since: Timestamp,
        #[serde(with = "crate::documents::nanos")]
        until: Timestamp,
        topic: Option<String>,
    },
    /// Readings that the route could not handle; those that are handled now are dead letters no more.
    DeadLetters,
}

/// A replay, and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    pub id: String,
    pub route: Text<Name>,
    pub version: u32,
    pub of: ReplayOf,
    pub commands: bool,
    pub state: ReplayState,
    #[serde(with = "crate::documents::nanos")]
    pub begun: Timestamp,
    /// The last reading or dead letter that it has dealt with.
    position: Option<String>,
    /// Of dead letters, the last that there was when it began: ids only ever grow, and a clock does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    pub handled: u64,
    /// Deliveries and chained readings.
    pub outputs: u64,
    pub failed: u64,
    /// The first of those that failed.
    pub failures: Vec<ReplayFailure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayState {
    Running,
    Done,
    Cancelled,
    /// It could not go on.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFailure {
    pub reading: String,
    pub cause: String,
}

/// Some of what is to be replayed.
#[derive(Default)]
struct Part {
    readings: Vec<Reading>,
    /// Of each reading: where the replay is once it is handled.
    positions: Vec<String>,
    /// Those whose payload is not to be had, after how many readings they come, and why.
    lost: Vec<(ReadingId, usize, String)>,
    /// Of each reading, if it is a dead letter.
    letters: BTreeMap<ReadingId, DeadLetterId>,
    position: Option<String>,
    more: bool,
}

impl Part {
    /// Nothing is handled without its payload.
    fn add(&mut self, reading: Reading, position: String) {
        match reading.attributes.get(LOST_ATTRIBUTE) {
            Some(cause) => self.lost.push((reading.id, self.readings.len(), cause.to_owned())),
            None => {
                self.readings.push(reading);
                self.positions.push(position);
            }
        }
    }

    /// Leaves what comes after the first so many readings to the next part.
    fn end_after(&mut self, readings: usize) {
        if readings == self.readings.len() {
            return;
        }
        self.readings.truncate(readings);
        self.positions.truncate(readings);
        self.lost.retain(|(_, after, _)| *after < readings);
        let taken = &self.readings;
        self.letters.retain(|id, _| taken.iter().any(|reading| reading.id == *id));
        self.position = self.positions.last().cloned();
        self.more = true;
    }
}

impl Control {
    /// Begins a replay; it runs on by itself.
    pub async fn begin_replay(&self, asked: NewReplay) -> Result<Replay, ControlError> {
        let running = self.running();
        let not_found = |what, name: String| ControlError::NotFound { what, name };
        let table = running.wanted.routes.get(&asked.route);
        let table = &table.ok_or_else(|| not_found(What::Route, asked.route.to_string()))?.it;
        let no_module = || ControlError::Conflict(format!("route `{}` has no module", asked.route));
        let module = &table.module.as_ref().ok_or_else(no_module)?.0;
        let known = running.wanted.modules.get(module).ok_or_else(no_module)?;
        let version = asked.version.unwrap_or(known.it.active);
        if known.it.version(version).is_none() {
            return Err(not_found(What::Module, format!("{module}, version {version}")));
        }
        running.wanted.may_call(&known.it, version)?;
        let last = match asked.of {
            ReplayOf::Journal { .. } => None,
            ReplayOf::DeadLetters => Some(self.last_dead_letter().await?.to_string()),
        };
        let now = self.inner.clock.now();
        let id = ulid(now);
        let replay = Replay {
            id: id.clone(),
            route: Text(asked.route),
            version,
            of: asked.of,
            commands: asked.commands,
            state: ReplayState::Running,
            begun: now,
            position: None,
            last,
            handled: 0,
            outputs: 0,
            failed: 0,
            failures: Vec::new(),
        };
        let mut changes = vec![replay.document()];
        let mut over: Vec<_> =
            self.replays().await?.into_iter().filter(|known| known.state != ReplayState::Running).collect();
        over.truncate(over.len().saturating_sub(KEPT_MAX - 1));
        changes.extend(over.into_iter().map(|old| (Kind::Replay, old.id, None)));
        self.inner.store.put_documents(changes).await?;
        self.spawn_replay(replay.clone());
        Ok(replay)
    }

    /// Of all that there are.
    async fn last_dead_letter(&self) -> Result<DeadLetterId, ControlError> {
        let newest = self.dead_letters(DeadLetterQuery { limit: 1, ..DeadLetterQuery::default() }).await?;
        Ok(newest.items.first().map_or(DeadLetterId::from_u128(0), |letter| letter.id))
    }

    /// Oldest first.
    pub async fn replays(&self) -> Result<Vec<Replay>, ControlError> {
        Ok(self.inner.all_replays().await?.into_values().collect())
    }

    pub async fn replay(&self, id: &str) -> Result<Replay, ControlError> {
        let found = self.replays().await?.into_iter().find(|replay| replay.id == id);
        found.ok_or_else(|| ControlError::NotFound { what: What::Replay, name: id.to_owned() })
    }

    /// What it has put out stays.
    pub async fn cancel_replay(&self, id: &str) -> Result<Replay, ControlError> {
        let replay = self.replay(id).await?;
        if replay.state != ReplayState::Running {
            return Err(ControlError::Conflict("the replay is over".to_owned()));
        }
        self.inner.cancelled.lock().insert(id.to_owned());
        // It ends within a part.
        for _ in 0..600 {
            let now = self.replay(id).await?;
            if now.state != ReplayState::Running {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.replay(id).await
    }

    /// Goes on with those that were under way when the host stopped.
    pub(crate) fn resume_replays(&self) {
        let control = self.clone();
        drop(tokio::spawn(async move {
            match control.replays().await {
                Ok(replays) => {
                    for replay in replays.into_iter().filter(|replay| replay.state == ReplayState::Running) {
                        info!(replay = replay.id, route = %replay.route.0, "goes on");
                        control.spawn_replay(replay);
                    }
                }
                Err(error) => warn!(%error, "replays cannot be read: they go on after the next start"),
            }
        }));
    }

    fn spawn_replay(&self, replay: Replay) {
        // Weak: a replay keeps nobody from stopping.
        let inner = Arc::downgrade(&self.inner);
        drop(tokio::spawn(async move {
            let (mut replay, mut is_doubted) = (replay, false);
            while replay.state == ReplayState::Running {
                let Some(inner) = inner.upgrade() else { return };
                if inner.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let was_doubted = is_doubted;
                if let Err(cause) = inner.go_on(&mut replay, &mut is_doubted).await {
                    if !was_doubted {
                        warn!(replay = replay.id, cause, "cannot go on now; tried again");
                    }
                    drop(inner);
                    tokio::time::sleep(WAIT).await;
                }
            }
            info!(replay = replay.id, state = ?replay.state, handled = replay.handled, failed = replay.failed, "over");
        }));
    }
}

impl Inner {
    /// By id.
    async fn all_replays(&self) -> Result<BTreeMap<String, Replay>, ControlError> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read_all::<Replay>(&store, Kind::Replay)).await;
        Ok(read.map_err(|error| ControlError::Storage(error.to_string()))??)
    }

    /// One step. Of one that failed nobody knows whether the store has it: before the next it is asked how far the
    /// replay has come, or a part would be applied twice.
    async fn go_on(&self, replay: &mut Replay, is_doubted: &mut bool) -> Result<(), String> {
        if *is_doubted {
            let known = self.all_replays().await.map_err(|error| error.to_string())?.remove(&replay.id);
            *replay = known.unwrap_or_else(|| replay.clone());
        }
        *is_doubted = true;
        match replay.state {
            ReplayState::Running => self.step(replay).await?,
            _ => self.forget_replay(&replay.id),
        }
        *is_doubted = false;
        Ok(())
    }

    /// One part, committed with its position. An error may pass; `replay` is as it was then.
    fn step<'a>(&'a self, replay: &'a mut Replay) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let mut next = replay.clone();
            if self.cancelled.lock().contains(&replay.id) {
                next.state = ReplayState::Cancelled;
                return self.end(replay, next).await;
            }
            // Kept until what comes of it is committed: the removal of a route or sink waits for that.
            let router = self.pipeline.router();
            let mut part = self.part(replay).await?;
            let done = match self.handle_part(replay, &router, &part.readings).await? {
                Ok(done) => done,
                Err(cause) => {
                    next.state = ReplayState::Failed(cause);
                    return self.end(replay, next).await;
                }
            };
            let ReplayDone { mut replayed, taken, mut failed, spans } = done;
            part.end_after(taken);
            next.position = part.position.clone().or(next.position);
            next.handled += (part.readings.len() - failed.len()) as u64;
            failed.extend(part.lost.into_iter().map(|(id, _, cause)| (id, cause)));
            next.failed += failed.len() as u64;
            next.outputs += (replayed.deliveries.len() + replayed.chained.len()) as u64;
            for (reading, cause) in &failed {
                if next.failures.len() < FAILURES_MAX {
                    next.failures.push(ReplayFailure { reading: reading.to_string(), cause: cause.clone() });
                }
            }
            let handled = |id: &ReadingId| !failed.iter().any(|(failed, _)| failed == id);
            replayed.dead_letters =
                part.letters.iter().filter(|(id, _)| handled(id)).map(|(_, letter)| *letter).collect();
            if !part.more {
                // The end is written down after the replay's state is gone.
                replayed.documents = vec![next.document()];
                self.store.replayed(replayed).await.map_err(|error| error.to_string())?;
                self.pipeline.record(spans);
                *replay = next.clone();
                next.state = ReplayState::Done;
                return self.end(replay, next).await;
            }
            replayed.documents = vec![next.document()];
            self.store.replayed(replayed).await.map_err(|error| error.to_string())?;
            self.pipeline.record(spans);
            *replay = next;
            Ok(())
        })
    }

    async fn end(&self, replay: &mut Replay, next: Replay) -> Result<(), String> {
        self.store.discard_route(replay.state_name()).await.map_err(|error| error.to_string())?;
        self.store.put_documents(vec![next.document()]).await.map_err(|error| error.to_string())?;
        self.forget_replay(&next.id);
        *replay = next;
        Ok(())
    }

    fn forget_replay(&self, replay: &str) {
        self.cancelled.lock().remove(replay);
        self.replaying.lock().remove(replay);
    }

    /// The outer error may pass, the inner one does not.
    async fn handle_part(
        &self,
        replay: &Replay,
        router: &Router,
        readings: &[Reading],
    ) -> Result<Result<ReplayDone, String>, String> {
        let running = self.running.read().clone();
        if !running.wanted.routes.contains_key(&replay.route.0) {
            return Ok(Err(format!("route `{}` is no longer there", replay.route.0)));
        }
        let Some(route) = router.route(replay.route.0.as_str()) else {
            return Err(format!("route `{}` is being changed", replay.route.0));
        };
        let handler = match self.replay_handler(replay, &running).await {
            Ok(handler) => handler,
            Err(cause) => return Ok(Err(cause)),
        };
        let step = Step {
            id: &replay.id,
            route,
            handler: &handler,
            version: replay.version,
            state: replay.state_name(),
            commands: replay.commands,
            bytes_max: BYTES_AT_ONCE,
        };
        let mut starts = 0;
        loop {
            let fault = match self.pipeline.replay(&step, readings).await {
                Ok(done) => return Ok(Ok(done)),
                Err(fault) => fault,
            };
            starts += 1;
            match fault.is_the_handlers() {
                false => return Err(fault.to_string()),
                true if starts == STARTS_MAX => return Ok(Err(fault.to_string())),
                true => tokio::time::sleep(WAIT).await,
            }
        }
    }

    async fn replay_handler(
        &self,
        replay: &Replay,
        running: &crate::running::Running,
    ) -> Result<Arc<dyn Handler>, String> {
        let table = &running.wanted.routes[&replay.route.0].it;
        let module = table.module.as_ref().and_then(|module| running.wanted.modules.get(&module.0));
        let gone = || format!("version {} is no longer there", replay.version);
        let module = &module.ok_or_else(gone)?.it;
        let digest = &module.version(replay.version).ok_or_else(gone)?.digest;
        running.wanted.may_call(module, replay.version).map_err(|untrusted| untrusted.to_string())?;
        if let Some(handler) = self.replaying.lock().get(&replay.id) {
            return Ok(handler.clone());
        }
        let component = match running.components.get(digest) {
            Some(component) => component.clone(),
            None => self.component(digest, None).await?,
        };
        let settings = build::settings(&replay.route.0, table, &running.wanted.secrets);
        let settings = settings.map_err(|error| error.to_string())?;
        let handler = build::handler(&self.runtime, &component, settings).await;
        let handler: Arc<dyn Handler> = Arc::new(handler.map_err(|error| error.to_string())?);
        self.replaying.lock().insert(replay.id.clone(), handler.clone());
        Ok(handler)
    }

    async fn part(&self, replay: &Replay) -> Result<Part, String> {
        match &replay.of {
            ReplayOf::Journal { since, until, topic } => {
                self.journal_part(replay, *since, *until, topic.as_deref()).await
            }
            ReplayOf::DeadLetters => self.letters_part(replay).await,
        }
    }

    async fn journal_part(
        &self,
        replay: &Replay,
        since: Timestamp,
        until: Timestamp,
        topic: Option<&str>,
    ) -> Result<Part, String> {
        let cursor = replay.position.as_ref().and_then(|position| position.parse::<ReadingId>().ok());
        let topic = topic.map(str::parse::<TopicFilter>).transpose().map_err(|error| error.to_string())?;
        let query = ReadingQuery {
            topic,
            since: Some(since),
            cursor,
            newest_first: false,
            limit: AT_ONCE,
            ..ReadingQuery::default()
        };
        let store = self.store.clone();
        let page = tokio::task::spawn_blocking(move || store.readings(&query)).await;
        let page = page.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let end = ReadingId::first_at(until);
        let filter = self.running.read().route(&replay.route.0).map(|route| route.filter).unwrap_or_default();
        let over = page.items.last().is_some_and(|last| last.id >= end);
        let (mut part, mut bytes, mut cut) = (Part::default(), 0, false);
        for reading in page.items {
            if reading.id >= end {
                break;
            }
            if bytes >= BYTES_AT_ONCE {
                cut = true;
                break;
            }
            let position = reading.id.to_string();
            part.position = Some(position.clone());
            // What a replay put out is not replayed once more.
            let own = reading.attributes.get(sandbar_pipeline::REPLAY_ATTRIBUTE).is_some();
            if !own && filter.objection(&replay.route.0, &reading).is_none() {
                bytes += reading.size();
                part.add(reading, position);
            }
        }
        part.position = part.position.or_else(|| page.cursor.map(|cursor| cursor.to_string()));
        part.more = cut || (page.cursor.is_some() && !over);
        Ok(part)
    }

    async fn letters_part(&self, replay: &Replay) -> Result<Part, String> {
        let after = replay.position.as_ref().and_then(|position| position.parse::<DeadLetterId>().ok());
        let query = DeadLetterQuery {
            route: Some(replay.route.0.clone()),
            cursor: after,
            oldest_first: true,
            limit: AT_ONCE,
            ..DeadLetterQuery::default()
        };
        let store = self.store.clone();
        let page = tokio::task::spawn_blocking(move || store.dead_letters(&query)).await;
        let page = page.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let last = replay.last.as_ref().and_then(|last| last.parse::<DeadLetterId>().ok());
        let mut part = Part::default();
        for letter in page.items {
            // Those that come meanwhile are not this replay's. One of an older version does not say which was the last.
            if last.map_or(letter.time > replay.begun, |last| letter.id > last) {
                return Ok(part);
            }
            let position = letter.id.to_string();
            part.position = Some(position.clone());
            if let Subject::Reading { reading, .. } = letter.subject {
                part.letters.insert(reading.id, letter.id);
                part.add(Reading::clone(&reading), position);
            }
        }
        part.more = page.cursor.is_some();
        part.position = part.position.or_else(|| page.cursor.map(|cursor| cursor.to_string()));
        Ok(part)
    }
}

impl Replay {
    fn document(&self) -> (Kind, String, Option<Vec<u8>>) {
        let json = serde_json::to_vec(self).expect("it has text keys and no failing parts");
        (Kind::Replay, self.id.clone(), Some(json))
    }

    /// The route whose state the replay's handler has; there is no such route.
    fn state_name(&self) -> Name {
        format!("replay-{}", self.id.to_ascii_lowercase())
            .parse()
            .expect("an id is made of letters and digits")
    }
}

impl ReplayState {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

fn ulid(now: Timestamp) -> String {
    let first = ReadingId::first_at(now).as_u128();
    ReadingId::from_u128(first | u128::from(rand::random::<u64>())).to_string()
}

#[cfg(test)]
mod tests {
    use sandbar_pipeline::Sandbox;
    use sandbar_runtime::{Fault, test_components};

    use super::*;
    use crate::tests::{Host, name, until};

    struct CannotBeStarted;

    impl Handler for CannotBeStarted {
        fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
            Box::pin(async { Err(Fault::Init("no".to_owned())) })
        }
    }

    /// A host whose route has handled such readings, and a replay of them that nobody carries out.
    async fn host_with_replay(payloads: &[&str]) -> (Host, Replay) {
        let host = Host::start("").await;
        host.upload("m", test_components::echo()).await;
        host.put_sink("out").await;
        host.put_route("r", "m", "out").await;
        for payload in payloads {
            host.send("d", payload).await;
        }
        host.settled().await;
        let of = |until| ReplayOf::Journal { since: Timestamp::default(), until, topic: None };
        let of_nothing =
            NewReplay { route: name("r"), version: None, of: of(Timestamp::default()), commands: false };
        let begun = host.control.begin_replay(of_nothing).await.unwrap();
        until(|| !host.control.inner.replaying.lock().contains_key(&begun.id)).await;
        let of = of(Timestamp::from_millis(4_000_000_000_000));
        (host, Replay { id: ulid(begun.begun), of, ..begun })
    }

    /// The store had a part of which it had said that it failed, and the part was applied once more.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_of_which_nobody_knows_whether_it_was_committed_is_not_applied_twice() {
        let (host, mut replay) = host_with_replay(&["x"; 3]).await;
        let mut committed = replay.clone();
        host.control.inner.step(&mut committed).await.unwrap();
        let mut is_doubted = true;
        while replay.state == ReplayState::Running {
            host.control.inner.go_on(&mut replay, &mut is_doubted).await.unwrap();
        }
        assert_eq!((&replay, is_doubted), (&committed, false));
        host.settled().await;
        assert_eq!(host.delivered().len(), 2 * 3);
        host.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reading_that_has_lost_its_payload_is_not_replayed_without_it() {
        let (host, mut replay) = host_with_replay(&["x", &"y".repeat(100_000)]).await;
        let payloads = host.dir.path().join("sandbar-data/store.payloads");
        for file in std::fs::read_dir(payloads).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        host.control.inner.step(&mut replay).await.unwrap();
        assert_eq!((replay.handled, replay.failed), (1, 1));
        assert!(replay.failures[0].cause.ends_with("is missing on disk"), "{:?}", replay.failures);
        host.stop().await;
    }

    /// All that 64 readings put out was one commit, however much it was.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_left_of_a_part_comes_with_the_next() {
        let (host, replay) = host_with_replay(&["x"; 4]).await;
        let inner = &host.control.inner;
        let mut part = inner.part(&replay).await.unwrap();
        let whole: Vec<ReadingId> = part.readings.iter().map(|reading| reading.id).collect();
        part.lost = vec![(whole[0], 0, "gone".to_owned()), (whole[3], 3, "gone".to_owned())];
        part.end_after(3);
        assert_eq!((part.readings.len(), part.lost.len(), part.more), (3, 1, true));
        let next = inner.part(&Replay { position: part.position, ..replay }).await.unwrap();
        assert_eq!(next.readings.iter().map(|reading| reading.id).collect::<Vec<_>>(), whole[3..]);
        host.stop().await;
    }

    /// Those from before the clock was set back were of its future: it was over at the first of them.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_given_up_on_before_the_clock_was_set_back_is_replayed_and_what_comes_meanwhile_is_not()
    {
        let host = Host::start("").await;
        host.upload("m", test_components::reject()).await;
        host.put_sink("out").await;
        host.put_route("r", "m", "out").await;
        let dead = || host.control.status().store.dead_letters;
        host.send("d", "x").await;
        host.send("d", "x").await;
        until(|| dead() == 2).await;
        let of = ReplayOf::DeadLetters;
        let asked = NewReplay { route: name("r"), version: None, of, commands: false };
        let replay = host.control.begin_replay(asked).await.unwrap();
        host.send("d", "x").await;
        until(|| dead() == 3).await;
        let replay = Replay { position: None, begun: Timestamp::default(), ..replay };
        let part = host.control.inner.part(&replay).await.unwrap();
        assert_eq!((part.readings.len(), part.more), (2, false));
        host.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_version_that_cannot_be_started_ends_its_replay() {
        let (host, mut replay) = host_with_replay(&["x"]).await;
        let handler: Arc<dyn Handler> = Arc::new(CannotBeStarted);
        host.control.inner.replaying.lock().insert(replay.id.clone(), handler);
        host.control.inner.step(&mut replay).await.unwrap();
        assert_eq!(replay.state, ReplayState::Failed("configure: no".to_owned()));
        assert_eq!(host.control.replay(&replay.id).await.unwrap(), replay);
        host.stop().await;
    }
}
