//! Tries a module on a reading: what it would put out is shown, and nothing is committed.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{Lineage, Reading, ReadingId, Scope, Timestamp};
use sandbar_runtime::{Fault, InitError, StateUnavailable, StateView};
use sandbar_store::Store;

use crate::build;
use crate::control::Control;
use crate::error::ControlError;
use crate::tables::{RouteTable, Text};
use crate::views::{Trial, TrialResult, Tried};
use crate::what::What;

impl Control {
    /// The handler sees the committed state of the route and the reading's key, or none.
    pub async fn invoke(&self, trial: Trial) -> Result<TrialResult, ControlError> {
        let running = self.running();
        let not_found = |what, name: String| ControlError::NotFound { what, name };
        let module = running.wanted.modules.get(&trial.module);
        let module = &module.ok_or_else(|| not_found(What::Module, trial.module.to_string()))?.it;
        let version = trial.version.unwrap_or(module.active);
        let digest = module.version(version).map(|version| version.digest.clone());
        let missing = || not_found(What::Module, format!("{}, version {version}", trial.module));
        let digest = digest.ok_or_else(missing)?;
        running.wanted.may_call(module, version)?;
        let mut table = match &trial.route {
            None => RouteTable { module: Some(Text(trial.module.clone())), ..RouteTable::default() },
            Some(route) => {
                let found = running.wanted.routes.get(route);
                found.ok_or_else(|| not_found(What::Route, route.to_string()))?.it.clone()
            }
        };
        if let Some(config) = trial.config {
            table.config = config;
        }
        table.concurrency = 1;
        let component = match running.components.get(&digest) {
            Some(component) => component.clone(),
            None => self.inner.component(&digest, None).await.map_err(ControlError::Component)?,
        };
        let name = trial.route.clone().unwrap_or_else(|| trial.module.clone());
        let settings = build::settings(&name, &table, &running.wanted.secrets);
        let mut settings = settings.map_err(ControlError::Invalid)?;
        settings.permissions.http = settings.permissions.http.for_trial();
        let handler = match self.inner.runtime.handler(&component, settings).await {
            Ok(handler) => handler,
            Err(error) => return Ok(TrialResult::failed(init_fault(error))),
        };
        let mut instance = match handler.checkout().await {
            Ok(instance) => instance,
            Err(fault) => return Ok(TrialResult::failed(fault)),
        };
        let now = self.inner.clock.now();
        let key = table.key.of(&trial.reading);
        let scope = trial.route.map(|route| Scope::Route { route, key: (*key).into() });
        let state = Arc::new(Committed { store: self.inner.store.clone(), scope });
        let inbound = trial.reading;
        let reading = Reading {
            id: ReadingId::first_at(now),
            ingress: crate::api_ingress(),
            topic: inbound.topic,
            device: inbound.device,
            time: inbound.time.unwrap_or(now),
            content_type: inbound.content_type,
            attributes: inbound.attributes,
            payload: inbound.payload,
            lineage: Lineage::default(),
        };
        let call = instance.handle(&reading, state, now, None).await;
        let tried = call.result.map(|handled| Tried { outputs: handled.outputs, writes: handled.writes });
        Ok(TrialResult { result: tried, logs: call.logs, elapsed: call.elapsed })
    }
}

impl TrialResult {
    fn failed(fault: Fault) -> Self {
        Self { result: Err(fault), logs: Vec::new(), elapsed: std::time::Duration::ZERO }
    }
}

fn init_fault(error: InitError) -> Fault {
    match error {
        InitError::Fault(fault) => fault,
        error => Fault::Init(error.to_string()),
    }
}

/// What is committed of a key's state; nothing without a scope.
struct Committed {
    store: Store,
    scope: Option<Scope>,
}

impl StateView for Committed {
    fn get(&self, name: &str, _now: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        Ok(self.scope.as_ref().map(|scope| self.store.state(scope, name)).transpose()?.flatten())
    }

    fn names(&self, prefix: &str, _now: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        let names = self.scope.as_ref().map(|scope| self.store.state_names(scope, prefix));
        Ok(names.transpose()?.unwrap_or_default())
    }

    fn used(&self, _now: Timestamp) -> Result<usize, StateUnavailable> {
        let used = self.scope.as_ref().map(|scope| self.store.state_used(scope));
        Ok(used.transpose()?.unwrap_or_default().0)
    }
}
