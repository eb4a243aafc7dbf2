//! The host as a whole: status, configuration, health.

use axum::Json as Respond;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use sandbar_control::{What, kinds};

use super::Answer;
use crate::app::App;
use crate::extract::Json;
use crate::metrics;
use crate::views::{AppliedView, Check, ConfigView, KindView, KindsView, ReadyView, StatusView};

pub(crate) async fn status(State(app): State<App>) -> Respond<StatusView> {
    Respond(StatusView::new(app.control.status(), app.control.unready()))
}

pub(crate) async fn config(State(app): State<App>) -> Respond<ConfigView> {
    let tables = match app.control.config() {
        serde_json::Value::Object(tables) => tables,
        // It is a table of tables, always.
        _ => serde_json::Map::new(),
    };
    Respond(ConfigView { tables })
}

pub(crate) async fn reload(State(app): State<App>) -> Answer<AppliedView> {
    Ok(Respond(app.control.reload().await?.into()))
}

/// Nothing is changed.
pub(crate) async fn check(State(app): State<App>, Json(Check { toml }): Json<Check>) -> Answer<AppliedView> {
    Ok(Respond(app.control.check_text(&toml).await?.into()))
}

pub(crate) async fn built_with() -> Respond<KindsView> {
    let (drivers, sinks): (Vec<_>, Vec<_>) = kinds().into_iter().partition(|kind| kind.what == What::Ingress);
    let view = |kind: sandbar_control::Kinds| KindView {
        name: kind.name.to_owned(),
        example: kind.example.to_owned(),
        schema: kind.schema,
    };
    Respond(KindsView {
        drivers: drivers.into_iter().map(view).collect(),
        sinks: sinks.into_iter().map(view).collect(),
    })
}

/// The process answers.
pub(crate) async fn healthz() -> Respond<ReadyView> {
    Respond(ReadyView { ready: true, reasons: Vec::new() })
}

pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, Respond<ReadyView>) {
    let reasons = app.control.unready();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Respond(ReadyView { ready, reasons }))
}

pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::OPENMETRICS)], metrics::text(&app.control.status()))
}

pub(crate) async fn openapi(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], app.document)
}
