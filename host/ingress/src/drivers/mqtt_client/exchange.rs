//! One link's traffic: messages to the disk and their acknowledgements back, replies and commands out.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use sandbar_mqtt_client::codec::{Ack, AckKind};
use sandbar_mqtt_client::{Link, LinkLost, Opened, Packet, Publish, Qos};
use sandbar_reading::{Inbound, Refused, StateWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::config::Plan;
use super::kept::{self, Kept};
use super::outgoing::{Outgoing, ReplyTo};
use crate::{Accepted, Connection, LinkError, PeerInfo, Session};

pub(super) struct Exchange<'a> {
    plan: &'a Plan,
    session: Session,
    link: Link,
    kept: Kept,
    /// Messages of QoS 2 that are on their way to the disk: one that comes again is not taken again.
    arriving: HashSet<u16>,
    /// Acknowledged in the order in which they came (4.6).
    under_way: FuturesOrdered<BoxFuture<'a, Done>>,
    /// Nobody is left to be told: what the host refuses for now is not offered to it again.
    over: CancellationToken,
    outgoing: Outgoing,
    connection: Connection,
    /// Until when the broker must have answered the subscription.
    pub(super) subscribing: Option<Instant>,
}

/// What became of a packet that asks for an acknowledgement.
enum Done {
    Taken {
        qos: Qos,
        packet_id: u16,
        accepted: Accepted,
        reply_to: Option<ReplyTo>,
    },
    /// It will never be taken.
    Unfit {
        qos: Qos,
        packet_id: u16,
        code: u8,
    },
    Released {
        packet_id: u16,
        result: Result<(), Refused>,
    },
    Stopping,
}

/// Readings that the disk cannot take now are offered to it again so often.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// What is on its way to the disk when the session ends is waited for so long.
const FINISH: Duration = Duration::from_millis(300);

impl<'a> Exchange<'a> {
    pub(super) fn new(plan: &'a Plan, session: Session, link: Link, opened: &Opened, kept: Kept) -> Self {
        let mut outgoing = Outgoing::new(opened, plan);
        if plan.command_topic.is_some() {
            for device in kept.devices.iter().take(plan.devices_max) {
                outgoing.attach(&session, device);
            }
        }
        let peer = PeerInfo {
            remote: Some(opened.remote),
            client: Some(plan.broker.client_id().into()),
            ..PeerInfo::default()
        };
        Self {
            plan,
            connection: session.connected(peer),
            session,
            link,
            kept,
            arriving: HashSet::new(),
            under_way: FuturesOrdered::new(),
            over: CancellationToken::new(),
            outgoing,
            subscribing: None,
        }
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        self.link.send(packet);
    }

    pub(super) fn kept_filters(&self) -> &[(Box<str>, u8)] {
        &self.kept.filters
    }

    pub(super) async fn keep_filters(&mut self, filters: Vec<(Box<str>, u8)>) -> Result<(), LinkError> {
        kept::keep(&self.session, vec![kept::filters(&filters)]).await?;
        self.kept.filters = filters;
        Ok(())
    }

    /// One thing happens. Returns a packet that is no one's here. May be dropped and called again.
    pub(super) async fn step(&mut self) -> Result<Option<Packet>, LinkError> {
        let has_room = self.under_way.len() < usize::from(self.plan.window);
        tokio::select! {
            biased;
            Some(done) = self.under_way.next() => self.settle(done)?,
            result = receive(&mut self.link, has_room) => {
                return self.take(result.map_err(|lost| LinkError::new("the link to the broker", lost))?);
            }
            Some(item) = self.outgoing.next() => {
                self.connection.sent(item.payload_len(), self.session.now());
                let confirmed = self.outgoing.give(item, &mut self.link);
                if let Some(offer) = confirmed {
                    self.link.flush().await.map_err(|lost| LinkError::new("the link to the broker", lost))?;
                    offer.acknowledge();
                }
            }
        }
        Ok(None)
    }

    /// Waits a little for what is on its way to the disk, and says farewell.
    pub(super) async fn finish(mut self) {
        let all = async {
            while let Some(done) = self.under_way.next().await {
                if self.settle(done).is_err() {
                    break;
                }
            }
        };
        drop(tokio::time::timeout(FINISH, all).await);
        let (link, under_way) = self.part();
        link.close().await;
        land(under_way).await;
    }

    /// The link is lost.
    pub(super) async fn lost(self) {
        let (_, under_way) = self.part();
        land(under_way).await;
    }

    fn part(self) -> (Link, FuturesOrdered<BoxFuture<'a, Done>>) {
        self.over.cancel();
        (self.link, self.under_way)
    }

    fn take(&mut self, packet: Packet) -> Result<Option<Packet>, LinkError> {
        match packet {
            Packet::Publish(publish) => self.arrive(&publish),
            Packet::Ack(Ack { kind: AckKind::PubRel, packet_id, .. }) => self.release(packet_id),
            Packet::Ack(ack) if self.outgoing.confirm(&ack) => {}
            // Of a reply or command that an earlier link sent.
            Packet::Ack(Ack { kind: AckKind::PubAck | AckKind::PubComp, .. }) => {}
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    fn arrive(&mut self, publish: &Publish) {
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        self.connection.received(publish.payload.len(), self.session.now());
        if qos == Qos::ExactlyOnce {
            if self.kept.taken.contains(&packet_id) {
                return self.link.send(&Packet::Ack(Ack::new(AckKind::PubRec, packet_id)));
            }
            if !self.arriving.insert(packet_id) {
                return;
            }
        }
        let inbound = match self.plan.reader.decode(publish) {
            Ok(inbound) => inbound,
            Err(error) => {
                warn!(ingress = %self.session.ingress(), %error, "a message that cannot be a reading");
                let unfit = Done::Unfit { qos, packet_id, code: 0x90 };
                return self.under_way.push_back(std::future::ready(unfit).boxed());
            }
        };
        let mut keep = Vec::new();
        if qos == Qos::ExactlyOnce {
            keep.push(kept::taken(packet_id));
        }
        if let Some(device) = inbound.device.as_deref()
            && self.plan.command_topic.is_some()
            && self.kept.devices.len() < self.plan.devices_max
            && self.kept.devices.insert(device.into())
        {
            self.outgoing.attach(&self.session, device);
            keep.push(kept::device(device));
        }
        let reply_to = ReplyTo::of(publish, &inbound, self.plan);
        let (session, over) = (self.session.clone(), self.over.clone());
        let taking = async move {
            match accept(&session, &over, inbound, keep).await {
                Ok(accepted) => Done::Taken { qos, packet_id, accepted, reply_to },
                Err(Refused::Stopping) => Done::Stopping,
                Err(refused) => {
                    warn!(ingress = %session.ingress(), %refused, "a message that cannot be a reading");
                    Done::Unfit { qos, packet_id, code: 0x83 }
                }
            }
        };
        self.under_way.push_back(taking.boxed());
    }

    /// The broker will not send that message again: its identifier is free for another once that is on disk.
    fn release(&mut self, packet_id: u16) {
        if !self.kept.taken.contains(&packet_id) {
            let answer = Ack { code: 0x92, ..Ack::new(AckKind::PubComp, packet_id) };
            return self.link.send(&Packet::Ack(answer));
        }
        let session = self.session.clone();
        let releasing = async move {
            let result = session.keep(vec![kept::released(packet_id)]).await;
            Done::Released { packet_id, result }
        };
        self.under_way.push_back(releasing.boxed());
    }

    fn settle(&mut self, done: Done) -> Result<(), LinkError> {
        match done {
            Done::Taken { qos, packet_id, accepted, reply_to } => {
                if qos == Qos::ExactlyOnce {
                    self.arriving.remove(&packet_id);
                    self.kept.taken.insert(packet_id);
                }
                self.acknowledge(qos, packet_id, 0);
                if let (Some(replies), Some(reply_to)) = (accepted.replies, reply_to) {
                    self.outgoing.await_replies(replies, reply_to);
                }
            }
            Done::Unfit { qos, packet_id, code } => {
                self.arriving.remove(&packet_id);
                self.acknowledge(qos, packet_id, code);
            }
            Done::Released { packet_id, result } => {
                result.map_err(|refused| LinkError::new("keeping the state of the session", refused))?;
                self.kept.taken.remove(&packet_id);
                self.link.send(&Packet::Ack(Ack::new(AckKind::PubComp, packet_id)));
            }
            Done::Stopping => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, qos: Qos, packet_id: u16, code: u8) {
        let kind = match qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => AckKind::PubAck,
            Qos::ExactlyOnce => AckKind::PubRec,
        };
        self.link.send(&Packet::Ack(Ack { code, ..Ack::new(kind, packet_id) }));
    }
}

/// The next packet, or the end of the link. Without room for more it does not return before there is some.
async fn receive(link: &mut Link, has_room: bool) -> Result<Packet, LinkLost> {
    if has_room { link.next().await } else { Err(link.stay().await) }
}

/// What is on its way to the disk gets there without the link: who read before that what is kept would take a message
/// of QoS 2 that comes again for a new one.
async fn land(mut under_way: FuturesOrdered<BoxFuture<'_, Done>>) {
    while under_way.next().await.is_some() {}
}

/// A broker has no word for "not now": what cannot be taken stays unacknowledged, and is offered again here.
/// The window fills, and the broker sends no more.
async fn accept(
    session: &Session,
    over: &CancellationToken,
    inbound: Inbound,
    keep: Vec<StateWrite>,
) -> Result<Accepted, Refused> {
    loop {
        let pause = match session.accept_keeping(inbound.clone(), keep.clone()).await {
            Err(Refused::Busy { retry_after }) => retry_after,
            Err(Refused::DiskFull | Refused::Storage { .. }) => DISK_PAUSE,
            other => return other,
        };
        tokio::select! {
            () = session.stopped() => return Err(Refused::Stopping),
            () = over.cancelled() => return Err(Refused::Stopping),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
