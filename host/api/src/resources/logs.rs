//! Why: a reading's trace, and what handlers logged.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Respond;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use sandbar_control::{LogLevel, LogQuery};
use sandbar_reading::Name;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, Named};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::params::{LevelParam, LimitParam, ReadingParam};
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
    let query = query(name.0, wanted.reading, wanted.level, 0);
    app.control.route(query.route.as_str())?;
    let watching = (app.control.watch_logs(), query, app.stop, permit);
    let events = stream::unfold(watching, async |(mut lines, query, stop, permit)| {
        let event = loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = stop.cancelled() => return None,
            };
            match line {
                Ok(record) if query.wants(&record) => break event("log", &LogRecordView::from(&*record)),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => break event("missed", &Missed { count }),
                Err(RecvError::Closed) => return None,
            }
        };
        Some((Ok::<_, Infallible>(event), (lines, query, stop, permit)))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("views are texts and numbers, written to memory")
}
