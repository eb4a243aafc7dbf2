//! The connections of each device of an ingress, so that a command reaches all of them.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sandbar_reading::{Command, DeliveryId, Message};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::offers::Done;
use crate::{Attachment, CommandError, CommandOffer, Session};

/// How many commands may wait for one connection; further ones are offered again later.
const ORDERS_MAX: usize = 16;

/// A command for one connection. Dropped without an answer, it was not carried out there. It is a pointer, because a
/// channel has room for 32 from its beginning, and each of many idle connections has one.
#[derive(Debug)]
pub struct Order(Box<OrderContent>);

/// What an [`Order`] says.
#[derive(Debug)]
pub struct OrderContent {
    pub id: DeliveryId,
    pub command: Command,
    /// Somebody waits for what the device says to it.
    pub asks: bool,
    sent: CancellationToken,
    done: oneshot::Sender<Done>,
}

impl Order {
    /// As [`CommandOffer::sent`].
    pub fn sent(&self) {
        self.0.sent.cancel();
    }

    pub fn done(self, result: Result<(), CommandError>) {
        let _ = self.0.done.send(result.map(|()| None));
    }

    /// The device took it, and said this.
    pub fn answer(self, answer: Message) {
        let _ = self.0.done.send(Ok(Some(answer)));
    }
}

impl Deref for Order {
    type Target = OrderContent;

    fn deref(&self) -> &OrderContent {
        &self.0
    }
}

/// Where a connection's commands arrive.
pub fn orders() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS_MAX)
}

pub struct Devices {
    session: Session,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    devices: HashMap<Box<str>, Device>,
    joined: u64,
    /// Of devices that have no connection any more; they end at their next chance.
    ending: Vec<JoinHandle<()>>,
}

struct Device {
    connections: Vec<(u64, mpsc::Sender<Order>)>,
    carrying: JoinHandle<()>,
}

/// A connection's place among those of a device, until it is dropped.
pub struct Joined {
    devices: Arc<Devices>,
    device: Box<str>,
    number: u64,
}

impl Devices {
    pub fn new(session: Session) -> Arc<Self> {
        Arc::new(Self { session, known: Mutex::default() })
    }

    /// From now on the device's commands come to `orders`, too.
    pub fn join(self: &Arc<Self>, device: &str, orders: mpsc::Sender<Order>) -> Joined {
        let mut known = self.known.lock();
        known.joined += 1;
        let number = known.joined;
        match known.devices.get_mut(device) {
            Some(known) => known.connections.push((number, orders)),
            None => {
                let carrying = carry(Arc::downgrade(self), self.session.attach(device), device.into());
                let connections = vec![(number, orders)];
                known.devices.insert(device.into(), Device { connections, carrying: tokio::spawn(carrying) });
            }
        }
        Joined { devices: Arc::clone(self), device: device.into(), number }
    }

    /// Resolves once no device is attached, when no connection is joined.
    pub async fn closed(&self) {
        let ending = std::mem::take(&mut self.known.lock().ending);
        for carrying in ending {
            // It was told to end.
            let _ = carrying.await;
        }
    }

    fn connections(&self, device: &str) -> Vec<mpsc::Sender<Order>> {
        let known = self.known.lock();
        let device = known.devices.get(device);
        device.iter().flat_map(|device| &device.connections).map(|(_, orders)| orders.clone()).collect()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut known = self.devices.known.lock();
        if let Some(device) = known.devices.get_mut(&self.device) {
            device.connections.retain(|(number, _)| *number != self.number);
            if device.connections.is_empty()
                && let Some(gone) = known.devices.remove(&self.device)
            {
                gone.carrying.abort();
                known.ending.retain(|carrying| !carrying.is_finished());
                known.ending.push(gone.carrying);
            }
        }
    }
}

/// Brings a device's commands to its connections. One that took it is enough.
async fn carry(devices: Weak<Devices>, mut attachment: Attachment, device: Box<str>) {
    loop {
        // `while let` would keep room for what it matched.
        let Some(offer) = attachment.next().await else { return };
        let Some(connections) = devices.upgrade().map(|devices| devices.connections(&device)) else { return };
        // In a box: most devices wait for a command all the time, and then what carries one out takes no room.
        Box::pin(carry_out(offer, connections)).await;
    }
}

async fn carry_out(offer: CommandOffer, connections: Vec<mpsc::Sender<Order>>) {
    let mut told = Vec::with_capacity(connections.len());
    for connection in connections {
        let (done, result) = oneshot::channel();
        let (command, sent) = (offer.command.clone(), offer.on_its_way());
        let content = OrderContent { id: offer.id, command, asks: offer.asks, sent, done };
        if connection.try_send(Order(Box::new(content))).is_ok() {
            told.push(result);
        }
    }
    let mut outcome = Err(CommandError::Retry("no connection of the device took it".to_owned()));
    for result in told {
        match (result.await, &outcome) {
            (Ok(Ok(answer)), Err(_) | Ok(None)) => outcome = Ok(answer),
            (Ok(Err(error)), Err(CommandError::Retry(_))) => outcome = Err(error),
            _ => {}
        }
    }
    match outcome {
        Ok(Some(answer)) => offer.answer(answer),
        Ok(None) => offer.acknowledge(),
        Err(error) => offer.fail(error),
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::ContentType;

    use super::*;
    use crate::contract::{StandIn, in_time};

    fn command() -> Command {
        Command {
            device: "d1".into(),
            name: "set".into(),
            content_type: ContentType::TEXT,
            payload: "on".into(),
        }
    }

    #[test]
    fn what_waits_for_commands_is_small() {
        assert_eq!(size_of::<Order>(), size_of::<usize>());
        let host = StandIn::new();
        let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
        let (devices, attachment) = (Devices::new(session.clone()), session.attach("d1"));
        let waiting = carry(Arc::downgrade(&devices), attachment, "d1".into());
        assert!(size_of_val(&waiting) <= 256, "{}", size_of_val(&waiting));
    }

    #[tokio::test]
    async fn a_command_reaches_every_connection_and_one_is_enough() {
        let host = StandIn::new();
        let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
        let devices = Devices::new(session);
        let ((first, mut of_first), (second, mut of_second)) = (orders(), orders());
        let joined = (devices.join("d1", first), devices.join("d1", second));
        assert_eq!(host.devices(), ["d1".into()]);
        let answer = async {
            let order = of_first.recv().await.unwrap();
            assert_eq!((&order.command, host.is_sent()), (&command(), false));
            order.sent();
            assert!(host.is_sent());
            order.done(Err(CommandError::Reject("too long".to_owned())));
            of_second.recv().await.unwrap().done(Ok(()));
        };
        let (told, ()) = in_time(async { tokio::join!(host.command(command()), answer) }).await;
        assert_eq!(told, Some(Ok(())));
        let refuse = async {
            of_first.recv().await.unwrap().done(Err(CommandError::Reject("too long".to_owned())));
            drop(of_second.recv().await);
        };
        let (told, ()) = in_time(async { tokio::join!(host.command(command()), refuse) }).await;
        assert_eq!(told, Some(Err(CommandError::Reject("too long".to_owned()))));
        drop(joined.0);
        assert_eq!(host.devices(), ["d1".into()]);
        drop((joined.1, of_second));
        in_time(devices.closed()).await;
        assert!(host.devices().is_empty());
    }
}
