//! An MQTT client that keeps its side of a session across lost connections, and remembers what was acknowledged.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use sandbar_mqtt_client::codec::{Ack, AckKind, Filter, Subscribe};
use sandbar_mqtt_client::{Broker, BrokerConfig, Link, OpenError, Opened, Packet, Publish, Qos, Session};

/// A broker at this port of this machine, and who is there; `version` is `5` or `3.1.1`.
pub fn broker(port: u16, client_id: &str, version: &str) -> Broker {
    let settings = serde_json::json!({
        "url": format!("mqtt://127.0.0.1:{port}"),
        "client_id": client_id,
        "version": version,
        "timeout_ms": 20_000,
    });
    let config: BrokerConfig = sandbar_reading::settings(settings).expect("settings of our own making");
    Broker::new(&config).expect("settings that work")
}

/// Of a session that outlives its connections.
pub const KEPT: Session =
    Session { clean_start: false, expiry_s: 3600, receive_maximum: 100, packet_max: 1 << 20 };

/// Publishes `{"who":…,"n":0}`, `{"who":…,"n":1}` … with many on their way at once.
pub struct Publisher {
    who: String,
    broker: Broker,
    qos: Qos,
    window: usize,
    /// Each message with its packet identifier; released ones the broker has, with QoS 2.
    under_way: VecDeque<Sent>,
    next: u64,
    packet_id: u16,
    /// What the broker has said to have, in the order in which it did.
    pub acknowledged: Vec<u64>,
    had_session: bool,
}

struct Sent {
    packet_id: u16,
    n: u64,
    released: bool,
}

impl Publisher {
    pub fn new(who: String, broker: Broker, qos: Qos, window: usize) -> Self {
        Self {
            who,
            broker,
            qos,
            window,
            under_way: VecDeque::new(),
            next: 0,
            packet_id: 0,
            acknowledged: Vec::new(),
            had_session: false,
        }
    }

    /// How many messages there were, acknowledged or not.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// Goes on with what is under way, and publishes `count` more. Returns when all is acknowledged, or when the
    /// link is lost; the error says what no broker may do.
    pub async fn publish(&mut self, count: u64) -> Result<()> {
        let (mut link, opened) = match Link::open(&self.broker, KEPT).await {
            Ok(opened) => opened,
            Err(OpenError::Unreachable { .. } | OpenError::Lost { .. }) => return Ok(()),
            Err(refused) => bail!("{}: {refused}", self.who),
        };
        ensure!(opened.session_present || !self.had_session, "{}: the broker lost the session", self.who);
        self.had_session = true;
        for sent in &self.under_way {
            link.send(&match sent.released {
                true => Packet::Ack(Ack::new(AckKind::PubRel, sent.packet_id)),
                false => Packet::Publish(Publish { duplicate: true, ..self.message(sent.packet_id, sent.n) }),
            });
        }
        let last = self.next + count;
        let window = self.window.min(usize::from(opened.receive_maximum));
        while self.next < last || !self.under_way.is_empty() {
            while self.next < last && self.under_way.len() < window {
                self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
                link.send(&Packet::Publish(self.message(self.packet_id, self.next)));
                self.under_way.push_back(Sent { packet_id: self.packet_id, n: self.next, released: false });
                self.next += 1;
            }
            match link.next().await {
                Ok(Packet::Ack(ack)) => self.take(&ack, &mut link)?,
                Ok(other) => bail!("{}: {other:?}", self.who),
                Err(_) => return Ok(()),
            }
        }
        link.close().await;
        Ok(())
    }

    fn message(&self, packet_id: u16, n: u64) -> Publish {
        Publish {
            qos: self.qos,
            packet_id,
            topic: format!("load/{}/{}", self.qos.bits(), self.who).into(),
            payload: Bytes::from(format!("{{\"who\":\"{}\",\"n\":{n}}}", self.who)),
            ..Publish::default()
        }
    }

    fn take(&mut self, ack: &Ack, link: &mut Link) -> Result<()> {
        let Some(index) = self.under_way.iter().position(|sent| sent.packet_id == ack.packet_id) else {
            bail!("{}: {ack:?} for nothing that was sent", self.who);
        };
        ensure!(ack.code < 0x80 || ack.code == 0x92, "{}: {ack:?}", self.who);
        match ack.kind {
            AckKind::PubRec => {
                let sent = &mut self.under_way[index];
                if !std::mem::replace(&mut sent.released, true) {
                    self.acknowledged.push(sent.n);
                }
                link.send(&Packet::Ack(Ack::new(AckKind::PubRel, ack.packet_id)));
            }
            AckKind::PubAck | AckKind::PubComp => {
                let sent = self.under_way.remove(index).expect("it was found");
                if !sent.released {
                    self.acknowledged.push(sent.n);
                }
            }
            AckKind::PubRel => bail!("{}: {ack:?} of a broker that received", self.who),
        }
        Ok(())
    }
}

/// Takes messages of QoS 2, each once, across connections.
pub struct Watcher {
    broker: Broker,
    filter: String,
    unreleased: BTreeSet<u16>,
    pub payloads: Vec<Bytes>,
    had_session: bool,
}

impl Watcher {
    pub fn new(broker: Broker, filter: &str) -> Self {
        Self {
            broker,
            filter: filter.to_owned(),
            unreleased: BTreeSet::new(),
            payloads: Vec::new(),
            had_session: false,
        }
    }

    /// Until the link is lost, or `done`; cancelled, it loses nothing but the connection.
    pub async fn watch(&mut self, done: impl Fn(&[Bytes]) -> bool) -> Result<()> {
        let (mut link, Opened { session_present, .. }) = match Link::open(&self.broker, KEPT).await {
            Ok(opened) => opened,
            Err(OpenError::Unreachable { .. } | OpenError::Lost { .. }) => return Ok(()),
            Err(refused) => bail!("the watcher: {refused}"),
        };
        ensure!(session_present || !self.had_session, "the broker lost the watcher's session");
        if !session_present {
            let filters = vec![Filter::new(self.filter.as_str(), Qos::ExactlyOnce)];
            link.send(&Packet::Subscribe(Subscribe { packet_id: 1, filters }));
        }
        while !done(&self.payloads) {
            let Ok(packet) = link.next().await else { return Ok(()) };
            match packet {
                Packet::SubAck(_) => self.had_session = true,
                Packet::Publish(publish) => {
                    if self.unreleased.insert(publish.packet_id) {
                        self.payloads.push(publish.payload);
                    }
                    link.send(&Packet::Ack(Ack::new(AckKind::PubRec, publish.packet_id)));
                }
                Packet::Ack(Ack { kind: AckKind::PubRel, packet_id, .. }) => {
                    self.unreleased.remove(&packet_id);
                    link.send(&Packet::Ack(Ack::new(AckKind::PubComp, packet_id)));
                }
                other => bail!("the watcher: {other:?}"),
            }
        }
        link.close().await;
        Ok(())
    }
}
