//! Brings what is in the outbox to its targets: for each target in order, in batches, until it is accepted,
//! rejected or given up on.

mod outcome;
mod outlet;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{Name, Target};
use sandbar_sinks::AnySink;
use sandbar_store::{Queued, StoreError};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::outcome::Offering;
pub(crate) use self::outlet::Means;
pub use self::outlet::{Circuit, OutletStatus};
use self::outlet::{Outlet, Way};
use crate::devices::Devices;

/// All targets that something is, or was, on its way to.
pub(crate) struct Deliveries {
    means: Means,
    devices: Devices,
    stop: CancellationToken,
    outlets: Arc<Outlets>,
    /// The store tells its news on a thread of its own.
    runtime: Handle,
}

type Outlets = Mutex<HashMap<Target, Arc<Outlet>>>;

/// Unless another has taken its place.
fn forget(outlets: &Outlets, ended: &Arc<Outlet>) {
    let mut outlets = outlets.lock();
    if outlets.get(ended.target()).is_some_and(|outlet| Arc::ptr_eq(outlet, ended)) {
        outlets.remove(ended.target());
    }
}

impl Deliveries {
    pub(crate) fn new(means: Means, devices: Devices, stop: CancellationToken) -> Self {
        Self { means, devices, stop, outlets: Arc::default(), runtime: Handle::current() }
    }

    /// Sets or replaces a sink. What is being offered to the old one is finished first, if that is soon.
    pub(crate) async fn set_sink(&self, name: Name, sink: Arc<dyn AnySink>, offering: Offering) {
        let target = Target::Sink(name);
        self.retire(&target).await;
        self.start(target, Way::Sink(sink), offering);
    }

    /// What is queued for it stays in the outbox.
    pub(crate) async fn remove_sink(&self, name: &Name) {
        self.retire(&Target::Sink(name.clone())).await;
    }

    /// Starts the outlets of devices that something waits for.
    pub(crate) fn resume(&self) -> Result<(), StoreError> {
        for target in self.means.store.targets()? {
            if let Target::Device(_) = target {
                self.outlet_of_device(&target);
            }
        }
        Ok(())
    }

    pub(crate) fn push(&self, queued: Queued) {
        let outlet = match &queued.target {
            Target::Device(_) => Some(self.outlet_of_device(&queued.target)),
            // Without its sink it waits in the outbox.
            Target::Sink(_) => self.outlets.lock().get(&queued.target).cloned(),
        };
        let Some(outlet) = outlet else { return };
        let target = queued.target.clone();
        if !outlet.push(queued) {
            // A device's outlet ends when it has nothing to do; a new one finds this in the store.
            forget(&self.outlets, &outlet);
            self.outlet_of_device(&target);
        }
    }

    pub(crate) fn look_again(&self) {
        let mut outlets: Vec<_> = self.outlets.lock().values().cloned().collect();
        // Always in one order: runs of one seed are to be alike.
        outlets.sort_unstable_by(|a, b| a.target().cmp(b.target()));
        for outlet in outlets {
            if !outlet.look_again() {
                forget(&self.outlets, &outlet);
            }
        }
        // Something may be queued for a device that has no outlet. If the store fails again, it says again
        // when it is well.
        drop(self.resume());
    }

    /// What waits for the target has changed in the store.
    pub(crate) fn look_again_at(&self, target: &Target) {
        let mut outlets = self.outlets.lock();
        if outlets.get(target).is_some_and(|outlet| !outlet.look_again()) {
            outlets.remove(target);
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.outlets.lock().values().map(|outlet| outlet.held()).sum()
    }

    /// Whether something is on its way to the device, or to fewer than `most` others.
    pub(crate) fn may_await(&self, device: &str, most: usize) -> bool {
        let outlets = self.outlets.lock();
        let of_devices = outlets.keys().filter(|target| matches!(target, Target::Device(_)));
        of_devices.take(most).count() < most || outlets.contains_key(&Target::Device(device.into()))
    }

    /// A session reaches the device now.
    pub(crate) fn reachable(&self, device: &str) {
        if let Some(outlet) = self.outlets.lock().get(&Target::Device(device.into())) {
            outlet.try_now();
        }
    }

    /// A person wants it tried without waiting for the time-out.
    pub(crate) fn try_now(&self, target: &Target) {
        if let Some(outlet) = self.outlets.lock().get(target) {
            outlet.try_now();
        }
    }

    pub(crate) fn status(&self) -> Vec<OutletStatus> {
        let mut status: Vec<_> = self.outlets.lock().values().map(|outlet| outlet.status()).collect();
        status.sort_unstable_by(|a, b| a.target.cmp(&b.target));
        status
    }

    /// Returns once nothing is being offered; what takes long is left to the next start.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let outlets: Vec<_> = self.outlets.lock().drain().map(|(_, outlet)| outlet).collect();
        for outlet in outlets {
            outlet.ended().await;
        }
    }

    async fn retire(&self, target: &Target) {
        let retired = self.outlets.lock().remove(target);
        if let Some(outlet) = retired {
            outlet.stop();
            outlet.ended().await;
        }
    }

    fn outlet_of_device(&self, target: &Target) -> Arc<Outlet> {
        if let Some(outlet) = self.outlets.lock().get(target) {
            return outlet.clone();
        }
        self.start(target.clone(), Way::Device(self.devices.clone()), Offering::default())
    }

    fn start(&self, target: Target, way: Way, offering: Offering) -> Arc<Outlet> {
        let mut outlets = self.outlets.lock();
        let outlet = outlets.entry(target.clone()).or_insert_with(|| {
            let (outlet, work) =
                Outlet::new(target, way, offering, self.means.clone(), self.stop.child_token());
            let (outlets, ended) = (Arc::downgrade(&self.outlets), outlet.clone());
            self.runtime.spawn(async move {
                work.await;
                // A device has one as long as something waits for it.
                if let Some(outlets) = outlets.upgrade() {
                    forget(&outlets, &ended);
                }
            });
            outlet
        });
        outlet.clone()
    }
}
