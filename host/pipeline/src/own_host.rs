//! What sinks may do with the host that they belong to.

use std::sync::Arc;

use futures::future::BoxFuture;
use sandbar_ingress::{Answer, CommandError, Hold, PublicationOffer, Publications};
use sandbar_reading::{Command, Delivery, DeliveryId, Message, Name};
use sandbar_sinks::{OwnHost, Unsent};

use crate::devices::Devices;
use crate::places::{NotTaken, Places};
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

pub(crate) struct Own {
    pub(crate) outward: Outward,
    pub(crate) devices: Devices,
    pub(crate) awaited: Arc<Awaited>,
}

impl OwnHost for Own {
    fn publish<'a>(&'a self, ingress: &'a Name, delivery: &'a Delivery) -> BoxFuture<'a, Result<(), Unsent>> {
        Box::pin(async move {
            let offer = PublicationOffer::new(delivery.id, delivery.message.clone());
            self.outward.0.offer(ingress.as_str(), offer).await.map(drop).map_err(unsent)
        })
    }

    fn command(&self, command: Command, id: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
        Box::pin(async move {
            let sent = std::future::ready(());
            self.devices.carry_out(id, command, sent).await.map(drop).map_err(unsent)
        })
    }

    fn reply(&self, delivery: &Delivery, message: Message) {
        self.awaited.say_by_sink(delivery.reading, &delivery.route, Said::Last(vec![Answer::Reply(message)]));
    }
}

fn unsent(not_taken: NotTaken) -> Unsent {
    match not_taken {
        NotTaken::Unreachable => Unsent::Unreachable,
        NotTaken::Failed(CommandError::Retry(cause)) => Unsent::Retry(cause),
        NotTaken::Failed(CommandError::Reject(cause)) => Unsent::Reject(cause),
    }
}
