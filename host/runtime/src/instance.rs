//! One sandbox, for one caller at a time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use sandbar_reading::{Output, Reading, StateWrite, Timestamp, TraceContext};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::{Func, TypedFunc};

use crate::convert::{self, HandleParams, HandleResult, WitReading};
use crate::fault::{Fault, classify};
use crate::handler::Pool;
use crate::host::Host;
use crate::logs::LogLine;
use crate::state::StateView;
use crate::stats::Counters;

/// Returns to its pool when dropped, unless it faulted, was dropped in the middle of a call, or has grown too large.
pub struct Instance {
    pool: Arc<Pool>,
    /// None once it is used up.
    warm: Option<Warm>,
    _permit: OwnedSemaphorePermit,
}

/// An instance after `configure`, between calls.
pub(crate) struct Warm {
    store: Store<Host>,
    handle: Func,
    counters: Arc<Counters>,
}

/// One call, whatever became of it.
#[derive(Debug)]
pub struct Call {
    pub result: Result<Handled, Fault>,
    /// Also of a call that failed. With an instance's first call come the lines of its `configure`.
    pub logs: Vec<LogLine>,
    pub elapsed: Duration,
}

/// What a handler made of a reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handled {
    pub outputs: Vec<Output>,
    /// At most one for a name, sorted by name.
    pub writes: Vec<StateWrite>,
}

impl Instance {
    pub(crate) fn new(pool: Arc<Pool>, warm: Warm, permit: OwnedSemaphorePermit) -> Self {
        Self { pool, warm: Some(warm), _permit: permit }
    }

    /// One attempt at one reading. `now` is what a written value's time to live counts from; `trace` is the
    /// attempt's span, if it is recorded: what the handler asks others over HTTP follows it.
    ///
    /// After a fault that is not the handler's own failure the instance is used up: later calls fault too.
    pub async fn handle(
        &mut self,
        reading: &Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        trace: Option<TraceContext>,
    ) -> Call {
        // Not there while the call runs: if the caller drops it midway, the instance goes with it.
        let Some(mut warm) = self.warm.take() else {
            let cause = "this instance is used up".to_owned();
            return Call { result: Err(Fault::Trap { cause }), logs: Vec::new(), elapsed: Duration::ZERO };
        };
        let started = Instant::now();
        let (result, usable) = warm.call(&self.pool, reading, state, now, started, trace).await;
        let elapsed = started.elapsed();
        self.pool.counters.called(elapsed, warm.store.data().meter.used());
        if let Err(fault) = &result {
            self.pool.counters.faulted(fault);
        }
        let logs = warm.store.data().logs.take();
        if usable {
            self.warm = Some(warm);
        }
        Call { result, logs, elapsed }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(warm) = self.warm.take()
            && warm.store.data().meter.used() <= self.pool.settings.limits.recycle_above()
        {
            self.pool.give_back(warm);
        }
    }
}

impl Warm {
    pub(crate) fn new(store: Store<Host>, handle: Func, counters: Arc<Counters>) -> Self {
        counters.instances.fetch_add(1, Relaxed);
        Self { store, handle, counters }
    }

    /// What came of the call, and whether the instance can be called again.
    async fn call(
        &mut self,
        pool: &Pool,
        reading: &Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        started: Instant,
        trace: Option<TraceContext>,
    ) -> (Result<Handled, Fault>, bool) {
        let limits = &pool.settings.limits;
        self.store.data_mut().begin(reading, state, now, started + limits.time, trace);
        let _running = pool.runtime.ticker.run();
        self.store.set_epoch_deadline(1);
        let mut id = [0; 26];
        let parameters = (WitReading::new(reading, &mut id),);
        let called = within(limits.time, typed(self.handle).call_async(&mut self.store, parameters)).await;
        let (writes, refused) = self.store.data_mut().finish();
        pool.counters.refused(refused);
        match called {
            Some(Ok((Ok(returned),))) => {
                let outputs = convert::outputs(returned, reading, limits);
                (outputs.map(|outputs| Handled { outputs, writes }), true)
            }
            Some(Ok((Err(failure),))) => (Err(Fault::Failure(failure.into())), true),
            Some(Err(error)) => {
                let refused = self.store.data().meter.refused();
                let fault = classify(&error, limits.time, limits.memory, refused, limits.border_bytes());
                (Err(fault), false)
            }
            None => (Err(Fault::TimedOut { limit: limits.time }), false),
        }
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.counters.instances.fetch_sub(1, Relaxed);
    }
}

#[allow(unsafe_code, reason = "a type that borrows its parameters can only be given to one call at a time")]
fn typed<'a>(handle: Func) -> TypedFunc<HandleParams<'a>, HandleResult> {
    // SAFETY: `Component::check` has checked the type of every component's export `handle`.
    unsafe { TypedFunc::new_unchecked(handle) }
}

/// What `work` results in, or `None` if it takes longer than `limit`: a guest that runs is stopped by its epochs,
/// one that waits (for a WASI clock, say) by this. No timer is made for what is ready at once.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    match first {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::time::timeout(limit, work).await.ok(),
    }
}
