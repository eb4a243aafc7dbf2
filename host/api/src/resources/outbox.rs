//! What waits for a sink or a device.

use axum::Json as Respond;
use axum::extract::State;
use axum::http::StatusCode;
use sandbar_control::OutboxQuery;
use sandbar_reading::{ConfigError, DeliveryId, Target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::app::App;
use crate::extract::{OptionalJson, Query};
use crate::params::{CursorParam, LimitParam, TargetParam, target, target_text};
use crate::views::{Code, Page, Problem, QueuedView, Retry};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// `sink/NAME` or `device/ID`.
    target: Option<TargetParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<CursorParam>,
}

pub(crate) async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Answer<Page<QueuedView>> {
    let target = wanted.target.map(|target| target.0);
    let begin = wanted.cursor.map(|cursor| read_cursor(&cursor.0)).transpose()?;
    let ask = |limit, cursor| app.control.outbox(OutboxQuery { target: target.clone(), cursor, limit });
    let size = |queued: &sandbar_control::Queued| queued.delivery.size();
    let (items, next) = super::page(wanted.limit.0, begin, ask, size).await?;
    let next = next.map(|(target, id)| format!("{id}@{}", target_text(&target)));
    Ok(Respond(Page { items: items.iter().map(Into::into).collect(), next }))
}

fn read_cursor(text: &str) -> Result<(Target, DeliveryId), Problem> {
    let parts = text.split_once('@').and_then(|(id, at)| Some((target(at).ok()?, id.parse().ok()?)));
    let wrong = || ConfigError::at("cursor", "must be `next` of the part before");
    parts.ok_or_else(|| Problem::at(Code::InvalidParameter, wrong()))
}

/// Does not wait for the back-off of one target, or of all.
pub(crate) async fn retry(
    State(app): State<App>,
    OptionalJson(retry): OptionalJson<Retry>,
) -> Result<StatusCode, Problem> {
    let target = retry.target.as_deref().map(target).transpose();
    let wrong = |problem| Problem::at(Code::InvalidJson, ConfigError::at("target", problem));
    app.control.try_now(target.map_err(wrong)?.as_ref());
    Ok(StatusCode::NO_CONTENT)
}
