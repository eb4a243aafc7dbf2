//! What was given up on.

use axum::Json as Respond;
use axum::extract::State;
use axum::http::StatusCode;
use sandbar_control::{DeadLetter, DeadLetterFilter, DeadLetterQuery, Subject};
use sandbar_reading::{ConfigError, Name, Target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::app::App;
use crate::extract::{OptionalJson, Path, Query};
use crate::params::{DeadLetterParam, LimitParam, NameParam};
use crate::views::{Code, DeadLetterView, Page, Problem, RedriveFilter, Redriven};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Readings that this route could not handle, and deliveries that it put out.
    route: Option<NameParam>,
    /// Deliveries that this sink did not take.
    sink: Option<NameParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<DeadLetterParam>,
}

#[derive(Deserialize)]
pub(crate) struct ById {
    id: DeadLetterParam,
}

pub(crate) async fn list(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Answer<Page<DeadLetterView>> {
    let route = wanted.route.map(|route| route.0);
    let target = wanted.sink.map(|sink| Target::Sink(sink.0));
    let ask = |limit, cursor| {
        let (route, target) = (route.clone(), target.clone());
        app.control.dead_letters(DeadLetterQuery { route, target, cursor, oldest_first: false, limit })
    };
    let begin = wanted.cursor.map(|cursor| cursor.0);
    let (items, next) = super::page(wanted.limit.0, begin, ask, size).await?;
    let next = next.map(|next| next.to_string());
    Ok(Respond(Page { items: items.iter().map(Into::into).collect(), next }))
}

fn size(letter: &DeadLetter) -> usize {
    let subject = match &letter.subject {
        Subject::Reading { reading, .. } => reading.size(),
        Subject::Delivery { delivery, .. } => delivery.size(),
    };
    subject + letter.cause.len()
}

pub(crate) async fn show(State(app): State<App>, Path(ById { id }): Path<ById>) -> Answer<DeadLetterView> {
    Ok(Respond((&app.control.dead_letter(id.0).await?).into()))
}

pub(crate) async fn discard(
    State(app): State<App>,
    Path(ById { id }): Path<ById>,
) -> Result<StatusCode, Problem> {
    app.control.discard_dead_letter(id.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn redrive(State(app): State<App>, Path(ById { id }): Path<ById>) -> Answer<Redriven> {
    app.control.redrive(id.0).await?;
    Ok(Respond(Redriven { redriven: 1 }))
}

pub(crate) async fn redrive_all(
    State(app): State<App>,
    OptionalJson(filter): OptionalJson<RedriveFilter>,
) -> Answer<Redriven> {
    let filter = DeadLetterFilter {
        route: name("route", filter.route)?,
        target: name("sink", filter.sink)?.map(Target::Sink),
    };
    Ok(Respond(Redriven { redriven: app.control.redrive_all(filter).await? }))
}

fn name(field: &str, text: Option<String>) -> Result<Option<Name>, Problem> {
    let wrong = |error: sandbar_reading::NameError| ConfigError::at(field, error.to_string());
    let name = text.map(|text| text.parse::<Name>()).transpose();
    name.map_err(|error| Problem::at(Code::InvalidJson, wrong(error)))
}
