//! How the server is doing, in the connector's words.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Serialize;
use tokio::time::interval;

use super::{Face, http};

/// Over how many seconds a rate is taken.
const WINDOW: usize = 10;

/// Messages since the start.
pub(super) struct Traffic {
    began: Instant,
    pub(super) incoming: AtomicU64,
    pub(super) outgoing: AtomicU64,
    samples: Mutex<VecDeque<(Instant, u64, u64)>>,
}

#[derive(Serialize)]
struct Status {
    server_current_state: &'static str,
    connections: usize,
    /// Seconds.
    uptime: u64,
    incoming_messages: u64,
    incoming_messages_per_second: f64,
    outgoing_messages: u64,
    outgoing_messages_per_second: f64,
    /// Tasks: what stands here for the connector's goroutines.
    go_routines: usize,
    /// Bytes: of address space, resident, and resident without what files back.
    system_memory: u64,
    allocated_memory: u64,
    heap_allocated_memory: u64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            incoming: AtomicU64::new(0),
            outgoing: AtomicU64::new(0),
            samples: Mutex::default(),
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.incoming.load(Ordering::Relaxed), self.outgoing.load(Ordering::Relaxed))
    }

    /// Messages a second, lately.
    fn rates(&self) -> (f64, f64) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(begin, incoming, outgoing)) = samples.front() else { return (0.0, 0.0) };
        let (now_in, now_out) = self.counts();
        let seconds = begin.elapsed().as_secs_f64().max(0.001);
        ((now_in - incoming) as f64 / seconds, (now_out - outgoing) as f64 / seconds)
    }
}

/// Takes a sample every second.
pub(super) async fn sample(face: Arc<Face>) {
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let (incoming, outgoing) = face.traffic.counts();
        let mut samples = face.traffic.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((Instant::now(), incoming, outgoing));
        if samples.len() > WINDOW {
            samples.pop_front();
        }
    }
}

fn status(face: &Face) -> Status {
    let (incoming, outgoing) = face.traffic.counts();
    let (incoming_rate, outgoing_rate) = face.traffic.rates();
    let [system, resident, shared] = memory();
    Status {
        server_current_state: if face.stop.is_cancelled() { "stopping" } else { "running" },
        connections: http::connections(face, None).len(),
        uptime: face.traffic.began.elapsed().as_secs(),
        incoming_messages: incoming,
        incoming_messages_per_second: incoming_rate,
        outgoing_messages: outgoing,
        outgoing_messages_per_second: outgoing_rate,
        go_routines: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        system_memory: system,
        allocated_memory: resident,
        heap_allocated_memory: resident.saturating_sub(shared),
    }
}

/// Bytes of address space, resident, resident and backed by files: from `/proc/self/statm`, in pages.
fn memory() -> [u64; 3] {
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
    std::array::from_fn(|_| pages.next().unwrap_or(0) * PAGE)
}

pub(super) async fn show(State(face): State<Arc<Face>>) -> Response {
    Json(status(&face)).into_response()
}

/// The same once a second.
pub(super) async fn stream(State(face): State<Arc<Face>>) -> Response {
    let stop = face.stop.clone();
    let events = stream::unfold((interval(Duration::from_secs(1)), face), |(mut ticks, face)| async move {
        ticks.tick().await;
        let event = Event::default().json_data(status(&face)).expect("numbers and texts, written to memory");
        Some((Ok::<_, Infallible>(event), (ticks, face)))
    });
    let events = events.take_until(async move { stop.cancelled().await });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
