//! What sinks sent out through the ingress, the latest of each topic: to be read, and to be observed (RFC 7641).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{ContentType, Message, StateWrite};
use tokio::sync::mpsc;

use crate::coap::endpoint::Peer;
use crate::coap::layer::Token;
use crate::coap::links::Link;
use crate::coap::packet::{self, problem, response};
use crate::coap::{Code, Opt, Packet, formats};

/// Names of the driver's state begin with this.
pub(super) const KEPT: &str = "latest/";

/// Who observes: a peer, and the token that it chose.
pub(super) type Observer = (Peer, (Token, u8));

/// A notification to be sent.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) observer: Observer,
    /// Of the resource.
    pub(super) path: Box<str>,
    /// All of it, however long it is.
    pub(super) packet: Packet,
}

pub(super) struct Shelf {
    latest_max: usize,
    observers_max: usize,
    held: Mutex<Held>,
    /// At most one for each observer.
    notices: mpsc::Sender<Notice>,
}

#[derive(Default)]
struct Held {
    /// By path.
    latest: BTreeMap<Box<str>, Latest>,
    observers: HashMap<Observer, Watching>,
    /// Of changes, for the order of notifications.
    sequence: u32,
}

#[derive(Clone)]
struct Latest {
    content_type: ContentType,
    payload: Bytes,
}

struct Watching {
    path: Box<str>,
    /// A notification is on its way; when it is there, the newest follows if it was not that.
    on_its_way: bool,
    is_behind: bool,
}

impl Shelf {
    pub(super) fn new(latest_max: usize, observers_max: usize) -> (Self, mpsc::Receiver<Notice>) {
        let (notices, arriving) = mpsc::channel(observers_max);
        (Self { latest_max, observers_max, held: Mutex::default(), notices }, arriving)
    }

    /// As it was kept: `None` if it cannot be read.
    pub(super) fn load(&self, name: &str, value: &[u8]) -> Option<()> {
        let topic = name.strip_prefix(KEPT)?;
        let end = value.iter().position(|byte| *byte == b'\n')?;
        let content_type = std::str::from_utf8(&value[..end]).ok()?.parse().ok()?;
        let latest = Latest { content_type, payload: Bytes::copy_from_slice(&value[end + 1..]) };
        self.held.lock().latest.insert(path(topic), latest);
        Some(())
    }

    /// Whether there is room for a message, and what is to be kept of it. An empty one takes its topic's away.
    pub(super) fn plan(&self, message: &Message) -> Option<StateWrite> {
        let held = self.held.lock();
        let is_there = held.latest.contains_key(&path(message.topic.as_str()));
        if !is_there && !message.payload.is_empty() && held.latest.len() >= self.latest_max {
            return None;
        }
        let kept = || [message.content_type.as_str().as_bytes(), b"\n", &message.payload].concat().into();
        Some(StateWrite {
            name: format!("{KEPT}{}", message.topic).into(),
            value: (!message.payload.is_empty()).then(kept),
            expires: None,
        })
    }

    /// It is on disk: those who observe it are told.
    pub(super) fn put(&self, message: &Message) {
        let path = path(message.topic.as_str());
        let mut held = self.held.lock();
        held.sequence = (held.sequence + 1) & 0xFF_FFFF;
        match message.payload.is_empty() {
            true => drop(held.latest.remove(&path)),
            false => {
                let Message { content_type, payload, .. } = message;
                let latest = Latest { content_type: content_type.clone(), payload: payload.clone() };
                held.latest.insert(path.clone(), latest);
            }
        }
        let Held { latest, observers, sequence } = &mut *held;
        for (observer, watching) in observers.iter_mut().filter(|(_, watching)| watching.path == path) {
            watching.is_behind = watching.on_its_way;
            if !watching.on_its_way {
                watching.on_its_way = true;
                let packet = representation(latest.get(&path), Some(*sequence));
                // There is a place for each observer.
                let _ = self.notices.try_send(Notice { observer: *observer, path: path.clone(), packet });
            }
        }
        if !held.latest.contains_key(&path) {
            held.observers.retain(|_, watching| watching.path != path || watching.on_its_way);
        }
    }

    /// A notification arrived, or did not: then its observer is gone.
    pub(super) fn notified(&self, observer: Observer, arrived: bool) -> Option<Notice> {
        let mut held = self.held.lock();
        let Held { latest, observers, sequence } = &mut *held;
        let watching = observers.get_mut(&observer)?;
        if !arrived || !watching.is_behind && !latest.contains_key(&watching.path) {
            observers.remove(&observer);
            return None;
        }
        watching.on_its_way = watching.is_behind;
        let is_behind = std::mem::take(&mut watching.is_behind);
        is_behind.then(|| Notice {
            observer,
            path: watching.path.clone(),
            packet: representation(latest.get(&watching.path), Some(*sequence)),
        })
    }

    /// Answers a GET; `observe` is what its option says.
    pub(super) fn get(&self, path: &str, observer: Observer, observe: Option<u32>) -> Packet {
        let mut held = self.held.lock();
        let Some(latest) = held.latest.get(path).cloned() else {
            return problem(Code::NotFound, "nothing was sent out on this topic");
        };
        let is_observer = |other: &Observer| other.0 == observer.0 && other.1 == observer.1;
        match observe {
            Some(0) => {
                // Who asks again for the same resource has forgotten the first time.
                held.observers.retain(|other, watching| {
                    other.0 != observer.0 || *watching.path != *path || is_observer(other)
                });
                if held.observers.len() >= self.observers_max && !held.observers.contains_key(&observer) {
                    return representation(Some(&latest), None);
                }
                let watching = Watching { path: path.into(), on_its_way: false, is_behind: false };
                held.observers.entry(observer).or_insert(watching);
                let sequence = held.sequence;
                representation(Some(&latest), Some(sequence))
            }
            Some(1) => {
                held.observers.remove(&observer);
                representation(Some(&latest), None)
            }
            _ => representation(Some(&latest), None),
        }
    }

    /// The resources that there are.
    pub(super) fn links(&self) -> Vec<Link> {
        let held = self.held.lock();
        let links = held.latest.iter().map(|(path, latest)| Link {
            path: path.to_string(),
            observable: true,
            format: formats::format(&latest.content_type),
        });
        links.collect()
    }
}

fn path(topic: &str) -> Box<str> {
    format!("/{}", topic.trim_start_matches('/')).into()
}

fn representation(latest: Option<&Latest>, sequence: Option<u32>) -> Packet {
    let Some(Latest { content_type, payload }) = latest else {
        return problem(Code::NotFound, "it was taken away");
    };
    let mut packet = response(Code::Content);
    if let Some(sequence) = sequence {
        packet::set_uint(&mut packet, Opt::Observe, sequence);
    }
    if let Some(format) = formats::format(content_type) {
        packet::set_uint(&mut packet, Opt::ContentFormat, format.into());
    }
    packet.payload = payload.to_vec();
    packet
}

#[cfg(test)]
mod tests {
    use sandbar_reading::Attributes;

    use super::*;

    fn message(topic: &str, payload: &'static str) -> Message {
        Message {
            topic: topic.parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: payload.into(),
        }
    }

    fn observer(number: u8) -> Observer {
        let peer = Peer { address: ([127, 0, 0, number], 1).into(), is_secure: false };
        (peer, ([number; 8], 8))
    }

    fn said(packet: &Packet) -> String {
        let text = String::from_utf8_lossy(&packet.payload);
        format!("{} {text} {:?}", packet.header.code, packet::uint(packet, Opt::Observe))
    }

    #[test]
    fn an_observer_that_is_behind_gets_the_newest_only() {
        let (shelf, mut notices) = Shelf::new(2, 2);
        shelf.put(&message("a/b", "1"));
        assert_eq!(said(&shelf.get("/a/b", observer(1), Some(0))), "2.05 1 Some(1)");
        for payload in ["2", "3", "4"] {
            shelf.put(&message("a/b", payload));
        }
        assert_eq!(said(&notices.try_recv().unwrap().packet), "2.05 2 Some(2)");
        assert!(notices.try_recv().is_err());
        let next = shelf.notified(observer(1), true).unwrap();
        assert_eq!(said(&next.packet), "2.05 4 Some(4)");
        assert!(shelf.notified(observer(1), true).is_none());
        shelf.put(&message("a/b", ""));
        assert_eq!(said(&notices.try_recv().unwrap().packet), "4.04 it was taken away None");
        assert!(shelf.notified(observer(1), true).is_none());
        assert!(shelf.held.lock().observers.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_only() {
        let (shelf, _notices) = Shelf::new(1, 1);
        assert!(shelf.plan(&message("a", "1")).is_some());
        shelf.put(&message("a", "1"));
        assert!(shelf.plan(&message("b", "1")).is_none() && shelf.plan(&message("a", "2")).is_some());
        assert_eq!(said(&shelf.get("/a", observer(1), Some(0))), "2.05 1 Some(1)");
        assert_eq!(said(&shelf.get("/a", observer(2), Some(0))), "2.05 1 None");
        assert_eq!(said(&shelf.get("/a", observer(1), Some(1))), "2.05 1 None");
        assert_eq!(said(&shelf.get("/a", observer(2), Some(0))), "2.05 1 Some(1)");
        assert_eq!(
            said(&shelf.get("/b", observer(2), Some(0))),
            "4.04 nothing was sent out on this topic None"
        );
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let (shelf, _notices) = Shelf::new(1, 1);
        let write = shelf.plan(&message("a/b", "1\n2")).unwrap();
        let (again, _notices) = Shelf::new(1, 1);
        again.load(&write.name, &write.value.unwrap()).unwrap();
        assert_eq!(said(&again.get("/a/b", observer(1), None)), "2.05 1\n2 None");
        assert_eq!(again.links()[0].path, "/a/b");
        assert_eq!(again.load("latest/x", b"no line"), None);
    }
}
