//! What a connection does with each packet of its client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use sandbar_reading::{Refused, Topic};
use tokio::sync::OwnedSemaphorePermit;

use super::codec::{self, Ack, Disconnect, Packet, Qos, Version, reason};
use super::connection::{Connection, End, Then, UnderWay};
use super::inbound::Published;
use super::message::{Entry, packet_id};
use super::outgoing::Next;
use super::publish::{Plan, Submitted};
use super::replies::Question;
use super::rows::{self, QueueRow};
use crate::{CommandError, Replies};

/// First bytes of packets.
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// So many messages are taken from the queue under one lock, at most: publishers wait for it meanwhile.
const SENT_AT_ONCE: usize = 64;

impl Connection {
    pub(super) fn packet(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => return self.admit(publish),
            Packet::PubAck(ack) => self.puback(ack),
            Packet::PubRec(ack) => self.pubrec(ack),
            Packet::PubRel(ack) => self.pubrel_came(ack),
            Packet::PubComp(ack) => self.pubcomp(ack),
            Packet::Subscribe(subscribe) => return self.subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe),
            Packet::PingReq => self.output.head(codec::pingresp),
            Packet::Disconnect(disconnect) => return Err(self.disconnect(disconnect)),
            Packet::Connect(_) => return Err(told(reason::PROTOCOL_ERROR, "a second CONNECT")),
            // None of the methods of enhanced authentication is offered, so none can go on.
            Packet::Auth => return Err(told(reason::PROTOCOL_ERROR, "AUTH without a method")),
        }
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        published: Published,
        id: u16,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), End> {
        let qos = published.qos;
        self.listed.received(published.payload.len(), self.broker.session.now());
        if qos != Qos::AtMostOnce {
            if qos == Qos::ExactlyOnce && self.hold.client.received.lock().contains(&id) {
                // Sent again: it is there, or on its way.
                self.later(Then::Ack { first: PUBREC, id, reason: reason::SUCCESS }, None);
                return Ok(());
            }
            self.unacknowledged += 1;
            let allowed = usize::from(self.broker.settings.receive_maximum);
            if self.version == Version::V5 && self.unacknowledged > allowed {
                return Err(told(reason::RECEIVE_MAXIMUM, "more than the Receive Maximum at once"));
            }
        }
        if !self.hold.client.grants().may_publish(&published.topic) {
            return self.refuse(qos, id, reason::NOT_AUTHORIZED, "this topic is not for this client");
        }
        let taken = if qos == Qos::ExactlyOnce { self.taken_before(id)? } else { None };
        let mut keep = Vec::new();
        if qos == Qos::ExactlyOnce {
            self.hold.client.received.lock().insert(id);
            if self.hold.client.stored {
                keep.push(rows::mark(rows::packet(self.by.number, id)));
            }
        }
        if let Some(device) = self.broker.settings.mapping.device(&published.topic, &self.by) {
            self.devices.attach(&self.broker, device);
        }
        let question = Question::of(&published, &self.broker.settings).map(Box::new);
        let Submitted { accept, plan } = match taken {
            None => self.broker.submit(published, &self.by, keep),
            // The host has it. Its subscribers do not.
            Some(plan) => self.broker.submit_taken(plan),
        };
        let then = Then::Published { plan, qos, id, question };
        self.under_way.push_back(UnderWay { done: accept, then, permit: Some(permit) });
        Ok(())
    }

    /// The plan of a QoS 2 message that comes again and was taken, though the client was told that the storage failed.
    /// A storage that does not say so either is no reason to take it twice: the client is to ask again.
    fn taken_before(&self, id: u16) -> Result<Option<Plan>, End> {
        let client = &self.hold.client;
        let Some(plan) = client.doubted.lock().remove(&id) else { return Ok(None) };
        match self.broker.session.kept(&rows::packet(self.by.number, id)) {
            Ok(kept) => Ok(kept.map(|_| plan)),
            Err(refused) => {
                client.doubted.lock().insert(id, plan);
                Err(End::Told(code_for(&refused), Some(refused.to_string())))
            }
        }
    }

    /// MQTT 5.0, section 3.3.2.3.4.
    pub(super) fn topic(&mut self, topic: Box<str>, alias: Option<u16>) -> Result<Topic, End> {
        let invalid = || told(reason::TOPIC_ALIAS_INVALID, "an alias that stands for no topic");
        if let Some(alias) = alias {
            if alias == 0 || alias > self.broker.settings.topic_alias_max {
                return Err(invalid());
            }
            if topic.is_empty() {
                return self
                    .aliases_in
                    .get(&alias)
                    .cloned()
                    .ok_or_else(|| told(reason::PROTOCOL_ERROR, "an alias that stands for no topic"));
            }
        }
        let topic = Topic::try_from(topic).map_err(|_| told(reason::TOPIC_NAME_INVALID, "not a topic"))?;
        if let Some(alias) = alias {
            self.aliases_in.insert(alias, topic.clone());
        }
        Ok(topic)
    }

    /// 5.0 says it in the acknowledgement; 3.1.1 has no word for it, so the connection ends.
    fn refuse(&mut self, qos: Qos, id: u16, code: u8, why: &str) -> Result<(), End> {
        match (self.version, qos) {
            // Nobody waits for an answer.
            (_, Qos::AtMostOnce) => return Ok(()),
            // Version 3.1.1, section 3.3.5: the message may be acknowledged, or the connection closed.
            (Version::V3, _) if code == reason::NOT_AUTHORIZED => {
                let first = if qos == Qos::AtLeastOnce { PUBACK } else { PUBREC };
                self.later(Then::Ack { first, id, reason: reason::SUCCESS }, None);
                return Ok(());
            }
            (Version::V3, _) => return Err(told(code, why)),
            (Version::V5, Qos::AtLeastOnce) => {
                self.later(Then::Ack { first: PUBACK, id, reason: code }, None);
            }
            (Version::V5, Qos::ExactlyOnce) => {
                self.later(Then::Ack { first: PUBREC, id, reason: code }, None);
            }
        }
        Ok(())
    }

    /// In its turn, after `done`.
    pub(super) fn later(&mut self, then: Then, done: Option<BoxFuture<'static, Result<(), Refused>>>) {
        let done = match done {
            None => ready(Ok(None)).boxed(),
            Some(done) => done.map(|result| result.map(|()| None)).boxed(),
        };
        self.under_way.push_back(UnderWay { done, then, permit: None });
    }

    /// The first that waited for a commit has it, or was refused.
    pub(super) fn committed(&mut self, result: Result<Option<Replies>, Refused>) -> Result<(), End> {
        let Some(UnderWay { then, .. }) = self.under_way.pop_front() else { return Ok(()) };
        let version = self.version;
        match (result, then) {
            (Ok(replies), Then::Published { plan, qos, id, question }) => {
                self.broker.deliver(plan);
                if let (Some(replies), Some(question)) = (replies, question) {
                    let grants = self.hold.client.grants();
                    if let Some(to) = question.reply_to(&self.by, &self.broker.settings, &grants) {
                        self.broker.answer(replies, to);
                    }
                }
                match qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => self.ack(PUBACK, id, reason::SUCCESS),
                    Qos::ExactlyOnce => self.ack(PUBREC, id, reason::SUCCESS),
                }
            }
            (Err(refused), Then::Published { plan, qos, id, .. }) => {
                return self.refused(&refused, plan, qos, id);
            }
            (Ok(_), then) => self.settle_ack(then, version),
            (Err(refused), Then::SubAck { id, granted }) => {
                let reasons = self.take_back(granted, code_for(&refused));
                self.output.head(|out| codec::suback(out, version, id, &reasons));
            }
            (Err(refused), then) => {
                if let Then::UnsubAck { gone, .. } = then {
                    self.forget_soon(gone);
                }
                // The client asks again on its next connection.
                return Err(End::Told(code_for(&refused), Some(refused.to_string())));
            }
        }
        Ok(())
    }

    fn settle_ack(&mut self, then: Then, version: Version) {
        match then {
            Then::PubComp { id } => {
                self.hold.client.received.lock().remove(&id);
                self.ack(PUBCOMP, id, reason::SUCCESS);
            }
            Then::PubRel { place } => {
                self.hold.client.state().outgoing.written(place);
                self.pubrel(place);
            }
            Then::SubAck { id, granted } => {
                let reasons: Vec<u8> = granted.iter().map(|granted| granted.reason).collect();
                self.output.head(|out| codec::suback(out, version, id, &reasons));
                self.send_retained(granted);
            }
            Then::UnsubAck { id, reasons, .. } => {
                self.output.head(|out| codec::unsuback(out, version, id, &reasons));
            }
            Then::Ack { first, id, reason } => self.ack(first, id, reason),
            Then::Published { .. } => {}
        }
    }

    /// The connection is gone, and what was under way is told nobody any more.
    pub(super) fn settled(&mut self, then: Then, taken: bool) {
        match then {
            Then::Published { plan, .. } if taken => self.broker.deliver(plan),
            Then::Published { plan, qos, id, .. } => {
                if qos == Qos::ExactlyOnce {
                    self.hold.client.received.lock().remove(&id);
                }
                match self.asks_again(qos) {
                    true => self.broker.doubt(&self.hold.client, id, plan),
                    false => self.broker.abandon(&plan, true),
                }
            }
            Then::PubComp { id } if taken => drop(self.hold.client.received.lock().remove(&id)),
            Then::PubRel { place } if taken => self.hold.client.state().outgoing.written(place),
            Then::SubAck { granted, .. } if !taken => drop(self.take_back(granted, reason::UNSPECIFIED)),
            Then::UnsubAck { gone, .. } if !taken => self.forget_soon(gone),
            _ => {}
        }
    }

    /// Whether the client sends a message again that is in doubt, and is known then.
    fn asks_again(&self, qos: Qos) -> bool {
        qos == Qos::ExactlyOnce && self.hold.client.stored
    }

    fn refused(&mut self, refused: &Refused, plan: Plan, qos: Qos, id: u16) -> Result<(), End> {
        let code = match refused {
            // Else the client would send it again on every connection. PUBACK has no other word for it.
            Refused::TooLarge { .. } if qos != Qos::AtMostOnce => reason::QUOTA,
            refused => code_for(refused),
        };
        let told = || Err(End::Told(code, Some(refused.to_string())));
        if qos == Qos::ExactlyOnce {
            self.hold.client.received.lock().remove(&id);
        }
        let is_doubtful = plan.is_taken || is_doubtful(refused);
        if is_doubtful && self.asks_again(qos) {
            // Told that it failed, a client of version 5.0 would give its identifier to another message, which
            // would be taken for this one. So it is to send it again.
            self.broker.doubt(&self.hold.client, id, plan);
            return told();
        }
        self.broker.abandon(&plan, is_doubtful);
        match (refused, qos) {
            (Refused::Stopping, _) | (Refused::TooLarge { .. }, Qos::AtMostOnce) => told(),
            (_, Qos::AtMostOnce) => {
                self.broker.count_shed(&refused.to_string());
                Ok(())
            }
            (_, _) if self.version == Version::V3 => told(),
            (_, Qos::AtLeastOnce) => {
                self.ack(PUBACK, id, code);
                Ok(())
            }
            (_, Qos::ExactlyOnce) => {
                self.ack(PUBREC, id, code);
                Ok(())
            }
        }
    }

    fn ack(&mut self, first: u8, id: u16, code: u8) {
        let version = self.version;
        let is_last = first == PUBACK || first == PUBCOMP || code >= reason::UNSPECIFIED;
        if is_last && first != PUBREL {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
        self.output.head(|out| codec::ack(out, version, first, id, code));
    }

    /// PUBREL, once the row says so: before that, a crash would have it sent as a new message.
    pub(super) fn release(&mut self, place: u64, unwritten: bool) {
        if !unwritten {
            return self.pubrel(place);
        }
        let row = rows::write(rows::queued(self.by.number, place), &QueueRow::Released);
        let done = self.broker.keeper.write(vec![row]).boxed();
        self.later(Then::PubRel { place }, Some(done));
    }

    fn pubrel(&mut self, place: u64) {
        let version = self.version;
        self.output.head(|out| codec::ack(out, version, PUBREL, packet_id(place), reason::SUCCESS));
    }

    /// The client releases a QoS 2 message of its own. Its identifier is free once that is on disk: freed
    /// earlier, a crash would make the broker take the next message under it for this one.
    fn pubrel_came(&mut self, ack: Ack) {
        if !self.hold.client.received.lock().contains(&ack.id) {
            let code =
                if self.version == Version::V5 { reason::PACKET_ID_NOT_FOUND } else { reason::SUCCESS };
            let version = self.version;
            self.output.head(|out| codec::ack(out, version, PUBCOMP, ack.id, code));
            return;
        }
        let done = self.hold.client.stored.then(|| {
            self.broker.keeper.write(vec![rows::delete(rows::packet(self.by.number, ack.id))]).boxed()
        });
        self.later(Then::PubComp { id: ack.id }, done);
    }

    fn puback(&mut self, ack: Ack) {
        let entry = self.hold.client.state().outgoing.acknowledged(ack.id);
        self.done_with(entry, said(ack.reason));
    }

    /// A message that is refused is not sent again either (MQTT 5.0, section 4.3.2); a command has failed.
    pub(super) fn done_with(&mut self, entry: Option<Entry>, said: Result<(), CommandError>) {
        let Some(entry) = entry else { return };
        if entry.stored {
            self.gone.push(entry.place);
        }
        match (entry.command, said) {
            (Some(command), Ok(())) => command.acknowledge(),
            (Some(command), Err(error)) => command.fail(error),
            (None, _) => {}
        }
    }

    fn pubrec(&mut self, ack: Ack) {
        if ack.reason >= reason::UNSPECIFIED {
            let entry = self.hold.client.state().outgoing.refused(ack.id);
            return self.done_with(entry, said(ack.reason));
        }
        let received = self.hold.client.state().outgoing.received(ack.id);
        let Some((place, unwritten, entry)) = received else {
            let code =
                if self.version == Version::V5 { reason::PACKET_ID_NOT_FOUND } else { reason::SUCCESS };
            let version = self.version;
            return self.output.head(|out| codec::ack(out, version, PUBREL, ack.id, code));
        };
        self.release(place, unwritten);
        if let Some(command) = entry.and_then(|entry| entry.command) {
            command.acknowledge();
        }
    }

    fn pubcomp(&mut self, ack: Ack) {
        let completed = self.hold.client.state().outgoing.completed(ack.id);
        if let Some((place, true)) = completed {
            self.gone.push(place);
        }
    }

    fn disconnect(&mut self, disconnect: Disconnect) -> End {
        if let Some(wanted) = disconnect.session_expiry {
            let expiry = &self.hold.client.expiry_s;
            if wanted > 0 && expiry.load(Ordering::Relaxed) == 0 {
                return told(reason::PROTOCOL_ERROR, "a session that was to end cannot be kept");
            }
            let most = self.broker.settings.session_expiry_max_s;
            expiry.store(wanted.min(most), Ordering::Relaxed);
        }
        match disconnect.reason {
            code @ (reason::SUCCESS | reason::DISCONNECT_WITH_WILL) => End::Left(code),
            code => End::Lost(format!("the client gave up: reason {code:#04x}")),
        }
    }

    /// Takes the next entries of the queue to the buffer, as far as there are some, and a window for them.
    pub(super) fn send_some(&mut self) {
        let now = self.broker.time();
        self.find_retained(now);
        let client = Arc::clone(&self.hold.client);
        let mut state = client.state();
        for _ in 0..SENT_AT_ONCE {
            if self.is_behind() {
                return;
            }
            match state.outgoing.next(self.limits.window, now, || client.place()) {
                None => return,
                Some(Next::Expired(place)) => self.gone.push(place),
                Some(Next::Publish(entry)) => {
                    if let Some(entry) = self.send(entry, now) {
                        state.outgoing.sent(entry);
                    }
                }
            }
        }
    }
}

pub(super) fn told(code: u8, why: &str) -> End {
    End::Told(code, Some(why.to_owned()))
}

/// What a subscriber's acknowledgement says of a command.
fn said(code: u8) -> Result<(), CommandError> {
    let text = || format!("the client refused it: reason {code:#04x}");
    match code {
        0..reason::UNSPECIFIED => Ok(()),
        // It will not be another one the next time.
        reason::TOPIC_NAME_INVALID | reason::PACKET_TOO_LARGE | reason::PAYLOAD_FORMAT_INVALID => {
            Err(CommandError::Reject(text()))
        }
        _ => Err(CommandError::Retry(text())),
    }
}

/// Whether it may be on disk all the same.
const fn is_doubtful(refused: &Refused) -> bool {
    matches!(refused, Refused::Storage { .. } | Refused::DiskFull)
}

/// What 5.0 calls it.
pub(super) const fn code_for(refused: &Refused) -> u8 {
    match refused {
        Refused::Busy { .. } | Refused::DiskFull => reason::QUOTA,
        Refused::TooLarge { .. } => reason::PACKET_TOO_LARGE,
        Refused::Storage { .. } => reason::IMPLEMENTATION,
        Refused::Stopping => reason::SHUTTING_DOWN,
    }
}
