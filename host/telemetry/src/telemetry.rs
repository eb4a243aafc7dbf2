//! The queue of spans, and those who empty it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Sampling, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Collector, TelemetryTable};
use crate::encode;
use crate::figures::Family;
use crate::link::{Answer, send};
use crate::span::Span;

/// Spans of one request.
const BATCH: usize = 512;
/// A span waits no longer for others to go with it.
const LINGER: Duration = Duration::from_secs(1);
/// Waits for a collector that is away: the first, and the longest.
const WAIT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What is left at the end may take so long.
const LAST: Duration = Duration::from_secs(2);

/// Where spans go. Clones are the same; the default takes nothing.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Inner>>);

struct Inner {
    collector: Collector,
    queue: mpsc::Sender<Span>,
    counts: Counts,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Telemetry").field(&self.sent()).finish()
    }
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub spans: u64,
    /// The queue was full, or the collector refused them.
    pub dropped: u64,
}

impl Telemetry {
    /// Needs a tokio runtime, unless nothing is to leave. Errors name the setting.
    pub fn start(table: &TelemetryTable) -> Result<Self, ConfigError> {
        let Some(collector) = table.collector()? else { return Ok(Self(None)) };
        let (queue, spans) = mpsc::channel(collector.spans_max);
        let inner = Arc::new(Inner {
            collector,
            queue,
            counts: Counts::default(),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        let task = tokio::spawn(Courier { inner: inner.clone(), spans, away: false }.run());
        inner.tasks.lock().push(task);
        Ok(Self(Some(inner)))
    }

    /// Whose spans are wanted.
    pub fn sampling(&self) -> Sampling {
        self.0.as_ref().map_or(Sampling::NOTHING, |inner| inner.collector.sampling)
    }

    /// Never waits.
    pub fn record(&self, span: Span) {
        let Some(inner) = &self.0 else { return };
        if inner.queue.try_send(span).is_err() {
            inner.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `None` if nothing leaves.
    pub fn sent(&self) -> Option<Sent> {
        let counts = &self.0.as_ref()?.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(Sent { spans: read(&counts.sent), dropped: read(&counts.dropped) })
    }

    /// Reports what `figures` says, again and again; no more once it says `None`. Counters count since `started`.
    pub fn report(
        &self,
        started: Timestamp,
        figures: impl Fn() -> Option<(Timestamp, Vec<Family>)> + Send + 'static,
    ) {
        let Some(inner) = &self.0 else { return };
        let Some(every) = inner.collector.metrics_every else { return };
        let of_task = inner.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let last = tokio::select! {
                    biased;
                    () = of_task.stop.cancelled() => true,
                    _ = ticks.tick() => false,
                };
                let Some((now, families)) = figures() else { return };
                of_task.report(&families, started, now).await;
                if last {
                    return;
                }
            }
        });
        inner.tasks.lock().push(task);
    }

    /// What is left is sent, if the collector takes it at once.
    pub async fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        inner.stop.cancel();
        let tasks = std::mem::take(&mut *inner.tasks.lock());
        for task in tasks {
            // Late ones are left alone: the host ends all the same.
            let _ = timeout(LAST, task).await;
        }
    }
}

impl Inner {
    /// What cannot be sent now is in the next report.
    async fn report(&self, families: &[Family], started: Timestamp, now: Timestamp) {
        let Collector { client, metrics, resource, .. } = &self.collector;
        let body = encode::metrics(resource, families, started, now);
        if let Answer::Refused { cause } = send(client, metrics, body).await {
            warn!(collector = %metrics, cause, "metrics are refused");
        }
    }
}

/// Takes spans from the queue to the collector.
struct Courier {
    inner: Arc<Inner>,
    spans: mpsc::Receiver<Span>,
    away: bool,
}

impl Courier {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.inner.stop.is_cancelled() {
            self.gather(&mut batch).await;
            self.deliver(&batch).await;
            batch.clear();
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        self.deliver(&batch).await;
    }

    /// Until there are as many as go together, or the first has waited long enough, or the host stops.
    async fn gather(&mut self, batch: &mut Vec<Span>) {
        let stop = self.inner.stop.clone();
        let mut linger = std::pin::pin!(sleep(LINGER));
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut linger, if !batch.is_empty() => return,
                count = self.spans.recv_many(batch, room) => {
                    if count == batch.len() {
                        linger.as_mut().reset(Instant::now() + LINGER);
                    }
                }
            }
        }
    }

    /// Until they are taken, refused, or the host stops. Meanwhile the queue fills.
    async fn deliver(&mut self, batch: &[Span]) {
        if batch.is_empty() {
            return;
        }
        let Collector { client, traces, resource, .. } = &self.inner.collector;
        let body = encode::spans(resource, batch);
        let count = batch.len() as u64;
        let mut wait = WAIT;
        loop {
            let (after, cause) = match send(client, traces, body.clone()).await {
                Answer::Taken { rejected } => {
                    let rejected = rejected.min(count);
                    self.inner.counts.sent.fetch_add(count - rejected, Ordering::Relaxed);
                    self.inner.counts.dropped.fetch_add(rejected, Ordering::Relaxed);
                    if std::mem::take(&mut self.away) {
                        info!(collector = %traces, "spans are taken again");
                    }
                    return;
                }
                Answer::Refused { cause } => {
                    self.inner.counts.dropped.fetch_add(count, Ordering::Relaxed);
                    if !std::mem::replace(&mut self.away, true) {
                        warn!(collector = %traces, cause, "spans are refused, and dropped");
                    }
                    return;
                }
                Answer::Later { after, cause } => (after, cause),
            };
            if !std::mem::replace(&mut self.away, true) {
                warn!(collector = %traces, cause, "spans wait for the collector; those beyond the queue are dropped");
            }
            let pause = after.unwrap_or_default().max(wait).min(WAIT_MAX);
            wait = (wait * 2).min(WAIT_MAX);
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => {
                    self.inner.counts.dropped.fetch_add(count, Ordering::Relaxed);
                    return;
                }
                () = sleep(pause) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
