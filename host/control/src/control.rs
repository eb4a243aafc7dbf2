//! A running host, and everything that may be asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::RwLock;
use sandbar_ingress::{Intake, Supervised};
use sandbar_pipeline::Pipeline;
use sandbar_reading::{Clock, Timestamp};
use sandbar_runtime::Runtime;
use sandbar_store::Store;
use sandbar_telemetry::Telemetry;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::error::ControlError;
use crate::plan::Plan;
use crate::rates::Rates;
use crate::running::Running;

/// What a host is started with.
pub struct Start {
    /// Made if it is not there.
    pub data_dir: PathBuf,
    pub declared: Declared,
    pub clock: Arc<dyn Clock>,
}

/// A running host. Clones are the same host.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) pipeline: Pipeline,
    pub(crate) telemetry: Telemetry,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Timestamp,
    pub(crate) token: String,
    pub(crate) running: RwLock<Running>,
    /// Changes are made one after the other.
    pub(crate) changing: Mutex<()>,
    /// The change whose removed routes and sinks are about to go. Who puts something back to wait holds it until that
    /// is done: else it might wait for what has gone.
    pub(crate) leaving: tokio::sync::RwLock<Plan>,
    pub(crate) stopping: AtomicBool,
    /// Tries on journaled readings that may be under way.
    pub(crate) trying: Semaphore,
    /// Replays that are to end.
    pub(crate) cancelled: parking_lot::Mutex<BTreeSet<String>>,
    /// What replays call, by their id.
    pub(crate) replaying: parking_lot::Mutex<BTreeMap<String, Arc<dyn sandbar_pipeline::Handler>>>,
    /// Ends the sessions of listeners that are no ingresses of the configuration.
    pub(crate) sessions: CancellationToken,
    pub(crate) rates: Rates,
}

impl Control {
    /// What a request to the API must present.
    pub fn token(&self) -> &str {
        &self.inner.token
    }

    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Stops the drivers, which may take up to `grace` to finish what is in flight, then handlers and
    /// deliveries, then the store. What is not finished is in the store for the next start.
    pub async fn stop(&self, grace: Duration) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.inner.sessions.cancel();
        if let Some(registry) = self.inner.pipeline.registry() {
            registry.freeze();
        }
        let _changing = self.inner.changing.lock().await;
        let supervised: Vec<Arc<Supervised>> =
            self.inner.running.read().ingresses.values().flatten().cloned().collect();
        join_all(supervised.iter().map(|ingress| ingress.stop(grace))).await;
        self.inner.pipeline.stop().await;
        self.inner.telemetry.stop().await;
        self.inner.store.clone().close().await;
    }

    pub(crate) fn running(&self) -> Running {
        self.inner.running.read().clone()
    }

    /// Makes a change to its end, also when whoever asked for it has gone.
    pub(crate) async fn one_by_one<T, F>(
        &self,
        change: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let control = self.clone();
        let task = tokio::spawn(async move {
            let inner = control.inner.clone();
            let _changing = inner.changing.lock().await;
            match inner.stopping.load(Ordering::Relaxed) {
                true => Err(ControlError::Stopping),
                false => change(control).await,
            }
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(ControlError::Stopping),
        }
    }
}
