//! Why: a reading's trace, and what handlers logged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Respond;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use sandbar_control::{LogLevel, LogQuery, LogRecord};
use sandbar_reading::{Name, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, Named};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::params::{LastParam, LevelParam, LimitParam, ReadingParam};
use crate::views::{Code, LogRecordView, Missed, Page, Problem, TraceView};

/// Shorter than the idle time-out of any proxy.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Those left out do not restrict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Lines about this reading.
    reading: Option<ReadingParam>,
    /// Lines that are that urgent at least.
    level: Option<LevelParam>,
    /// The newest so many.
    limit: LimitParam,
}

/// Those left out do not restrict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WantedTail {
    /// Lines about this reading.
    reading: Option<ReadingParam>,
    /// Lines that are that urgent at least.
    level: Option<LevelParam>,
    /// Begin with the newest so many of those that are kept; by default with what comes.
    last: Option<LastParam>,
}

#[derive(Deserialize)]
pub(crate) struct ById {
    id: ReadingParam,
}

pub(crate) async fn trace(State(app): State<App>, Path(ById { id }): Path<ById>) -> Answer<TraceView> {
    Ok(Respond(TraceView::new(id.0, app.control.trace(id.0).await?)))
}

fn query(route: Name, reading: Option<ReadingParam>, level: Option<LevelParam>, limit: usize) -> LogQuery {
    let level = level.map_or(LogLevel::Trace, |level| level.0);
    LogQuery { route, reading: reading.map(|reading| reading.0), level, limit }
}

pub(crate) async fn list(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    Query(wanted): Query<Wanted>,
) -> Answer<Page<LogRecordView>> {
    let query = query(name.0, wanted.reading, wanted.level, wanted.limit.0);
    let lines = app.control.logs(&query)?;
    Ok(Respond(Page::all(lines.iter().map(|record| (&**record).into()).collect())))
}

pub(crate) async fn tail(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    Query(wanted): Query<WantedTail>,
) -> Result<Response, Problem> {
    let permit = app.tails.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Code::Busy, "too many are watching already"))?;
    let query = query(name.0, wanted.reading, wanted.level, wanted.last.map_or(0, |last| last.0));
    // Watched before they are read: none comes in between.
    let watch = app.control.watch_logs();
    let kept = app.control.logs(&query)?;
    let shown = Shown::of(&kept);
    let kept: Vec<_> = kept.iter().map(|record| event("log", &LogRecordView::from(&**record))).collect();
    let watching = (watch, query, shown, app.stop, permit);
    let events = stream::unfold(watching, async |(mut lines, query, shown, stop, permit)| {
        let event = loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = stop.cancelled() => return None,
            };
            match line {
                Ok(record) if query.wants(&record) && !shown.has(&record) => {
                    break event("log", &LogRecordView::from(&*record));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => break event("missed", &Missed { count }),
                Err(RecvError::Closed) => return None,
            }
        };
        Some((event, (lines, query, shown, stop, permit)))
    });
    let events = stream::iter(kept).chain(events).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Which lines a watcher has from those that are kept.
struct Shown {
    number: Option<u64>,
    time: Timestamp,
}

impl Shown {
    fn of(kept: &[Arc<LogRecord>]) -> Self {
        let number = kept.last().map(|record| record.number);
        Self { number, time: kept.iter().map(|record| record.time).max().unwrap_or_default() }
    }

    /// Numbers begin anew with a route of the same name: later lines are others.
    fn has(&self, record: &LogRecord) -> bool {
        self.number.is_some_and(|last| record.number <= last) && record.time <= self.time
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("views are texts and numbers, written to memory")
}
