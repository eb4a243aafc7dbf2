//! Against a broker of the tests' own; `tests/mqtt` has a real one.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sandbar_mqtt_client::codec::{Ack, AckKind, ConnAck, Subscribe, Version, decode, encode};
use sandbar_mqtt_client::{Packet, Properties, Publish, Qos};
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::MqttClient;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::{Answer, Supervised};

/// What a client sends, and how to send to it.
struct Client {
    from: mpsc::Receiver<Packet>,
    /// Bytes for the client; dropped, the connection ends.
    to: mpsc::Sender<Vec<u8>>,
    version: Version,
}

/// A broker for one client at a time. It acknowledges what the client publishes only when a test says so.
#[derive(Clone)]
struct Broker {
    port: u16,
    /// The newest connection that has subscribed, or goes on with its subscriptions.
    client: Arc<tokio::sync::Mutex<Option<Client>>>,
    count: watch::Receiver<usize>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    has_session: Mutex<bool>,
    filters: Mutex<Vec<Subscribe>>,
    refused: Mutex<bool>,
    /// It goes on with a session, whatever the client wants.
    keeps_all: Mutex<bool>,
    /// Of all that it was asked to subscribe, this answers one less.
    passes_over: Mutex<bool>,
}

impl Broker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Arc::new(tokio::sync::Mutex::new(None));
        let (counting, count) = watch::channel(0);
        let broker = Self { port, client: Arc::clone(&client), count, shared: Arc::default() };
        let shared = Arc::clone(&broker.shared);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Some(new) = greet(socket, &shared).await {
                    *client.lock().await = Some(new);
                    counting.send_modify(|count| *count += 1);
                }
            }
        });
        broker
    }

    fn settings(&self, mut more: Value) -> Value {
        let mut settings = json!({
            "broker": { "url": format!("mqtt://127.0.0.1:{}", self.port), "client_id": "tested" },
            "filters": ["sensors/#"],
            "qos": 2,
            "device": ["sensors/{device}/#"],
            "command_topic": "to/{device}/{command}",
        });
        settings.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        settings
    }

    async fn send(&self, packet: &Packet) {
        let client = self.client.lock().await;
        let client = client.as_ref().expect("a client is connected");
        let mut bytes = Vec::new();
        encode(packet, client.version, &mut bytes);
        client.to.send(bytes).await.unwrap();
    }

    /// The next packet of the client; `None` if its connection ended.
    async fn receive(&self) -> Option<Packet> {
        let mut client = self.client.lock().await;
        client.as_mut().expect("a client is connected").from.recv().await
    }

    /// Ends the connection, and resolves once the client has connected again.
    async fn interrupt(&self) {
        let mut count = self.count.clone();
        count.mark_unchanged();
        drop(self.client.lock().await.take());
        in_time(count.changed()).await.unwrap();
    }
}

/// CONNECT, and the subscription where the session does not go on.
async fn greet(mut socket: TcpStream, shared: &Shared) -> Option<Client> {
    let mut input = BytesMut::new();
    let mut version = Version::V5;
    let mut output = Vec::new();
    loop {
        match decode(&mut input, version, 1 << 20).expect("a client that speaks MQTT") {
            Some(Packet::Connect(connect)) => {
                version = connect.version;
                let keeps = !connect.clean_start;
                let session_present = std::mem::replace(&mut *shared.has_session.lock(), keeps) && keeps;
                let session_present = session_present || *shared.keeps_all.lock();
                let answer = ConnAck { session_present, ..ConnAck::default() };
                encode(&Packet::ConnAck(Box::new(answer)), version, &mut output);
                socket.write_all(&output).await.ok()?;
                output.clear();
                if session_present {
                    break;
                }
            }
            Some(Packet::Subscribe(subscribe)) => {
                subscribed(&subscribe, shared, version, &mut output);
                socket.write_all(&output).await.ok()?;
                break;
            }
            Some(_) => return None,
            None if socket.read_buf(&mut input).await.ok()? == 0 => return None,
            None => {}
        }
    }
    Some(relay(socket, input, version))
}

fn subscribed(subscribe: &Subscribe, shared: &Shared, version: Version, output: &mut Vec<u8>) {
    let code = if *shared.refused.lock() { Some(0x87) } else { None };
    let passed_over = usize::from(*shared.passes_over.lock());
    let answered = subscribe.filters.iter().skip(passed_over);
    let codes = answered.map(|filter| code.unwrap_or(filter.qos.bits())).collect();
    let answer = sandbar_mqtt_client::codec::SubAck { packet_id: subscribe.packet_id, codes };
    encode(&Packet::SubAck(answer), version, output);
    shared.filters.lock().push(subscribe.clone());
}

fn relay(socket: TcpStream, mut input: BytesMut, version: Version) -> Client {
    let (packets, from) = mpsc::channel(100);
    let (to, mut bytes) = mpsc::channel::<Vec<u8>>(100);
    let (mut reader, mut writer) = socket.into_split();
    tokio::spawn(async move {
        loop {
            while let Some(packet) = decode(&mut input, version, 1 << 20).expect("a client that speaks MQTT")
            {
                if packets.send(packet).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                read = reader.read_buf(&mut input) => if read.unwrap_or(0) == 0 { return },
                sent = bytes.recv() => match sent {
                    Some(sent) => if writer.write_all(&sent).await.is_err() { return },
                    None => return,
                },
            }
        }
    });
    Client { from, to, version }
}

fn publish(qos: Qos, packet_id: u16, payload: &[u8]) -> Packet {
    Packet::Publish(Publish {
        qos,
        packet_id,
        topic: "sensors/k1/temp".into(),
        payload: Bytes::copy_from_slice(payload),
        ..Publish::default()
    })
}

fn ack(kind: AckKind, packet_id: u16) -> Packet {
    Packet::Ack(Ack::new(kind, packet_id))
}

struct BrokerPeer {
    broker: Broker,
    /// Half a message was sent over the connection: no whole one can follow.
    is_spoiled: Arc<Mutex<bool>>,
}

impl Peer for BrokerPeer {
    type Driver = MqttClient;

    async fn prepare() -> (Self, Value) {
        let broker = Broker::start().await;
        let settings = broker.settings(json!({}));
        (Self { broker, is_spoiled: Arc::default() }, settings)
    }

    async fn reach(&mut self, _address: Option<std::net::SocketAddr>) {
        let mut count = self.broker.count.clone();
        in_time(count.wait_for(|count| *count > 0)).await.unwrap();
    }

    async fn send(&self, payload: Bytes) -> Told {
        if std::mem::take(&mut *self.is_spoiled.lock()) {
            self.broker.interrupt().await;
        }
        self.broker.send(&publish(Qos::AtLeastOnce, 7, &payload)).await;
        match self.broker.receive().await {
            Some(Packet::Ack(Ack { kind: AckKind::PubAck, packet_id: 7, code: 0, .. })) => Told::Acknowledged,
            Some(Packet::Ack(Ack { code, .. })) => Told::Refused(code.to_string()),
            _ => Told::Nothing,
        }
    }

    /// A broker has no word for "not now": only what will never be taken is refused.
    fn told_for(&self, refused: &Refused) -> Told {
        match refused {
            Refused::TooLarge { .. } => Told::Refused("131".into()),
            _ => Told::Nothing,
        }
    }

    async fn send_garbage(&self, bytes: Bytes) {
        drop(self.broker.client.lock().await.as_ref().unwrap().to.send(bytes.to_vec()).await);
        self.broker.interrupt().await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut bytes = Vec::new();
        encode(&publish(Qos::AtLeastOnce, 9, b"half"), Version::V5, &mut bytes);
        bytes.truncate(bytes.len() / 2);
        self.broker.client.lock().await.as_ref().unwrap().to.send(bytes).await.unwrap();
        *self.is_spoiled.lock() = true;
        Box::new(())
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

/// Without the case of refusals: a broker is not told of those that pass.
mod contract {
    crate::driver_contract! { @each super::BrokerPeer:
        accepts, acknowledges_after_the_receipt, stops_at_once, survives_garbage_and_a_lost_peer
    }

    #[test]
    fn example_builds() {
        crate::contract::example_builds::<super::BrokerPeer>();
    }
}

async fn start(more: Value) -> (Broker, Arc<StandIn>, Supervised) {
    let broker = Broker::start().await;
    let host = StandIn::new();
    let ingress = supervise::<MqttClient>(broker.settings(more), &host);
    running(&ingress).await;
    let mut count = broker.count.clone();
    in_time(count.wait_for(|count| *count > 0)).await.unwrap();
    (broker, host, ingress)
}

#[tokio::test]
async fn what_cannot_be_taken_now_waits_and_what_never_can_is_refused() {
    let (broker, host, _ingress) = start(json!({})).await;
    host.refuse(Refused::Busy { retry_after: Duration::from_millis(20) });
    broker.send(&publish(Qos::AtLeastOnce, 1, b"1")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubAck, 1)));
    assert_eq!(host.taken().len(), 1);

    host.refuse(Refused::TooLarge { size: 5, limit: 4 });
    broker.send(&publish(Qos::ExactlyOnce, 2, b"2")).await;
    let refused = Ack { code: 0x83, ..Ack::new(AckKind::PubRec, 2) };
    assert_eq!(in_time(broker.receive()).await, Some(Packet::Ack(refused)));
    assert_eq!(host.taken().len(), 1);
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_the_messages_and_share_a_commit() {
    let (broker, host, _ingress) = start(json!({})).await;
    host.hold();
    for id in 1..=50 {
        broker.send(&publish(Qos::AtLeastOnce, id, b"x")).await;
    }
    in_time(host.wait_offered(50)).await;
    host.release();
    for id in 1..=50 {
        assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubAck, id)));
    }
}

#[tokio::test]
async fn a_full_window_leaves_the_rest_with_the_broker() {
    let (broker, host, _ingress) = start(json!({ "window": 3 })).await;
    host.hold();
    for id in 1..=9 {
        broker.send(&publish(Qos::AtLeastOnce, id, b"x")).await;
    }
    in_time(host.wait_offered(3)).await;
    let more = tokio::time::timeout(Duration::from_millis(100), host.wait_offered(4)).await;
    assert!(more.is_err(), "more than the window was taken in");
    host.release();
    in_time(host.wait_taken(9)).await;
}

#[tokio::test]
async fn a_message_of_qos_2_is_taken_once_across_lost_links_and_a_restart() {
    let (broker, host, ingress) = start(json!({})).await;
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));

    // The broker never saw the PUBREC.
    broker.interrupt().await;
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));

    ingress.stop(Duration::from_secs(5)).await;
    let mut count = broker.count.clone();
    count.mark_unchanged();
    let _again = supervise::<MqttClient>(broker.settings(json!({})), &host);
    in_time(count.changed()).await.unwrap();
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));
    assert_eq!(host.taken().len(), 1);

    // Released, the identifier is free for another message.
    broker.send(&ack(AckKind::PubRel, 4)).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubComp, 4)));
    broker.send(&publish(Qos::ExactlyOnce, 4, b"another")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));
    assert_eq!(host.taken().len(), 2);
}

#[tokio::test]
async fn what_is_on_its_way_to_the_disk_is_there_before_the_next_link() {
    let (broker, host, _ingress) = start(json!({})).await;
    host.hold();
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    in_time(host.wait_offered(1)).await;
    let mut count = broker.count.clone();
    count.mark_unchanged();
    drop(broker.client.lock().await.take());
    let again = tokio::time::timeout(Duration::from_millis(300), count.changed()).await;
    assert!(again.is_err(), "it would find that it has not taken the message");
    host.release();
    in_time(count.changed()).await.unwrap();
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));
    assert_eq!(host.taken().len(), 1);
}

#[tokio::test]
async fn what_waits_for_a_busy_host_keeps_no_lost_link_from_being_made_again() {
    let (broker, host, _ingress) = start(json!({})).await;
    host.refuse(Refused::Busy { retry_after: Duration::from_secs(3600) });
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    in_time(host.wait_offered(1)).await;
    broker.interrupt().await;
    broker.send(&publish(Qos::ExactlyOnce, 4, b"once")).await;
    assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubRec, 4)));
    assert_eq!(host.taken().len(), 1);
}

#[tokio::test]
async fn a_session_that_the_broker_lost_begins_anew() {
    let (broker, host, _ingress) = start(json!({})).await;
    broker.send(&publish(Qos::ExactlyOnce, 4, b"first")).await;
    in_time(broker.receive()).await.unwrap();
    *broker.shared.has_session.lock() = false;
    broker.interrupt().await;
    broker.send(&publish(Qos::ExactlyOnce, 4, b"second")).await;
    in_time(broker.receive()).await.unwrap();
    assert_eq!(host.taken().len(), 2);
    assert_eq!(broker.shared.filters.lock().len(), 2, "it subscribed again");
}

#[tokio::test]
async fn a_session_that_goes_on_is_subscribed_to_once_and_follows_the_settings() {
    let (broker, host, ingress) = start(json!({ "filters": ["a/#", "sensors/#"] })).await;
    broker.interrupt().await;
    assert_eq!(broker.shared.filters.lock().len(), 1);
    ingress.stop(Duration::from_secs(5)).await;

    let mut count = broker.count.clone();
    count.mark_unchanged();
    let _changed = supervise::<MqttClient>(broker.settings(json!({ "filters": ["sensors/#", "b"] })), &host);
    in_time(count.changed()).await.unwrap();
    let Some(Packet::Unsubscribe(gone)) = in_time(broker.receive()).await else { panic!("not unsubscribed") };
    assert_eq!(gone.filters, ["a/#".into()]);
    let Some(Packet::Subscribe(wanted)) = in_time(broker.receive()).await else { panic!("not subscribed") };
    assert_eq!(wanted.filters.iter().map(|filter| &*filter.filter).collect::<Vec<_>>(), ["sensors/#", "b"]);
}

#[tokio::test]
async fn a_command_is_carried_out_once_the_broker_has_it() {
    let (broker, host, _ingress) = start(json!({})).await;
    broker.send(&publish(Qos::AtLeastOnce, 1, b"x")).await;
    in_time(broker.receive()).await.unwrap();
    assert_eq!(host.devices(), ["k1".into()]);
    let command = || Command {
        device: "k1".into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: Bytes::from_static(b"{}"),
    };
    let offering = host.command(command());
    let taking = async {
        let Some(Packet::Publish(publish)) = in_time(broker.receive()).await else { panic!("no command") };
        assert_eq!((&*publish.topic, &publish.payload[..]), ("to/k1/set", &b"{}"[..]));
        broker.send(&ack(AckKind::PubAck, publish.packet_id)).await;
    };
    assert_eq!(tokio::join!(offering, taking).0, Some(Ok(())));

    let refusing = async {
        let Some(Packet::Publish(publish)) = in_time(broker.receive()).await else { panic!("no command") };
        let refused = Ack { code: 0x87, ..Ack::new(AckKind::PubAck, publish.packet_id) };
        broker.send(&Packet::Ack(refused)).await;
    };
    let (result, ()) = tokio::join!(host.command(command()), refusing);
    let expected = crate::CommandError::Retry("the broker: 0x87 not authorized".into());
    assert_eq!(result, Some(Err(expected)));

    // It is reached again before it has sent anything.
    broker.interrupt().await;
    let other = Publish { topic: "other".into(), qos: Qos::AtLeastOnce, packet_id: 2, ..Publish::default() };
    broker.send(&Packet::Publish(other)).await;
    in_time(broker.receive()).await.unwrap();
    assert_eq!(host.devices(), ["k1".into()]);
}

#[tokio::test]
async fn replies_go_to_the_response_topic_with_the_correlation_data() {
    let (broker, host, _ingress) = start(json!({ "reply_topic": "answers/{device}" })).await;
    let reply = Message {
        topic: "ignored".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new().with("unit", "C"),
        payload: Bytes::from_static(b"22"),
    };
    host.answer(vec![Answer::Reply(reply)], Ending::Ended);
    let Packet::Publish(mut question) = publish(Qos::AtLeastOnce, 1, b"?") else { panic!() };
    for (response_topic, expected) in [(Some("my/answers"), "my/answers"), (None, "answers/k1")] {
        question.properties = Properties {
            response_topic: response_topic.map(Into::into),
            correlation_data: Some(Bytes::from_static(b"\0\x01")),
            ..Properties::default()
        };
        broker.send(&Packet::Publish(question.clone())).await;
        assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubAck, 1)));
        let Some(Packet::Publish(answer)) = in_time(broker.receive()).await else { panic!("no reply") };
        assert_eq!((&*answer.topic, &answer.payload[..]), (expected, &b"22"[..]));
        assert_eq!(answer.properties.correlation_data.as_deref(), Some(&b"\0\x01"[..]));
        assert_eq!(answer.properties.user, [("unit".into(), "C".into())]);
        broker.send(&ack(AckKind::PubAck, answer.packet_id)).await;
    }
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_named() {
    let broker = Broker::start().await;
    *broker.shared.refused.lock() = true;
    let ingress = supervise::<MqttClient>(broker.settings(json!({})), &StandIn::new());
    let failed = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    let error = failed.last_error.unwrap().text;
    assert_eq!(error, "the broker refuses to subscribe to sensors/#: 0x87 not authorized");
}

#[tokio::test]
async fn a_broker_that_passes_over_a_subscription_is_told_of() {
    let broker = Broker::start().await;
    *broker.shared.passes_over.lock() = true;
    let ingress = supervise::<MqttClient>(broker.settings(json!({})), &StandIn::new());
    let failed = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    assert_eq!(failed.last_error.unwrap().text, "the broker answers 0 of 1 subscriptions");
}

#[tokio::test]
async fn a_session_of_before_is_none_to_begin_anew_with() {
    let broker = Broker::start().await;
    *broker.shared.keeps_all.lock() = true;
    let ingress = supervise::<MqttClient>(broker.settings(json!({ "clean_start": true })), &StandIn::new());
    let failed = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    let error = failed.last_error.unwrap().text;
    assert!(error.contains("a session of before after a clean start, which has no place there"), "{error}");
}

#[tokio::test]
async fn a_thousand_pieces_of_garbage_end_links_and_nothing_else() {
    let (broker, host, _ingress) = start(json!({})).await;
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for _ in 0..1000 {
        let mut bytes = Vec::new();
        encode(&publish(Qos::AtLeastOnce, 3, b"payload"), Version::V5, &mut bytes);
        let at = usize::from(random()) % bytes.len();
        bytes[at] ^= random() | 1;
        drop(broker.client.lock().await.as_ref().unwrap().to.send(bytes).await);
        broker.interrupt().await;
        // A link that takes something in is not waited for longer and longer.
        broker.send(&publish(Qos::AtLeastOnce, 7, b"whole")).await;
        assert_eq!(in_time(broker.receive()).await, Some(ack(AckKind::PubAck, 7)));
    }
    assert_eq!(&host.taken().last().unwrap().inbound.payload[..], b"whole");
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "filters": [] }), "filters"),
        (json!({ "filters": ["a", "b/#/c"] }), "filters[1]"),
        (json!({ "filters": ["$share//a"] }), "filters[0]"),
        (json!({ "device": ["a/b"] }), "device[0]"),
        (json!({ "content_type": "json" }), "content_type"),
        (json!({ "reply_topic": "a/{where}" }), "reply_topic"),
        (json!({ "command_topic": "a/+" }), "command_topic"),
        (json!({ "command_qos": 2 }), "command_qos"),
        (json!({ "broker": { "url": "mqtt://a", "client_id": "" } }), "broker.client_id"),
        (
            json!({ "filters": ["$share/g/a"], "broker": { "url": "mqtt://a", "client_id": "a", "version": "3.1.1" } }),
            "filters[0]",
        ),
    ] {
        let mut settings =
            json!({ "broker": { "url": "mqtt://a", "client_id": "a" }, "filters": ["sensors/#"] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("mqtt-client", settings).err().unwrap().setting, at, "{more}");
    }
}
