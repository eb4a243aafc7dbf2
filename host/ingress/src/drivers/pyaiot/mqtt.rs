//! Nodes that speak MQTT, over a broker: this host's own, or another.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sandbar_mqtt_client::codec::{Ack, AckKind, Filter, Subscribe};
use sandbar_mqtt_client::{Broker, Link, Packet, Publish, Qos, Session as Terms};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decode::{self, Datum, FromMqtt};
use super::hub::{Hub, Via, Write};
use crate::LinkError;

/// After which a broker that is gone is connected to again: the other gateways go on meanwhile.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether a node is out.
const LOOK: Duration = Duration::from_secs(1);

/// Room for a packet's topic beside the payload of the largest reading.
const HEAD_MAX: usize = 64 << 10;

pub(super) struct Gateway<'a> {
    pub(super) hub: &'a Hub,
    pub(super) broker: &'a Broker,
    pub(super) check_interval: Duration,
    pub(super) lost_after: Duration,
    alive: HashMap<Box<str>, Instant>,
    packet_id: u16,
}

impl<'a> Gateway<'a> {
    pub(super) fn new(
        hub: &'a Hub,
        broker: &'a Broker,
        check_interval: Duration,
        lost_after: Duration,
    ) -> Self {
        Self { hub, broker, check_interval, lost_after, alive: HashMap::new(), packet_id: 1 }
    }

    /// Until the session stops.
    pub(super) async fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        let session = self.hub.session().clone();
        loop {
            let lost = tokio::select! {
                () = session.stopped() => return,
                lost = self.converse(&mut writes) => lost,
            };
            if let Err(error) = lost {
                let ingress = session.ingress();
                tracing::warn!(%ingress, error = &error as &dyn std::error::Error, "the nodes' broker is gone");
            }
            let until = Instant::now() + AGAIN;
            while Instant::now() < until {
                tokio::select! {
                    () = session.stopped() => return,
                    () = tokio::time::sleep(LOOK) => self.drop_lost(),
                }
            }
        }
    }

    async fn converse(&mut self, writes: &mut mpsc::Receiver<Write>) -> Result<(), LinkError> {
        let packet_max = u32::try_from(self.hub.session().reading_max() + HEAD_MAX).unwrap_or(u32::MAX);
        let terms = Terms { clean_start: true, expiry_s: 0, receive_maximum: 16, packet_max };
        let (mut link, _) =
            Link::open(self.broker, terms).await.map_err(|error| LinkError::new("the broker", error))?;
        let filters = vec![Filter::new("node/#", Qos::AtLeastOnce)];
        link.send(&Packet::Subscribe(Subscribe { packet_id: u16::MAX, filters }));
        let mut checks = tokio::time::interval(self.check_interval);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                packet = link.next() => {
                    let packet = packet.map_err(|lost| LinkError::new("the link to the broker", lost))?;
                    self.take(packet, &mut link).await;
                }
                Some(write) = writes.recv() => self.write(write, &mut link),
                _ = checks.tick() => self.publish(&mut link, "gateway/check".to_owned(), Bytes::from_static(b"check")),
                _ = look.tick() => self.drop_lost(),
            }
        }
    }

    /// What asks for an acknowledgement gets it once it is on disk.
    async fn take(&mut self, packet: Packet, link: &mut Link) {
        let Packet::Publish(Publish { topic, payload, qos, packet_id, .. }) = packet else { return };
        match decode::mqtt(&topic, &payload) {
            Some(FromMqtt::Check { id }) => self.check(&id, link),
            Some(FromMqtt::Resources { id, .. }) if self.alive.contains_key(id) => {
                self.publish(link, format!("gateway/{id}/discover"), Bytes::from_static(b"values"));
            }
            Some(FromMqtt::Value { id, resource, value }) if self.alive.contains_key(id) => {
                self.hub.update_held(id, resource, Datum::Json(value)).await;
            }
            Some(FromMqtt::Resources { .. } | FromMqtt::Value { .. }) => {}
            None => self.hub.complaints.note("invalid", &topic, "not of a node", self.hub.session().now()),
        }
        if qos == Qos::AtLeastOnce {
            link.send(&Packet::Ack(Ack::new(AckKind::PubAck, packet_id)));
        }
    }

    fn check(&mut self, id: &str, link: &mut Link) {
        match self.hub.arrive(id, Via::Mqtt, None) {
            Ok(is_new) => {
                self.alive.insert(id.into(), Instant::now());
                if is_new {
                    self.hub.describe(id, "protocol", "MQTT");
                    self.publish(link, format!("gateway/{id}/discover"), Bytes::from_static(b"resources"));
                }
            }
            Err(_) => self.hub.complaints.note("too many nodes", id, "left out", self.hub.session().now()),
        }
    }

    fn write(&mut self, write: Write, link: &mut Link) {
        let Write { uid, endpoint, payload, done, .. } = write;
        self.publish(link, format!("gateway/{uid}/{endpoint}/set"), decode::plain(&payload).into());
        if let Some(done) = done {
            let _ = done.send(Ok(()));
        }
    }

    fn publish(&mut self, link: &mut Link, topic: String, payload: Bytes) {
        self.packet_id = self.packet_id % 60_000 + 1;
        let packet_id = self.packet_id;
        let publish =
            Publish { topic: topic.into(), qos: Qos::AtLeastOnce, packet_id, payload, ..Publish::default() };
        link.send(&Packet::Publish(publish));
    }

    fn drop_lost(&mut self) {
        let lost_after = self.lost_after;
        let lost: Vec<_> =
            self.alive.extract_if(|_, at| at.elapsed() >= lost_after).map(|(id, _)| id).collect();
        for id in lost {
            self.hub.leave(&id, false);
        }
    }
}
