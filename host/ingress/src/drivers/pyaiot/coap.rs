//! Nodes that speak CoAP: their beacons, what they post, and what is asked of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decode::{self, Beacon, Datum};
use super::hub::{Full, Hub, Via, Write};
use crate::CommandError;
use crate::coap::blocks::{Begun, Block, Limits, Transfers};
use crate::coap::call::{Body, CallError};
use crate::coap::endpoint::{Peer, Request};
use crate::coap::links::{self, Link};
use crate::coap::packet::{self, MessageClass, problem, response};
use crate::coap::{Caller, Code, Method, Opt, Packet, Service, answers};

/// How many nodes may wait to be looked at.
const DISCOVERIES_MAX: usize = 1024;

/// How many are looked at, or written to, at once.
const UNDER_WAY_MAX: usize = 64;

/// How often it is looked whether a node is out.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Gateway {
    hub: Arc<Hub>,
    node_port: u16,
    lost_after: Duration,
    transfers: Mutex<Transfers>,
    alive: Mutex<HashMap<Box<str>, Alive>>,
    discoveries: mpsc::Sender<(Box<str>, SocketAddr)>,
}

struct Alive {
    /// Where it serves.
    address: SocketAddr,
    at: Instant,
    look: Look,
}

/// Whether a node was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Due,
    UnderWay,
    Done,
}

impl Gateway {
    pub(super) fn new(
        hub: Arc<Hub>,
        node_port: u16,
        lost_after: Duration,
    ) -> (Self, mpsc::Receiver<(Box<str>, SocketAddr)>) {
        let (discoveries, arriving) = mpsc::channel(DISCOVERIES_MAX);
        let limits = Limits {
            body_max: hub.session().reading_max(),
            exponent: Block::EXPONENT_MAX,
            patience: Duration::from_secs(60),
        };
        let transfers = Mutex::new(Transfers::new(limits));
        (Self { hub, node_port, lost_after, transfers, alive: Mutex::default(), discoveries }, arriving)
    }

    async fn answer(&self, request: Request) -> Packet {
        let Request { peer, packet, .. } = request;
        let begun = self.transfers.lock().begin(peer, packet, Instant::now());
        let packet = match begun {
            Begun::Answered(answer) => return answer,
            Begun::Whole(packet) => packet,
        };
        let answer = self.respond(peer, &packet).await;
        self.transfers.lock().finish(peer, &packet, answer, Instant::now())
    }

    async fn respond(&self, peer: Peer, packet: &Packet) -> Packet {
        let path = match answers::path(packet) {
            Ok(path) => path,
            Err(answer) => return answer,
        };
        let is_post = packet.header.code == MessageClass::Request(Method::Post);
        let is_get = packet.header.code == MessageClass::Request(Method::Get);
        let payload = &packet.payload;
        let text = String::from_utf8_lossy(payload);
        let mut address = peer.address;
        address.set_port(self.node_port);
        match path.as_str() {
            "/alive" if is_post => match decode::beacon(&text) {
                Some(beacon) => self.beacon(&beacon, address, &text),
                None => problem(Code::BadRequest, "a beacon is alive:UID or reset:UID"),
            },
            "/server" if is_post => match decode::posted(payload) {
                Some((resource, value)) => self.posted(resource, value, address, &text).await,
                None => problem(Code::BadRequest, "a value is resource:value"),
            },
            "/.well-known/core" if is_get => own_links(),
            "/alive" | "/server" | "/.well-known/core" => {
                problem(Code::MethodNotAllowed, "beacons and values are sent with POST")
            }
            _ => problem(Code::NotFound, "there are /alive and /server"),
        }
    }

    /// One that is known stays what it is, but for its address and the time.
    fn beacon(&self, beacon: &Beacon<'_>, address: SocketAddr, text: &str) -> Packet {
        let (Beacon::Alive(uid) | Beacon::Reset(uid)) = *beacon;
        let is_new = match self.hub.arrive(uid, Via::Coap(address), Some(address)) {
            Ok(is_new) => is_new,
            Err(Full) => return problem(Code::ServiceUnavailable, "there are too many nodes"),
        };
        let was_reset = matches!(beacon, Beacon::Reset(_));
        if was_reset && !is_new {
            self.hub.reset(uid);
        }
        let mut alive = self.alive.lock();
        let before = alive.get(uid).filter(|node| !is_new && !was_reset && node.address == address);
        let mut look = before.map_or(Look::Due, |node| node.look);
        // When there are too many, or it does not answer, it is looked at after its next beacon.
        if look == Look::Due && self.discoveries.try_send((uid.into(), address)).is_ok() {
            look = Look::UnderWay;
        }
        alive.insert(uid.into(), Alive { address, at: Instant::now(), look });
        received(text)
    }

    async fn posted(&self, resource: &str, value: &[u8], address: SocketAddr, text: &str) -> Packet {
        let uid = {
            let alive = self.alive.lock();
            let latest =
                alive.iter().filter(|(_, node)| node.address == address).max_by_key(|(_, node)| node.at);
            latest.map(|(uid, _)| uid.clone())
        };
        let Some(uid) = uid else { return problem(Code::NotFound, "no beacon of yours was heard") };
        let datum = Datum::Bytes(Bytes::copy_from_slice(value));
        match self.hub.update(&uid, resource, &datum).await {
            Ok(()) => received(text),
            Err(refused) => answers::refused(&refused),
        }
    }

    /// Looks at new nodes, writes to nodes, and finds out who is out, until the session stops.
    pub(super) async fn run(
        &self,
        caller: &Caller,
        mut discoveries: mpsc::Receiver<(Box<str>, SocketAddr)>,
        mut writes: mpsc::Receiver<Write>,
    ) {
        let mut under_way: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK.min(self.lost_after));
        loop {
            let has_room = under_way.len() < UNDER_WAY_MAX;
            tokio::select! {
                () = self.hub.session().stopped() => return,
                Some(()) = under_way.next() => {}
                Some((uid, address)) = discoveries.recv(), if has_room => {
                    under_way.push(async move { self.discover(caller, &uid, address).await }.boxed());
                }
                Some(write) = writes.recv(), if has_room => under_way.push(self.write(caller, write).boxed()),
                _ = look.tick() => self.drop_lost(),
            }
        }
    }

    fn drop_lost(&self) {
        let mut lost = Vec::new();
        self.alive.lock().retain(|uid, node| {
            let stays = node.at.elapsed() < self.lost_after;
            if !stays {
                lost.push(uid.clone());
            }
            stays
        });
        for uid in lost {
            self.hub.leave(&uid, false);
        }
    }

    async fn discover(&self, caller: &Caller, uid: &str, address: SocketAddr) {
        self.hub.describe(uid, "ip", address.ip().to_string());
        self.hub.describe(uid, "protocol", "CoAP");
        let peer = Peer { address, is_secure: false };
        let answer = caller.get(peer, "/.well-known/core").await;
        if let Some(node) = self.alive.lock().get_mut(uid).filter(|node| node.address == address) {
            node.look = if answer.is_ok() { Look::Done } else { Look::Due };
        }
        let links = match answer {
            Ok(answer) => links::parse(&String::from_utf8_lossy(&answer.payload)),
            Err(error) => return self.note(uid, "/.well-known/core", &error),
        };
        for Link { path, .. } in links.iter().filter(|link| !link.path.starts_with("/.well-known/")) {
            match caller.get(peer, path).await {
                Ok(answer) => {
                    let datum = Datum::Bytes(answer.payload.into());
                    self.hub.update_held(uid, path.trim_start_matches('/'), datum).await;
                }
                Err(error) => self.note(uid, path, &error),
            }
        }
    }

    async fn write(&self, caller: &Caller, write: Write) {
        let Write { uid, endpoint, payload, at, done } = write;
        let Some(address) = at else { return };
        let peer = Peer { address, is_secure: false };
        let text = decode::plain(&payload);
        let body = Body { format: Some(0), bytes: text.clone().into() };
        let written = caller.send(peer, Method::Put, &format!("/{endpoint}"), &body).await;
        let result = match &written {
            Ok(_) => Ok(()),
            Err(error) => {
                self.note(&uid, &endpoint, error);
                Err(error.into())
            }
        };
        if let Some(done) = done {
            let _: Result<(), Result<(), CommandError>> = done.send(result);
        }
        if written.is_ok() {
            self.hub.update_held(&uid, &endpoint, Datum::text(text)).await;
        }
    }

    fn note(&self, uid: &str, path: &str, error: &CallError) {
        let ingress = self.hub.session().ingress();
        tracing::debug!(%ingress, uid, path, %error, "a node did not answer");
    }
}

fn received(text: &str) -> Packet {
    let mut answer = response(Code::Changed);
    answer.payload = format!("Received '{text}'").into_bytes();
    answer
}

fn own_links() -> Packet {
    let link = |path: &str| Link { path: path.to_owned(), observable: false, format: None };
    let mut answer = response(Code::Content);
    packet::set_uint(&mut answer, Opt::ContentFormat, 40);
    answer.payload = links::write(&[link("/alive"), link("/server")]).into_bytes();
    answer
}

impl Service for Gateway {
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Packet> {
        async move { self.answer(request).await }.boxed()
    }
}
