//! One client: MQTT-SN on its side, MQTT 5.0 on the broker's, over a pipe within this process. So its session, its
//! subscriptions and what is acknowledged when are the broker's; and each is told what the other one refused.

mod bringing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sandbar_mqtt_client::codec::{Ack, AckKind, Filter, Packet, Publish, Qos, Subscribe, Unsubscribe};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::broker::Broker;
use super::super::codec::reason;
use super::super::handshake::{self, Link};
use super::flight::{Flight, What};
use super::pipe::Pipe;
use super::topics::Topics;
use super::wire::{self, Flags, Message, Topic, code};
use crate::complaints::Complaints;

/// Publications of the client that were not acknowledged, at once.
const PUBLISHING_MAX: usize = 64;

/// How long a client may take to say its will.
const GREETING: Duration = Duration::from_secs(30);

/// Who names no time for which it may be silent is forgotten after this: UDP does not tell that somebody is gone.
const SILENT_MAX: Duration = Duration::from_secs(24 * 3600);

/// So often in a row the broker is asked whether something waits, and has nothing, before a client is told that nothing
/// does: what an acknowledgement made room for may come behind the first answer.
const ROUNDS: u8 = 2;

/// What the client speaks, for who looks at the connections.
const AGENT: &str = "MQTT-SN 1.2";

enum State {
    /// It is asked for its will.
    Greeting {
        connect: Connect,
        will: Option<(Flags, Box<str>)>,
    },
    /// The broker is asked.
    Connecting,
    Active,
    /// Nothing is read for it: it waits in the broker's queue.
    Asleep,
    /// It asked for what waits.
    Awake,
}

struct Connect {
    clean: bool,
    duration: u16,
    client: Box<str>,
}

pub(super) struct Client {
    broker: Arc<Broker>,
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    user: Option<Box<str>>,
    topics: Topics,
    state: State,
    name: Box<str>,
    pipe: Option<Pipe>,
    arrived: VecDeque<Packet>,
    /// One at a time.
    flight: Option<Flight>,
    /// Its messages at quality of service 1 that the broker has not answered, with the numbers of their topics.
    publishing: HashMap<u16, u16>,
    /// Those at quality of service 2, until they are completed.
    completing: HashSet<u16>,
    subscribing: HashMap<u16, u16>,
    /// Messages at quality of service 2 that the client has: the broker's PUBREL is to come.
    unreleased: HashSet<u16>,
    /// It has slept, and may not have had all yet that waited for it.
    rests: bool,
    /// The broker was asked whether something waits, and has not answered.
    asks: bool,
    /// So many answers until nothing can wait any more.
    rounds: u8,
    complaints: Arc<Complaints>,
    heard: Instant,
    /// For how long it may be silent.
    patience: Duration,
}

/// The client is done with, or the broker with it.
struct Over;

impl Client {
    pub(super) fn new(
        broker: Arc<Broker>,
        socket: Arc<UdpSocket>,
        address: SocketAddr,
        user: Option<Box<str>>,
        topics: Topics,
        complaints: Arc<Complaints>,
    ) -> Self {
        let connect = Connect { clean: true, duration: 0, client: "".into() };
        Self {
            broker,
            socket,
            address,
            user,
            topics,
            state: State::Greeting { connect, will: None },
            name: "".into(),
            pipe: None,
            arrived: VecDeque::new(),
            flight: None,
            publishing: HashMap::new(),
            completing: HashSet::new(),
            subscribing: HashMap::new(),
            unreleased: HashSet::new(),
            rests: false,
            asks: false,
            rounds: 0,
            complaints,
            heard: Instant::now(),
            patience: GREETING,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let session = self.broker.session.clone();
        loop {
            let (due, reads) = (self.due(), self.reads());
            let step = tokio::select! {
                () = session.stopped() => Err(Over),
                message = inbox.recv() => match message {
                    Some(message) => self.told(message).await,
                    None => Err(Over),
                },
                driven = drive(&mut self.pipe, reads) => match driven {
                    Ok(()) => self.parse(),
                    Err(_) => Err(Over),
                },
                () = tokio::time::sleep_until(due) => self.timer().await,
            };
            let step = match step {
                Ok(()) => self.pump().await,
                over => over,
            };
            if step.is_err() {
                break;
            }
        }
        // Without a farewell in the pipe, the broker publishes the will.
        self.say(&Message::Disconnect(None)).await;
    }

    /// When the timer has something to do.
    fn due(&self) -> Instant {
        let end = self.heard + self.patience;
        match &self.flight {
            // Who sleeps hears nothing.
            Some(flight) if !matches!(self.state, State::Asleep) => flight.due().min(end),
            _ => end,
        }
    }

    fn reads(&self) -> bool {
        let is_ready = matches!(self.state, State::Connecting | State::Active | State::Awake);
        is_ready && self.flight.is_none() && self.arrived.is_empty()
    }

    fn parse(&mut self) -> Result<(), Over> {
        let limit = self.broker.packet_max.saturating_add(1 << 16);
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        while let Some(packet) = pipe.next(limit).map_err(|_| Over)? {
            self.arrived.push_back(packet);
        }
        Ok(())
    }

    /// Passes on what the broker sent, as far as the client lets it.
    async fn pump(&mut self) -> Result<(), Over> {
        while self.flight.is_none() && !matches!(self.state, State::Asleep) {
            let Some(packet) = self.arrived.pop_front() else { break };
            self.pass_on(packet).await?;
        }
        self.ask()
    }

    async fn timer(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if now >= self.heard + self.patience {
            return Err(Over);
        }
        if now < self.due() || self.send_again().await {
            return Ok(());
        }
        match self.state {
            // It sleeps again, it seems. For how long it may is known.
            State::Awake => {
                self.state = State::Asleep;
                Ok(())
            }
            _ => Err(Over),
        }
    }

    /// What is under way; `false` once that was done often enough.
    async fn send_again(&mut self) -> bool {
        let Some(flight) = &mut self.flight else { return true };
        let Some(bytes) = flight.again(Instant::now()) else { return false };
        self.send(&bytes).await;
        true
    }

    /// The client hears again: first what was under way.
    async fn wake(&mut self) {
        self.moved();
        if let Some(flight) = &mut self.flight {
            flight.begin_anew();
        }
        self.send_again().await;
    }

    async fn told(&mut self, message: Message) -> Result<(), Over> {
        self.heard = Instant::now();
        match message {
            Message::Connect { will, clean, duration, client } => {
                self.connect(will, Connect { clean, duration, client }).await
            }
            Message::WillTopic(topic) => self.will_topic(topic).await,
            Message::WillPayload(payload) => match std::mem::replace(&mut self.state, State::Connecting) {
                State::Greeting { connect, will } => {
                    self.open(&connect, will.map(|(flags, topic)| (flags, topic, payload)).as_ref());
                    Ok(())
                }
                other => {
                    self.state = other;
                    Ok(())
                }
            },
            Message::Disconnect(Some(seconds)) => {
                // Who is not connected yet says it again.
                if matches!(self.state, State::Active | State::Asleep | State::Awake) {
                    self.patience = Duration::from_millis(u64::from(seconds) * 1500);
                    self.state = State::Asleep;
                    self.rest(true);
                    self.say(&Message::Disconnect(None)).await;
                }
                Ok(())
            }
            Message::Disconnect(None) => {
                self.part().await;
                Err(Over)
            }
            Message::PingReq(_) => {
                self.ping().await;
                Ok(())
            }
            // The broker is behind: lost, as on the way.
            Message::Publish { .. } | Message::Subscribe { .. } | Message::Unsubscribe { .. }
                if self.pipe.as_ref().is_some_and(Pipe::is_behind) =>
            {
                Ok(())
            }
            message => self.traffic(message).await,
        }
    }

    async fn connect(&mut self, will: bool, connect: Connect) -> Result<(), Over> {
        let is_kept = !connect.clean && !will && *connect.client == *self.name;
        if self.pipe.is_some() && is_kept && !matches!(self.state, State::Connecting) {
            // It wakes up.
            self.patience = patience(connect.duration);
            self.state = State::Active;
            self.say(&Message::ConnAck(code::ACCEPTED)).await;
            self.wake().await;
            return Ok(());
        }
        self.part().await;
        if !will {
            self.open(&connect, None);
            return Ok(());
        }
        self.patience = GREETING;
        self.state = State::Greeting { connect, will: None };
        self.say(&Message::WillTopicRequest).await;
        Ok(())
    }

    /// Leaves the broker, which has no answer any more to what it was asked.
    async fn part(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.part().await;
        }
        (self.flight, self.arrived) = (None, VecDeque::new());
        self.publishing.clear();
        self.completing.clear();
        self.subscribing.clear();
        self.unreleased.clear();
        (self.rests, self.asks) = (false, false);
    }

    async fn will_topic(&mut self, topic: Option<(Flags, Box<str>)>) -> Result<(), Over> {
        let State::Greeting { will, .. } = &mut self.state else { return Ok(()) };
        if topic.is_some() {
            *will = topic;
            self.say(&Message::WillMessageRequest).await;
            return Ok(());
        }
        match std::mem::replace(&mut self.state, State::Connecting) {
            State::Greeting { connect, .. } => {
                self.open(&connect, None);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A connection to the broker, as any client has one.
    fn open(&mut self, connect: &Connect, will: Option<&(Flags, Box<str>, Bytes)>) {
        let (mut pipe, far, held) = Pipe::new();
        let link = Link { remote: self.address, certificate: self.user.clone(), gateway: Some(AGENT) };
        let broker = Arc::clone(&self.broker);
        tokio::spawn(async move {
            if let Some(connection) = Box::pin(handshake::greet(&broker, Box::new(far), link)).await {
                drop(broker);
                let _ = held.set(Arc::clone(&connection.hold.link));
                Box::pin(connection.run()).await;
            }
        });
        pipe.give_bytes(&connect_packet(connect, will));
        self.pipe = Some(pipe);
        self.name = connect.client.clone();
        self.patience = patience(connect.duration);
        self.state = State::Connecting;
    }

    async fn ping(&mut self) {
        match self.state {
            State::Asleep => {
                self.state = State::Awake;
                self.wake().await;
            }
            // What is under way comes first.
            State::Awake => {}
            _ => self.say(&Message::PingResp).await,
        }
    }

    /// What has the same meaning on both sides.
    async fn traffic(&mut self, message: Message) -> Result<(), Over> {
        match message {
            Message::Register { id, topic, .. } => {
                let given = self.topics.register(&topic);
                let code = if given.is_some() { code::ACCEPTED } else { code::CONGESTION };
                self.say(&Message::RegAck { topic_id: given.unwrap_or(0), id, code }).await;
                Ok(())
            }
            Message::RegAck { id, code, .. } => self.registered(id, code).await,
            Message::Publish { flags, topic, id, payload } => self.publish(flags, &topic, id, payload).await,
            Message::PubAck { id, code, .. } => self.acknowledged(id, code).await,
            Message::PubRec(id) => self.received(id).await,
            Message::PubRel(id) => self.give(&Packet::Ack(Ack::new(AckKind::PubRel, id))),
            Message::PubComp(id) => match self.land(id, What::is_release) {
                Some(_) => self.give(&Packet::Ack(Ack::new(AckKind::PubComp, id))),
                None => Ok(()),
            },
            Message::Subscribe { flags, id, topic } => self.subscribe(flags, id, &topic).await,
            Message::Unsubscribe { id, topic } => match self.topics.name(&topic) {
                Some(filter) => {
                    self.give(&Packet::Unsubscribe(Unsubscribe { packet_id: id, filters: vec![filter] }))
                }
                None => {
                    self.say(&Message::UnsubAck(id)).await;
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    async fn publish(&mut self, flags: Flags, topic: &Topic, id: u16, payload: Bytes) -> Result<(), Over> {
        let topic_id = number(topic);
        let is_repeated = match flags.qos {
            1 => self.publishing.contains_key(&id),
            2 => self.completing.contains(&id),
            _ => false,
        };
        let is_full = self.publishing.len() + self.completing.len() >= self.publishing_max();
        let refuse = match self.topics.name(topic) {
            None => Err(code::INVALID_TOPIC),
            Some(_) if flags.qos > 0 && !is_repeated && is_full => Err(code::CONGESTION),
            Some(name) => Ok(name),
        };
        let name = match refuse {
            Ok(name) => name,
            Err(code) => {
                self.say(&Message::PubAck { topic_id, id, code }).await;
                return Ok(());
            }
        };
        match flags.qos {
            // It is answered once the broker has answered it, which would take it for another one.
            1 if is_repeated => return Ok(()),
            1 => drop(self.publishing.insert(id, topic_id)),
            // The broker answers each, and takes it once.
            2 => drop(self.completing.insert(id)),
            _ => {}
        }
        let publish = Publish {
            duplicate: flags.duplicate && flags.qos > 0,
            qos: Qos::from_bits(flags.qos).unwrap_or_default(),
            retain: flags.retain,
            topic: name,
            packet_id: if flags.qos > 0 { id } else { 0 },
            payload,
            ..Publish::default()
        };
        self.give(&Packet::Publish(publish))
    }

    /// The broker would end the connection over more.
    fn publishing_max(&self) -> usize {
        PUBLISHING_MAX.min(self.broker.settings.receive_maximum.into())
    }

    async fn subscribe(&mut self, flags: Flags, id: u16, topic: &Topic) -> Result<(), Over> {
        let Some(name) = self.topics.name(topic) else {
            let refused = Message::SubAck { qos: 0, topic_id: 0, id, code: code::INVALID_TOPIC };
            self.say(&refused).await;
            return Ok(());
        };
        let topic_id = match topic {
            Topic::Name(name) if !name.contains(['+', '#']) => self.topics.register(name).unwrap_or(0),
            Topic::Predefined(id) => *id,
            _ => 0,
        };
        self.subscribing.insert(id, topic_id);
        if self.subscribing.len() > PUBLISHING_MAX {
            return Err(Over);
        }
        let qos = Qos::from_bits(flags.qos).unwrap_or_default();
        self.give(&Packet::Subscribe(Subscribe { packet_id: id, filters: vec![Filter::new(name, qos)] }))
    }

    async fn pass_on(&mut self, packet: Packet) -> Result<(), Over> {
        match packet {
            Packet::ConnAck(answer) => {
                let code = return_code(answer.code);
                self.say(&Message::ConnAck(code)).await;
                self.state = State::Active;
                if code == code::ACCEPTED { Ok(()) } else { Err(Over) }
            }
            Packet::Publish(publish) => self.deliver(publish).await,
            Packet::Ack(Ack { kind, packet_id: id, code, .. }) => {
                let message = match kind {
                    AckKind::PubAck => {
                        let topic_id = self.publishing.remove(&id).unwrap_or(0);
                        Message::PubAck { topic_id, id, code: return_code(code) }
                    }
                    // It was refused, and MQTT-SN has no word for that.
                    AckKind::PubRec if code >= reason::UNSPECIFIED => return Err(Over),
                    AckKind::PubRec => Message::PubRec(id),
                    AckKind::PubRel => {
                        self.release(id, code).await;
                        return Ok(());
                    }
                    AckKind::PubComp => {
                        self.completing.remove(&id);
                        Message::PubComp(id)
                    }
                };
                self.say(&message).await;
                Ok(())
            }
            Packet::SubAck(answer) => {
                let granted = answer.codes.first().copied().filter(|code| *code <= 2);
                let code = if granted.is_some() { code::ACCEPTED } else { code::NOT_SUPPORTED };
                let (id, qos) = (answer.packet_id, granted.unwrap_or(0));
                let topic_id = self.subscribing.remove(&id).unwrap_or(0);
                self.say(&Message::SubAck { qos, topic_id, id, code }).await;
                Ok(())
            }
            Packet::UnsubAck(id) => {
                self.say(&Message::UnsubAck(id)).await;
                Ok(())
            }
            Packet::PingResp => {
                self.drained().await;
                Ok(())
            }
            _ => Err(Over),
        }
    }

    fn give(&mut self, packet: &Packet) -> Result<(), Over> {
        let pipe = self.pipe.as_mut().ok_or(Over)?;
        pipe.give(packet);
        if pipe.is_overrun() { Err(Over) } else { Ok(()) }
    }

    async fn say(&self, message: &Message) {
        if let Some(bytes) = wire::encode(message) {
            self.send(&bytes).await;
        }
    }

    /// What is lost on the way is the client's to ask for again, or is sent again.
    async fn send(&self, bytes: &[u8]) {
        let _ = self.socket.send_to(bytes, self.address).await;
    }
}

async fn drive(pipe: &mut Option<Pipe>, reads: bool) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.drive(reads).await,
        None => std::future::pending().await,
    }
}

/// One and a half times as long (MQTT-SN 1.2, section 7.2).
fn patience(seconds: u16) -> Duration {
    match seconds {
        0 => SILENT_MAX,
        seconds => Duration::from_millis(u64::from(seconds) * 1500),
    }
}

/// A reason code as MQTT-SN says it (5.3.10): who is told `congestion` tries again.
const fn return_code(code: u8) -> u8 {
    match code {
        0..reason::UNSPECIFIED => code::ACCEPTED,
        reason::IMPLEMENTATION | reason::SERVER_UNAVAILABLE | reason::SHUTTING_DOWN | reason::QUOTA => {
            code::CONGESTION
        }
        reason::TOPIC_NAME_INVALID => code::INVALID_TOPIC,
        _ => code::NOT_SUPPORTED,
    }
}

fn number(topic: &Topic) -> u16 {
    match topic {
        Topic::Id(id) | Topic::Predefined(id) => *id,
        Topic::Short(name) => u16::from_be_bytes(*name),
        Topic::Name(_) => 0,
    }
}

/// CONNECT (MQTT 5.0, section 3.1): how long the client may be silent is watched here.
fn connect_packet(connect: &Connect, will: Option<&(Flags, Box<str>, Bytes)>) -> Vec<u8> {
    let mut body = BytesMut::new();
    put(&mut body, b"MQTT");
    body.put_u8(5);
    let mut flags = u8::from(connect.clean) << 1;
    if let Some((will, ..)) = will {
        flags |= 0x04 | will.qos.min(2) << 3 | u8::from(will.retain) << 5;
    }
    body.put_u8(flags);
    body.put_u16(0);
    match connect.clean {
        true => body.put_u8(0),
        // Session Expiry Interval: as long as the broker lets it.
        false => body.put_slice(&[5, 17, 0xFF, 0xFF, 0xFF, 0xFF]),
    }
    put(&mut body, connect.client.as_bytes());
    if let Some((_, topic, payload)) = will {
        body.put_u8(0);
        put(&mut body, topic.as_bytes());
        put(&mut body, payload);
    }
    let mut packet = vec![0x10];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(&body);
    packet
}

/// With its length before it; a datagram holds no longer ones.
fn put(body: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    body.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    body.put_slice(bytes);
}

#[cfg(test)]
mod tests;
