//! Which session reaches a device, and the way of a command to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_ingress::{Attachment, CommandError, CommandOffer};
use sandbar_reading::{Command, Delivery, Name};
use tokio::sync::mpsc;

/// Every device that a session has attached.
#[derive(Clone, Default)]
pub struct Devices {
    attached: Arc<Mutex<Attached>>,
}

#[derive(Default)]
struct Attached {
    by_device: HashMap<Box<str>, Place>,
    last_generation: u64,
}

struct Place {
    ingress: Name,
    commands: mpsc::Sender<CommandOffer>,
    /// Tells a session's place from that of the session that took it over.
    generation: u64,
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum NotCarriedOut {
    /// No session reaches the device: it waits until one does.
    Unreachable,
    Failed(CommandError),
}

impl Devices {
    /// How many commands may wait for a driver that is busy with one.
    const WAITING_MAX: usize = 4;
    /// How long a driver may take for one.
    const ANSWER_WITHIN: Duration = Duration::from_secs(30);

    pub(crate) fn attach(&self, ingress: &Name, device: &str) -> Attachment {
        let (commands, offers) = mpsc::channel(Self::WAITING_MAX);
        let mut attached = self.attached.lock();
        attached.last_generation += 1;
        let generation = attached.last_generation;
        attached.by_device.insert(device.into(), Place { ingress: ingress.clone(), commands, generation });
        let (devices, device) = (self.clone(), Box::<str>::from(device));
        Attachment::new(offers, move || {
            let by_device = &mut devices.attached.lock().by_device;
            if by_device.get(&device).is_some_and(|place| place.generation == generation) {
                by_device.remove(&device);
            }
        })
    }

    /// The ingress that reaches `device`.
    pub fn ingress_of(&self, device: &str) -> Option<Name> {
        self.attached.lock().by_device.get(device).map(|place| place.ingress.clone())
    }

    pub fn count(&self) -> usize {
        self.attached.lock().by_device.len()
    }

    pub(crate) async fn carry_out(&self, device: &str, delivery: &Delivery) -> Result<(), NotCarriedOut> {
        let commands = self.attached.lock().by_device.get(device).map(|place| place.commands.clone());
        let commands = commands.ok_or(NotCarriedOut::Unreachable)?;
        let (offer, answer) = CommandOffer::new(delivery.id, command_of(device, delivery));
        commands.send(offer).await.map_err(|_| NotCarriedOut::Unreachable)?;
        match tokio::time::timeout(Self::ANSWER_WITHIN, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(NotCarriedOut::Failed(error)),
            Ok(Err(_dropped)) => Err(NotCarriedOut::Unreachable),
            Err(_elapsed) => {
                let cause = format!("no answer from the device within {} s", Self::ANSWER_WITHIN.as_secs());
                Err(NotCarriedOut::Failed(CommandError::Retry(cause)))
            }
        }
    }
}

fn command_of(device: &str, delivery: &Delivery) -> Command {
    Command {
        device: device.into(),
        name: delivery.message.topic.as_str().into(),
        content_type: delivery.message.content_type.clone(),
        payload: delivery.message.payload.clone(),
    }
}
