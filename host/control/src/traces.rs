//! Why: what became of a reading, and what handlers logged.

use std::sync::Arc;

use sandbar_pipeline::LogRecord;
use sandbar_reading::{Name, Reading, ReadingId};
use sandbar_runtime::LogLevel;
use sandbar_store::ReadingTrace;
use tokio::sync::broadcast;

use crate::control::Control;
use crate::error::ControlError;
use crate::what::What;

/// The life of a reading.
#[derive(Clone, Debug)]
pub struct TraceInfo {
    /// Unless the journal has forgotten it.
    pub reading: Option<Reading>,
    /// Every route that there is or was for it, by name.
    pub routes: Vec<RouteVerdict>,
    pub trace: ReadingTrace,
}

/// Whether a route took a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteVerdict {
    pub route: Name,
    pub took: bool,
    /// Why it did not, or why it would not now.
    pub why: Option<String>,
}

/// Which lines.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub route: Name,
    pub reading: Option<ReadingId>,
    /// That urgent at least.
    pub level: LogLevel,
    /// The newest so many.
    pub limit: usize,
}

impl Control {
    /// What is too old to be known is left out.
    pub async fn trace(&self, id: ReadingId) -> Result<TraceInfo, ControlError> {
        let (reading, trace) = self.ask(move |store| Ok((store.reading(id)?, store.trace(id)?))).await?;
        if reading.is_none() && trace.handlings.is_empty() {
            return Err(ControlError::NotFound { what: What::Reading, name: id.to_string() });
        }
        let mut routes = Vec::new();
        let took = |name: &str| {
            trace.lanes.iter().any(|lane| lane.route == name)
                || trace.handlings.iter().any(|handling| handling.route == name)
        };
        for route in self.inner.pipeline.router().routes() {
            let name = route.name.clone();
            let objection = reading.as_ref().and_then(|reading| route.filter.objection(&name, reading));
            let took = took(name.as_str());
            let why = match (took, objection) {
                (true, Some(objection)) => Some(format!("it would not now: {objection}")),
                (false, None) if reading.is_some() => {
                    Some("it would now: it was made or changed later".to_owned())
                }
                (_, objection) => objection,
            };
            routes.push(RouteVerdict { route: name, took, why });
        }
        for lane in &trace.lanes {
            let known = routes.iter().any(|verdict| verdict.route.as_str() == lane.route);
            if let (false, Ok(route)) = (known, lane.route.parse()) {
                routes.push(RouteVerdict {
                    route,
                    took: true,
                    why: Some("it is no longer there".to_owned()),
                });
            }
        }
        routes.sort_unstable_by(|a, b| a.route.cmp(&b.route));
        Ok(TraceInfo { reading, routes, trace })
    }

    /// The newest lines of a route's handler, oldest first: as many as are kept, since the host started.
    pub fn logs(&self, query: &LogQuery) -> Result<Vec<Arc<LogRecord>>, ControlError> {
        self.route(query.route.as_str())?;
        Ok(self.inner.pipeline.logs(&query.route, query.limit, |record| query.wants(record)))
    }

    /// Lines of all routes' handlers from now on. Who is slow misses some.
    pub fn watch_logs(&self) -> broadcast::Receiver<Arc<LogRecord>> {
        self.inner.pipeline.watch_logs()
    }
}

impl LogQuery {
    pub fn wants(&self, record: &LogRecord) -> bool {
        record.route == self.route
            && record.line.level >= self.level
            && self.reading.is_none_or(|reading| reading == record.reading)
    }
}
