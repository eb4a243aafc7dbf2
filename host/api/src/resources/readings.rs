//! Readings: the journal, and handing one over.

use axum::Json as Respond;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use sandbar_control::ReadingQuery;
use sandbar_reading::Reading;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::app::App;
use crate::extract::{self, Path, Query};
use crate::params::{DeviceParam, FilterParam, IngressParam, LimitParam, ReadingParam, SinceParam};
use crate::views::{AcceptedView, Code, NewReading, Page, Problem, ReadingView};

/// Those left out do not restrict.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Wanted {
    /// Came in through this ingress; also `route/NAME`, for messages of a route.
    ingress: Option<IngressParam>,
    /// The topic matches this filter.
    topic: Option<FilterParam>,
    /// Is about this device.
    device: Option<DeviceParam>,
    /// Accepted then or later. One with a large payload is listed once that is on disk, which may be after younger
    /// ones: who follows what comes looks back a little, or watches `/v1/tail`.
    since: Option<SinceParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<ReadingParam>,
}

#[derive(Deserialize)]
pub(crate) struct ById {
    id: ReadingParam,
}

pub(crate) async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Answer<Page<ReadingView>> {
    let query = ReadingQuery {
        ingress: wanted.ingress.map(|ingress| ingress.0),
        topic: wanted.topic.map(|topic| topic.0),
        device: wanted.device.map(|device| device.0),
        since: wanted.since.map(|since| since.0),
        cursor: None,
        newest_first: true,
        limit: 0,
    };
    let ask = |limit, cursor| app.control.readings(ReadingQuery { limit, cursor, ..query.clone() });
    let begin = wanted.cursor.map(|cursor| cursor.0);
    let (items, next) = super::page(wanted.limit.0, begin, ask, Reading::size).await?;
    let items = items.iter().map(Into::into).collect();
    Ok(Respond(Page { items, next: next.map(|next| next.to_string()) }))
}

pub(crate) async fn show(State(app): State<App>, Path(ById { id }): Path<ById>) -> Answer<ReadingView> {
    Ok(Respond((&app.control.reading(id.0).await?).into()))
}

pub(crate) async fn accept(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Respond<AcceptedView>), Problem> {
    let reading: NewReading = extract::large_json(&app, &headers, body).await?;
    let inbound = reading.inbound().map_err(|error| Problem::at(Code::InvalidJson, error))?;
    let receipt = app.control.accept(inbound).await?;
    Ok((StatusCode::ACCEPTED, Respond(AcceptedView { id: receipt.id().to_string() })))
}
