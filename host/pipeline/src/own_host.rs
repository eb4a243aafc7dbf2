//! What sinks may do with the host that they belong to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use sandbar_ingress::{Answer, CommandError, Hold, PublicationOffer, Publications};
use sandbar_reading::{Clock, Command, Delivery, DeliveryId, Message, Name, Target, Timestamp};
use sandbar_sinks::{Cause, DeliveryError, Order, OwnHost, Progress, Unsent};
use sandbar_store::{HandedOver, Store, StoreError};

use crate::delivery::Deliveries;
use crate::devices::Devices;
use crate::places::{InLine, NotTaken, Places};
use crate::registry::{CommandProblem, Registry};
use crate::replies::{Awaited, Said};

/// The ingresses that take messages of sinks.
#[derive(Clone, Default)]
pub(crate) struct Outward(Places<PublicationOffer>);

impl Outward {
    /// How many messages may wait for an ingress that is busy with others.
    const WAITING_MAX: usize = 256;

    pub(crate) fn publications(&self, ingress: &Name) -> Publications {
        self.0.take(ingress, ingress.as_str(), Self::WAITING_MAX, Hold::default())
    }
}

/// What sinks reach of their host.
pub(crate) struct Within {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outward: Outward,
    pub(crate) devices: Devices,
    pub(crate) deliveries: Arc<Deliveries>,
    /// A pipeline may be without one.
    pub(crate) registry: Option<Arc<Registry>>,
    pub(crate) awaited: Arc<Awaited>,
}

/// The same, for one of them.
pub(crate) struct Own {
    sink: Name,
    host: Arc<Within>,
    /// Published behind what was not: passed over when it comes again.
    ahead: Mutex<BTreeSet<DeliveryId>>,
}

/// Why the first of some commands that cannot wait for their devices cannot, and its place.
type NoRoom = (usize, String);

impl Within {
    /// About how many devices are waited for before one that nobody has heard of is not: each takes memory,
    /// and anybody can make up more.
    const AWAITED_MAX: usize = 1000;

    fn no_room(&self, orders: &[Order<'_>], waiting_max: usize) -> Result<Option<NoRoom>, StoreError> {
        let mut waiting: HashMap<&str, usize> = HashMap::new();
        for (at, Order { device, .. }) in orders.iter().enumerate() {
            let count = match waiting.entry(device) {
                Entry::Occupied(counted) => counted.into_mut(),
                Entry::Vacant(_) if !self.may_be_awaited(device) => {
                    let most = Self::AWAITED_MAX;
                    let unheard = format!("nobody has heard of the device `{device}`");
                    return Ok(Some((at, format!("{unheard}, and {most} others are waited for already"))));
                }
                Entry::Vacant(new) => {
                    new.insert(self.store.queued_count(&Target::Device(device.clone()), waiting_max)?)
                }
            };
            if *count >= waiting_max {
                let problem = CommandProblem::TooMany { device: device.clone(), most: waiting_max };
                return Ok(Some((at, problem.to_string())));
            }
            *count += 1;
        }
        Ok(None)
    }

    fn may_be_awaited(&self, device: &str) -> bool {
        self.registry.as_ref().is_some_and(|registry| registry.knows(device))
            || self.devices.ingress_of(device).is_some()
            || self.deliveries.may_await(device, Self::AWAITED_MAX)
    }
}

impl Own {
    /// What is remembered of what was published ahead.
    const AHEAD_MAX: usize = 4096;

    pub(crate) fn new(sink: Name, host: Arc<Within>) -> Self {
        Self { sink, host, ahead: Mutex::default() }
    }

    /// `None` if it was published ahead.
    async fn line_up(&self, ingress: &Name, delivery: &Delivery) -> Result<Option<InLine>, NotTaken> {
        if self.ahead.lock().contains(&delivery.id) {
            return Ok(None);
        }
        let offer = PublicationOffer::new(delivery.id, delivery.message.clone());
        self.host.outward.0.line_up(ingress.as_str(), offer).await.map(Some)
    }

    async fn publish_in_order(
        &self,
        ingress: &Name,
        batch: &[Delivery],
        progress: &Progress,
    ) -> Result<(), DeliveryError> {
        let mut answers = FuturesOrdered::new();
        let mut waiting = batch.iter();
        let mut next = waiting.next();
        let (mut at, mut failed) = (0, None);
        loop {
            let lining_up = async move {
                match next {
                    Some(delivery) => self.line_up(ingress, delivery).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(answer) = answers.next() => {
                    match answer {
                        Ok(()) if failed.is_none() => self.reached(&batch[at], at, progress),
                        Ok(()) => self.got_ahead(&batch[at]),
                        Err(not_taken) => {
                            next = None;
                            failed.get_or_insert(unsent(not_taken).at(at));
                        }
                    }
                    at += 1;
                }
                lined = lining_up, if next.is_some() => {
                    // Nothing gets in line behind what could not.
                    next = if lined.is_ok() { waiting.next() } else { None };
                    answers.push_back(answered(lined));
                }
                else => break,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn reached(&self, delivery: &Delivery, at: usize, progress: &Progress) {
        self.ahead.lock().remove(&delivery.id);
        progress.reached(at + 1);
    }

    fn got_ahead(&self, delivery: &Delivery) {
        let mut ahead = self.ahead.lock();
        ahead.insert(delivery.id);
        if ahead.len() > Self::AHEAD_MAX {
            ahead.pop_first();
        }
    }
}

async fn answered(lined: Result<Option<InLine>, NotTaken>) -> Result<(), NotTaken> {
    match lined? {
        Some(in_line) => in_line.answer().await.map(drop),
        None => Ok(()),
    }
}

impl OwnHost for Own {
    fn publish<'a>(
        &'a self,
        ingress: &'a Name,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(self.publish_in_order(ingress, batch, progress))
    }

    fn command(&self, command: Command, id: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
        Box::pin(async move {
            let sent = std::future::ready(());
            self.host.devices.carry_out(id, command, sent).await.map(drop).map_err(unsent)
        })
    }

    fn order<'a>(
        &'a self,
        mut orders: Vec<Order<'a>>,
        waiting_max: usize,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let failed = |error: StoreError| {
                let cause = Cause::of("putting commands into the outbox", &error);
                DeliveryError::Retry { delivered: 0, after: None, cause }
            };
            let no_room = self.host.no_room(&orders, waiting_max).map_err(failed)?;
            if let Some((at, _)) = &no_room {
                orders.truncate(*at);
            }
            let now = self.host.clock.now();
            let handed: Vec<_> = orders.into_iter().map(|order| handed_over(order, now)).collect();
            if !handed.is_empty() {
                self.host.store.hand_over(self.sink.clone(), handed).await.map_err(failed)?;
            }
            match no_room {
                Some((rejected, cause)) => Err(DeliveryError::Reject { rejected, cause: Cause::new(cause) }),
                None => Ok(()),
            }
        })
    }

    fn reply(&self, delivery: &Delivery, message: Message) {
        let said = Said::Last(vec![Answer::Reply(message)]);
        self.host.awaited.say_by_sink(delivery.reading, &delivery.route, said);
    }
}

fn handed_over(order: Order<'_>, now: Timestamp) -> HandedOver {
    let Order { delivery, device, name, within } = order;
    let mut delivery = delivery.clone();
    delivery.message.topic = name;
    delivery.message.device = Some(device.clone());
    HandedOver { device, delivery, expires: within.map(|within| now.after(within)) }
}

fn unsent(not_taken: NotTaken) -> Unsent {
    match not_taken {
        NotTaken::Unreachable => Unsent::Unreachable,
        NotTaken::Failed(CommandError::Retry(cause)) => Unsent::Retry(cause),
        NotTaken::Failed(CommandError::Reject(cause)) => Unsent::Reject(cause),
    }
}
