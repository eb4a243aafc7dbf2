//! Devices, connections and the status, live, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use sandbar_control::{ConnectionEvent, ConnectionStatus, DeviceEvent};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::tail::KEEP_ALIVE;
use crate::app::App;
use crate::convert_devices::values;
use crate::views::{
    Code, ConnectionView, DeviceView, Missed, Problem, RemovedView, ReportedView, StatusView,
};

/// How often the status is told.
const STATUS_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn devices(State(app): State<App>) -> Result<Response, Problem> {
    let permit = permit(&app)?;
    let events = app.control.watch_devices();
    Ok(respond(
        &app,
        permit,
        received(events, |event| match event {
            DeviceEvent::Changed(device) => shown("device", &DeviceView::from(device)),
            DeviceEvent::Reported { device, resources } => {
                let resources = values(resources);
                shown("resources", &ReportedView { device: device.into(), resources })
            }
            DeviceEvent::Removed(device) => shown("removed", &RemovedView { device: device.into() }),
        }),
    ))
}

pub(crate) async fn connections(State(app): State<App>) -> Result<Response, Problem> {
    let permit = permit(&app)?;
    let events = app.control.watch_connections();
    let control = app.control.clone();
    let view = move |connection: ConnectionStatus| {
        let kinds = control.device_kinds(std::slice::from_ref(&connection));
        ConnectionView::new(connection, &kinds)
    };
    Ok(respond(
        &app,
        permit,
        received(events, move |event| match event {
            ConnectionEvent::Opened(connection) => shown("opened", &view(connection)),
            ConnectionEvent::Closed(connection) => shown("closed", &view(connection)),
        }),
    ))
}

pub(crate) async fn status(State(app): State<App>) -> Result<Response, Problem> {
    let permit = permit(&app)?;
    let mut ticks = interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let control = app.control.clone();
    let events = stream::unfold(ticks, move |mut ticks| {
        let control = control.clone();
        async move {
            ticks.tick().await;
            Some((shown("status", &StatusView::new(control.status(), control.unready())), ticks))
        }
    });
    Ok(respond(&app, permit, events))
}

fn permit(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = app.tails.clone().try_acquire_owned();
    permit.map_err(|_| Problem::new(Code::Busy, "too many are watching already"))
}

/// What comes through the channel, and how much of it was missed.
fn received<T: Clone + Send + 'static>(
    events: Receiver<T>,
    show: impl Fn(T) -> Event + Send + 'static,
) -> impl Stream<Item = Event> + Send {
    stream::unfold((events, show), |(mut events, show)| async move {
        let event = match events.recv().await {
            Ok(event) => show(event),
            Err(RecvError::Lagged(count)) => shown("missed", &Missed { count }),
            Err(RecvError::Closed) => return None,
        };
        Some((event, (events, show)))
    })
}

fn respond(
    app: &App,
    permit: OwnedSemaphorePermit,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let stop = app.stop.clone();
    let events = events.take_until(async move { stop.cancelled().await }).map(move |event| {
        // Given back when the watcher goes.
        let _ = &permit;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn shown(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("views are texts and numbers, written to memory")
}
