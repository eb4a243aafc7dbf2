//! The nodes there are, and who is told of them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::Refused;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::decode::{self, Datum, FromGateway};
use crate::complaints::Complaints;
use crate::devices::{Devices, Joined, Order};
use crate::pattern::Template;
use crate::{CommandError, Connection, DeviceInfo, PeerInfo, Session};

/// How many messages may wait for one connection; one that is slower is cut off.
const WAITING_MAX: usize = 512;

/// How many resources a node may have.
const RESOURCES_MAX: usize = 256;

/// For how long what is refused for a time is not offered again.
const WAIT: Duration = Duration::from_secs(1);

/// How a node is reached.
#[derive(Clone)]
pub(super) enum Via {
    Coap(SocketAddr),
    Mqtt,
    /// Its own connection.
    WebSocket(mpsc::Sender<Utf8Bytes>),
    /// A gateway of Pyaiot's, by the name it has here.
    Gateway(Box<str>),
}

impl Via {
    const fn protocol(&self) -> &'static str {
        match self {
            Self::Coap(_) => "CoAP",
            Self::Mqtt => "MQTT",
            Self::WebSocket(_) => "WebSocket",
            Self::Gateway(_) => "Pyaiot",
        }
    }

    const fn is_own(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    fn is(&self, gateway: &str) -> bool {
        matches!(self, Self::Gateway(name) if **name == *gateway)
    }
}

/// A value to be written to a node that a driver's own task speaks to.
pub(super) struct Write {
    pub(super) uid: Box<str>,
    pub(super) endpoint: Box<str>,
    pub(super) payload: Value,
    /// Where the node is, with CoAP.
    pub(super) at: Option<SocketAddr>,
    pub(super) done: Option<oneshot::Sender<Result<(), CommandError>>>,
}

pub(super) struct Hub {
    session: Session,
    topic: Template,
    nodes_max: usize,
    /// What the hub is called where gateways answer it.
    uid: Box<str>,
    table: Mutex<Table>,
    devices: Arc<Devices>,
    orders: mpsc::Sender<Order>,
    coap: mpsc::Sender<Write>,
    mqtt: mpsc::Sender<Write>,
    pub(super) complaints: Complaints,
}

#[derive(Default)]
struct Table {
    nodes: BTreeMap<Box<str>, Node>,
    clients: HashMap<Box<str>, mpsc::Sender<Utf8Bytes>>,
    gateways: HashMap<Box<str>, mpsc::Sender<Utf8Bytes>>,
}

struct Node {
    via: Via,
    resources: BTreeMap<Box<str>, Value>,
    listed: Connection,
    _joined: Joined,
}

/// Where what is to be written arrives.
pub(super) struct Writes {
    pub(super) coap: mpsc::Receiver<Write>,
    pub(super) mqtt: mpsc::Receiver<Write>,
}

/// There are as many nodes as there may be.
#[derive(Debug)]
pub(super) struct Full;

impl Hub {
    pub(super) fn new(
        session: Session,
        topic: Template,
        nodes_max: usize,
        devices: Arc<Devices>,
        orders: mpsc::Sender<Order>,
    ) -> (Self, Writes) {
        let ((coap, coap_writes), (mqtt, mqtt_writes)) =
            (mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX));
        let hub = Self {
            topic,
            nodes_max,
            uid: uid(),
            table: Mutex::default(),
            devices,
            orders,
            coap,
            mqtt,
            complaints: Complaints::new(session.ingress().clone()),
            session,
        };
        (hub, Writes { coap: coap_writes, mqtt: mqtt_writes })
    }

    /// A node is there; whether it was not before. One that comes again is not announced again, and one that has a
    /// connection of its own keeps it.
    pub(super) fn arrive(&self, uid: &str, via: Via, remote: Option<SocketAddr>) -> Result<bool, Full> {
        let mut table = self.table.lock();
        if let Some(node) = table.nodes.get_mut(uid) {
            if !node.via.is_own() && !via.is_own() {
                node.via = via;
            }
            self.session.device(uid).seen();
            return Ok(false);
        }
        if table.nodes.len() >= self.nodes_max {
            return Err(Full);
        }
        let agent = Some(format!("Pyaiot {}", via.protocol()).into());
        let peer = PeerInfo { remote, device: Some(uid.into()), client: None, agent };
        let node = Node {
            via,
            resources: BTreeMap::new(),
            listed: self.session.connected(peer),
            _joined: self.devices.join(uid, self.orders.clone()),
        };
        table.nodes.insert(uid.into(), node);
        table.tell_all(&new(uid, "all"));
        let kind = Some("pyaiot".into());
        self.session.device(uid).arrived(DeviceInfo { kind, ..DeviceInfo::default() });
        Ok(true)
    }

    /// A node is gone; whether it said so.
    pub(super) fn leave(&self, uid: &str, said_so: bool) {
        let mut table = self.table.lock();
        if !table.nodes.contains_key(uid) {
            return;
        }
        // Before the connection goes from the list, so that it is known why.
        let device = self.session.device(uid);
        if said_so {
            device.left();
        } else {
            device.lost();
        }
        table.nodes.remove(uid);
        table.tell_all(&json!({ "type": "out", "uid": uid }));
    }

    /// A node was restarted: what was known of it is not true any more.
    pub(super) fn reset(&self, uid: &str) {
        let mut table = self.table.lock();
        if let Some(node) = table.nodes.get_mut(uid) {
            node.resources.clear();
            table.tell_all(&json!({ "type": "reset", "uid": uid }));
        }
    }

    /// A value of a node's resource: once it is on disk, clients are told. What no reading can be is left out.
    pub(super) async fn update(&self, uid: &str, endpoint: &str, datum: &Datum) -> Result<(), Refused> {
        let inbound = match decode::inbound(&self.topic, uid, endpoint, datum) {
            Ok(inbound) => inbound,
            Err(error) => {
                self.complaints.note("unnamed", uid, error, self.session.now());
                return Ok(());
            }
        };
        let size = inbound.payload.len();
        self.session.accept(inbound).await?;
        let mut table = self.table.lock();
        if let Some(node) = table.nodes.get(uid) {
            node.listed.received(size, self.session.now());
        }
        let shown = datum.shown();
        self.session.device(uid).reported(endpoint, shown.clone());
        table.set(uid, endpoint, shown);
        Ok(())
    }

    /// What is known of a node without its saying so: clients are told.
    pub(super) fn describe(&self, uid: &str, endpoint: &str, value: impl Into<Value>) {
        let value = value.into();
        self.session.device(uid).reported(endpoint, value.clone());
        self.table.lock().set(uid, endpoint, value);
    }

    /// The same, offered again until it is taken; nothing of the node is heard meanwhile.
    pub(super) async fn update_held(&self, uid: &str, endpoint: &str, datum: Datum) {
        loop {
            let wait = match self.update(uid, endpoint, &datum).await {
                Ok(()) | Err(Refused::TooLarge { .. } | Refused::Stopping) => return,
                Err(Refused::Busy { retry_after }) => retry_after,
                Err(Refused::DiskFull | Refused::Storage { .. }) => WAIT,
            };
            tokio::select! {
                () = self.session.stopped() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    pub(super) fn join_client(&self) -> (Box<str>, mpsc::Receiver<Utf8Bytes>) {
        let ((messages, arriving), uid) = (mpsc::channel(WAITING_MAX), uid());
        self.table.lock().clients.insert(uid.clone(), messages);
        (uid, arriving)
    }

    pub(super) fn leave_client(&self, uid: &str) {
        self.table.lock().clients.remove(uid);
    }

    /// What a new client has to know of the nodes here; gateways are asked for theirs.
    pub(super) fn introduce(&self, client: &str, data: &Value) -> Vec<Utf8Bytes> {
        let mut table = self.table.lock();
        table.tell_gateways(&json!({ "type": "new", "data": data, "src": client }));
        let own = table.nodes.iter().filter(|(_, node)| !matches!(node.via, Via::Gateway(_)));
        let messages = own.flat_map(|(uid, node)| {
            let updates = node.resources.iter().map(|(endpoint, value)| update(uid, endpoint, value, client));
            [new(uid, client)].into_iter().chain(updates)
        });
        messages.map(|message| message.to_string().into()).collect()
    }

    pub(super) fn join_gateway(&self) -> (Box<str>, mpsc::Receiver<Utf8Bytes>) {
        let ((messages, arriving), uid) = (mpsc::channel(WAITING_MAX), uid());
        // It may know nodes already, from before.
        let ask = json!({ "type": "new", "data": "", "src": self.uid }).to_string();
        let _ = messages.try_send(ask.into());
        self.table.lock().gateways.insert(uid.clone(), messages);
        (uid, arriving)
    }

    /// Its nodes are gone with it.
    pub(super) fn leave_gateway(&self, gateway: &str) {
        let gone: Vec<_> = {
            let mut table = self.table.lock();
            table.gateways.remove(gateway);
            table.nodes.iter().filter(|(_, node)| node.via.is(gateway)).map(|(uid, _)| uid.clone()).collect()
        };
        for uid in gone {
            self.leave(&uid, false);
        }
    }

    pub(super) async fn take_from_gateway(&self, gateway: &str, message: FromGateway) {
        match message {
            FromGateway::Alive => {}
            FromGateway::New { uid, to } => {
                match self.arrive(&uid, Via::Gateway(gateway.into()), None) {
                    // Everybody was told.
                    Ok(true) => {}
                    Ok(false) => self.tell(&to, &new(&uid, &to)),
                    Err(Full) => {
                        self.complaints.note(
                            "too many nodes",
                            &uid,
                            "a node is left out",
                            self.session.now(),
                        );
                    }
                }
            }
            // A node may have come to another gateway, or by itself, before this one has missed it.
            FromGateway::Out { uid } if self.is_behind(&uid, gateway) => self.leave(&uid, false),
            FromGateway::Reset { uid } if self.is_behind(&uid, gateway) => self.reset(&uid),
            FromGateway::Out { .. } | FromGateway::Reset { .. } => {}
            // What is for one client is known here, or comes for all.
            FromGateway::Update { uid, endpoint, data, to } if self.is_client(&to) => {
                self.tell(&to, &update(&uid, &endpoint, &data, &to));
            }
            FromGateway::Update { uid, endpoint, data, .. } => {
                let _ = self.arrive(&uid, Via::Gateway(gateway.into()), None);
                self.update_held(&uid, &endpoint, Datum::Json(data)).await;
            }
        }
    }

    fn is_behind(&self, uid: &str, gateway: &str) -> bool {
        self.table.lock().nodes.get(uid).is_some_and(|node| node.via.is(gateway))
    }

    fn is_client(&self, uid: &str) -> bool {
        self.table.lock().clients.contains_key(uid)
    }

    fn tell(&self, client: &str, message: &Value) {
        self.table.lock().tell(client, message);
    }

    /// Writes a value to a node's resource; nothing is said if nobody is at `done`.
    pub(super) fn write(
        &self,
        uid: &str,
        endpoint: &str,
        payload: Value,
        src: &str,
        done: Option<oneshot::Sender<Result<(), CommandError>>>,
    ) {
        let mut table = self.table.lock();
        let via = table.nodes.get(uid).map(|node| node.via.clone());
        let data = json!({ "uid": uid, "endpoint": endpoint, "payload": payload });
        let message = json!({ "type": "update", "data": data, "src": src });
        let result = match via {
            // Perhaps a gateway knows it; that is how Pyaiot does it.
            None => {
                table.tell_gateways(&message);
                Err(CommandError::Retry("there is no such node".to_owned()))
            }
            Some(Via::Gateway(gateway)) => table.gateways.get(&gateway).map_or_else(
                || Err(CommandError::Retry("its gateway is gone".to_owned())),
                |messages| sent(messages, &message),
            ),
            Some(Via::WebSocket(messages)) => {
                sent(&messages, &json!({ "endpoint": endpoint, "payload": payload }))
            }
            Some(via) => {
                let (queue, at) = match via {
                    Via::Coap(at) => (&self.coap, Some(at)),
                    _ => (&self.mqtt, None),
                };
                let (uid, endpoint) = (uid.into(), endpoint.into());
                // Who cannot be waited for is not told, either.
                drop(queue.try_send(Write { uid, endpoint, payload, at, done }));
                return;
            }
        };
        drop(table);
        if let Some(done) = done {
            let _ = done.send(result);
        }
    }

    /// No node is here any more.
    pub(super) fn close(&self) {
        self.table.lock().nodes.clear();
    }

    pub(super) const fn session(&self) -> &Session {
        &self.session
    }
}

fn sent(messages: &mpsc::Sender<Utf8Bytes>, message: &Value) -> Result<(), CommandError> {
    let sent = messages.try_send(message.to_string().into());
    sent.map_err(|_| CommandError::Retry("the connection takes no more".to_owned()))
}

impl Table {
    fn set(&mut self, uid: &str, endpoint: &str, value: Value) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        let message = update(uid, endpoint, &value, "all");
        if node.resources.len() < RESOURCES_MAX || node.resources.contains_key(endpoint) {
            node.resources.insert(endpoint.into(), value);
        }
        self.tell_all(&message);
    }

    /// One that is closed or slow is cut off; the others are none the worse.
    fn tell_all(&mut self, message: &Value) {
        let message = Utf8Bytes::from(message.to_string());
        self.clients.retain(|_, client| client.try_send(message.clone()).is_ok());
    }

    fn tell_gateways(&mut self, message: &Value) {
        let message = Utf8Bytes::from(message.to_string());
        self.gateways.retain(|_, gateway| gateway.try_send(message.clone()).is_ok());
    }

    fn tell(&mut self, client: &str, message: &Value) {
        if let Some(messages) = self.clients.get(client)
            && messages.try_send(message.to_string().into()).is_err()
        {
            self.clients.remove(client);
        }
    }
}

fn new(uid: &str, to: &str) -> Value {
    json!({ "type": "new", "uid": uid, "dst": to })
}

fn update(uid: &str, endpoint: &str, data: &Value, to: &str) -> Value {
    json!({ "type": "update", "uid": uid, "endpoint": endpoint, "data": data, "dst": to })
}

/// A random UUID (RFC 9562, version 4), which is what Pyaiot calls things.
pub(super) fn uid() -> Box<str> {
    let mut bits: u128 = rand::random();
    bits = bits & !(0xF << 76) | 4 << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-").into()
}
