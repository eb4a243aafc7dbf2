//! MQTT-SN 1.2 over UDP, for nodes too small for TCP: a gateway in front of the broker.

mod client;
mod flight;
mod pipe;
mod topics;
pub(crate) mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{ConfigError, Topic as TopicName};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use self::client::Client;
use self::topics::{Predefined, Topics};
use self::wire::{Flags, Message, Topic, code};
use super::broker::Broker;
use super::codec::Qos;
use super::config::SnConfig;
use super::inbound::{By, Published};
use crate::LinkError;
use crate::complaints::Complaints;

/// What readings name as client where a message came without a connection.
const NOBODY: &str = "mqtt-sn";

/// Messages of one client that may wait; more are lost, as on the way.
const WAITING_MAX: usize = 32;

/// More than a datagram can have.
const DATAGRAM: usize = 1 << 16;

/// The listener as configured.
pub(super) struct Listen {
    address: SocketAddr,
    user: Option<Box<str>>,
    predefined: Predefined,
    clients_max: usize,
}

impl Listen {
    /// Errors name the setting within `mqtt_sn`.
    pub(super) fn new(config: &SnConfig) -> Result<Self, ConfigError> {
        let mut predefined = HashMap::new();
        for (index, topic) in config.topics.iter().enumerate() {
            let at = |name: &str| format!("topics[{index}].{name}");
            topic
                .topic
                .parse::<TopicName>()
                .map_err(|error| ConfigError::at(at("topic"), error.to_string()))?;
            if topic.id == 0 || topic.id == u16::MAX {
                return Err(ConfigError::at(at("id"), "must be 1 to 65534"));
            }
            if predefined.insert(topic.id, topic.topic.as_str().into()).is_some() {
                return Err(ConfigError::at(at("id"), "is there twice"));
            }
        }
        if config.clients_max == 0 {
            return Err(ConfigError::at("clients_max", "must be at least 1"));
        }
        let user = config.user.as_deref().map(Into::into);
        let (predefined, clients_max) = (Arc::new(predefined), config.clients_max);
        Ok(Self { address: config.listen, user, predefined, clients_max })
    }

    pub(super) async fn bind(self: Arc<Self>) -> Result<Gateway, LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", self.address), error);
        let socket = UdpSocket::bind(self.address).await.map_err(listening)?;
        let places = Arc::new(Semaphore::new(self.clients_max));
        let (clients, tasks) = (HashMap::new(), JoinSet::new());
        Ok(Gateway { socket: Arc::new(socket), listen: self, places, clients, tasks })
    }
}

pub(super) struct Gateway {
    socket: Arc<UdpSocket>,
    listen: Arc<Listen>,
    /// Its own: whoever sends datagrams keeps out nobody who comes by TCP.
    places: Arc<Semaphore>,
    clients: HashMap<SocketAddr, mpsc::Sender<Message>>,
    tasks: JoinSet<SocketAddr>,
}

impl Gateway {
    /// Until the session stops and every client was told.
    pub(super) async fn run(mut self, broker: Arc<Broker>) {
        let session = broker.session.clone();
        let complaints = Arc::new(Complaints::new(session.ingress().clone()));
        let mut buffer = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                () = session.stopped() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((size, address)) => {
                        self.receive(&broker, &complaints, address, &buffer[..size]).await;
                    }
                    // An earlier answer found nobody there.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        let ingress = session.ingress();
                        tracing::warn!(%ingress, %error, "MQTT-SN is not heard");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn ended(&mut self, ended: Result<SocketAddr, tokio::task::JoinError>) {
        match ended {
            Ok(address) => {
                // It may have come again meanwhile.
                if self.clients.get(&address).is_some_and(mpsc::Sender::is_closed) {
                    self.clients.remove(&address);
                }
            }
            Err(error) => {
                tracing::error!(%error, "bug in the mqtt driver: a client was lost");
                self.clients.retain(|_, client| !client.is_closed());
            }
        }
    }

    async fn receive(
        &mut self,
        broker: &Arc<Broker>,
        complaints: &Arc<Complaints>,
        address: SocketAddr,
        datagram: &[u8],
    ) {
        let Some(message) = wire::decode(datagram) else { return };
        match message {
            Message::SearchGateway => self.say(address, &Message::GatewayInfo).await,
            Message::Publish { flags: Flags { qos: 3, retain, .. }, topic, payload, .. } => {
                self.publish(broker, &topic, retain, payload, address);
            }
            Message::Connect { .. } => {
                let is_known = self.clients.get(&address).is_some_and(|client| !client.is_closed());
                if !is_known && !self.begin(broker, complaints, address) {
                    return self.say(address, &Message::ConnAck(code::CONGESTION)).await;
                }
                self.pass_on(address, message);
            }
            message if self.clients.contains_key(&address) => self.pass_on(address, message),
            // Of a client that was forgotten: it has to connect again.
            Message::Disconnect(_) => self.say(address, &Message::Disconnect(None)).await,
            Message::PingReq(_)
            | Message::Publish { .. }
            | Message::Register { .. }
            | Message::Subscribe { .. } => {
                self.say(address, &Message::Disconnect(None)).await;
            }
            _ => {}
        }
    }

    fn begin(&mut self, broker: &Arc<Broker>, complaints: &Arc<Complaints>, address: SocketAddr) -> bool {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return false };
        let (messages, inbox) = mpsc::channel(WAITING_MAX);
        let client = Client::new(
            Arc::clone(broker),
            Arc::clone(&self.socket),
            address,
            self.listen.user.clone(),
            Topics::new(Arc::clone(&self.listen.predefined)),
            Arc::clone(complaints),
        );
        self.clients.insert(address, messages);
        self.tasks.spawn(async move {
            let _place = place;
            Box::pin(client.run(inbox)).await;
            address
        });
        true
    }

    fn pass_on(&mut self, address: SocketAddr, message: Message) {
        if let Some(client) = self.clients.get(&address)
            && let Err(mpsc::error::TrySendError::Closed(_)) = client.try_send(message)
        {
            self.clients.remove(&address);
        }
    }

    /// Quality of service −1: nobody is connected, and nobody is told.
    fn publish(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        retain: bool,
        payload: Bytes,
        address: SocketAddr,
    ) {
        if !matches!(topic, Topic::Predefined(_) | Topic::Short(_)) {
            return;
        }
        let Some(topic) = Topics::new(Arc::clone(&self.listen.predefined)).name(topic) else { return };
        let Ok(topic) = topic.parse::<TopicName>() else { return };
        let user = self.listen.user.clone();
        let is_admitted =
            user.is_some() || broker.settings.anonymous.unwrap_or(address.ip().to_canonical().is_loopback());
        if !is_admitted || !broker.settings.access.of(NOBODY, user.as_deref()).may_publish(&topic) {
            return;
        }
        let Ok(permit) = Arc::clone(&broker.under_way).try_acquire_many_owned(Broker::weight(payload.len()))
        else {
            return broker.count_shed("too much waits");
        };
        let published = Published { topic, payload, qos: Qos::AtMostOnce, retain, properties: None };
        let by = By { client: NOBODY.into(), user, number: 0 };
        let submitted = broker.submit(published, &by, Vec::new());
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            let _permit = permit;
            match submitted.accept.await {
                Ok(_) => broker.deliver(submitted.plan),
                Err(refused) => {
                    broker.abandon(&submitted.plan, true);
                    broker.count_shed(&refused.to_string());
                }
            }
        });
    }

    async fn say(&self, address: SocketAddr, message: &Message) {
        if let Some(bytes) = wire::encode(message) {
            let _ = self.socket.send_to(&bytes, address).await;
        }
    }
}

/// Garbage for who tests what reads it.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decodes(datagram: &[u8]) -> bool {
    wire::decode(datagram).is_some()
}
