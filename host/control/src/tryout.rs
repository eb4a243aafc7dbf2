//! Tries a version on journaled readings beside the one that handles them: what differs is told, and nothing is
//! committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_pipeline::{Filter, as_inbound, difference};
use sandbar_reading::{Name, Output, Reading, ReadingId, Refused, StateWrite, Timestamp, TopicFilter};
use sandbar_runtime::{Component, Fault, Handled, Handler, Instance, LogLine, StateUnavailable, StateView};
use sandbar_store::{DeadLetterQuery, LOST_ATTRIBUTE, ReadingQuery, Subject};

use crate::build;
use crate::control::Control;
use crate::error::ControlError;
use crate::tables::RouteTable;
use crate::what::What;

/// The most readings that one try takes, and bytes of them, and of what came of them.
pub const TRY_MAX: usize = 1000;
const BYTES_MAX: usize = 64 << 20;
/// A try that takes longer tells how far it came.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What is to be tried on what.
#[derive(Clone, Debug)]
pub struct Try {
    /// The route whose readings, settings, limits and active version are taken.
    pub route: Option<Name>,
    /// Only readings of these topics; without a route, all of them.
    pub topic: Option<TopicFilter>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The newest so many.
    pub last: usize,
    /// Of those that the route could not handle, instead of the journal's.
    pub dead_letters: bool,
    pub candidate: TryCandidate,
}

#[derive(Clone, Debug)]
pub enum TryCandidate {
    /// A component that is not kept, with its signature, which a host with trusted keys asks for.
    Wasm { wasm: Bytes, signature: Option<Vec<u8>> },
    /// A version of the route's module.
    Version(u32),
}

/// What came of it.
#[derive(Debug)]
pub struct TryResult {
    /// Readings that there were.
    pub readings: usize,
    /// Oldest first; fewer than `readings` if it took too long, or there is too much to tell.
    pub tried: Vec<TriedReading>,
}

#[derive(Debug)]
pub struct TriedReading {
    pub reading: Reading,
    /// Of the active version, if there is one.
    pub active: Option<TrySide>,
    pub candidate: TrySide,
    /// In words; `None` if both did the same, or there is nothing to compare with.
    pub difference: Option<String>,
}

impl TriedReading {
    /// Of versions that did the same nobody asks what it was.
    fn forget_the_same(&mut self) {
        if let (Some(active), None) = (&mut self.active, &self.difference) {
            active.forget();
            self.candidate.forget();
        }
    }

    /// Bytes of what came of it, about.
    fn size(&self) -> usize {
        self.active.as_ref().map_or(0, TrySide::size) + self.candidate.size()
    }
}

/// What one version made of a reading.
#[derive(Debug)]
pub struct TrySide {
    pub result: Result<Handled, Fault>,
    pub logs: Vec<LogLine>,
    pub elapsed: Duration,
}

impl TrySide {
    /// All but whether it failed.
    fn forget(&mut self) {
        self.logs = Vec::new();
        if let Ok(handled) = &mut self.result {
            *handled = Handled::default();
        }
    }

    fn size(&self) -> usize {
        let logs: usize = self.logs.iter().map(|line| line.context.len() + line.message.len()).sum();
        let Ok(handled) = &self.result else { return logs };
        let outputs: usize = handled.outputs.iter().map(Output::size).sum();
        let value = |write: &StateWrite| write.value.as_ref().map_or(0, Bytes::len);
        let writes: usize = handled.writes.iter().map(|write| write.name.len() + value(write)).sum();
        logs + outputs + writes
    }
}

impl Control {
    /// Both versions begin with an empty state, and see what they wrote themselves. HTTP requests other than GET
    /// and HEAD are not sent.
    pub async fn try_out(&self, asked: Try) -> Result<TryResult, ControlError> {
        let permit = self.inner.trying.try_acquire();
        let _one_of_few = permit
            .map_err(|_| ControlError::Refused(Refused::Busy { retry_after: Duration::from_secs(5) }))?;
        let running = self.running();
        let not_found = |what, name: String| ControlError::NotFound { what, name };
        let table = match &asked.route {
            None => RouteTable::default(),
            Some(route) => {
                let found = running.wanted.routes.get(route);
                found.ok_or_else(|| not_found(What::Route, route.to_string()))?.it.clone()
            }
        };
        let component = match &asked.candidate {
            TryCandidate::Wasm { wasm, signature } => {
                running.wanted.trust.check(wasm, signature.as_deref())?;
                self.load(wasm.clone()).await?
            }
            TryCandidate::Version(version) => {
                let no_module = || ControlError::Conflict("the route has no module".to_owned());
                let module = &table.module.as_ref().ok_or_else(no_module)?.0;
                let missing = || not_found(What::Module, format!("{module}, version {version}"));
                let known = &running.wanted.modules.get(module).ok_or_else(missing)?.it;
                let digest = &known.version(*version).ok_or_else(missing)?.digest;
                running.wanted.may_call(known, *version)?;
                self.inner.component(digest, None).await.map_err(ControlError::Component)?
            }
        };
        let name = asked.route.clone().unwrap_or_else(|| "try".parse().expect("it is a name"));
        let mut candidate = Side::new(self, &name, &table, &component).await?;
        let active = running.wanted.digest_of(&table).and_then(|digest| running.components.get(digest));
        let mut active = match active {
            Some(component) => Some(Side::new(self, &name, &table, component).await?),
            None => None,
        };
        let filter = match &asked.route {
            Some(_) => build::route(&name, &table, Ok(None)).filter,
            None => Filter { topics: asked.topic.iter().cloned().collect(), ..Filter::default() },
        };
        let readings = match (asked.dead_letters, &asked.route) {
            (false, _) => self.newest(&name, &filter, &asked).await?,
            (true, Some(route)) => self.newest_letters(route, asked.last).await?,
            (true, None) => return Err(ControlError::Conflict("dead letters are a route's".to_owned())),
        };
        let mut result = TryResult { readings: readings.len(), tried: Vec::with_capacity(readings.len()) };
        let (began, mut bytes) = (Instant::now(), 0);
        for reading in readings {
            if began.elapsed() > TIME_MAX || bytes >= BYTES_MAX {
                break;
            }
            let key = table.key.of(&as_inbound(&reading)).to_string();
            let now = self.inner.clock.now();
            let active = match &mut active {
                Some(side) => Some(side.call(&reading, &key, now).await),
                None => None,
            };
            let candidate = candidate.call(&reading, &key, now).await;
            let difference = active.as_ref().and_then(|active| differs(active, &candidate));
            let mut tried = TriedReading { reading, active, candidate, difference };
            tried.forget_the_same();
            bytes += tried.size();
            result.tried.push(tried);
        }
        Ok(result)
    }

    /// Compiles, off the threads that others wait for.
    pub(crate) async fn load(&self, wasm: Bytes) -> Result<Component, ControlError> {
        let runtime = self.inner.runtime.clone();
        let loaded = tokio::task::spawn_blocking(move || runtime.load(&wasm)).await;
        let loaded = loaded.map_err(|error| ControlError::Component(error.to_string()))?;
        loaded.map_err(|error| match error {
            sandbar_runtime::ComponentError::TooLarge { size, limit } => {
                ControlError::TooLarge { size, limit }
            }
            error => ControlError::Component(error.to_string()),
        })
    }

    /// The newest readings that are asked for, oldest first.
    async fn newest(&self, route: &Name, filter: &Filter, asked: &Try) -> Result<Vec<Reading>, ControlError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut cursor = asked.until.map(ReadingId::first_at);
        while found.len() < asked.last.min(TRY_MAX) && bytes < BYTES_MAX {
            let query = ReadingQuery {
                topic: asked.topic.clone(),
                since: asked.since,
                cursor,
                newest_first: true,
                limit: 64,
                ..ReadingQuery::default()
            };
            let page = self.readings(query).await?;
            for reading in page.items {
                if found.len() < asked.last
                    && is_whole(&reading)
                    && filter.objection(route, &reading).is_none()
                {
                    bytes += reading.size();
                    found.push(reading);
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The newest readings that the route could not handle, oldest first.
    async fn newest_letters(&self, route: &Name, last: usize) -> Result<Vec<Reading>, ControlError> {
        let (mut found, mut bytes, mut cursor) = (Vec::new(), 0, None);
        while found.len() < last.min(TRY_MAX) && bytes < BYTES_MAX {
            let route = Some(route.clone());
            let query = DeadLetterQuery { route, cursor, limit: 64, ..DeadLetterQuery::default() };
            let page = self.dead_letters(query).await?;
            for letter in page.items {
                if let Subject::Reading { reading, .. } = letter.subject
                    && found.len() < last
                    && is_whole(&reading)
                {
                    bytes += reading.size();
                    found.push(Reading::clone(&reading));
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        found.reverse();
        Ok(found)
    }
}

/// Nothing is handled without its payload.
fn is_whole(reading: &Reading) -> bool {
    reading.attributes.get(LOST_ATTRIBUTE).is_none()
}

fn differs(active: &TrySide, candidate: &TrySide) -> Option<String> {
    match (&active.result, &candidate.result) {
        (Err(active), Err(candidate)) if active == candidate => None,
        (_, Err(fault)) => Some(format!("it fails: {fault}")),
        (active, Ok(candidate)) => difference(active.as_ref(), candidate),
    }
}

/// One version, its sandbox, and the state that it has written so far.
struct Side {
    handler: Handler,
    instance: Option<Instance>,
    states: HashMap<String, Arc<Written>>,
}

impl Side {
    async fn new(
        control: &Control,
        name: &Name,
        table: &RouteTable,
        component: &Component,
    ) -> Result<Self, ControlError> {
        let table = RouteTable { concurrency: 1, ..table.clone() };
        let settings = build::settings(name, &table, &control.running().wanted.secrets);
        let mut settings = settings.map_err(ControlError::Invalid)?;
        settings.permissions.http = settings.permissions.http.for_trial();
        let handler = build::handler(&control.inner.runtime, component, settings).await;
        let handler = handler.map_err(|error| ControlError::Conflict(error.to_string()))?;
        Ok(Self { handler, instance: None, states: HashMap::new() })
    }

    async fn call(&mut self, reading: &Reading, key: &str, now: Timestamp) -> TrySide {
        if self.instance.is_none() {
            match self.handler.checkout().await {
                Ok(instance) => self.instance = Some(instance),
                Err(fault) => {
                    return TrySide { result: Err(fault), logs: Vec::new(), elapsed: Duration::ZERO };
                }
            }
        }
        let state = self.states.entry(key.to_owned()).or_default().clone();
        let Some(instance) = &mut self.instance else {
            let result = Err(Fault::NoRoom("no sandbox".to_owned()));
            return TrySide { result, logs: Vec::new(), elapsed: Duration::ZERO };
        };
        let call = instance.handle(reading, state.clone(), now, None).await;
        match &call.result {
            Ok(handled) => state.write(&handled.writes),
            Err(Fault::Failure(_)) => {}
            Err(_) => self.instance = None,
        }
        TrySide { result: call.result, logs: call.logs, elapsed: call.elapsed }
    }
}

/// A key's state, in memory only.
#[derive(Default)]
struct Written(Mutex<Values>);

/// By name: the value, and when its time is over.
type Values = BTreeMap<Box<str>, (Bytes, Option<Timestamp>)>;

impl Written {
    fn write(&self, writes: &[StateWrite]) {
        let mut values = self.0.lock();
        for write in writes {
            match &write.value {
                Some(value) => drop(values.insert(write.name.clone(), (value.clone(), write.expires))),
                None => drop(values.remove(&write.name)),
            }
        }
    }
}

impl StateView for Written {
    fn get(&self, name: &str, now: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        let values = self.0.lock();
        let live = values.get(name).filter(|(_, expires)| expires.is_none_or(|expires| expires > now));
        Ok(live.map(|(value, _)| value.clone()))
    }

    fn names(&self, prefix: &str, now: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        let values = self.0.lock();
        let live = values.iter().filter(|(_, (_, expires))| expires.is_none_or(|expires| expires > now));
        Ok(live.map(|(name, _)| name.clone()).filter(|name| name.starts_with(prefix)).collect())
    }

    fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
        Ok(self.0.lock().iter().map(|(name, (value, _))| name.len() + value.len()).sum())
    }
}
