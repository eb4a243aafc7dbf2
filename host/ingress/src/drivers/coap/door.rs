//! Answers requests: readings, what is on the shelf, and what there is at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_reading::{Inbound, Refused};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Settings;
use super::decode::{self, From};
use super::shelf::Shelf;
use crate::coap::blocks::{Begun, Transfers};
use crate::coap::endpoint::{Peer, Request};
use crate::coap::links::Link;
use crate::coap::packet::{self, MessageClass, problem, response};
use crate::coap::{Code, Method, Opt, Packet, Service, answers, links};
use crate::complaints::Complaints;
use crate::devices::{Devices, Joined, Order};
use crate::{Accepted, Answer, Replies, Session};

/// How many devices' addresses are known; beyond that the one that was silent for longest is forgotten.
const DEVICES_MAX: usize = 4096;

pub(super) struct Door {
    settings: Arc<Settings>,
    session: Session,
    transfers: Mutex<Transfers>,
    pub(super) shelf: Shelf,
    devices: Arc<Devices>,
    orders: mpsc::Sender<Order>,
    known: Mutex<Known>,
    complaints: Complaints,
}

/// Where devices sent from last.
#[derive(Default)]
struct Known {
    places: HashMap<Box<str>, Place>,
    requests: u64,
}

struct Place {
    peer: Peer,
    /// The number of the request.
    seen: u64,
    _joined: Joined,
}

impl Door {
    pub(super) fn new(
        settings: Arc<Settings>,
        session: Session,
        shelf: Shelf,
        devices: Arc<Devices>,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        let limits = settings.limits(session.reading_max());
        Self {
            settings,
            transfers: Mutex::new(Transfers::new(limits)),
            shelf,
            devices,
            orders,
            known: Mutex::default(),
            complaints: Complaints::new(session.ingress().clone()),
            session,
        }
    }

    /// Where a device that sent something is reached.
    pub(super) fn place(&self, device: &str) -> Option<Peer> {
        let mut peer = self.known.lock().places.get(device)?.peer;
        if let Some(port) = self.settings.command_port {
            peer.address.set_port(port);
        }
        Some(peer)
    }

    /// What goes into a notification of `path`; the rest is asked for (RFC 7959, section 2.6).
    pub(super) fn first_block(&self, peer: Peer, path: &str, notification: Packet) -> Packet {
        let request = packet::request(Method::Get, path, &[]);
        self.transfers.lock().finish(peer, &request, notification, Instant::now())
    }

    /// No device is reached any more.
    pub(super) fn close(&self) {
        self.known.lock().places.clear();
    }

    async fn answer(&self, request: Request) -> Packet {
        let Request { peer, identity, token, packet } = request;
        if !peer.is_secure && !self.settings.plain {
            return problem(Code::Unauthorized, "only requests over DTLS are taken here");
        }
        let begun = self.transfers.lock().begin(peer, packet, Instant::now());
        let packet = match begun {
            Begun::Answered(answer) => return answer,
            Begun::Whole(packet) => packet,
        };
        let answer = match packet.header.code {
            MessageClass::Request(Method::Get) => match answers::path(&packet) {
                Ok(path) => acceptable(&packet, self.read(&path, (peer, token), &packet)),
                Err(answer) => answer,
            },
            _ => self.take(peer, identity.as_deref(), &packet).await,
        };
        self.transfers.lock().finish(peer, &packet, answer, Instant::now())
    }

    fn read(&self, path: &str, observer: super::shelf::Observer, packet: &Packet) -> Packet {
        if path == "/.well-known/core" {
            let Some(queries) = packet::queries(packet) else {
                return problem(Code::BadRequest, "the query is no text");
            };
            return list(self.links(), &queries);
        }
        self.shelf.get(path, observer, packet::uint(packet, Opt::Observe))
    }

    fn links(&self) -> Vec<Link> {
        let own = Link { path: "/.well-known/core".to_owned(), observable: false, format: Some(40) };
        [own].into_iter().chain(self.shelf.links()).collect()
    }

    async fn take(&self, peer: Peer, identity: Option<&str>, packet: &Packet) -> Packet {
        let from = From { address: peer.address, identity };
        let inbound = match decode::decode(&self.settings.resources, from, packet) {
            Ok(inbound) => inbound,
            Err(answer) => {
                let said = String::from_utf8_lossy(&answer.payload);
                self.complaints.note("refused", peer.address, said, self.session.now());
                return answer;
            }
        };
        if let Some(device) = &inbound.device {
            self.know(device, peer);
        }
        self.accept(inbound).await
    }

    async fn accept(&self, inbound: Inbound) -> Packet {
        match self.session.accept(inbound).await {
            Ok(Accepted { replies: None, .. }) => answers::taken(),
            Ok(Accepted { replies: Some(replies), .. }) => self.reply(replies).await,
            Err(refused) => {
                if !matches!(refused, Refused::Stopping) {
                    tracing::debug!(ingress = %self.session.ingress(), %refused, "a reading was refused");
                }
                answers::refused(&refused)
            }
        }
    }

    /// What the handler says in time. The reading is taken: when the session stops, the sender learns that.
    async fn reply(&self, mut replies: Replies) -> Packet {
        tokio::select! {
            biased;
            answer = replies.settled() => match answer {
                Some(Answer::Reply(message)) => answers::of_handler(&message),
                Some(Answer::Rejected(why)) => problem(Code::UnprocessableEntity, &why),
                Some(Answer::Retrying(_)) | None => answers::taken(),
            },
            () = tokio::time::sleep(self.settings.reply_timeout) => {
                problem(Code::GatewayTimeout, "the reading was taken, but its handler has not replied in time")
            }
            () = self.session.stopped() => answers::taken(),
        }
    }

    fn know(&self, device: &str, peer: Peer) {
        let mut known = self.known.lock();
        let Known { places, requests } = &mut *known;
        *requests += 1;
        if let Some(place) = places.get_mut(device) {
            (place.peer, place.seen) = (peer, *requests);
            return;
        }
        if self.settings.is_node(device) {
            return;
        }
        if places.len() >= DEVICES_MAX {
            let oldest = places.iter().min_by_key(|(_, place)| place.seen).map(|(device, _)| device.clone());
            oldest.and_then(|device| places.remove(&device));
        }
        let joined = self.devices.join(device, self.orders.clone());
        places.insert(device.into(), Place { peer, seen: *requests, _joined: joined });
    }
}

/// Who wants another format than there is, is told so (RFC 7252, section 5.10.4).
fn acceptable(request: &Packet, answer: Packet) -> Packet {
    let (wanted, given) = (packet::uint(request, Opt::Accept), packet::uint(&answer, Opt::ContentFormat));
    match wanted.is_some() && packet::class(&answer) == 2 && wanted != given {
        true => problem(Code::NotAcceptable, "it is not there in this format"),
        false => answer,
    }
}

/// Also by what the query asks for (RFC 6690, section 4.1): `href=/a*`, `obs`, `ct=50`.
fn list(all: Vec<Link>, queries: &[&str]) -> Packet {
    let fits = |link: &Link| {
        queries.iter().all(|query| {
            let (name, wanted) = query.split_once('=').unwrap_or((query, "*"));
            let is = |text: &str| match wanted.strip_suffix('*') {
                Some(beginning) => text.starts_with(beginning),
                None => text == wanted,
            };
            match name {
                "href" => is(&link.path),
                "ct" => link.format.is_some_and(|format| is(&format.to_string())),
                "obs" => link.observable,
                _ => false,
            }
        })
    };
    let links: Vec<_> = all.into_iter().filter(fits).collect();
    let mut answer = response(Code::Content);
    packet::set_uint(&mut answer, Opt::ContentFormat, 40);
    answer.payload = links::write(&links).into_bytes();
    answer
}

impl Service for Door {
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Packet> {
        async move { self.answer(request).await }.boxed()
    }

    fn admits(&self, peer: SocketAddr) -> bool {
        let allow = &self.settings.allow;
        let is_admitted = allow.is_empty()
            || allow.iter().any(|network| network.has(peer.ip()))
            || self.settings.has_node_at(peer);
        if !is_admitted {
            // Not even told so: the address may be another's.
            let about = "a datagram from who is not on the list";
            self.complaints.note("not allowed", peer, about, self.session.now());
        }
        is_admitted
    }
}
