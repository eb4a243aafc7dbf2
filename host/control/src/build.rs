//! From tables to what runs. Everything that can fail, fails here, before anything is changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sandbar_ingress::AnyDriver;
use sandbar_pipeline::{Attempts, Filter, Offering, Replying, Route};
use sandbar_reading::{ConfigError, Name};
use sandbar_runtime::{
    Component, Handler, HttpAccess, InitError, Limits, Permissions, Runtime, Secrets, Settings,
};
use sandbar_sinks::AnySink;
use serde_json::Value;

use crate::broken::{self, BrokenHandler};
use crate::tables::{AttemptsTable, IngressTable, LimitsTable, OfferingTable, Reply, RouteTable, SinkTable};
use crate::wanted::Revealed;

pub(crate) fn sink(table: &SinkTable) -> Result<Arc<dyn AnySink>, ConfigError> {
    table.offering.check()?;
    sandbar_sinks::build(&table.kind, Value::Object(table.settings.clone())).map(Arc::from)
}

pub(crate) fn driver(table: &IngressTable) -> Result<Box<dyn AnyDriver>, ConfigError> {
    sandbar_ingress::build(&table.driver, Value::Object(table.settings.clone()))
}

/// Calls `configure` once: what it refuses is refused here.
pub(crate) async fn handler(
    runtime: &Runtime,
    component: &Component,
    settings: Settings,
) -> Result<Handler, ConfigError> {
    runtime.handler(component, settings).await.map_err(|error| match error {
        InitError::Refused(problem) => ConfigError::at("config", format!("the module refuses it: {problem}")),
        InitError::TooMuchMemory { .. } => ConfigError::at("limits.memory_mib", error.to_string()),
        InitError::Fault(fault) => ConfigError::at("module", format!("it does not start: {fault}")),
    })
}

/// `secrets`: all of the host's; the route's handler gets those that its permissions name.
pub(crate) fn settings(
    route: &Name,
    table: &RouteTable,
    secrets: &BTreeMap<String, Revealed>,
) -> Result<Settings, ConfigError> {
    let limits = &table.limits;
    Ok(Settings {
        route: route.clone(),
        config: table.config.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
        limits: Limits { instances: table.concurrency.into(), ..limits_of(limits) },
        permissions: permissions(table, secrets).map_err(|error| error.within("permissions"))?,
    })
}

fn permissions(table: &RouteTable, secrets: &BTreeMap<String, Revealed>) -> Result<Permissions, ConfigError> {
    let asked = &table.permissions;
    let mut given = BTreeMap::new();
    for (index, name) in asked.secrets.0.iter().enumerate() {
        let secret = secrets.get(name).ok_or_else(|| {
            let problem =
                format!("there is no secret `{name}`: `[secret]` in the configuration file has them");
            ConfigError::at(format!("secrets[{index}]"), problem)
        })?;
        given.insert(name.clone(), secret.text().to_owned());
    }
    let (at_once, timeout) = (table.limits.http_at_once, table.limits.http_timeout_ms);
    let answer_bytes = usize::try_from(table.limits.http_answer_bytes).unwrap_or(usize::MAX);
    Ok(Permissions {
        clock: asked.clock,
        random: asked.random,
        http: HttpAccess::new(asked.http()?, at_once.into(), Duration::from_millis(timeout), answer_bytes),
        secrets: Secrets(given),
    })
}

fn limits_of(table: &LimitsTable) -> Limits {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        memory: bytes(u64::from(table.memory_mib) << 20),
        time: Duration::from_millis(table.time_ms),
        outputs: bytes(table.outputs.into()),
        output_bytes: bytes(table.output_bytes),
        state_bytes: bytes(table.state_bytes),
        value_bytes: bytes(table.value_bytes),
        init_time: Duration::from_millis(table.init_time_ms),
        log_lines: usize::from(table.log_lines),
        ..Limits::default()
    }
}

/// `handler`: there if the route has a module; the text is why there is none.
pub(crate) fn route(name: &Name, table: &RouteTable, handler: Result<Option<Handler>, &str>) -> Route {
    let filter = Filter {
        ingresses: table.ingress.0.iter().map(|ingress| ingress.0.clone()).collect(),
        topics: table.topic.0.clone(),
        devices: table.device.0.iter().map(|device| device.as_str().into()).collect(),
        content_types: table.content_type.0.iter().map(|range| range.0.clone()).collect(),
    };
    let attempts = attempts(&table.attempts);
    let (handler, attempts): (Option<Arc<dyn sandbar_pipeline::Handler>>, _) = match handler {
        Ok(None) => (None, attempts),
        Ok(Some(handler)) => (Some(Arc::new(handler)), attempts),
        Err(cause) => (Some(Arc::new(BrokenHandler { cause: cause.to_owned() })), broken::attempts(attempts)),
    };
    Route {
        name: name.clone(),
        filter,
        key: table.key.clone(),
        handler,
        sinks: table.sinks.0.clone(),
        reply: match &table.reply {
            Reply::Handler(false) => Replying::Nobody,
            Reply::Handler(true) => Replying::Handler,
            Reply::Sink(sink) => Replying::Sink(sink.0.clone()),
        },
        attempts,
        concurrency: table.concurrency.into(),
        batch: table.limits.batch.into(),
        version: 0,
        candidate: None,
    }
}

fn attempts(table: &AttemptsTable) -> Attempts {
    Attempts {
        max: table.max,
        first_wait: Duration::from_millis(table.first_wait_ms),
        longest_wait: Duration::from_millis(table.longest_wait_ms),
    }
}

pub(crate) fn offering(table: &OfferingTable) -> Offering {
    Offering {
        batch_max: table.batch_max,
        batch_bytes: table.batch_bytes,
        first_wait: Duration::from_millis(table.first_wait_ms),
        longest_wait: Duration::from_millis(table.longest_wait_ms),
        timeout: Duration::from_millis(table.timeout_ms),
        give_up_after: Duration::from_secs(table.give_up_after_hours.saturating_mul(3600)),
    }
}
