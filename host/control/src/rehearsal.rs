//! A module on recorded readings, offline: in the runtime of a host, with the settings of a route, in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{
    ConfigError, Failure, IdGenerator, Inbound, Lineage, Name, Output, Reading, ReadingId, StateWrite,
    Timestamp, backoff,
};
use sandbar_runtime::{
    Fault, Handler, HandlerStats, HttpAnswer, LogLine, Options, Runtime, StateUnavailable, StateView,
};

use crate::build;
use crate::tables::{RouteTable, Text};
use crate::wanted::Revealed;

/// A handler and the state of its keys. Nothing leaves it: there are no sinks, no devices and no other routes.
pub struct Rehearsal {
    handler: Handler,
    table: RouteTable,
    states: HashMap<Arc<str>, Arc<Kept>>,
    ids: IdGenerator,
    now: Timestamp,
}

/// What became of one reading.
#[derive(Debug)]
pub struct Played {
    /// With all fields, as the handler saw it.
    pub reading: Reading,
    /// The error is that of the last attempt: on a host the reading would be a dead letter.
    pub result: Result<Vec<Output>, Fault>,
    /// How often it was tried.
    pub attempts: u32,
    /// Of all attempts.
    pub logs: Vec<LogLine>,
    /// Of the longest attempt, in real time.
    pub elapsed: Duration,
}

/// Why there is nothing to rehearse.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    #[error("there is no sandbox here: {0}")]
    Runtime(String),
    #[error("the module cannot be used: {0}")]
    Component(String),
    /// The error names the setting.
    #[error("the route: {0}")]
    Route(ConfigError),
}

impl Rehearsal {
    /// `wasm`: the module; `compiled`: where compiled code is kept, and found at the next rehearsal. The route's
    /// filter and sinks are of no account here. `answers`: what the handler gets for what it is permitted to ask of
    /// others over HTTP; nothing is sent.
    pub async fn new(
        wasm: &[u8],
        mut table: RouteTable,
        compiled: PathBuf,
        answers: Vec<HttpAnswer>,
    ) -> Result<Self, RehearsalError> {
        let runtime = Runtime::new(Options::new(compiled))
            .map_err(|error| RehearsalError::Runtime(error.to_string()))?;
        let component = runtime.load(wasm).map_err(|error| RehearsalError::Component(error.to_string()))?;
        let name: Name = "rehearsal".parse().expect("it is a name");
        table.module = Some(Text(name.clone()));
        table.check().map_err(RehearsalError::Route)?;
        // One after the other, and so the instance is kept between readings, as it is on a host.
        table.concurrency = 1;
        // Nobody's secrets are tested with: each is its own name.
        let named = table.permissions.secrets.0.iter();
        let secrets = named.map(|secret| (secret.clone(), Revealed::new(secret.clone()))).collect();
        let mut settings = build::settings(&name, &table, &secrets).map_err(RehearsalError::Route)?;
        settings.permissions.http = settings.permissions.http.rehearsed(answers);
        let handler = build::handler(&runtime, &component, settings).await.map_err(RehearsalError::Route)?;
        // The first of January 2026: any time would do, as long as it is always the same.
        let now = Timestamp::from_millis(1_767_225_600_000);
        Ok(Self { handler, table, states: HashMap::new(), ids: IdGenerator::after(0), now })
    }

    /// Handles a reading as a route does: in the order of the calls, with its key's state, as often as the route
    /// allows, and with the route's waits in between, which take no time. It is accepted at its own time, or where
    /// none is said, a second after the one before.
    pub async fn play(&mut self, ingress: Name, inbound: Inbound) -> Played {
        self.now = match inbound.time {
            Some(time) => self.now.max(time),
            None => self.now.after(Duration::from_secs(1)),
        };
        let key = self.table.key.of(&inbound);
        let reading = Reading {
            id: ReadingId::from_u128(self.ids.next(self.now, || 0)),
            ingress,
            topic: inbound.topic,
            device: inbound.device,
            time: inbound.time.unwrap_or(self.now),
            content_type: inbound.content_type,
            attributes: inbound.attributes,
            payload: inbound.payload,
            lineage: Lineage::default(),
        };
        let state = Arc::clone(self.states.entry(key).or_default());
        let mut played = Played {
            reading,
            result: Ok(Vec::new()),
            attempts: 0,
            logs: Vec::new(),
            elapsed: Duration::ZERO,
        };
        loop {
            played.attempts += 1;
            match self.attempt(&state, &mut played).await {
                Ok(outputs) => played.result = Ok(outputs),
                Err(fault) if self.may_try_again(&fault, played.attempts) => {
                    let limits = &self.table.attempts;
                    let (first, longest) = (limits.first_wait_ms, limits.longest_wait_ms);
                    let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
                    self.now = self.now.after(backoff(first, longest, played.attempts, 0.0));
                    continue;
                }
                Err(fault) => played.result = Err(fault),
            }
            return played;
        }
    }

    /// What the handler needed so far.
    pub fn stats(&self) -> HandlerStats {
        self.handler.stats()
    }

    async fn attempt(&self, state: &Arc<Kept>, played: &mut Played) -> Result<Vec<Output>, Fault> {
        let mut instance = self.handler.checkout().await?;
        let view: Arc<dyn StateView> = Arc::clone(state) as _;
        let call = instance.handle(&played.reading, view, self.now, None).await;
        played.logs.extend(call.logs);
        played.elapsed = played.elapsed.max(call.elapsed);
        let handled = call.result?;
        state.take(handled.writes);
        Ok(handled.outputs)
    }

    fn may_try_again(&self, fault: &Fault, attempts: u32) -> bool {
        let is_final = matches!(fault, Fault::Failure(Failure::Reject(_))) || !fault.is_the_handlers();
        !is_final && attempts < self.table.attempts.max.get()
    }
}

/// Values and when they are over, by name.
type Values = BTreeMap<Box<str>, (Bytes, Option<Timestamp>)>;

/// The state of one key, in memory.
#[derive(Default)]
struct Kept(Mutex<Values>);

impl Kept {
    fn take(&self, writes: Vec<StateWrite>) {
        let mut values = self.0.lock();
        for write in writes {
            match write.value {
                Some(value) => drop(values.insert(write.name, (value, write.expires))),
                None => drop(values.remove(&write.name)),
            }
        }
    }

    fn live<T>(&self, now: Timestamp, look: impl Fn(&str, &Bytes) -> T) -> Vec<T> {
        let values = self.0.lock();
        let live = values.iter().filter(|(_, (_, expires))| expires.is_none_or(|expires| expires > now));
        live.map(|(name, (value, _))| look(name, value)).collect()
    }
}

impl StateView for Kept {
    fn get(&self, name: &str, now: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        let values = self.0.lock();
        let live = values.get(name).filter(|(_, expires)| expires.is_none_or(|expires| expires > now));
        Ok(live.map(|(value, _)| value.clone()))
    }

    fn names(&self, prefix: &str, now: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        let names = self.live(now, |name, _| name.starts_with(prefix).then(|| name.into()));
        Ok(names.into_iter().flatten().collect())
    }

    fn used(&self, now: Timestamp) -> Result<usize, StateUnavailable> {
        Ok(self.live(now, |name, value| name.len() + value.len()).into_iter().sum())
    }
}
