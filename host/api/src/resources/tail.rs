//! What passes by, live, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use sandbar_control::{Control, DeadLetter, Seen, Subject};
use sandbar_reading::{Delivery, Name, Reading, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::extract::Query;
use crate::params::{DeviceParam, FilterParam, IngressParam};
use crate::views::{Code, DeadLetterView, Missed, Problem, QueuedView, ReadingView};

/// Shorter than the idle time-out of any proxy.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Those left out do not restrict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Came in through this ingress; also `route/NAME`, for outputs of a route.
    ingress: Option<IngressParam>,
    /// The topic matches this filter.
    topic: Option<FilterParam>,
    /// Is about this device.
    device: Option<DeviceParam>,
}

impl Wanted {
    fn wants_letter(&self, letter: &DeadLetter) -> bool {
        match &letter.subject {
            Subject::Reading { reading, .. } => self.wants_reading(reading),
            Subject::Delivery { delivery, .. } => self.wants_delivery(delivery),
        }
    }

    fn wants_reading(&self, reading: &Reading) -> bool {
        self.agrees(&reading.ingress, &reading.topic, reading.device.as_deref())
    }

    fn wants_delivery(&self, delivery: &Delivery) -> bool {
        let message = &delivery.message;
        self.agrees(&Name::of_route(&delivery.route), &message.topic, message.device.as_deref())
    }

    fn agrees(&self, ingress: &Name, topic: &Topic, device: Option<&str>) -> bool {
        self.ingress.as_ref().is_none_or(|wanted| wanted.0 == *ingress)
            && self.topic.as_ref().is_none_or(|wanted| wanted.0.matches(topic))
            && self.device.as_ref().is_none_or(|wanted| device == Some(&*wanted.0))
    }
}

struct Watcher {
    control: Control,
    seen: Receiver<Seen>,
    wanted: Wanted,
    stop: CancellationToken,
    _one_of_few: OwnedSemaphorePermit,
}

pub(crate) async fn tail(State(app): State<App>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let permit = app.tails.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Code::Busy, "too many are watching already"))?;
    let events = watch(&app.control, wanted, app.stop.clone(), permit);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn watch(
    control: &Control,
    wanted: Wanted,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let watcher =
        Watcher { control: control.clone(), seen: control.watch(), wanted, stop, _one_of_few: permit };
    stream::unfold(watcher, async |mut watcher| Some((Ok(watcher.next().await?), watcher)))
}

impl Watcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let seen = tokio::select! {
                seen = self.seen.recv() => seen,
                () = self.stop.cancelled() => return None,
            };
            match seen {
                Ok(seen) => {
                    if let Some(event) = self.shown(seen).await {
                        return Some(event);
                    }
                }
                Err(RecvError::Lagged(count)) => return Some(event("missed", &Missed { count })),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// `None` for what is not wanted, or no longer there.
    async fn shown(&self, seen: Seen) -> Option<Event> {
        let wanted = &self.wanted;
        match seen {
            Seen::Reading(reading) => {
                wanted.wants_reading(&reading).then(|| event("reading", &ReadingView::from(&*reading)))
            }
            Seen::Queued(queued) => {
                wanted.wants_delivery(&queued.delivery).then(|| event("output", &QueuedView::from(&queued)))
            }
            Seen::DeadLetter(id) => {
                let letter = self.control.dead_letter(id).await.ok()?;
                wanted.wants_letter(&letter).then(|| event("dead-letter", &DeadLetterView::from(&letter)))
            }
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("views are texts and numbers, written to memory")
}
