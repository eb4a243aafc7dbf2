//! What dispatch needs of a handler: the runtime's, or a simulation's.

use std::sync::Arc;

use futures::future::BoxFuture;
use sandbar_reading::{Reading, Timestamp, TraceContext};
use sandbar_runtime::{Call, Fault, StateView};

/// A module in a route, ready to be called.
pub trait Handler: Send + Sync + 'static {
    /// A sandbox to call it in, for one caller at a time. Dropped, it may be used again.
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>>;
}

/// One instance of a handler.
pub trait Sandbox: Send {
    /// One attempt at one reading; `trace` is its span, if it is recorded. After a fault other than the handler's own
    /// failure the sandbox is used up.
    fn handle<'a>(
        &'a mut self,
        reading: &'a Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        trace: Option<TraceContext>,
    ) -> BoxFuture<'a, Call>;
}

impl Handler for sandbar_runtime::Handler {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        Box::pin(async move { Ok(Box::new(self.checkout().await?) as Box<dyn Sandbox>) })
    }
}

impl Sandbox for sandbar_runtime::Instance {
    fn handle<'a>(
        &'a mut self,
        reading: &'a Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        trace: Option<TraceContext>,
    ) -> BoxFuture<'a, Call> {
        Box::pin(self.handle(reading, state, now, trace))
    }
}
