//! What every sink promises, as one test. A kind brings its [`FarEnd`] and calls [`check`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_reading::{
    Attributes, Command, ContentType, Delivery, DeliveryId, Message, Name, ReadingId, Timestamp, settings,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{DeliveryError, Order, OwnHost, Progress, Sink, Unsent};

/// A stand-in for what the sink delivers to.
pub(crate) trait FarEnd {
    type Sink: Sink;
    /// Whether it can fail at all.
    const FAILS: bool = true;
    /// Whether its sink delivers one by one, and tells so.
    const ONE_BY_ONE: bool = false;
    /// Whether it can refuse one message for good.
    const REFUSES: bool = true;

    /// Settings that lead here.
    fn settings(&self) -> Value;

    /// The host that the sink belongs to, for one that sends through it.
    fn own(&self) -> Option<Arc<dyn OwnHost>> {
        None
    }

    fn behave(&self, behaviour: Behaviour);

    /// The ids of what it took, in order; one that it took twice stands there twice.
    fn taken(&self) -> Vec<DeliveryId>;

    /// Resolves once something was offered while it stalls.
    async fn reached(&self) {}
}

/// A far end within the host: an ingress that takes messages, a device that takes commands.
pub(crate) struct OwnFarEnd {
    behaviour: Mutex<Behaviour>,
    taken: Mutex<Vec<DeliveryId>>,
    reached: Notify,
}

impl OwnFarEnd {
    pub(crate) fn new() -> Arc<Self> {
        let (behaviour, taken) = (Mutex::new(Behaviour::Take), Mutex::default());
        Arc::new(Self { behaviour, taken, reached: Notify::new() })
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    pub(crate) fn taken(&self) -> Vec<DeliveryId> {
        self.taken.lock().clone()
    }

    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    async fn take(&self, id: DeliveryId) -> Result<(), Unsent> {
        let behaviour = *self.behaviour.lock();
        match behaviour {
            Behaviour::Stall => {
                self.reached.notify_one();
                std::future::pending::<()>().await;
            }
            Behaviour::FailAfter(0) => return Err(Unsent::Unreachable),
            Behaviour::FailAfter(more) => self.behave(Behaviour::FailAfter(more - 1)),
            Behaviour::Refuse(refused) if refused == id => {
                return Err(Unsent::Reject("no such thing".to_owned()));
            }
            Behaviour::Refuse(_) | Behaviour::Take => {}
        }
        self.taken.lock().push(id);
        Ok(())
    }
}

impl OwnHost for OwnFarEnd {
    fn publish<'a>(
        &'a self,
        _ingress: &'a Name,
        batch: &'a [Delivery],
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            for (at, delivery) in batch.iter().enumerate() {
                self.take(delivery.id).await.map_err(|unsent| unsent.at(at))?;
                progress.reached(at + 1);
            }
            Ok(())
        })
    }

    fn command(&self, _command: Command, id: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
        Box::pin(self.take(id))
    }

    fn order<'a>(
        &'a self,
        orders: Vec<Order<'a>>,
        _waiting_max: usize,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            for (at, order) in orders.iter().enumerate() {
                self.take(order.delivery.id).await.map_err(|unsent| unsent.at(at))?;
            }
            Ok(())
        })
    }

    fn reply(&self, _delivery: &Delivery, _message: Message) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Take,
    /// Takes so many more, then fails.
    FailAfter(usize),
    /// Takes all but this one.
    Refuse(DeliveryId),
    /// Neither takes nor answers.
    Stall,
}

/// A delivery that is told apart from others by `number`, and is the same at every call.
pub(crate) fn delivery(number: u64) -> Delivery {
    Delivery {
        id: DeliveryId::from_u128((1_700_000_000_000 << 80) | u128::from(number)),
        reading: ReadingId::from_u128((1_690_000_000_000 << 80) | u128::from(number)),
        route: "kitchen".parse().expect("a name"),
        time: Timestamp::from_millis(1_700_000_000_000 + number),
        message: Message {
            topic: "sensors/kitchen".parse().expect("a topic"),
            device: Some("k1".into()),
            content_type: ContentType::JSON,
            attributes: Attributes::new().with("mqtt.qos", "1"),
            payload: format!("{{\"count\":{number}}}").into(),
        },
    }
}

pub(crate) fn deliveries(numbers: std::ops::Range<u64>) -> Vec<Delivery> {
    numbers.map(delivery).collect()
}

/// Puts a new file in the place of `path`, as one does who renews a secret or a certificate.
pub(crate) fn renew(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a folder of the test's");
    std::fs::rename(&new, path).expect("the same folder");
}

fn ids(batch: &[Delivery]) -> Vec<DeliveryId> {
    batch.iter().map(|delivery| delivery.id).collect()
}

/// How many of `batch` the far end has.
fn held(far: &impl FarEnd, batch: &[Delivery]) -> usize {
    let taken: BTreeSet<_> = far.taken().into_iter().collect();
    ids(batch).iter().filter(|id| taken.contains(id)).count()
}

/// Nothing here waits for more than a far end on the same machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn check<F: FarEnd>(far: &F) {
    let all = async {
        let sink = sink::<F>(far.settings());
        if let Some(own) = far.own() {
            sink.connect(&own);
        }
        takes_in_order(&sink, far).await;
        offers_the_same_ids_again(&sink, far).await;
        survives_being_dropped(&sink, far).await;
        if F::FAILS {
            says_how_far_it_came(&sink, far).await;
        }
        if F::REFUSES {
            names_what_was_refused(&sink, far).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("a sink hangs");
}

pub(crate) fn sink<F: FarEnd>(table: Value) -> F::Sink {
    F::Sink::new(settings(table).expect("settings that can be read")).expect("settings that work")
}

async fn takes_in_order<F: FarEnd>(sink: &F::Sink, far: &F) {
    sink.deliver(&[], &Progress::default()).await.expect("nothing to do");
    let batch = deliveries(0..5);
    sink.deliver(&batch, &Progress::default()).await.expect("a far end that takes all");
    assert_eq!(far.taken(), ids(&batch), "in order, each once");
}

/// The far end can only recognise a repeat if it bears the id of the first time.
async fn offers_the_same_ids_again<F: FarEnd>(sink: &F::Sink, far: &F) {
    let before: BTreeSet<_> = far.taken().into_iter().collect();
    sink.deliver(&deliveries(0..5), &Progress::default()).await.expect("a far end that takes all");
    assert_eq!(far.taken().into_iter().collect::<BTreeSet<_>>(), before, "no id that is new");
}

async fn survives_being_dropped<F: FarEnd>(sink: &F::Sink, far: &F) {
    let (batch, progress) = (deliveries(10..15), Progress::default());
    far.behave(Behaviour::Stall);
    tokio::select! {
        biased;
        _ = sink.deliver(&batch, &progress) => {}
        () = far.reached() => {}
    }
    far.behave(Behaviour::Take);
    sink.deliver(&batch, &Progress::default()).await.expect("dropped half-way, it works at the next call");
    assert_eq!(held(far, &batch), 5);
}

async fn says_how_far_it_came<F: FarEnd>(sink: &F::Sink, far: &F) {
    let batch = deliveries(20..25);
    far.behave(Behaviour::FailAfter(2));
    let progress = Progress::default();
    let delivered = match sink.deliver(&batch, &progress).await {
        Err(DeliveryError::Retry { delivered, cause, .. }) => {
            assert!(!cause.to_string().is_empty());
            delivered
        }
        other => panic!("a far end that fails is asked again later, not {other:?}"),
    };
    assert_eq!(held(far, &batch[..delivered]), delivered, "what was called delivered is there");
    assert_eq!(held(far, &batch), delivered, "and nothing else");
    match F::ONE_BY_ONE {
        true => assert_eq!(progress.taken(), delivered, "it was told meanwhile"),
        false => assert!(progress.taken() <= delivered),
    }

    far.behave(Behaviour::Take);
    sink.deliver(&batch[delivered..], &Progress::default()).await.expect("it recovers");
    assert_eq!(far.taken()[far.taken().len() - 5..], ids(&batch), "all of them, in order");
}

async fn names_what_was_refused<F: FarEnd>(sink: &F::Sink, far: &F) {
    let batch = deliveries(30..35);
    far.behave(Behaviour::Refuse(batch[2].id));
    match sink.deliver(&batch, &Progress::default()).await {
        Err(DeliveryError::Reject { rejected, cause }) => {
            assert_eq!(rejected, 2);
            assert!(!cause.to_string().is_empty());
        }
        other => panic!("a far end that refuses one buries that one, not {other:?}"),
    }
    assert_eq!(held(far, &batch[..2]), 2, "those before it were taken");
    assert_eq!(held(far, &batch[2..3]), 0);

    sink.deliver(&batch[3..], &Progress::default()).await.expect("the rest goes on");
    assert_eq!(held(far, &batch), 4);
    far.behave(Behaviour::Take);
}
