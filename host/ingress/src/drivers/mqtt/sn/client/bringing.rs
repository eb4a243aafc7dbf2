//! What the broker has for the client: brought to it one at a time, and asked for until nothing waits.

use sandbar_mqtt_client::codec::{Ack, AckKind, Packet, Publish, Qos};
use tokio::time::Instant;

use super::super::super::codec::reason;
use super::super::flight::{Flight, Publication, What};
use super::super::wire::{self, Flags, Message, Topic, code};
use super::{Client, Over, ROUNDS, State};

impl Client {
    /// Something came for the client, or it took something: that may not have been all.
    pub(super) fn moved(&mut self) {
        // An answer that is awaited is to an earlier question.
        self.rounds = ROUNDS + u8::from(self.asks);
    }

    /// Asks the broker whether that was all, for a client that sleeps or has slept.
    pub(super) fn ask(&mut self) -> Result<(), Over> {
        let is_quiet = self.flight.is_none() && self.unreleased.is_empty();
        if !self.rests || self.asks || !is_quiet || matches!(self.state, State::Asleep) {
            return Ok(());
        }
        self.asks = true;
        self.give(&Packet::PingReq)
    }

    /// What waited when the broker was asked has come.
    pub(super) async fn drained(&mut self) {
        self.asks = false;
        self.rounds = self.rounds.saturating_sub(1);
        match self.state {
            _ if self.rounds > 0 => {}
            State::Awake => {
                self.state = State::Asleep;
                self.say(&Message::PingResp).await;
            }
            _ => self.rest(false),
        }
    }

    pub(super) fn rest(&mut self, rests: bool) {
        self.rests = rests;
        if let Some(pipe) = &self.pipe {
            pipe.sleeps(rests);
        }
    }

    /// A topic that the client has no number for is registered first.
    pub(super) async fn deliver(&mut self, publish: Publish) -> Result<(), Over> {
        self.moved();
        if let Some(topic) = self.topics.known(&publish.topic) {
            return self.send_publish(publish, topic, false).await;
        }
        self.register(publish, false).await
    }

    pub(super) async fn register(&mut self, publish: Publish, is_again: bool) -> Result<(), Over> {
        let Some(topic_id) = self.topics.register(&publish.topic) else {
            return self.refuse(&publish, reason::QUOTA, "it has numbers for too many topics");
        };
        let id = if publish.packet_id > 0 { publish.packet_id } else { u16::MAX };
        let Some(bytes) = wire::encode(&Message::Register { topic_id, id, topic: publish.topic.clone() })
        else {
            return self.refuse(&publish, reason::TOPIC_NAME_INVALID, "its topic is too long");
        };
        self.fly(bytes, id, What::Register(Publication { publish, is_again })).await;
        Ok(())
    }

    pub(super) async fn registered(&mut self, id: u16, code: u8) -> Result<(), Over> {
        if code == code::CONGESTION {
            self.later(id, What::is_register);
            return Ok(());
        }
        let Some(What::Register(Publication { publish, is_again })) = self.land(id, What::is_register) else {
            return Ok(());
        };
        match self.topics.known(&publish.topic).filter(|_| code == code::ACCEPTED) {
            Some(topic) => self.send_publish(publish, topic, is_again).await,
            None => self.refuse(&publish, reason::TOPIC_NAME_INVALID, "it does not take its topic"),
        }
    }

    /// PUBACK, which also refuses at quality of service 2.
    pub(super) async fn acknowledged(&mut self, id: u16, code: u8) -> Result<(), Over> {
        if code == code::CONGESTION {
            self.later(id, What::is_publish);
            return Ok(());
        }
        let Some(What::Publish(Publication { publish, is_again })) = self.land(id, What::is_publish) else {
            return Ok(());
        };
        let is_numbered = matches!(self.topics.known(&publish.topic), Some(Topic::Id(_)));
        match code {
            code::ACCEPTED => self.give(&Packet::Ack(Ack::new(AckKind::PubAck, id))),
            // It may have been switched off since, and have forgotten the number.
            code::INVALID_TOPIC if is_numbered && !is_again => self.register(publish, true).await,
            code::INVALID_TOPIC => {
                self.refuse(&publish, reason::TOPIC_NAME_INVALID, "it does not know its topic")
            }
            _ => self.refuse(&publish, reason::IMPLEMENTATION, "it refuses it"),
        }
    }

    /// PUBREC: what is said twice the broker is told once.
    pub(super) async fn received(&mut self, id: u16) -> Result<(), Over> {
        if self.flight.as_ref().is_some_and(|flight| flight.is(id, What::is_release)) {
            self.send_again().await;
            return Ok(());
        }
        self.land(id, What::is_publish);
        match self.unreleased.insert(id) {
            true => self.give(&Packet::Ack(Ack::new(AckKind::PubRec, id))),
            false => Ok(()),
        }
    }

    /// PUBREL. One that fails is of a message that the broker does not know: no answer to that is waited for.
    pub(super) async fn release(&mut self, id: u16, code: u8) {
        self.unreleased.remove(&id);
        match wire::encode(&Message::PubRel(id)) {
            Some(bytes) if code < reason::UNSPECIFIED => self.fly(bytes, id, What::Release).await,
            Some(bytes) => self.send(&bytes).await,
            None => {}
        }
    }

    fn later(&mut self, id: u16, kind: fn(&What) -> bool) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.is(id, kind)) {
            flight.later(Instant::now());
        }
    }

    async fn send_publish(&mut self, publish: Publish, topic: Topic, is_again: bool) -> Result<(), Over> {
        let flags = Flags { duplicate: publish.duplicate, qos: publish.qos.bits(), retain: publish.retain };
        let message =
            Message::Publish { flags, topic, id: publish.packet_id, payload: publish.payload.clone() };
        let Some(bytes) = wire::encode(&message) else {
            return self.refuse(&publish, reason::PACKET_TOO_LARGE, "it is too long");
        };
        match publish.qos {
            Qos::AtMostOnce => self.send(&bytes).await,
            _ => {
                let id = publish.packet_id;
                self.fly(bytes, id, What::Publish(Publication { publish, is_again })).await;
            }
        }
        Ok(())
    }

    async fn fly(&mut self, bytes: Vec<u8>, id: u16, what: What) {
        self.send(&bytes).await;
        self.flight = Some(Flight::new(bytes, id, what, Instant::now()));
    }

    /// The client cannot have it, or does not take it: the broker is told, so that it does not wait forever.
    fn refuse(&mut self, publish: &Publish, code: u8, cause: &'static str) -> Result<(), Over> {
        let about = format!("a message on {} is not brought to the client", publish.topic);
        self.complaints.note(cause, &self.name, about, self.broker.session.now());
        let kind = match publish.qos {
            Qos::AtMostOnce => return Ok(()),
            Qos::AtLeastOnce => AckKind::PubAck,
            Qos::ExactlyOnce => AckKind::PubRec,
        };
        self.give(&Packet::Ack(Ack { code, ..Ack::new(kind, publish.packet_id) }))
    }

    pub(super) fn land(&mut self, id: u16, kind: fn(&What) -> bool) -> Option<What> {
        let flight = self.flight.take_if(|flight| flight.is(id, kind))?;
        self.moved();
        Some(flight.into_what())
    }
}
