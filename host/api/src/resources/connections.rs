//! What drivers have open.

use axum::Json as Respond;
use axum::extract::State;
use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::app::App;
use crate::extract::Query;
use crate::params::{CursorParam, IngressParam, LimitParam};
use crate::views::{Code, ConnectionView, Page, Problem};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Only those of this ingress.
    ingress: Option<IngressParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<CursorParam>,
}

pub(crate) async fn list(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Answer<Page<ConnectionView>> {
    let wrong = |_| {
        Problem::at(Code::InvalidParameter, ConfigError::at("cursor", "must be `next` of the part before"))
    };
    let cursor = wanted.cursor.map(|cursor| cursor.0.parse().map_err(wrong)).transpose()?;
    let ingress = wanted.ingress.as_ref().map(|ingress| &ingress.0);
    let page = app.control.connections(ingress, cursor, wanted.limit.0);
    let next = page.next.map(|id: u64| id.to_string());
    let kinds = app.control.device_kinds(&page.items);
    let view = |connection| ConnectionView::new(connection, &kinds);
    Ok(Respond(Page { items: page.items.into_iter().map(view).collect(), next }))
}
