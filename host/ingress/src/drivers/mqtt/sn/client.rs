//! One client: MQTT-SN on its side, MQTT 5.0 on the broker's, over a pipe within this process. So its session, its
//! subscriptions and what is acknowledged when are the broker's; and each is told what the other one refused.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sandbar_mqtt_client::codec::{
    self, Ack, AckKind, Filter, Packet, Publish, Qos, Subscribe, Unsubscribe, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::broker::Broker;
use super::super::codec::reason;
use super::super::handshake::{self, Link};
use super::topics::Topics;
use super::wire::{self, Flags, Message, Topic, code};

/// What the pipe holds each way.
const PIPE: usize = 16 << 10;

/// `T_retry` and `N_retry` (MQTT-SN 1.2, section 7.2).
const RETRY: Duration = Duration::from_secs(10);
const RETRIES_MAX: u32 = 5;

/// Publications of the client that were not acknowledged, at once.
const PUBLISHING_MAX: usize = 64;

/// How long a client may take to say its will.
const GREETING: Duration = Duration::from_secs(30);

/// Who names no time for which it may be silent is forgotten after this: UDP does not tell that somebody is gone.
const SILENT_MAX: Duration = Duration::from_secs(24 * 3600);

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
    /// It asked for what waits; whether there was something since the broker was asked last.
    Awake {
        had_some: bool,
    },
}

struct Connect {
    clean: bool,
    duration: u16,
    client: Box<str>,
}

/// A message to the client that is to be acknowledged: one at a time.
struct Flight {
    bytes: Vec<u8>,
    id: u16,
    due: Instant,
    tries: u32,
    what: What,
    publish: Publish,
    /// The client said that it does not know the topic, which was then registered.
    is_again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The publication follows.
    Register,
    Publish,
}

pub(super) struct Client {
    broker: Arc<Broker>,
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    user: Option<Box<str>>,
    topics: Topics,
    state: State,
    name: Box<str>,
    pipe: Option<DuplexStream>,
    input: BytesMut,
    arrived: VecDeque<Packet>,
    flight: Option<Flight>,
    publishing: HashMap<u16, u16>,
    subscribing: HashMap<u16, u16>,
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
            input: BytesMut::new(),
            arrived: VecDeque::new(),
            flight: None,
            publishing: HashMap::new(),
            subscribing: HashMap::new(),
            heard: Instant::now(),
            patience: GREETING,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let session = self.broker.session.clone();
        loop {
            let end = self.heard + self.patience;
            let due = self.flight.as_ref().map_or(end, |flight| flight.due.min(end));
            let reads = self.reads();
            let step = tokio::select! {
                () = session.stopped() => Err(Over),
                message = inbox.recv() => match message {
                    Some(message) => self.told(message).await,
                    None => Err(Over),
                },
                read = read(&mut self.pipe, &mut self.input), if reads => match read {
                    Ok(0) | Err(_) => Err(Over),
                    Ok(_) => self.parse(),
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

    fn reads(&self) -> bool {
        let is_ready = matches!(self.state, State::Connecting | State::Active | State::Awake { .. });
        is_ready && self.flight.is_none() && self.arrived.is_empty() && self.pipe.is_some()
    }

    fn parse(&mut self) -> Result<(), Over> {
        let limit = self.broker.packet_max.saturating_add(1 << 16);
        while let Some(packet) = codec::decode(&mut self.input, Version::V5, limit).map_err(|_| Over)? {
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
        Ok(())
    }

    async fn timer(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if now >= self.heard + self.patience {
            return Err(Over);
        }
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.due <= now) else { return Ok(()) };
        if flight.tries >= RETRIES_MAX {
            return Err(Over);
        }
        flight.tries += 1;
        flight.due = now + RETRY;
        // DUP, where there are flags.
        if flight.what == What::Publish {
            let at = if flight.bytes.first() == Some(&1) { 4 } else { 2 };
            if let Some(flags) = flight.bytes.get_mut(at) {
                *flags |= 0x80;
            }
        }
        let bytes = flight.bytes.clone();
        self.send(&bytes).await;
        Ok(())
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
                    self.open(&connect, will.map(|(flags, topic)| (flags, topic, payload))).await
                }
                other => {
                    self.state = other;
                    Ok(())
                }
            },
            Message::Disconnect(Some(seconds)) => {
                self.patience = Duration::from_millis(u64::from(seconds) * 1500);
                self.state = State::Asleep;
                self.say(&Message::Disconnect(None)).await;
                Ok(())
            }
            Message::Disconnect(None) => {
                self.give(&Packet::Disconnect(Box::default())).await?;
                self.pipe = None;
                Err(Over)
            }
            Message::PingReq(_) => self.ping().await,
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
            return Ok(());
        }
        if self.pipe.is_some() {
            self.give(&Packet::Disconnect(Box::default())).await?;
            self.pipe = None;
        }
        (self.flight, self.arrived) = (None, VecDeque::new());
        // The broker has no answer to these any more.
        self.publishing.clear();
        self.subscribing.clear();
        if !will {
            return self.open(&connect, None).await;
        }
        self.patience = GREETING;
        self.state = State::Greeting { connect, will: None };
        self.say(&Message::WillTopicRequest).await;
        Ok(())
    }

    async fn will_topic(&mut self, topic: Option<(Flags, Box<str>)>) -> Result<(), Over> {
        let State::Greeting { will, .. } = &mut self.state else { return Ok(()) };
        if topic.is_some() {
            *will = topic;
            self.say(&Message::WillMessageRequest).await;
            return Ok(());
        }
        match std::mem::replace(&mut self.state, State::Connecting) {
            State::Greeting { connect, .. } => self.open(&connect, None).await,
            _ => Ok(()),
        }
    }

    /// A connection to the broker, as any client has one.
    async fn open(&mut self, connect: &Connect, will: Option<(Flags, Box<str>, Bytes)>) -> Result<(), Over> {
        let (near, far) = tokio::io::duplex(PIPE);
        let link = Link { remote: self.address, certificate: self.user.clone(), gateway: Some(AGENT) };
        let broker = Arc::clone(&self.broker);
        tokio::spawn(async move {
            if let Some(connection) = Box::pin(handshake::greet(&broker, Box::new(far), link)).await {
                drop(broker);
                Box::pin(connection.run()).await;
            }
        });
        self.pipe = Some(near);
        self.input.clear();
        self.name = connect.client.clone();
        self.patience = patience(connect.duration);
        self.state = State::Connecting;
        self.write(&connect_packet(connect, will.as_ref())).await
    }

    async fn ping(&mut self) -> Result<(), Over> {
        match self.state {
            State::Asleep => {
                self.state = State::Awake { had_some: false };
                self.give(&Packet::PingReq).await
            }
            // What is under way comes first.
            State::Awake { .. } => Ok(()),
            _ => {
                self.say(&Message::PingResp).await;
                Ok(())
            }
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
            Message::PubRec(id) => {
                self.land(id, What::Publish);
                self.give(&Packet::Ack(Ack::new(AckKind::PubRec, id))).await
            }
            Message::PubRel(id) => self.give(&Packet::Ack(Ack::new(AckKind::PubRel, id))).await,
            Message::PubComp(id) => self.give(&Packet::Ack(Ack::new(AckKind::PubComp, id))).await,
            Message::Subscribe { flags, id, topic } => self.subscribe(flags, id, &topic).await,
            Message::Unsubscribe { id, topic } => match self.topics.name(&topic) {
                Some(filter) => {
                    self.give(&Packet::Unsubscribe(Unsubscribe { packet_id: id, filters: vec![filter] }))
                        .await
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
        let refuse = match self.topics.name(topic) {
            None => Err(code::INVALID_TOPIC),
            Some(_) if flags.qos > 0 && self.publishing.len() >= self.publishing_max() => {
                Err(code::CONGESTION)
            }
            Some(name) => Ok(name),
        };
        let name = match refuse {
            Ok(name) => name,
            Err(code) => {
                self.say(&Message::PubAck { topic_id, id, code }).await;
                return Ok(());
            }
        };
        if flags.qos == 1 {
            self.publishing.insert(id, topic_id);
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
        self.give(&Packet::Publish(publish)).await
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
            .await
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
                    AckKind::PubRel => Message::PubRel(id),
                    AckKind::PubComp => Message::PubComp(id),
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
            Packet::PingResp => self.drained().await,
            _ => Err(Over),
        }
    }

    /// Everything that waited before the broker was asked has come.
    async fn drained(&mut self) -> Result<(), Over> {
        match &mut self.state {
            State::Awake { had_some: true } => {
                self.state = State::Awake { had_some: false };
                self.give(&Packet::PingReq).await
            }
            State::Awake { .. } => {
                self.state = State::Asleep;
                self.say(&Message::PingResp).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A topic that the client has no number for is registered first.
    async fn deliver(&mut self, publish: Publish) -> Result<(), Over> {
        if let State::Awake { had_some } = &mut self.state {
            *had_some = true;
        }
        if let Some(topic) = self.topics.known(&publish.topic) {
            return self.send_publish(publish, topic, false).await;
        }
        self.register(publish, false).await
    }

    async fn register(&mut self, publish: Publish, is_again: bool) -> Result<(), Over> {
        let Some(topic_id) = self.topics.register(&publish.topic) else {
            return self.refuse(&publish, reason::QUOTA, "it has numbers for too many topics").await;
        };
        let id = if publish.packet_id > 0 { publish.packet_id } else { u16::MAX };
        let Some(bytes) = wire::encode(&Message::Register { topic_id, id, topic: publish.topic.clone() })
        else {
            return self.refuse(&publish, reason::TOPIC_NAME_INVALID, "its topic is too long").await;
        };
        self.send(&bytes).await;
        let (due, what) = (Instant::now() + RETRY, What::Register);
        self.flight = Some(Flight { bytes, id, due, tries: 0, what, publish, is_again });
        Ok(())
    }

    async fn registered(&mut self, id: u16, code: u8) -> Result<(), Over> {
        if code == code::CONGESTION {
            return self.later(id, What::Register);
        }
        let Some(Flight { publish, is_again, .. }) = self.land(id, What::Register) else { return Ok(()) };
        match self.topics.known(&publish.topic).filter(|_| code == code::ACCEPTED) {
            Some(topic) => self.send_publish(publish, topic, is_again).await,
            None => self.refuse(&publish, reason::TOPIC_NAME_INVALID, "it does not take its topic").await,
        }
    }

    /// PUBACK, which also refuses at quality of service 2.
    async fn acknowledged(&mut self, id: u16, code: u8) -> Result<(), Over> {
        if code == code::CONGESTION {
            return self.later(id, What::Publish);
        }
        let Some(Flight { publish, is_again, .. }) = self.land(id, What::Publish) else { return Ok(()) };
        let is_numbered = matches!(self.topics.known(&publish.topic), Some(Topic::Id(_)));
        match code {
            code::ACCEPTED => self.give(&Packet::Ack(Ack::new(AckKind::PubAck, id))).await,
            // It may have been switched off since, and have forgotten the number.
            code::INVALID_TOPIC if is_numbered && !is_again => self.register(publish, true).await,
            code::INVALID_TOPIC => {
                self.refuse(&publish, reason::TOPIC_NAME_INVALID, "it does not know its topic").await
            }
            _ => self.refuse(&publish, reason::IMPLEMENTATION, "it refuses it").await,
        }
    }

    /// The client cannot take it now: it is sent again, as if it had said nothing.
    fn later(&mut self, id: u16, what: What) -> Result<(), Over> {
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.id == id && flight.what == what) {
            flight.due = Instant::now() + RETRY;
        }
        Ok(())
    }

    async fn send_publish(&mut self, publish: Publish, topic: Topic, is_again: bool) -> Result<(), Over> {
        let flags = Flags { duplicate: publish.duplicate, qos: publish.qos.bits(), retain: publish.retain };
        let message =
            Message::Publish { flags, topic, id: publish.packet_id, payload: publish.payload.clone() };
        let Some(bytes) = wire::encode(&message) else {
            return self.refuse(&publish, reason::PACKET_TOO_LARGE, "it is too long").await;
        };
        self.send(&bytes).await;
        if publish.qos != Qos::AtMostOnce {
            let (due, id, what) = (Instant::now() + RETRY, publish.packet_id, What::Publish);
            self.flight = Some(Flight { bytes, id, due, tries: 0, what, publish, is_again });
        }
        Ok(())
    }

    /// The client cannot have it, or does not take it: the broker is told, so that it does not wait forever.
    async fn refuse(&mut self, publish: &Publish, code: u8, cause: &str) -> Result<(), Over> {
        let (ingress, client) = (self.broker.session.ingress(), &*self.name);
        tracing::warn!(%ingress, client, topic = &*publish.topic, cause, "a message is not brought to a client");
        let kind = match publish.qos {
            Qos::AtMostOnce => return Ok(()),
            Qos::AtLeastOnce => AckKind::PubAck,
            Qos::ExactlyOnce => AckKind::PubRec,
        };
        self.give(&Packet::Ack(Ack { code, ..Ack::new(kind, publish.packet_id) })).await
    }

    fn land(&mut self, id: u16, what: What) -> Option<Flight> {
        self.flight.take_if(|flight| flight.id == id && flight.what == what)
    }

    async fn give(&mut self, packet: &Packet) -> Result<(), Over> {
        let mut bytes = Vec::new();
        codec::encode(packet, Version::V5, &mut bytes);
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let pipe = self.pipe.as_mut().ok_or(Over)?;
        pipe.write_all(bytes).await.map_err(|_| Over)
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

async fn read(pipe: &mut Option<DuplexStream>, input: &mut BytesMut) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read_buf(input).await,
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
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for_without_end() {
        assert_eq!(patience(60), Duration::from_secs(90));
        assert_eq!(patience(0), SILENT_MAX);
    }

    #[test]
    fn a_refusal_is_told_as_one() {
        for (code, told) in [
            (reason::SUCCESS, code::ACCEPTED),
            (reason::NOT_AUTHORIZED, code::NOT_SUPPORTED),
            (reason::TOPIC_NAME_INVALID, code::INVALID_TOPIC),
            (reason::QUOTA, code::CONGESTION),
        ] {
            assert_eq!(return_code(code), told, "{code:#x}");
        }
    }
}
