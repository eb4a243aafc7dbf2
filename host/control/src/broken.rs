//! A route that cannot be built: it takes readings, which wait until it is mended.

use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_pipeline::{Attempts, Handler, Sandbox};
use sandbar_runtime::Fault;

/// Stands in for a handler that cannot be had. Its fault is not the handler's: it costs no attempt.
pub(crate) struct BrokenHandler {
    pub(crate) cause: String,
}

impl Handler for BrokenHandler {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        let fault = Fault::StateUnavailable(format!("the route is broken: {}", self.cause));
        Box::pin(std::future::ready(Err(fault)))
    }
}

/// Nothing comes of asking often, and a mended route is asked soon enough.
pub(crate) fn attempts(configured: Attempts) -> Attempts {
    Attempts { first_wait: Duration::from_secs(2), ..configured }
}
