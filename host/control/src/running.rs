//! What runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sandbar_ingress::Supervised;
use sandbar_pipeline::{Candidate, Route};
use sandbar_reading::Name;
use sandbar_runtime::{Component, Handler};
use sandbar_sinks::AnySink;

use crate::build;
use crate::declared::Declared;
use crate::wanted::Wanted;

/// A snapshot: its parts are shared, cheap to clone, and never change.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) declared: Arc<Declared>,
    pub(crate) wanted: Arc<Wanted>,
    /// Why one is broken, where it is.
    pub(crate) sinks: BTreeMap<Name, Result<Arc<dyn AnySink>, String>>,
    pub(crate) ingresses: BTreeMap<Name, Result<Arc<Supervised>, String>>,
    /// `None` for a route without a module.
    pub(crate) handlers: BTreeMap<Name, Result<Option<Handler>, String>>,
    /// Versions on trial, by route.
    pub(crate) candidates: BTreeMap<Name, Arc<Candidate>>,
    /// Those that handlers are made of, by digest.
    pub(crate) components: HashMap<String, Component>,
}

impl Running {
    pub(crate) fn nothing(declared: Arc<Declared>) -> Self {
        Self {
            declared,
            wanted: Arc::default(),
            sinks: BTreeMap::new(),
            ingresses: BTreeMap::new(),
            handlers: BTreeMap::new(),
            candidates: BTreeMap::new(),
            components: HashMap::new(),
        }
    }

    /// The route as the pipeline has it.
    pub(crate) fn route(&self, name: &Name) -> Option<Route> {
        let handler = match self.handlers.get(name)? {
            Ok(handler) => Ok(handler.clone()),
            Err(cause) => Err(cause.as_str()),
        };
        let table = &self.wanted.routes.get(name)?.it;
        Some(Route {
            version: self.wanted.version_of(table),
            candidate: self.candidates.get(name).cloned(),
            ..build::route(name, table, handler)
        })
    }

    /// Drops the components that no active version is, nor one on trial.
    pub(crate) fn keep_active_components(&mut self) {
        let wanted = &self.wanted;
        let on_trial = |digest: &str| {
            let mut tables = wanted.routes.values();
            tables.any(|table| wanted.candidate_of(&table.it).is_some_and(|(_, known)| known == digest))
        };
        let active = |digest: &str| wanted.modules.values().any(|module| module.it.digest() == Some(digest));
        self.components.retain(|digest, _| active(digest) || on_trial(digest));
    }
}
