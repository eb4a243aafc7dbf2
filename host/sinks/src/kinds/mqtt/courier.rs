//! The one who drives the link: publishes what is offered, and knows what the broker has acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use sandbar_mqtt_client::codec::{Ack, AckKind, Packet, Publish, publish_size};
use sandbar_mqtt_client::{Broker, Link, LinkLost, Opened, Qos, Session, reason};
use sandbar_reading::DeliveryId;
use tokio::sync::{mpsc, oneshot};

use super::Plan;
use crate::{Cause, DeliveryError, Progress};

pub(super) struct Offer {
    pub(super) parcels: Vec<Parcel>,
    pub(super) progress: Progress,
    pub(super) done: oneshot::Sender<Result<(), DeliveryError>>,
}

pub(super) struct Parcel {
    pub(super) id: DeliveryId,
    pub(super) publish: Publish,
}

pub(super) struct Courier {
    plan: Plan,
    link: Option<(Link, Opened)>,
    /// What an earlier run left in the broker's session has been ended.
    session_is_ours: bool,
    /// Sent, and not acknowledged; oldest first. It outlives the link, as the broker's session does.
    under_way: VecDeque<UnderWay>,
    /// Acknowledged, and not reported: not sent again when it is offered again.
    ahead: BTreeSet<DeliveryId>,
    packet_id: u16,
}

struct UnderWay {
    packet_id: u16,
    id: DeliveryId,
    /// `None` once the broker has it (QoS 2: PUBREC), and only its release is to be repeated.
    publish: Option<Publish>,
}

/// A broker's answer to one parcel.
enum Answer {
    Taken,
    Later(Cause),
    Never(Cause),
}

/// How one parcel of an offer stands.
enum Standing {
    Unsent,
    UnderWay,
    Taken,
    Refused(Cause),
}

/// What is remembered of what was acknowledged out of turn.
const AHEAD_MAX: usize = 4096;

impl Courier {
    pub(super) fn start(plan: Plan) -> mpsc::Sender<Offer> {
        let (offers, taken) = mpsc::channel(1);
        let courier = Self {
            plan,
            link: None,
            session_is_ours: false,
            under_way: VecDeque::new(),
            ahead: BTreeSet::new(),
            packet_id: 0,
        };
        tokio::spawn(courier.run(taken));
        offers
    }

    /// Until the sink is dropped.
    async fn run(mut self, mut offers: mpsc::Receiver<Offer>) {
        loop {
            let offer = tokio::select! {
                offer = offers.recv() => offer,
                lost = idle(&mut self.link, &mut self.under_way, &mut self.ahead) => {
                    // The next offer connects again; until then nobody misses the link.
                    drop(lost);
                    self.link = None;
                    continue;
                }
            };
            let Some(Offer { parcels, progress, mut done }) = offer else { break };
            let result = tokio::select! {
                result = self.carry(&parcels, &progress) => result,
                // Whoever offered it has given up; what is under way stays so, what was acknowledged too.
                () = done.closed() => continue,
            };
            drop(done.send(result));
        }
        if let Some((link, _)) = self.link.take() {
            link.close().await;
        }
    }

    async fn carry(&mut self, parcels: &[Parcel], progress: &Progress) -> Result<(), DeliveryError> {
        let mut standings: Vec<_> = parcels.iter().map(|parcel| self.standing(parcel.id)).collect();
        let ended = self.exchange(parcels, &mut standings, progress).await.err();
        let delivered = taken(&standings);
        for parcel in &parcels[..delivered] {
            self.ahead.remove(&parcel.id);
        }
        while self.ahead.len() > AHEAD_MAX {
            self.ahead.pop_first();
        }
        match (standings.get_mut(delivered), ended) {
            (None, _) => Ok(()),
            (Some(Standing::Refused(cause)), _) => {
                Err(DeliveryError::Reject { rejected: delivered, cause: cause.clone() })
            }
            (Some(_), cause) => Err(DeliveryError::Retry {
                delivered,
                after: None,
                cause: cause.unwrap_or_else(|| Cause::new("the broker took less than was offered")),
            }),
        }
    }

    fn standing(&self, id: DeliveryId) -> Standing {
        if self.ahead.contains(&id) {
            Standing::Taken
        } else if self.under_way.iter().any(|sent| sent.id == id) {
            Standing::UnderWay
        } else {
            Standing::Unsent
        }
    }

    /// Sends and waits until every parcel was answered, or no more can be: the error says why.
    async fn exchange(
        &mut self,
        parcels: &[Parcel],
        standings: &mut [Standing],
        progress: &Progress,
    ) -> Result<(), Cause> {
        if standings.iter().all(|standing| matches!(standing, Standing::Taken)) {
            return Ok(());
        }
        if self.link.is_none() {
            self.connect(parcels, standings).await?;
        }
        let mut next = 0;
        let mut stopped: Option<Cause> = None;
        loop {
            // Order is kept: nothing is sent behind what was refused.
            while stopped.is_none() && next < parcels.len() && self.has_room() {
                if matches!(standings[next], Standing::Unsent) {
                    standings[next] = self.send(&parcels[next]);
                    if let Standing::Refused(cause) = &standings[next] {
                        stopped = Some(cause.clone());
                    }
                }
                next += 1;
            }
            if !standings.iter().any(|standing| matches!(standing, Standing::UnderWay)) {
                return stopped.map_or(Ok(()), Err);
            }
            progress.reached(taken(standings));
            let (id, answer) = self.answer().await?;
            if matches!(answer, Answer::Taken) {
                self.ahead.insert(id);
            }
            let Some(index) = parcels.iter().position(|parcel| parcel.id == id) else { continue };
            standings[index] = match answer {
                Answer::Taken => Standing::Taken,
                Answer::Later(cause) => {
                    stopped.get_or_insert(cause);
                    Standing::Unsent
                }
                Answer::Never(cause) => {
                    stopped.get_or_insert_with(|| cause.clone());
                    Standing::Refused(cause)
                }
            };
        }
    }

    /// Goes on with the session if the broker kept it; if not, what was under way was never sent.
    async fn connect(&mut self, parcels: &[Parcel], standings: &mut [Standing]) -> Result<(), Cause> {
        // 3.1.1 keeps a session without end: only QoS 2 is worth that.
        let keeps = self.plan.qos == Qos::ExactlyOnce;
        let clean = Session { clean_start: true, expiry_s: 0, receive_maximum: 0, packet_max: 1 << 20 };
        let kept = Session { clean_start: false, expiry_s: self.plan.session_expiry_s, ..clean };
        if keeps && !self.session_is_ours {
            // Under a packet id of a message that an earlier run left in it, ours is taken for a repeat of that. A
            // session that begins clean is not kept with 3.1.1, nor by Mosquitto 2.0.11 over its restart.
            open(&self.plan.broker, clean).await?.0.close().await;
            self.session_is_ours = true;
        }
        let session = if keeps { kept } else { clean };
        let (mut link, opened) = open(&self.plan.broker, session).await?;
        if opened.qos_max < self.plan.qos {
            return Err(Cause::new(format!(
                "the broker takes QoS {} at most: set `qos`",
                opened.qos_max.bits()
            )));
        }
        if self.plan.retain && !opened.retains {
            return Err(Cause::new("the broker retains nothing: unset `retain`"));
        }
        if opened.session_present {
            for sent in &mut self.under_way {
                link.send(&match &mut sent.publish {
                    Some(publish) => {
                        publish.duplicate = true;
                        Packet::Publish(publish.clone())
                    }
                    None => Packet::Ack(Ack::new(AckKind::PubRel, sent.packet_id)),
                });
            }
        } else {
            self.under_way.clear();
            for (parcel, standing) in parcels.iter().zip(standings) {
                if matches!(standing, Standing::UnderWay) {
                    *standing = self.standing(parcel.id);
                }
            }
        }
        self.link = Some((link, opened));
        Ok(())
    }

    fn has_room(&self) -> bool {
        let allowed = self.link.as_ref().map_or(0, |(_, opened)| opened.receive_maximum);
        self.under_way.len() < usize::from(allowed.min(self.plan.window))
    }

    fn send(&mut self, parcel: &Parcel) -> Standing {
        let mut publish = parcel.publish.clone();
        let packet_id = self.free_packet_id();
        if publish.qos > Qos::AtMostOnce {
            publish.packet_id = packet_id;
        }
        let Some((link, opened)) = &mut self.link else { return Standing::Unsent };
        // A broker that retains nothing ends the link if it is asked to (MQTT 5.0, 3.2.2.3.5).
        publish.retain &= opened.retains;
        let size = publish_size(&publish, self.plan.broker.version());
        if size > opened.packet_max {
            let limit = opened.packet_max;
            return Standing::Refused(Cause::new(format!("{size} bytes, and the broker takes {limit}")));
        }
        let packet = Packet::Publish(publish);
        link.send(&packet);
        let Packet::Publish(publish) = packet else { return Standing::Unsent };
        self.under_way.push_back(UnderWay { packet_id, id: parcel.id, publish: Some(publish) });
        Standing::UnderWay
    }

    /// There is always one: at most 65,535 are under way, and room was asked for before.
    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            if !self.under_way.iter().any(|sent| sent.packet_id == self.packet_id) {
                return self.packet_id;
            }
        }
    }

    /// The next parcel that the broker has answered.
    async fn answer(&mut self) -> Result<(DeliveryId, Answer), Cause> {
        let Some((link, _)) = &mut self.link else { return Err(Cause::new("the link was lost")) };
        let answered = async {
            if self.plan.qos == Qos::AtMostOnce {
                link.flush().await?;
                let sent = self.under_way.pop_front().ok_or(LinkLost::Ended)?;
                return Ok((sent.id, Answer::Taken));
            }
            loop {
                let packet = link.next().await?;
                if let Some(answered) = take(packet, link, &mut self.under_way)? {
                    return Ok(answered);
                }
            }
        };
        let patience = self.plan.broker.timeout().max(Duration::from_secs(1));
        let lost = match tokio::time::timeout(patience, answered).await {
            Ok(Ok(answered)) => return Ok(answered),
            Ok(Err(lost)) => Cause::of("the broker", &lost as &LinkLost),
            Err(_) => Cause::new("the broker acknowledges nothing"),
        };
        self.link = None;
        if self.plan.qos != Qos::ExactlyOnce {
            self.under_way.clear();
        }
        Err(lost)
    }
}

/// How many are taken from the first on.
fn taken(standings: &[Standing]) -> usize {
    standings.iter().take_while(|standing| matches!(standing, Standing::Taken)).count()
}

async fn open(broker: &Broker, session: Session) -> Result<(Link, Opened), Cause> {
    Link::open(broker, session).await.map_err(|error| Cause::of("the broker", &error))
}

/// Drives a link that nothing is sent over; resolves when it is lost.
async fn idle(
    link: &mut Option<(Link, Opened)>,
    under_way: &mut VecDeque<UnderWay>,
    ahead: &mut BTreeSet<DeliveryId>,
) -> LinkLost {
    let Some((link, _)) = link else { return std::future::pending().await };
    loop {
        let taken = match link.next().await {
            Ok(packet) => take(packet, link, under_way),
            Err(lost) => Err(lost),
        };
        match taken {
            Ok(Some((id, Answer::Taken))) => drop(ahead.insert(id)),
            Ok(_) => {}
            Err(lost) => return lost,
        }
    }
}

/// What a packet of the broker means for what is under way.
fn take(
    packet: Packet,
    link: &mut Link,
    under_way: &mut VecDeque<UnderWay>,
) -> Result<Option<(DeliveryId, Answer)>, LinkLost> {
    let Packet::Ack(ack) = packet else {
        return Err(LinkLost::Unexpected("a packet that is no acknowledgement"));
    };
    let index = under_way.iter().position(|sent| sent.packet_id == ack.packet_id);
    let Some(index) = index else {
        // After a lost session a broker may still ask for the end of an exchange (4.3.3).
        if ack.kind == AckKind::PubRec {
            link.send(&Packet::Ack(Ack { code: 0x92, ..Ack::new(AckKind::PubRel, ack.packet_id) }));
        }
        return Ok(None);
    };
    if ack.kind == AckKind::PubRec && ack.code < reason::FAILURE {
        under_way[index].publish = None;
        link.send(&Packet::Ack(Ack::new(AckKind::PubRel, ack.packet_id)));
        return Ok(None);
    }
    if ack.kind == AckKind::PubRel {
        return Err(LinkLost::Unexpected("PUBREL"));
    }
    let Some(sent) = under_way.remove(index) else { return Ok(None) };
    let cause = || Cause::new(format!("the broker: {}", reason::text(ack.code, ack.reason.as_deref())));
    Ok(Some((
        sent.id,
        match ack.code {
            code if code < reason::FAILURE => Answer::Taken,
            // The broker has forgotten the exchange: it had the message, or it was never sent.
            0x92 => Answer::Taken,
            code if reason::is_of_the_message(code) => Answer::Never(cause()),
            _ => Answer::Later(cause()),
        },
    )))
}
