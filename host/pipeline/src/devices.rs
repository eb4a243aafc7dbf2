//! Which session reaches a device, and the way of a command to it.

use sandbar_ingress::{Attachment, CommandOffer};
use sandbar_reading::{Command, Delivery, DeliveryId, Name};

use crate::places::{NotTaken, Places};

/// Every device that a session has attached.
#[derive(Clone, Default)]
pub struct Devices(Places<CommandOffer>);

impl Devices {
    /// How many commands may wait for a driver that is busy with one.
    const WAITING_MAX: usize = 4;

    pub(crate) fn attach(&self, ingress: &Name, device: &str) -> Attachment {
        self.0.take(ingress, device, Self::WAITING_MAX)
    }

    /// The ingress that reaches `device`.
    pub fn ingress_of(&self, device: &str) -> Option<Name> {
        self.0.ingress_of(device)
    }

    pub fn count(&self) -> usize {
        self.0.count()
    }

    pub(crate) async fn carry_out(&self, id: DeliveryId, command: Command) -> Result<(), NotTaken> {
        let device = command.device.clone();
        self.0.offer(&device, CommandOffer::new(id, command)).await
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
