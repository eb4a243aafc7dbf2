//! A component in a route: its instances, kept warm between calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use sandbar_reading::Name;
use tokio::sync::Semaphore;
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::component::Component;
use crate::convert::{ConfigureParams, ConfigureResult};
use crate::fault::{Fault, InitError, OutOfTime, classify};
use crate::host::Host;
use crate::instance::{Instance, Warm, within};
use crate::limits::Limits;
use crate::outgoing::HttpAccess;
use crate::runtime;
use crate::stats::{Counters, HandlerStats};

/// What a route gives its handler.
#[derive(Clone, Debug)]
pub struct Settings {
    pub route: Name,
    /// What `wasi:config/store` shows.
    pub config: BTreeMap<String, String>,
    pub limits: Limits,
    pub permissions: Permissions,
}

/// What is real in the sandbox. By default nothing is: replays give the same results.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Clocks show the time, not the reading's.
    pub clock: bool,
    /// Random numbers cannot be foretold.
    pub random: bool,
    /// Who may be asked over HTTP.
    pub http: HttpAccess,
    /// What `wasi:config/store` shows as `secret.NAME`, and only to who asks by name.
    pub secrets: Secrets,
}

/// Secrets by name; never printed.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handler(Arc<Pool>);

impl Handler {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self(pool)
    }

    /// A warm instance, or a fresh one after `configure`. Waits while as many are in use as may be.
    pub async fn checkout(&self) -> Result<Instance, Fault> {
        let checked_out = self.0.checkout().await;
        checked_out.inspect_err(|fault| self.0.counters.faulted(fault))
    }

    pub fn route(&self) -> &Name {
        &self.0.settings.route
    }

    pub fn stats(&self) -> HandlerStats {
        self.0.counters.snapshot(self.0.warm.lock().len())
    }
}

pub(crate) struct Pool {
    pub(crate) runtime: Arc<runtime::Inner>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) counters: Arc<Counters>,
    linked: InstancePre<Host>,
    configure: ComponentExportIndex,
    handle: ComponentExportIndex,
    /// The last one used is the next one used: its memory is in the processor's caches.
    warm: Mutex<Vec<Warm>>,
    /// One for every instance that may exist.
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(
        runtime: Arc<runtime::Inner>,
        linked: InstancePre<Host>,
        component: &Component,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            linked,
            configure: *component.configure(),
            handle: *component.handle(),
            warm: Mutex::default(),
            permits: Arc::new(Semaphore::new(settings.limits.instances.max(1))),
            settings: Arc::new(settings),
            counters: Arc::default(),
        })
    }

    /// Makes the first instance.
    pub(crate) async fn warm_up(&self) -> Result<(), InitError> {
        let warm = self.fresh().await?;
        self.warm.lock().push(warm);
        Ok(())
    }

    async fn checkout(self: &Arc<Self>) -> Result<Instance, Fault> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
        let warm = self.warm.lock().pop();
        let warm = match warm {
            Some(warm) => warm,
            None => self.fresh().await.map_err(|error| match error {
                InitError::Fault(fault @ Fault::NoRoom(_)) => fault,
                other => Fault::Init(other.to_string()),
            })?,
        };
        Ok(Instance::new(Arc::clone(self), warm, permit))
    }

    pub(crate) fn give_back(&self, warm: Warm) {
        self.warm.lock().push(warm);
    }

    pub(crate) fn drop_warm(&self) -> usize {
        let warm = std::mem::take(&mut *self.warm.lock());
        warm.len()
    }

    /// If there is no room, instances that wait for calls make it, whoever's they are.
    async fn fresh(&self) -> Result<Warm, InitError> {
        match self.make().await {
            Err(InitError::Fault(Fault::NoRoom(_))) if self.runtime.drop_warm() => self.make().await,
            made => made,
        }
    }

    async fn make(&self) -> Result<Warm, InitError> {
        let limits = &self.settings.limits;
        let _running = self.runtime.ticker.run();
        let mut store = self.store();
        let made = within(limits.init_time, self.start(&mut store)).await;
        let said = match made {
            Some(Ok(said)) => said,
            Some(Err(error)) => return Err(self.start_fault(&error, &mut store).into()),
            None => return Err(Fault::TimedOut { limit: limits.init_time }.into()),
        };
        let handle = said.map_err(InitError::Refused)?;
        Ok(Warm::new(store, handle, Arc::clone(&self.counters)))
    }

    fn store(&self) -> Store<Host> {
        let limits = &self.settings.limits;
        let host = Host::new(Arc::clone(&self.settings), Instant::now() + limits.init_time);
        let mut store = Store::new(&self.runtime.engine, host);
        store.limiter(|host| &mut host.meter);
        store.set_hostcall_fuel(limits.border_bytes());
        store.epoch_deadline_callback(|context| match Instant::now() < context.data().deadline {
            true => Ok(UpdateDeadline::Yield(1)),
            false => Err(OutOfTime.into()),
        });
        store.set_epoch_deadline(1);
        store
    }

    /// The export `handle` of a new instance, or what its `configure` refused the configuration with.
    async fn start(
        &self,
        store: &mut Store<Host>,
    ) -> wasmtime::Result<Result<wasmtime::component::Func, String>> {
        let instance = self.linked.instantiate_async(&mut *store).await?;
        let missing = || wasmtime::format_err!("an export is gone");
        let configure: TypedFunc<ConfigureParams, ConfigureResult> =
            instance.get_typed_func(&mut *store, self.configure)?;
        let handle = instance.get_func(&mut *store, self.handle).ok_or_else(missing)?;
        let (said,) = configure.call_async(store, ()).await?;
        Ok(said.map(|()| handle))
    }

    /// What a guest printed before it gave up tells more than its trap.
    fn start_fault(&self, error: &wasmtime::Error, store: &mut Store<Host>) -> Fault {
        let limits = &self.settings.limits;
        let no_memory = |cause: &(dyn std::error::Error + 'static)| {
            let text = cause.to_string();
            text.contains("Cannot allocate memory") || text.contains("os error 12")
        };
        if error.is::<PoolConcurrencyLimitError>() || error.chain().any(no_memory) {
            return Fault::NoRoom(format!("{error:#}"));
        }
        let host = store.data_mut();
        host.finish();
        match classify(error, limits.init_time, limits.memory, host.meter.refused(), limits.border_bytes()) {
            Fault::Trap { mut cause } => {
                for line in host.logs.take() {
                    cause.push('\n');
                    cause.push_str(&line.message);
                }
                Fault::Trap { cause }
            }
            fault => fault,
        }
    }
}
