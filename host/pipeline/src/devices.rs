//! Which session reaches a device, and the way of a command to it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_ingress::{Attachment, CommandOffer, Hold};
use sandbar_reading::{Command, Delivery, DeliveryId, Message, Name};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::places::{NotTaken, Places};
use crate::queries::Queries;

/// Every device that a session has attached.
#[derive(Clone, Default)]
pub struct Devices {
    places: Places<CommandOffer>,
    queries: Queries,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    /// Commands that a session has now, and whether each is sent.
    carrying: HashMap<DeliveryId, CancellationToken>,
    /// Who wants to know that a command was given up on.
    failing: HashMap<DeliveryId, oneshot::Sender<String>>,
}

impl Devices {
    /// How many commands may wait for a driver that is busy with one.
    const WAITING_MAX: usize = 4;

    /// `hold` is dropped with the attachment.
    pub(crate) fn attach(&self, ingress: &Name, device: &str, hold: Hold) -> Attachment {
        self.places.take(ingress, device, Self::WAITING_MAX, hold)
    }

    /// The ingress that reaches `device`.
    pub fn ingress_of(&self, device: &str) -> Option<Name> {
        self.places.ingress_of(device)
    }

    pub fn count(&self) -> usize {
        self.places.count()
    }

    pub(crate) fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Whether a session has the command now.
    pub(crate) fn is_carrying(&self, id: DeliveryId) -> bool {
        self.under_way.lock().carrying.contains_key(&id)
    }

    /// Whether its session said that the device has the command now.
    pub(crate) fn is_sent(&self, id: DeliveryId) -> bool {
        self.under_way.lock().carrying.get(&id).is_some_and(CancellationToken::is_cancelled)
    }

    /// Resolves with the cause once the command is given up on; never, if it is not.
    pub(crate) fn failed(&self, id: DeliveryId) -> impl Future<Output = String> + use<> {
        let (failing, failed) = oneshot::channel();
        let mut under_way = self.under_way.lock();
        under_way.failing.retain(|_, failing| !failing.is_closed());
        under_way.failing.insert(id, failing);
        async move {
            match failed.await {
                Ok(cause) => cause,
                Err(_) => std::future::pending().await,
            }
        }
    }

    pub(crate) fn gave_up(&self, id: DeliveryId, cause: &str) {
        if let Some(failing) = self.under_way.lock().failing.remove(&id) {
            // Who asked may have gone.
            let _ = failing.send(cause.to_owned());
        }
    }

    /// What the device answered, if its driver said so. `sent` is begun once the driver says that the device has it and is
    /// to say how it went.
    pub(crate) async fn carry_out(
        &self,
        id: DeliveryId,
        command: Command,
        sent: impl Future<Output = ()>,
    ) -> Result<Option<Message>, NotTaken> {
        let device = command.device.clone();
        let (offer, answer) = CommandOffer::new(id, command);
        let on_its_way = offer.on_its_way();
        let offer = if self.queries.sent(id) { offer.asking() } else { offer };
        self.under_way.lock().carrying.insert(id, on_its_way.clone());
        let _carrying = Carrying { devices: self, id };
        let telling = async {
            on_its_way.cancelled().await;
            sent.await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            taken = self.places.offer(&device, (offer, answer)) => taken,
            taken = telling => taken,
        }
    }
}

struct Carrying<'a> {
    devices: &'a Devices,
    id: DeliveryId,
}

impl Drop for Carrying<'_> {
    fn drop(&mut self) {
        self.devices.under_way.lock().carrying.remove(&self.id);
    }
}

/// The command that a delivery to a device is.
pub(crate) fn command_of(device: &str, delivery: &Delivery) -> Command {
    Command {
        device: device.into(),
        name: delivery.message.topic.as_str().into(),
        content_type: delivery.message.content_type.clone(),
        payload: delivery.message.payload.clone(),
    }
}
