//! One socket: datagrams in, acknowledgements, replies and commands out.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::Refused;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Settings;
use super::decode::decode;
use crate::complaints::Complaints;
use crate::devices::{Devices, Joined, Order, orders};
use crate::exchange::{Exchange, Manner, Say};
use crate::{CommandError, LinkError, Session};

/// More than a datagram can have (RFC 768: a length of 16 bits).
const DATAGRAM: usize = 1 << 16;

/// How many devices' addresses are known; beyond that the one that was silent for longest is forgotten.
const DEVICES_MAX: usize = 4096;

pub(super) struct Server {
    socket: UdpSocket,
    settings: Arc<Settings>,
    session: Session,
    exchange: Exchange<SocketAddr>,
    devices: Arc<Devices>,
    orders: mpsc::Sender<Order>,
    arriving: Option<mpsc::Receiver<Order>>,
    known: HashMap<Box<str>, Known>,
    received: u64,
    complaints: Complaints,
}

/// Where a device sent from last.
struct Known {
    address: SocketAddr,
    /// The number of the datagram.
    seen: u64,
    _joined: Joined,
}

impl Server {
    pub(super) fn new(socket: UdpSocket, settings: Arc<Settings>, session: Session) -> Self {
        let manner = if settings.refuse.is_some() { Manner::Tell } else { Manner::Hold };
        let (orders, arriving) = orders();
        Self {
            socket,
            exchange: Exchange::new(session.clone(), manner, settings.reply_timeout),
            settings,
            devices: Devices::new(session.clone()),
            orders,
            arriving: Some(arriving),
            known: HashMap::new(),
            received: 0,
            complaints: Complaints::new(session.ingress().clone()),
            session,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), LinkError> {
        let session = self.session.clone();
        let mut stopped = pin!(session.stopped());
        let mut arriving = self.arriving.take().expect("it runs once");
        let mut buffer = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(order) = arriving.recv() => self.carry_out(order).await,
                (peer, say) = self.exchange.next() => self.say(peer, say).await,
                received = self.socket.recv_from(&mut buffer), if self.exchange.has_room() => match received {
                    Ok((size, peer)) => self.take(peer, &buffer[..size]).await,
                    // An earlier answer found nobody there.
                    Err(error) if is_of_a_peer(&error) => {}
                    Err(error) => return Err(LinkError::new("receiving", error)),
                },
            }
        }
        self.exchange.abandon();
        while !self.exchange.is_settled() {
            let (peer, say) = self.exchange.next().await;
            self.say(peer, say).await;
        }
        self.known.clear();
        self.devices.closed().await;
        Ok(())
    }

    async fn take(&mut self, peer: SocketAddr, datagram: &[u8]) {
        self.received += 1;
        let allow = &self.settings.allow;
        if !allow.is_empty() && !allow.iter().any(|network| network.has(peer.ip())) {
            // Not even told so: the address may be another's.
            self.complain("not allowed", peer, &"a datagram from who is not on the list");
            return;
        }
        let limit = self.settings.datagram_max.min(self.session.reading_max());
        if datagram.len() > limit {
            let refused = Refused::TooLarge { size: datagram.len(), limit };
            self.complain("oversized", peer, &refused);
            self.refuse(peer, &refused.to_string()).await;
            return;
        }
        let datagram = Bytes::copy_from_slice(datagram);
        match decode(&self.settings.naming, &self.settings.content_type, peer, datagram) {
            Ok(inbound) => {
                if let Some(device) = &inbound.device {
                    self.know(device, peer);
                }
                self.exchange.add(peer, inbound);
            }
            Err(error) => {
                self.complain("unnamed", peer, &error);
                self.refuse(peer, &error.to_string()).await;
            }
        }
    }

    fn know(&mut self, device: &str, address: SocketAddr) {
        let seen = self.received;
        if let Some(known) = self.known.get_mut(device) {
            (known.address, known.seen) = (address, seen);
            return;
        }
        if self.known.len() >= DEVICES_MAX {
            let oldest =
                self.known.iter().min_by_key(|(_, known)| known.seen).map(|(device, _)| device.clone());
            oldest.and_then(|device| self.known.remove(&device));
        }
        let joined = self.devices.join(device, self.orders.clone());
        self.known.insert(device.into(), Known { address, seen, _joined: joined });
    }

    async fn say(&mut self, peer: SocketAddr, say: Say) {
        match say {
            Say::Acknowledge(receipt) => {
                if let Some(phrase) = &self.settings.acknowledge {
                    let said = phrase.of_id(receipt.id().encode(&mut [0; 26]));
                    self.send(peer, &said).await;
                }
            }
            Say::Refuse(Refused::Stopping) => {}
            Say::Refuse(refused) => self.refuse(peer, &refused.to_string()).await,
            Say::Reply(message) => {
                if let Err(error) = self.socket.send_to(&message.payload, peer).await {
                    self.complain("reply", peer, &error);
                }
            }
        }
    }

    async fn refuse(&mut self, peer: SocketAddr, reason: &str) {
        if let Some(phrase) = &self.settings.refuse {
            self.send(peer, &phrase.of_reason(reason)).await;
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let known = self.known.get(&order.command.device);
        let Some(address) = known.map(|known| known.address) else { return };
        let payload = self.settings.commands.write(order.id, &order.command);
        order.done(match self.socket.send_to(&payload, address).await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(MESSAGE_TOO_LONG) => {
                Err(CommandError::Reject(format!("{} bytes do not fit into a datagram", payload.len())))
            }
            Err(error) => Err(CommandError::Retry(error.to_string())),
        });
    }

    /// What is lost on the way is the peer's to ask for again.
    async fn send(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let _ = self.socket.send_to(bytes, peer).await;
    }

    fn complain(&self, kind: &'static str, peer: SocketAddr, about: &dyn Display) {
        self.complaints.note(kind, peer, about, self.session.now());
    }
}

/// EMSGSIZE on Linux.
const MESSAGE_TOO_LONG: i32 = 90;

fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}
