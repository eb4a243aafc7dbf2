//! Makes a change: all of it, or nothing. First everything that can fail is built; then it is swapped in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sandbar_pipeline::Candidate;
use sandbar_reading::{ConfigError, Name};
use sandbar_runtime::{Component, Handler};
use sandbar_sinks::AnySink;

use crate::build;
use crate::control::{Control, Inner};
use crate::declared::Declared;
use crate::error::ControlError;
use crate::plan::{Plan, dangling};
use crate::running::Running;
use crate::swap::Drivers;
use crate::views::{Blob, Item};
use crate::wanted::Wanted;
use crate::what::What;

/// What should run from now on.
pub(crate) struct Asked {
    pub(crate) wanted: Wanted,
    pub(crate) by: By,
    /// Components that are not in the store yet.
    pub(crate) blobs: Vec<Blob>,
    /// Of these, those that are compiled already.
    pub(crate) components: HashMap<String, Component>,
}

/// Who asks, and so who is told how.
pub(crate) enum By {
    /// A request, about one thing.
    Api(Item),
    File(Arc<Declared>),
}

/// What a plan needs, ready to run.
#[derive(Default)]
pub(crate) struct Built {
    pub(crate) sinks: BTreeMap<Name, Arc<dyn AnySink>>,
    pub(crate) drivers: Drivers,
    pub(crate) handlers: BTreeMap<Name, Option<Handler>>,
    pub(crate) candidates: BTreeMap<Name, Arc<Candidate>>,
    pub(crate) components: HashMap<String, Component>,
}

/// Something that cannot be built as its table says.
struct Unbuildable {
    item: Item,
    /// Within its table.
    error: ConfigError,
}

impl Control {
    /// The caller holds the lock of changes.
    pub(crate) async fn change(&self, asked: Asked) -> Result<Plan, ControlError> {
        let before = self.running();
        let plan = Plan::between(&before.wanted, &asked.wanted);
        asked.check(&before.wanted)?;
        let built = match self.inner.build(&plan, &asked, &before).await {
            Ok(built) => built,
            Err(unbuildable) => return Err(asked.refuse(unbuildable)),
        };
        self.inner.keep(&before.wanted, &asked).await?;
        let mut after = before.clone();
        after.wanted = Arc::new(asked.wanted);
        if let By::File(declared) = asked.by {
            after.declared = declared;
        }
        after.components.extend(built.components.clone());
        after.keep_active_components();
        let old = before.wanted.clone();
        *self.inner.leaving.write().await = plan.clone();
        let others = self.inner.swap_in(&plan, built, &old, &mut after).await;
        if let Err(error) = self.inner.take_out(&plan, &mut after).await {
            let error = self.inner.put_back(&plan, before, after, &error).await;
            *self.inner.leaving.write().await = Plan::default();
            return Err(error);
        }
        self.inner.bring_in(others, &mut after).await;
        let new = after.wanted.clone();
        *self.inner.running.write() = after;
        *self.inner.leaving.write().await = Plan::default();
        self.watch_candidates(plan.routes.set());
        self.inner.tidy_up(&old, &new).await;
        self.inner.mend().await;
        Ok(plan)
    }

    /// Whether it could be done, without doing it.
    pub(crate) async fn would_change(&self, asked: Asked) -> Result<Plan, ControlError> {
        let before = self.running();
        let plan = Plan::between(&before.wanted, &asked.wanted);
        asked.check(&before.wanted)?;
        match self.inner.build(&plan, &asked, &before).await {
            Ok(_) => Ok(plan),
            Err(unbuildable) => Err(asked.refuse(unbuildable)),
        }
    }
}

impl Asked {
    /// Every name in a route must be somebody's. Routes that lacked something before do not stand in the way.
    fn check(&self, before: &Wanted) -> Result<(), ControlError> {
        let known = dangling(before);
        let is_asked_for = |route: &Name| match &self.by {
            By::Api(item) => item.what == What::Route && item.name == *route,
            By::File(declared) => declared.routes.contains_key(route),
        };
        let found: Vec<_> = dangling(&self.wanted)
            .into_iter()
            .filter(|dangling| is_asked_for(&dangling.route) || !known.contains(dangling))
            .collect();
        if let Some(dangling) = found.iter().find(|dangling| is_asked_for(&dangling.route)) {
            let item = Item { what: What::Route, name: dangling.route.clone() };
            return Err(self.refuse(Unbuildable { item, error: dangling.error.clone() }));
        }
        // Else something else's removal leaves the route without it.
        let Some(missing) = found.first().map(|first| first.missing.clone()) else { return Ok(()) };
        let by = found.iter().filter(|dangling| dangling.missing == missing);
        let mut by: Vec<_> = by.map(|dangling| format!("route {}", dangling.route)).collect();
        by.dedup();
        Err(ControlError::InUse { what: missing.what, name: missing.name, by })
    }

    fn refuse(&self, unbuildable: Unbuildable) -> ControlError {
        let Unbuildable { item, error } = unbuildable;
        match &self.by {
            By::Api(asked) if *asked == item => ControlError::Invalid(error),
            By::File(declared) if self.wanted.declared(item.what, item.name.as_str()) == Some(true) => {
                ControlError::Problem(declared.problem(error.within(&item.what.table(&item.name))))
            }
            _ => ControlError::Conflict(format!("{} `{}`: {error}", item.what, item.name)),
        }
    }
}

impl Inner {
    async fn build(&self, plan: &Plan, asked: &Asked, before: &Running) -> Result<Built, Unbuildable> {
        let mut built = Built::default();
        let at = |what, name: &Name| {
            let item = Item { what, name: name.clone() };
            move |error| Unbuildable { item, error }
        };
        for name in plan.sinks.set() {
            let sink = build::sink(&asked.wanted.sinks[name].it).map_err(at(What::Sink, name))?;
            built.sinks.insert(name.clone(), sink);
        }
        for name in plan.ingresses.set() {
            let driver = build::driver(&asked.wanted.ingresses[name].it).map_err(at(What::Ingress, name))?;
            built.drivers.insert(name.clone(), driver);
        }
        built.components.extend(asked.components.clone());
        let fresh: HashMap<_, _> =
            asked.blobs.iter().map(|blob| (blob.digest.clone(), blob.bytes.clone())).collect();
        for name in plan.routes.set() {
            let table = &asked.wanted.routes[name].it;
            table.check().map_err(at(What::Route, name))?;
            let handler = match &table.module {
                None => None,
                Some(module) => {
                    let wrong = |problem: String| at(What::Route, name)(ConfigError::at("module", problem));
                    let digest = asked.wanted.digest_of(table);
                    let digest = digest
                        .ok_or_else(|| wrong(format!("module `{}` has no version that works", module.0)))?;
                    let known = built.components.get(digest).or_else(|| before.components.get(digest));
                    let component = match known {
                        Some(component) => component.clone(),
                        None => self.component(digest, fresh.get(digest).cloned()).await.map_err(wrong)?,
                    };
                    built.components.insert(digest.to_owned(), component.clone());
                    let settings = build::settings(name, table, &asked.wanted.secrets);
                    let settings = settings.map_err(at(What::Route, name))?;
                    let handler = build::handler(&self.runtime, &component, settings).await;
                    Some(handler.map_err(at(What::Route, name))?)
                }
            };
            built.handlers.insert(name.clone(), handler);
            let candidate = self.build_candidate(name, &asked.wanted, &before.components).await;
            if let Some((candidate, component)) = candidate.map_err(at(What::Route, name))? {
                built.components.insert(component.digest().to_owned(), component);
                built.candidates.insert(name.clone(), candidate);
            }
        }
        Ok(built)
    }
}
