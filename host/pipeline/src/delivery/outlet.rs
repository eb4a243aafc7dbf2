//! One target: offers the front of its queue, and commits what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use sandbar_ingress::{Answer, CommandError};
use sandbar_reading::{Clock, Delivery, DeliveryId, Message, Target, Timestamp};
use sandbar_sinks::{AnySink, Cause, DeliveryError, Progress};
use sandbar_store::{Delivered, FailedDelivery, Loaded, Next, Queued, Store};
use sandbar_telemetry::Telemetry;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::outcome::{AFTER_MAX, Failing, Offered, Offering, after_offer};
use super::queue::{BYTES_MAX, OutletQueue};
use crate::devices::{Devices, command_of};
use crate::jitter::Jitter;
use crate::places::NotTaken;
use crate::replies::{Awaited, Said};
use crate::spans::Offer;
use crate::unloadable::{STORE_WAIT, Unloadable};

/// How long an outlet waits for a device that cannot be reached: only its arrival changes that, but its commands grow old
/// meanwhile.
const UNREACHABLE_WAIT: Duration = Duration::from_secs(60);

/// How long an offer that is under way may take when its outlet is to end: a far end may never answer.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What a device has had for so long without a word of it is written as sent.
const SENT_AFTER: Duration = Duration::from_millis(100);

/// How deliveries get to a target.
pub(crate) enum Way {
    Sink(Arc<dyn AnySink>),
    Device(Devices),
}

/// What dispatch and every outlet work with.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jitter: Jitter,
    /// How many deliveries an outlet holds in memory.
    pub(crate) held: usize,
    /// For routes whose senders are answered by a sink's far end.
    pub(crate) awaited: Arc<Awaited>,
    pub(crate) telemetry: Telemetry,
}

pub(crate) struct Outlet {
    target: Target,
    queue: Mutex<OutletQueue>,
    /// There is something to look at: the queue, or the time to try again.
    wake: Notify,
    stop: CancellationToken,
    health: Mutex<Health>,
    unloadable: Unloadable,
    accepted: AtomicU64,
    given_up: AtomicU64,
    ended: watch::Receiver<bool>,
}

/// Whether a target takes what is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Circuit {
    Closed,
    /// It failed, and is not tried before `until`.
    Open {
        since: Timestamp,
        until: Timestamp,
        failures: u32,
    },
}

#[derive(Clone, Debug)]
pub struct OutletStatus {
    pub target: Target,
    pub circuit: Circuit,
    /// Since the start.
    pub accepted: u64,
    /// Dead letters since the start.
    pub given_up: u64,
    pub last_error: Option<(Timestamp, String)>,
}

/// A target that fails says so once, and once when it is well again.
#[derive(Default)]
struct Health {
    failures: u32,
    /// Since when the target has failed, or was not to be reached.
    failing_since: Option<Instant>,
    last_error: Option<(Timestamp, String)>,
    open_since: Option<(Timestamp, Timestamp)>,
}

impl Health {
    fn failing(&self) -> Failing {
        let time = self.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        Failing { times: self.failures, time }
    }
}

impl Outlet {
    /// The outlet, and its work, which is to be spawned.
    pub(crate) fn new(
        target: Target,
        way: Way,
        offering: Offering,
        means: Means,
        stop: CancellationToken,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (running, ended) = watch::channel(false);
        let outlet = Arc::new(Self {
            target,
            queue: Mutex::new(OutletQueue::new(means.held)),
            wake: Notify::new(),
            stop,
            health: Mutex::default(),
            unloadable: Unloadable::default(),
            accepted: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            ended,
        });
        let batch_max = AtomicUsize::new(offering.batch_max);
        let work = Work { outlet: outlet.clone(), way, offering, batch_max, means };
        let work = async move {
            while AssertUnwindSafe(work.run()).catch_unwind().await.is_err() {
                work.after_panic().await;
            }
            running.send_replace(true);
        };
        (outlet, work)
    }

    /// False if the outlet has ended.
    pub(crate) fn push(&self, queued: Queued) -> bool {
        let taken = self.queue.lock().push(queued);
        self.wake.notify_one();
        taken
    }

    /// False if the outlet has ended.
    pub(crate) fn look_again(&self) -> bool {
        let looks = self.queue.lock().look_again();
        self.wake.notify_one();
        looks
    }

    pub(crate) fn try_now(&self) {
        self.health.lock().open_since = None;
        self.queue.lock().head_is_due();
        self.wake.notify_one();
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn held(&self) -> usize {
        self.queue.lock().held()
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns once nothing is being offered any more: seconds after it was told to stop, whatever the far end does.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the task is gone, which is an end too.
        drop(ended.wait_for(|ended| *ended).await);
    }

    pub(crate) fn status(&self) -> OutletStatus {
        let health = self.health.lock();
        let circuit = match health.open_since {
            None => Circuit::Closed,
            Some((since, until)) => Circuit::Open { since, until, failures: health.failures },
        };
        OutletStatus {
            target: self.target.clone(),
            circuit,
            accepted: self.accepted.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            last_error: health.last_error.clone(),
        }
    }

    fn note(&self, offered: &Offered, now: Timestamp) {
        let given_up =
            offered.delivered.failed.iter().filter(|failed| failed.next == Next::DeadLetter).count();
        self.accepted.fetch_add(offered.delivered.accepted.len() as u64, Ordering::Relaxed);
        self.given_up.fetch_add(given_up as u64, Ordering::Relaxed);
        let mut health = self.health.lock();
        if let Some(cause) = &offered.cause {
            health.last_error = Some((now, cause.clone()));
        }
        match offered.closed_until {
            Some(until) => {
                health.failures = health.failures.saturating_add(1);
                health.failing_since.get_or_insert_with(Instant::now);
                let since = health.open_since.map_or(now, |(since, _)| since);
                if health.failures == 1 {
                    let cause = offered.cause.as_deref().unwrap_or_default();
                    warn!(target = %Shown(&self.target), cause, "deliveries fail; they wait in the outbox");
                }
                health.open_since = Some((since, until));
            }
            None => {
                if health.failures > 0 {
                    info!(target = %Shown(&self.target), failures = health.failures, "deliveries work again");
                }
                (health.failures, health.failing_since, health.open_since) = (0, None, None);
            }
        }
    }
}

/// A target as people read it.
struct Shown<'a>(&'a Target);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Target::Sink(name) => write!(f, "sink {name}"),
            Target::Device(device) => write!(f, "device {device}"),
        }
    }
}

struct Work {
    outlet: Arc<Outlet>,
    way: Way,
    offering: Offering,
    /// Fewer than `offering` says, after an offer that was late: a sink that takes all or nothing would be late again.
    batch_max: AtomicUsize,
    means: Means,
}

impl Work {
    async fn run(&self) {
        let mut waiting: Option<((DeliveryId, Timestamp), Instant)> = None;
        while !self.outlet.stop.is_cancelled() {
            if !self.load() {
                let _ = self.pause(STORE_WAIT).await;
                continue;
            }
            let now = self.means.clock.now();
            let head = self.outlet.queue.lock().head();
            match head {
                None if matches!(self.way, Way::Device(_)) && self.outlet.queue.lock().close_if_empty() => {
                    return;
                }
                None => self.woken().await,
                Some(head @ (_, due)) if due > now => {
                    // Measured once, by a clock that nobody sets: who is woken meanwhile waits for the rest only.
                    let known = waiting.filter(|(of, _)| *of == head);
                    let (_, until) = *waiting.insert(known.unwrap_or_else(|| {
                        // No longer than that, should the clock have been set back since it was written.
                        let wait = due.since(now).min(self.offering.longest_wait.max(AFTER_MAX));
                        (head, Instant::now() + wait)
                    }));
                    if self.pause(until.saturating_duration_since(Instant::now())).await {
                        self.outlet.queue.lock().head_is_due();
                    }
                }
                Some(_) => {
                    waiting = None;
                    if !self.offer(now).await {
                        self.outlet.health.lock().failing_since.get_or_insert_with(Instant::now);
                        self.outlet.queue.lock().keep_head();
                        let _ = self.pause(UNREACHABLE_WAIT).await;
                    }
                }
            }
        }
    }

    /// A bug of ours: what was being done is in the outbox, as far as it is not done.
    async fn after_panic(&self) {
        error!(target = %Shown(&self.outlet.target), "offering panicked; it begins again");
        self.outlet.queue.lock().look_again();
        tokio::select! {
            biased;
            () = self.outlet.stop.cancelled() => {}
            () = tokio::time::sleep(STORE_WAIT) => {}
        }
    }

    /// False if the store cannot be asked.
    fn load(&self) -> bool {
        let Some(count) = self.outlet.queue.lock().wanted() else { return true };
        let answer = self.means.store.queued(&self.outlet.target, &|_| false, count, BYTES_MAX);
        let mut queue = self.outlet.queue.lock();
        match answer {
            Ok(Loaded { items, complete }) => {
                queue.loaded(items, complete);
                true
            }
            Err(error) => {
                queue.not_loaded();
                if self.outlet.unloadable.is_told(&self.means.store, &error) {
                    let target = Shown(&self.outlet.target);
                    warn!(%target, %error, "what is queued cannot be loaded; tried again");
                }
                false
            }
        }
    }

    async fn woken(&self) {
        tokio::select! {
            biased;
            () = self.outlet.wake.notified() => {}
            () = self.outlet.stop.cancelled() => {}
        }
    }

    /// Resolves so long after the outlet was told to end.
    async fn stopped_for(&self, grace: Duration) {
        self.outlet.stop.cancelled().await;
        tokio::time::sleep(grace).await;
    }

    /// Whether the time is over; else there is something to look at before.
    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => true,
            () = self.woken() => false,
        }
    }

    /// False if the target cannot be reached at all for now, or nothing came of it before the outlet's end.
    async fn offer(&self, now: Timestamp) -> bool {
        let batch_max = self.batch_max.load(Ordering::Relaxed);
        let mut batch = self.outlet.queue.lock().batch(batch_max, self.offering.batch_bytes);
        let mut deliveries: Vec<Delivery> = batch.iter().map(|queued| (*queued.delivery).clone()).collect();
        let offers = self.offers(&mut deliveries, &batch, now);
        // What others wrote may panic: that is a failure like any other, and no end of the outlet.
        let progress = Progress::default();
        let delivered = AssertUnwindSafe(self.deliver(&deliveries, &progress)).catch_unwind();
        let panicked = |_| {
            let cause = Cause::new("delivering it panicked");
            Some(Err(DeliveryError::Retry { delivered: progress.taken(), after: None, cause }))
        };
        let result = tokio::select! {
            biased;
            delivered = delivered => delivered.unwrap_or_else(panicked),
            () = self.stopped_for(STOP_GRACE) => {
                // What the far end has is not offered again. The rest is, and has not failed.
                batch.truncate(progress.taken());
                (!batch.is_empty()).then_some(Ok(()))
            }
        };
        let Some(result) = result else { return false };
        let failing = self.outlet.health.lock().failing();
        let target = &self.outlet.target;
        let offered = after_offer(
            target,
            &batch,
            result,
            &self.offering,
            failing,
            self.means.clock.now(),
            self.means.jitter.next(),
        );
        self.outlet.note(&offered, now);
        self.record(offers, &deliveries, &offered.delivered);
        let failed = offered.delivered.failed.clone();
        self.settle(offered).await;
        for FailedDelivery { id, cause, next, .. } in failed {
            if let (Way::Device(devices), Next::DeadLetter) = (&self.way, next) {
                devices.gave_up(id, &cause);
            }
            let Some(queued) = batch.iter().find(|queued| queued.delivery.id == id) else { continue };
            let said = match next {
                Next::DeadLetter => Said::Last(vec![Answer::Rejected(cause)]),
                Next::RetryAt(_) => Said::Retrying(cause),
            };
            self.means.awaited.say_by_sink(queued.delivery.reading, &queued.delivery.route, said);
        }
        true
    }

    /// Of those that are recorded, with their place.
    fn offers(&self, deliveries: &mut [Delivery], batch: &[Queued], now: Timestamp) -> Vec<(usize, Offer)> {
        let sampling = self.means.telemetry.sampling();
        if !sampling.is_on() {
            return Vec::new();
        }
        let all = deliveries.iter_mut().zip(batch).enumerate();
        all.filter_map(|(at, (delivery, queued))| {
            Some((at, Offer::begin(sampling, &self.outlet.target, delivery, queued.attempts, now)?))
        })
        .collect()
    }

    fn record(&self, offers: Vec<(usize, Offer)>, deliveries: &[Delivery], delivered: &Delivered) {
        let now = self.means.clock.now();
        for (at, offer) in offers {
            let delivery = &deliveries[at];
            let failed = delivered.failed.iter().find(|failed| failed.id == delivery.id);
            // Those behind one that failed were not offered.
            if failed.is_some() || delivered.accepted.contains(&delivery.id) {
                let error = failed.map(|failed| failed.cause.clone());
                self.means.telemetry.record(offer.ended(&self.outlet.target, delivery, now, error));
            }
        }
    }

    /// `None` if the target cannot be reached at all for now, and this is no failure.
    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Option<Result<(), DeliveryError>> {
        match &self.way {
            Way::Sink(sink) => {
                let offered = sink.deliver(batch, progress);
                Some(match tokio::time::timeout(self.offering.timeout, offered).await {
                    Ok(result) => {
                        if result.is_ok() {
                            let more = self.batch_max.load(Ordering::Relaxed).saturating_mul(2);
                            self.batch_max.store(more.min(self.offering.batch_max), Ordering::Relaxed);
                        }
                        result
                    }
                    Err(_late) => {
                        self.batch_max.store((batch.len() / 2).max(1), Ordering::Relaxed);
                        let limit = self.offering.timeout.as_secs();
                        let cause = Cause::new(format!("not delivered within {limit} s"));
                        Err(DeliveryError::Retry { delivered: progress.taken(), after: None, cause })
                    }
                })
            }
            Way::Device(devices) => self.carry_out(devices, batch, progress).await,
        }
    }

    async fn carry_out(
        &self,
        devices: &Devices,
        batch: &[Delivery],
        progress: &Progress,
    ) -> Option<Result<(), DeliveryError>> {
        let Target::Device(device) = &self.outlet.target else { return None };
        for (at, delivery) in batch.iter().enumerate() {
            let cause = |text: String| Cause::new(text);
            match devices
                .carry_out(delivery.id, command_of(device, delivery), self.sent(device, delivery.id))
                .await
            {
                Ok(None) => {}
                Ok(Some(answer)) => self.answered(devices, device, delivery.id, answer).await,
                Err(NotTaken::Failed(CommandError::Reject(text))) => {
                    return Some(Err(DeliveryError::Reject { rejected: at, cause: cause(text) }));
                }
                Err(NotTaken::Failed(CommandError::Retry(text))) => {
                    return Some(Err(DeliveryError::Retry {
                        delivered: at,
                        after: None,
                        cause: cause(text),
                    }));
                }
                Err(NotTaken::Unreachable) if at > 0 || self.gives_up_on(delivery) => {
                    let text = "no ingress reaches the device".to_owned();
                    return Some(Err(DeliveryError::Retry {
                        delivered: at,
                        after: None,
                        cause: cause(text),
                    }));
                }
                Err(NotTaken::Unreachable) => return None,
            }
            progress.reached(at + 1);
        }
        Some(Ok(()))
    }

    fn gives_up_on(&self, delivery: &Delivery) -> bool {
        let failing = self.outlet.health.lock().failing();
        self.offering.gives_up_on(delivery.time, self.means.clock.now(), failing.time)
    }

    /// A command is on its way. That is written if it takes so long that somebody may wonder: most take less, and cost
    /// no commit of their own for it.
    async fn sent(&self, device: &str, id: DeliveryId) {
        tokio::time::sleep(SENT_AFTER).await;
        // A store that fails says so by itself; the command is on its way all the same.
        let _ = self.means.store.command_sent(device, id).await;
    }

    /// What a device answered is kept with its command, and goes to whoever waits for it.
    async fn answered(&self, devices: &Devices, device: &str, id: DeliveryId, answer: Message) {
        if !devices.queries().answer(id, answer.clone()) {
            let answer = (answer.content_type, answer.payload);
            // A store that fails says so by itself; the command was carried out all the same.
            let _ = self.means.store.command_answered(device, id, answer).await;
        }
    }

    /// Commits what came of an offer, however long the store takes to be well again: what was accepted must
    /// not be offered again for want of patience.
    async fn settle(&self, offered: Offered) {
        while self.means.store.delivered(offered.delivered.clone()).await.is_err() {
            tokio::select! {
            biased;
                () = tokio::time::sleep(STORE_WAIT) => {}
                () = self.outlet.stop.cancelled() => return,
            }
        }
        let mut gone = offered.delivered.accepted;
        let mut head = None;
        for FailedDelivery { id, attempts, next, .. } in offered.delivered.failed {
            match next {
                Next::DeadLetter => gone.push(id),
                Next::RetryAt(due) => head = Some((id, attempts, due)),
            }
        }
        self.outlet.queue.lock().settle(&gone, head);
    }
}
