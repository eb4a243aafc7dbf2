//! Puts what was built in the place of what runs, and puts it back if the store fails on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sandbar_ingress::{AnyDriver, Supervised, Supervisor, SupervisorOptions};
use sandbar_reading::Name;
use sandbar_store::StoreError;
use tracing::{error, warn};

use crate::build;
use crate::change::{Asked, Built};
use crate::control::Inner;
use crate::documents::{self, Known};
use crate::error::ControlError;
use crate::plan::Plan;
use crate::running::Running;
use crate::wanted::Wanted;

/// How long a driver that is replaced or removed may take to finish what is in flight.
const GRACE: Duration = Duration::from_secs(10);

/// Drivers of ingresses that are to be started.
pub(crate) type Drivers = BTreeMap<Name, Box<dyn AnyDriver>>;

impl Inner {
    /// Writes everything down, in one transaction. Names that go are kept in mind until they are gone.
    pub(crate) async fn keep(&self, old: &Wanted, asked: &Asked) -> Result<(), ControlError> {
        for blob in &asked.blobs {
            self.put_blob(blob.clone()).await?;
        }
        // Against what is really there: an earlier change may have failed without saying how far it came.
        let mut changes = documents::changes(&documents::read(&self.store)?, &asked.wanted);
        let before = Known::read(&self.store)?;
        let known = before.with_routes([old, &asked.wanted]);
        if known != before {
            changes.push(known.change());
        }
        if !changes.is_empty() {
            self.store.put_documents(changes).await?;
        }
        Ok(())
    }

    /// Sinks, routes, ingresses: what a reading meets last is there first. What has another driver than `before`, or had
    /// none, is [brought in](Self::bring_in) later.
    pub(crate) async fn swap_in(
        &self,
        plan: &Plan,
        built: Built,
        before: &Wanted,
        after: &mut Running,
    ) -> Drivers {
        let wanted = after.wanted.clone();
        for (name, sink) in built.sinks {
            let offering = build::offering(&wanted.sinks[&name].it.offering);
            self.pipeline.set_sink(name.clone(), sink.clone(), offering).await;
            after.sinks.insert(name, Ok(sink));
        }
        after.handlers.extend(built.handlers.into_iter().map(|(name, handler)| (name, Ok(handler))));
        plan.routes.set().for_each(|name| drop(after.candidates.remove(name)));
        after.candidates.extend(built.candidates);
        let routes: Vec<_> = plan.routes.set().filter_map(|name| after.route(name)).collect();
        if !routes.is_empty() || !plan.routes.removed.is_empty() {
            self.pipeline.change_routes(routes, &plan.routes.removed);
        }
        self.set_device_options(after);
        self.stop_ingresses(plan.ingresses.removed.iter().chain(&plan.ingresses.changed), after).await;
        let is_as_before = |name: &Name| driver_of(before, name) == driver_of(&wanted, name);
        let (same, others) = built.drivers.into_iter().partition(|(name, _)| is_as_before(name));
        self.start_drivers(same, after);
        others
    }

    /// Once nothing of the change can fail any more: what the drivers before these have kept is dropped.
    pub(crate) async fn bring_in(&self, drivers: Drivers, after: &mut Running) {
        let (names, wanted): (Vec<_>, _) = (drivers.keys().cloned().collect(), after.wanted.clone());
        self.drop_states(&wanted, &names.iter().collect::<Vec<_>>()).await;
        self.start_drivers(drivers, after);
    }

    fn start_drivers(&self, drivers: Drivers, running: &mut Running) {
        for (name, driver) in drivers {
            running.ingresses.insert(name.clone(), Ok(self.start_ingress(name, driver)));
        }
    }

    async fn stop_ingresses<'a>(&self, names: impl Iterator<Item = &'a Name>, running: &mut Running) {
        let supervised: Vec<_> = names.filter_map(|name| running.ingresses.remove(name)?.ok()).collect();
        join_all(supervised.iter().map(|ingress| ingress.stop(GRACE))).await;
    }

    pub(crate) fn start_ingress(&self, name: Name, driver: Box<dyn AnyDriver>) -> Arc<Supervised> {
        Arc::new(Supervisor::start(name, driver, self.intake.clone(), SupervisorOptions::default()))
    }

    /// What waits for a removed route or sink becomes dead letters.
    pub(crate) async fn take_out(&self, plan: &Plan, after: &mut Running) -> Result<(), StoreError> {
        for name in &plan.routes.removed {
            self.pipeline.remove_route(name).await?;
            after.handlers.remove(name);
            after.candidates.remove(name);
        }
        for name in &plan.sinks.removed {
            self.pipeline.remove_sink(name).await?;
            after.sinks.remove(name);
        }
        Ok(())
    }

    /// The store failed half-way: back to how it was `before`.
    pub(crate) async fn put_back(
        &self,
        plan: &Plan,
        before: Running,
        mut after: Running,
        failure: &StoreError,
    ) -> ControlError {
        for name in plan.sinks.changed.iter().chain(&plan.sinks.removed) {
            if let Some(Ok(sink)) = before.sinks.get(name) {
                let offering = build::offering(&before.wanted.sinks[name].it.offering);
                self.pipeline.set_sink(name.clone(), sink.clone(), offering).await;
            }
        }
        let old_routes = plan.routes.changed.iter().chain(&plan.routes.removed);
        self.pipeline.set_routes(old_routes.filter_map(|name| before.route(name)).collect());
        self.stop_ingresses(plan.ingresses.set(), &mut after).await;
        let mut back = before.clone();
        self.set_device_options(&back);
        for name in plan.ingresses.changed.iter().chain(&plan.ingresses.removed) {
            if matches!(before.ingresses.get(name), Some(Ok(_))) {
                let driver = build::driver(&before.wanted.ingresses[name].it);
                let ingress = driver.map(|driver| self.start_ingress(name.clone(), driver));
                back.ingresses.insert(name.clone(), ingress.map_err(|error| error.to_string()));
            }
        }
        let mut undone = self.store.put_documents(documents::changes(&after.wanted, &before.wanted)).await;
        for name in &plan.routes.added {
            undone = undone.and(self.pipeline.remove_route(name).await);
        }
        for name in &plan.sinks.added {
            undone = undone.and(self.pipeline.remove_sink(name).await);
        }
        *self.running.write() = back;
        error!(error = %failure, "a change failed half-way and was put back");
        ControlError::Storage(match undone {
            Ok(()) => format!("{failure}; everything is as it was before"),
            Err(_) => format!(
                "{failure}; what runs is as it was before, but the store may have the new configuration: \
                 repeat the change, or undo it, once the storage works again"
            ),
        })
    }

    async fn forget_routes(&self, new: &Wanted) -> Result<(), StoreError> {
        let before = Known::read(&self.store)?;
        let known = before.with_routes([new]);
        if known == before { Ok(()) } else { self.store.put_documents(vec![known.change()]).await }
    }

    /// Nothing depends on this: what is left over is found at the next start.
    pub(crate) async fn tidy_up(&self, old: &Wanted, new: &Wanted) {
        if let Err(error) = self.forget_routes(new).await {
            warn!(%error, "names of removed routes could not be forgotten");
        }
        let gone: Vec<_> =
            old.digests().filter(|digest| !new.digests().any(|kept| kept == *digest)).collect();
        for digest in gone {
            if let Err(error) = self.remove_blob(digest).await {
                warn!(digest, %error, "a component that no version is any more could not be removed");
            }
        }
    }
}

fn driver_of<'a>(wanted: &'a Wanted, name: &Name) -> Option<&'a str> {
    wanted.ingresses.get(name).map(|ingress| ingress.it.driver.as_str())
}
