//! Nodes that are asked: what they have, and what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, pending};
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Refused, Topic};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::address::Address;
use super::config::NodeConfig;
use super::decode::content_type;
use crate::coap::call::{CallError, Note, refused_or};
use crate::coap::dtls::Identities;
use crate::coap::endpoint::Peer;
use crate::coap::layer::{Failure, Token};
use crate::coap::packet::{self, MessageType, is_newer};
use crate::coap::{Caller, Method, Opt, Packet, links};
use crate::devices::{Devices, Joined, Order};
use crate::pattern::Template;
use crate::{Connection, PeerInfo, Session};

/// `Max-Age` of who says none (RFC 7252, section 5.10.5).
const MAX_AGE_S: u32 = 60;

/// After the time in which the next notification was due, the resource is registered for again (RFC 7641, section 3.3.1).
const GRACE: Duration = Duration::from_secs(10);

/// For how long what is refused for a time is not offered again.
const WAIT: Duration = Duration::from_secs(1);

/// One entry of the setting `nodes`, checked.
pub(super) struct Node {
    pub(super) device: Box<str>,
    address: Address,
    pub(super) identity: Option<Box<str>>,
    observe: Vec<String>,
    poll: Vec<String>,
    discover: bool,
    interval: Duration,
    again: Duration,
    topic: Template,
}

impl Node {
    /// Errors name the setting within the entry.
    pub(super) fn new(config: &NodeConfig) -> Result<Self, ConfigError> {
        let names = ["device", "path"].map(Box::<str>::from);
        let topic = Template::parse(&config.topic, &names)
            .map_err(|error| ConfigError::at("topic", error.to_string()))?;
        let example = topic.fill(&[config.device.as_str().into(), "path".into()]).parse::<Topic>();
        example.map_err(|error| ConfigError::at("topic", error.to_string()))?;
        for (setting, value) in [("poll_interval_ms", config.poll_interval_ms), ("again_ms", config.again_ms)]
        {
            if value == 0 {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        for (setting, paths) in [("observe", &config.observe), ("poll", &config.poll)] {
            if let Some(index) = paths.iter().position(|path| !path.starts_with('/')) {
                return Err(ConfigError::at(format!("{setting}[{index}]"), "must begin with `/`"));
            }
        }
        if config.device.is_empty() {
            return Err(ConfigError::at("device", "must not be empty"));
        }
        Ok(Self {
            device: config.device.as_str().into(),
            address: Address::parse(&config.address, config.identity.is_some())?,
            identity: config.identity.as_deref().map(Into::into),
            observe: config.observe.clone(),
            poll: config.poll.clone(),
            discover: config.discover,
            interval: Duration::from_millis(config.poll_interval_ms),
            again: Duration::from_millis(config.again_ms),
            topic,
        })
    }

    pub(super) async fn peer(&self, identities: &Identities) -> Result<Peer, CallError> {
        let address = self.address.look_up().await?;
        if let Some(identity) = &self.identity {
            identities.know(address, identity);
        }
        Ok(Peer { address, is_secure: self.identity.is_some() })
    }

    /// Whether it may be there, as far as its setting tells.
    pub(super) fn is_at(&self, peer: SocketAddr) -> bool {
        self.address.has(peer)
    }

    fn topic(&self, path: &str) -> Option<Topic> {
        let path = path.strip_prefix('/').unwrap_or(path);
        self.topic.fill(&[(&*self.device).into(), path.into()]).parse().ok()
    }
}

/// Whether a node is there: its commands come while it is.
pub(super) struct Presence {
    devices: Arc<Devices>,
    orders: mpsc::Sender<Order>,
    joined: Mutex<Option<Joined>>,
    /// It was there, and is not any more.
    gone: Notify,
    /// It was said that its interface is missing.
    is_said: AtomicBool,
}

impl Presence {
    /// A node that is asked for nothing is always there, as far as is known.
    pub(super) fn new(node: &Node, devices: &Arc<Devices>, orders: &mpsc::Sender<Order>) -> Self {
        let presence = Self {
            devices: Arc::clone(devices),
            orders: orders.clone(),
            joined: Mutex::default(),
            gone: Notify::new(),
            is_said: AtomicBool::new(false),
        };
        if node.observe.is_empty() && node.poll.is_empty() && !node.discover {
            presence.is_there(&node.device);
        }
        presence
    }

    fn is_there(&self, device: &str) {
        self.is_said.store(false, Ordering::Relaxed);
        self.joined.lock().get_or_insert_with(|| self.devices.join(device, self.orders.clone()));
    }

    fn is_gone(&self, device: &str, session: &Session) {
        // Said before, so that it is known why.
        if self.joined.lock().is_some() {
            session.device(device).lost();
            self.gone.notify_one();
        }
        *self.joined.lock() = None;
    }
}

/// What is done with one node, until the session stops.
pub(super) struct Asking {
    pub(super) presence: Presence,
    pub(super) node: Arc<Node>,
    pub(super) caller: Caller,
    pub(super) identities: Identities,
    pub(super) session: Session,
}

impl Asking {
    pub(super) async fn run(self) {
        let session = self.session.clone();
        tokio::select! {
            () = session.stopped() => {}
            () = self.ask() => {}
        }
    }

    /// What is found once the node was gone is asked for beside what it had before.
    async fn ask(&self) {
        let (mut observe, mut poll) = (self.node.observe.clone(), self.node.poll.clone());
        let (mut observed, mut polled) = (0, 0);
        let mut asking: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut was_found = false;
        loop {
            let new = observe[observed..].to_vec();
            asking.extend(new.into_iter().map(|path| async move { self.observe(&path).await }.boxed()));
            if polled < poll.len() {
                let paths = poll[polled..].to_vec();
                asking.push(async move { self.poll(&paths).await }.boxed());
            }
            (observed, polled) = (observe.len(), poll.len());
            tokio::select! {
                links = self.discover(was_found), if self.node.discover => {
                    was_found = true;
                    for link in links {
                        let paths = if link.observable { &mut observe } else { &mut poll };
                        if paths.len() < links::LINKS_MAX && !paths.contains(&link.path) {
                            paths.push(link.path);
                        }
                    }
                }
                Some(()) = asking.next() => {}
                // It is there for its commands.
                else => return pending().await,
            }
        }
    }

    /// Waits for a node that is not there, or has nothing yet; if it was found before, until it was gone since.
    async fn discover(&self, was_found: bool) -> Vec<links::Link> {
        if was_found {
            self.presence.gone.notified().await;
        }
        loop {
            match self.get("/.well-known/core").await {
                Ok(answer) => {
                    self.presence.is_there(&self.node.device);
                    let mut found = links::parse(&String::from_utf8_lossy(&answer.payload));
                    found.retain(|link| !link.path.starts_with("/.well-known/"));
                    if !found.is_empty() {
                        return found;
                    }
                }
                Err(error) => self.note("/.well-known/core", &error),
            }
            tokio::time::sleep(self.node.again).await;
        }
    }

    async fn poll(&self, paths: &[String]) {
        let mut every = tokio::time::interval(self.node.interval);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut listed = None;
        loop {
            every.tick().await;
            for path in paths {
                match self.get(path).await {
                    Ok(answer) => {
                        self.heard(&mut listed, answer.payload.len());
                        self.hand_over(path, &answer, None, Manner::Hold).await;
                    }
                    Err(error) => {
                        listed = None;
                        self.note(path, &error);
                    }
                }
            }
        }
    }

    async fn get(&self, path: &str) -> Result<Packet, CallError> {
        let peer = self.node.peer(&self.identities).await?;
        self.caller.get(peer, path).await
    }

    /// Registers, and again whenever nothing is heard any more.
    async fn observe(&self, path: &str) {
        let token = rand::random();
        loop {
            if let Err(error) = self.register(path, token).await {
                self.note(path, &error);
            }
            tokio::time::sleep(self.node.again).await;
        }
    }

    /// Until the node does not answer, or has another address. One that was just quiet is asked again at once: what it
    /// says meanwhile would be refused if it had been left.
    async fn register(&self, path: &str, token: Token) -> Result<(), CallError> {
        let peer = self.node.peer(&self.identities).await?;
        let mut notes = self.caller.observe(peer, path, token).await?;
        let mut listed = None;
        loop {
            let followed = self.follow(peer, path, &mut notes, &mut listed).await;
            let stays =
                followed.is_ok() && self.node.peer(&self.identities).await.is_ok_and(|now| now == peer);
            if !stays {
                self.caller.leave(peer, token).await;
                return followed;
            }
            notes = self.caller.observe(peer, path, token).await?;
        }
    }

    /// Until the node does not notify any more; `Ok` if it just was quiet for too long.
    async fn follow(
        &self,
        peer: Peer,
        path: &str,
        notes: &mut mpsc::Receiver<Result<Note, Failure>>,
        listed: &mut Option<Connection>,
    ) -> Result<(), CallError> {
        let mut latest: Option<(u32, Instant)> = None;
        let mut until: Option<Instant> = None;
        loop {
            let next = async {
                match until {
                    Some(until) => tokio::time::timeout_at(until, notes.recv()).await.ok(),
                    None => Some(notes.recv().await),
                }
            };
            let note: Note = match next.await {
                None => return Ok(()),
                Some(None) => return Err(CallError::Stopped),
                Some(Some(note)) => note?,
            };
            let answer = refused_or(note.packet.clone())?;
            let sequence = packet::uint(&answer, Opt::Observe);
            let age = packet::uint(&answer, Opt::MaxAge).unwrap_or(MAX_AGE_S);
            until = Some(Instant::now() + Duration::from_secs(age.into()) + GRACE);
            let is_old = match (sequence, latest) {
                (Some(sequence), Some((before, at))) => {
                    !is_newer(sequence, before) && at.elapsed() < Duration::from_secs(128)
                }
                _ => false,
            };
            if is_old {
                note.taken();
                continue;
            }
            let whole = self.caller.rest(peer, Method::Get, path, answer).await?;
            self.heard(listed, whole.payload.len());
            // What is refused for a time the node sends again, if it wants to know that it arrived.
            let manner = match note.packet.header.get_type() {
                MessageType::Confirmable => Manner::Tell,
                _ => Manner::Hold,
            };
            if self.hand_over(path, &whole, sequence, manner).await {
                note.taken();
                latest = sequence.map(|sequence| (sequence, Instant::now()));
            }
            let Some(_) = sequence else {
                // It was answered, and will not be told of changes: as good as polled.
                tokio::time::sleep(self.node.interval).await;
                return Ok(());
            };
        }
    }

    /// Whether it is on disk.
    async fn hand_over(&self, path: &str, answer: &Packet, sequence: Option<u32>, manner: Manner) -> bool {
        let Some(topic) = self.node.topic(path) else { return true };
        let mut attributes = Attributes::new().with("coap.path", path);
        if let Some(sequence) = sequence {
            attributes.add("coap.observe", sequence.to_string());
        }
        let content_type = content_type(answer, &ContentType::OCTETS);
        let payload = Bytes::copy_from_slice(&answer.payload);
        let device = Some(self.node.device.clone());
        let inbound = Inbound { device, attributes, ..Inbound::new(topic, content_type, payload) };
        loop {
            match self.session.accept(inbound.clone()).await {
                Ok(_) => return true,
                Err(Refused::TooLarge { .. }) => return true,
                Err(_) if manner == Manner::Tell => return false,
                Err(Refused::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                Err(_) => tokio::time::sleep(WAIT).await,
            }
        }
    }

    /// A node is listed, and gets its commands, while it answers.
    fn heard(&self, listed: &mut Option<Connection>, bytes: usize) {
        let connect = || {
            let device = Some(self.node.device.clone());
            self.session.connected(PeerInfo { device, agent: Some("CoAP".into()), ..PeerInfo::default() })
        };
        self.presence.is_there(&self.node.device);
        listed.get_or_insert_with(connect).received(bytes, self.session.now());
    }

    fn note(&self, path: &str, error: &CallError) {
        use CallError::{Failed, NoInterface, Unknown};
        if matches!(error, Failed(Failure::Timeout) | Unknown | NoInterface(_)) {
            self.presence.is_gone(&self.node.device, &self.session);
        }
        let (ingress, device) = (self.session.ingress(), &*self.node.device);
        if matches!(error, NoInterface(_)) && !self.presence.is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(%ingress, device, %error, "a node is not reached");
        }
        tracing::debug!(%ingress, device, path, %error, "a node did not answer");
    }
}

/// What becomes of a reading that is refused for a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The node sends it again.
    Tell,
    /// It is offered again.
    Hold,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::coap::call::{self, Waiter};
    use crate::coap::packet::{Code, response};
    use crate::contract::StandIn;
    use crate::devices;

    /// Begins, and returns what the node is asked for.
    fn ask(node: Value) -> mpsc::Receiver<call::Order> {
        let node = Arc::new(Node::new(&serde_json::from_value(node).unwrap()).unwrap());
        let session = Session::new("tested".parse().unwrap(), StandIn::new(), CancellationToken::new());
        let presence = Presence::new(&node, &Devices::new(session.clone()), &devices::orders().0);
        let (orders, asked) = call::orders();
        let caller = Caller { orders, patience: WAIT, body_max: 100, exponent: 6 };
        tokio::spawn(Asking { presence, node, caller, identities: Identities::default(), session }.run());
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn a_resource_that_is_quiet_is_registered_for_again_at_once_and_not_left() {
        let mut asked = ask(json!({ "device": "a", "address": "10.0.0.7", "observe": ["/t"] }));
        let (began, mut registered) = (Instant::now(), Vec::new());
        while registered.len() < 3 {
            let Some(call::Order::Ask { token, waiter: Waiter::Each(notes), .. }) = asked.recv().await else {
                panic!("it was left");
            };
            let mut packet = response(Code::Content);
            packet::set_uint(&mut packet, Opt::Observe, 5);
            let (done, taken) = oneshot::channel();
            notes.send(Ok(Note { packet, done })).await.unwrap();
            taken.await.unwrap();
            registered.push((token, notes));
        }
        assert!(registered.iter().all(|(token, _)| *token == registered[0].0));
        assert!(began.elapsed() < Duration::from_secs(2 * 70 + 1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_has_is_looked_for_until_it_started_and_after_it_was_gone() {
        let mut asked = ask(json!({ "device": "a", "address": "10.0.0.7", "discover": true }));
        let (mut paths, mut cores) = (Vec::new(), ["", "</a>", "</a>,</b>"].into_iter());
        while paths.len() < 5 {
            let Some(call::Order::Ask { packet, waiter: Waiter::Once(answer), .. }) = asked.recv().await
            else {
                panic!("it was asked for something else");
            };
            let path = packet::path(&packet).unwrap();
            let mut said = response(Code::Content);
            let result = match path.as_str() {
                "/a" => Err(Failure::Timeout),
                "/b" => Ok(said),
                _ => {
                    said.payload = cores.next().unwrap().into();
                    Ok(said)
                }
            };
            answer.send(result).unwrap();
            paths.push(path);
        }
        assert_eq!(paths, ["/.well-known/core", "/.well-known/core", "/a", "/.well-known/core", "/b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_asked_by_the_interface_that_its_address_names() {
        let mut asked = ask(json!({ "device": "a", "address": "[fe80::1%lo]", "poll": ["/t"] }));
        let Some(call::Order::Ask { peer, .. }) = asked.recv().await else { panic!("it was not asked") };
        assert_eq!(peer.address.to_string(), "[fe80::1%1]:5683");
    }
}
