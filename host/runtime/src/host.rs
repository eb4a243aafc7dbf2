//! What an instance finds around it: the store's data, and the interfaces that a handler may import.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sandbar_reading::{Reading, StateWrite, Timestamp, TraceContext};

use crate::bindings::sandbar::handler::{state, types};
use crate::bindings::wasi::config::store as config;
use crate::bindings::wasi::logging::logging;
use crate::fault::StateLost;
use crate::handler::Settings;
use crate::limits::Meter;
use crate::logs::{LogLevel, Logs};
use crate::outgoing::TraceHeaders;
use crate::overlay::{Overlay, TooLarge};
use crate::script;
use crate::state::{StateUnavailable, StateView};
use crate::wasi::{Moment, Wasi};

/// What stands before a secret's name where settings are asked for. A listing of all settings has none of them:
/// such listings end up in logs.
const SECRET: &str = "secret.";

pub(crate) struct Host {
    pub(crate) settings: Arc<Settings>,
    pub(crate) meter: Meter,
    pub(crate) logs: Logs,
    /// When the call or the instance's start must be over.
    pub(crate) deadline: Instant,
    /// None outside of calls.
    state: Option<Overlay>,
    refused: Option<Refused>,
    moment: Moment,
    trace: TraceHeaders,
    /// Made when first used: most handlers never do.
    wasi: Option<Box<Wasi>>,
}

impl Host {
    pub(crate) fn new(settings: Arc<Settings>, deadline: Instant) -> Self {
        let limits = &settings.limits;
        Self {
            meter: Meter::new(limits.memory),
            logs: Logs::new(limits.log_lines, limits.log_line_bytes),
            deadline,
            state: None,
            refused: None,
            moment: Moment::default(),
            trace: TraceHeaders::default(),
            wasi: None,
            settings,
        }
    }

    /// Prepares for one call.
    pub(crate) fn begin(
        &mut self,
        reading: &Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) {
        self.deadline = deadline;
        self.meter.begin();
        self.state = Some(Overlay::new(state, now));
        self.moment = Moment::of(reading);
        if !self.settings.permissions.http.is_nothing() {
            self.trace = TraceHeaders::of(reading, trace);
        }
        if let Some(wasi) = &mut self.wasi {
            wasi.set(self.moment, &self.trace);
        }
    }

    /// Ends the call: what it wrote, and how many writes a limit has refused.
    pub(crate) fn finish(&mut self) -> (Vec<StateWrite>, u64) {
        if let Some(wasi) = &mut self.wasi {
            wasi.flush();
        }
        let refused = self.refused.take().map_or(0, |refused| {
            // The handler was told, and may have kept it to itself.
            self.logs.say(LogLevel::Warn, &refused.to_string());
            refused.writes
        });
        (self.state.take().map(Overlay::into_writes).unwrap_or_default(), refused)
    }

    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        let (permissions, logs) = (&self.settings.permissions, &self.logs);
        let (moment, trace) = (self.moment, &self.trace);
        self.wasi.get_or_insert_with(|| Box::new(Wasi::new(permissions, logs, moment, trace)))
    }

    /// Writes to the state, as far as the route's limits let it.
    pub(crate) fn write(
        &mut self,
        name: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> wasmtime::Result<Result<(), TooLarge>> {
        let (value_max, state_max) = (self.settings.limits.value_bytes, self.settings.limits.state_bytes);
        let set = self.state()?.set(name, value, ttl, value_max, state_max).map_err(lost)?;
        if let Err(why) = set {
            let first = || Refused { name: excerpt(name), why, writes: 0 };
            self.refused.get_or_insert_with(first).writes += 1;
        }
        Ok(set)
    }

    pub(crate) fn state(&mut self) -> wasmtime::Result<&mut Overlay> {
        self.state.as_mut().ok_or_else(|| wasmtime::format_err!("there is no state during `configure`"))
    }
}

/// Writes of one call that a limit did not let through.
#[derive(Debug, thiserror::Error)]
#[error("{writes} writes to the state were refused, the first of `{name}`: {why}")]
struct Refused {
    name: String,
    why: TooLarge,
    writes: u64,
}

/// Enough of a name to know it again.
fn excerpt(name: &str) -> String {
    const BYTES: usize = 64;
    match name.len() <= BYTES {
        true => name.to_owned(),
        false => format!("{}…", &name[..name.floor_char_boundary(BYTES)]),
    }
}

pub(crate) fn lost(error: StateUnavailable) -> wasmtime::Error {
    wasmtime::Error::new(StateLost(error.cause))
}

fn limit(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl types::Host for Host {}

impl state::Host for Host {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state()?.get(&name).map_err(lost)?.map(Vec::from))
    }

    fn set(
        &mut self,
        name: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), state::StateError>> {
        let set = self.write(&name, Bytes::from(value), ttl_ms.map(Duration::from_millis))?;
        Ok(set.map_err(|refused| match refused {
            TooLarge::Name(bytes) => state::StateError::NameTooLong(limit(bytes)),
            TooLarge::Value(bytes) => state::StateError::ValueTooLarge(limit(bytes)),
            TooLarge::State(bytes) => state::StateError::Full(limit(bytes)),
        }))
    }

    fn delete(&mut self, name: String) -> wasmtime::Result<()> {
        self.state()?.delete(&name).map_err(lost)
    }

    fn names(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        let names = self.state()?.names(&prefix).map_err(lost)?;
        Ok(names.into_iter().map(String::from).collect())
    }
}

impl logging::Host for Host {
    fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Trace => LogLevel::Trace,
            logging::Level::Debug => LogLevel::Debug,
            logging::Level::Info => LogLevel::Info,
            logging::Level::Warn => LogLevel::Warn,
            logging::Level::Error => LogLevel::Error,
            logging::Level::Critical => LogLevel::Critical,
        };
        self.logs.add(level, &context, &message);
        Ok(())
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, config::Error>> {
        let secret = key.strip_prefix(SECRET).and_then(|name| self.settings.permissions.secrets.0.get(name));
        Ok(Ok(secret.or_else(|| self.settings.config.get(&key)).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::Error>> {
        // What the host itself has put there is no setting of the route's.
        let own = self.settings.config.iter().filter(|(key, _)| *key != script::SETTING);
        Ok(Ok(own.map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
