//! Against a broker of the tests' own; `tests/mqtt` has a real one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use sandbar_mqtt_client::codec::{
    Ack, AckKind, ConnAck, Packet, Properties, Publish, Version, decode, encode,
};
use sandbar_reading::DeliveryId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

/// A broker that behaves as it is told, and notes what it takes.
#[derive(Clone)]
struct Stub {
    port: u16,
    more: Value,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: watch::Sender<Behaviour>,
    taken: Mutex<Vec<DeliveryId>>,
    /// Messages of QoS 2 that were not released yet, by packet id: the session. Only then they are taken.
    unreleased: Mutex<HashMap<u16, DeliveryId>>,
    has_session: Mutex<bool>,
    connections: Mutex<usize>,
    in_flight_max: Mutex<usize>,
    connack: Mutex<ConnAck>,
    reached: Notify,
}

impl Stub {
    async fn start(more: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour: watch::Sender::new(Behaviour::Take),
            taken: Mutex::default(),
            unreleased: Mutex::default(),
            has_session: Mutex::default(),
            connections: Mutex::default(),
            in_flight_max: Mutex::default(),
            connack: Mutex::default(),
            reached: Notify::new(),
        });
        let stub = Self { port, more, shared };
        let shared = Arc::clone(&stub.shared);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { drop(serve(socket, &shared).await) });
            }
        });
        stub
    }

    fn sink(&self) -> Mqtt {
        contract::sink::<Self>(self.settings())
    }
}

async fn serve(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut input = BytesMut::new();
    let mut version = Version::V5;
    *shared.connections.lock() += 1;
    loop {
        let mut answers = Vec::new();
        // All that has come is answered at once, so that what was on its way together can be counted.
        let mut together = 0;
        while let Some(packet) = decode(&mut input, version, 1 << 20).expect("a client that speaks MQTT") {
            match packet {
                Packet::Connect(connect) => {
                    version = connect.version;
                    // As Mosquitto 2.0.11 over its restart: of a session that begins clean nothing is kept.
                    let had_one = std::mem::replace(&mut *shared.has_session.lock(), !connect.clean_start);
                    let session_present = had_one && !connect.clean_start;
                    if !session_present {
                        shared.unreleased.lock().clear();
                    }
                    let answer = ConnAck { session_present, ..shared.connack.lock().clone() };
                    encode(&Packet::ConnAck(Box::new(answer)), version, &mut answers);
                }
                Packet::Publish(publish) => {
                    together += 1;
                    let is_confirmed = publish.qos > Qos::AtMostOnce;
                    match take(publish, shared).await {
                        Some(ack) if is_confirmed => encode(&Packet::Ack(ack), version, &mut answers),
                        Some(_) => {}
                        None => return end(socket, &answers).await,
                    }
                }
                Packet::Ack(Ack { kind: AckKind::PubRel, packet_id, .. }) => {
                    shared.taken.lock().extend(shared.unreleased.lock().remove(&packet_id));
                    encode(&Packet::Ack(Ack::new(AckKind::PubComp, packet_id)), version, &mut answers);
                }
                Packet::PingReq => encode(&Packet::PingResp, version, &mut answers),
                _ => return Ok(()),
            }
        }
        let most = (*shared.in_flight_max.lock()).max(together);
        *shared.in_flight_max.lock() = most;
        socket.write_all(&answers).await?;
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// What was answered arrives: a socket that is closed with something unread takes it back.
async fn end(mut socket: TcpStream, answers: &[u8]) -> std::io::Result<()> {
    socket.write_all(answers).await?;
    socket.shutdown().await?;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.map(drop)
}

/// `None` ends the connection.
async fn take(publish: Publish, shared: &Shared) -> Option<Ack> {
    let mut behaviour = shared.behaviour.subscribe();
    if *behaviour.borrow() == Behaviour::Stall {
        shared.reached.notify_one();
        behaviour.wait_for(|behaviour| *behaviour != Behaviour::Stall).await.ok()?;
    }
    if publish.retain && shared.connack.lock().properties.retain_available == Some(false) {
        return None;
    }
    let id = id(&publish);
    let kind = if publish.qos == Qos::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
    let ack = Ack::new(kind, publish.packet_id);
    let current = *behaviour.borrow_and_update();
    match current {
        Behaviour::FailAfter(0) => return None,
        Behaviour::FailAfter(more) => drop(shared.behaviour.send_replace(Behaviour::FailAfter(more - 1))),
        Behaviour::Refuse(refused) if refused == id => {
            return Some(Ack { code: 0x99, reason: Some("no such unit".into()), ..ack });
        }
        Behaviour::Refuse(_) | Behaviour::Take | Behaviour::Stall => {}
    }
    match kind {
        // Under the id of one that was not released, it is a repeat of that (4.3.3).
        AckKind::PubRec => drop(shared.unreleased.lock().entry(publish.packet_id).or_insert(id)),
        _ => shared.taken.lock().push(id),
    }
    Some(ack)
}

/// Of the user property, or of the payload's number where there is none.
fn id(publish: &Publish) -> DeliveryId {
    match publish.properties.user.iter().find(|(key, _)| &**key == "id") {
        Some((_, id)) => id.parse().unwrap(),
        None => {
            let payload: Value = serde_json::from_slice(&publish.payload).unwrap();
            delivery(payload["count"].as_u64().unwrap()).id
        }
    }
}

impl FarEnd for Stub {
    type Sink = Mqtt;

    fn settings(&self) -> Value {
        let mut broker =
            json!({ "url": format!("mqtt://127.0.0.1:{}", self.port), "client_id": "s", "timeout_ms": 3000 });
        let mut settings = self.more.clone();
        let version = settings.as_object_mut().unwrap().remove("version");
        broker["version"] = version.unwrap_or(json!("5"));
        settings["broker"] = broker;
        settings
    }

    fn behave(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.shared.taken.lock().clone()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}

/// Of MQTT 3.1.1: it has no word for a refusal.
struct Old(Stub);

impl FarEnd for Old {
    type Sink = Mqtt;
    const REFUSES: bool = false;

    fn settings(&self) -> Value {
        self.0.settings()
    }

    fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour);
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.0.taken()
    }

    async fn reached(&self) {
        self.0.reached().await;
    }
}

#[tokio::test]
async fn keeps_the_contract_with_qos_1() {
    contract::check(&Stub::start(json!({ "qos": 1 })).await).await;
}

#[tokio::test]
async fn keeps_the_contract_with_qos_2() {
    contract::check(&Stub::start(json!({ "qos": 2 })).await).await;
}

#[tokio::test]
async fn keeps_the_contract_with_3_1_1() {
    for qos in [1, 2] {
        contract::check(&Old(Stub::start(json!({ "qos": qos, "version": "3.1.1" })).await)).await;
    }
}

#[tokio::test]
async fn many_are_on_their_way_over_one_connection_but_no_more_than_allowed() {
    for (allowed, most) in [(None, 100), (Some(7), 7)] {
        let stub = Stub::start(json!({})).await;
        stub.shared.connack.lock().properties.receive_maximum = allowed;
        let sink = stub.sink();
        stub.behave(Behaviour::Stall);
        let batch = deliveries(0..300);
        let progress = Progress::default();
        let delivering = sink.deliver(&batch, &progress);
        let resuming = async {
            stub.reached().await;
            stub.behave(Behaviour::Take);
        };
        let (delivered, ()) = tokio::join!(delivering, resuming);
        delivered.unwrap();
        assert_eq!(stub.taken().len(), 300);
        assert_eq!(*stub.shared.connections.lock(), 1);
        assert!(*stub.shared.in_flight_max.lock() <= most);
    }
}

#[tokio::test]
async fn what_was_acknowledged_behind_a_refusal_is_not_sent_again() {
    let stub = Stub::start(json!({})).await;
    let sink = stub.sink();
    let batch = deliveries(0..10);
    stub.behave(Behaviour::Refuse(batch[4].id));
    match sink.deliver(&batch, &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 4, cause } => {
            assert_eq!(cause.to_string(), "the broker: 0x99 payload format invalid: no such unit");
        }
        other => panic!("{other:?}"),
    }
    sink.deliver(&batch[5..], &Progress::default()).await.unwrap();
    let mut once = stub.taken();
    once.dedup();
    assert_eq!(stub.taken(), once);
    assert_eq!(once.len(), 9);
}

#[tokio::test]
async fn qos_2_goes_on_where_the_link_was_lost() {
    let stub = Stub::start(json!({ "qos": 2 })).await;
    let sink = stub.sink();
    let batch = deliveries(0..20);
    let mut rest = &batch[..];
    for more in [3, 5, 2] {
        stub.behave(Behaviour::FailAfter(more));
        match sink.deliver(rest, &Progress::default()).await.unwrap_err() {
            DeliveryError::Retry { delivered, .. } => rest = &rest[delivered..],
            other => panic!("{other:?}"),
        }
    }
    stub.behave(Behaviour::Take);
    sink.deliver(rest, &Progress::default()).await.unwrap();
    let ids: Vec<_> = batch.iter().map(|delivery| delivery.id).collect();
    assert_eq!(stub.taken(), ids, "each once, in order");
}

#[tokio::test]
async fn what_an_earlier_run_left_in_the_session_takes_no_message_for_a_repeat() {
    for version in ["5", "3.1.1"] {
        let stub = Stub::start(json!({ "qos": 2, "version": version })).await;
        *stub.shared.has_session.lock() = true;
        stub.shared.unreleased.lock().insert(1, delivery(99).id);
        stub.sink().deliver(&[delivery(1)], &Progress::default()).await.unwrap();
        assert_eq!(stub.taken(), [delivery(1).id]);
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_time_was_over_is_not_sent_again() {
    for qos in [1, 2] {
        let stub = Stub::start(json!({ "qos": qos })).await;
        stub.shared.connack.lock().properties.receive_maximum = Some(1);
        let sink = stub.sink();
        let batch = deliveries(0..20);
        let progress = Progress::default();
        let half = async {
            while progress.taken() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = sink.deliver(&batch, &progress) => panic!("the time is over before it is done"),
            () = half => {}
        }
        sink.deliver(&batch, &Progress::default()).await.unwrap();
        let ids: Vec<_> = batch.iter().map(|delivery| delivery.id).collect();
        assert_eq!(stub.taken(), ids, "each once, in order");
    }
}

#[tokio::test]
async fn a_broker_that_retains_nothing_gets_what_would_be_retained_all_the_same() {
    let stub = Stub::start(json!({})).await;
    stub.shared.connack.lock().properties.retain_available = Some(false);
    let mut kept = delivery(1);
    kept.message.attributes.add("mqtt.retain", "true");
    stub.sink().deliver(&[kept], &Progress::default()).await.unwrap();
    assert_eq!(stub.taken(), [delivery(1).id]);
}

#[tokio::test]
async fn a_broker_that_cannot_what_is_asked_is_quoted() {
    let stub = Stub::start(json!({ "qos": 2, "retain": true })).await;
    for (connack, cause) in [
        (ConnAck { code: 0x87, ..ConnAck::default() }, "refuses the connection: 0x87 not authorized"),
        (
            ConnAck {
                properties: Properties { maximum_qos: Some(1), ..Properties::default() },
                ..ConnAck::default()
            },
            "the broker takes QoS 1 at most: set `qos`",
        ),
        (
            ConnAck {
                properties: Properties { retain_available: Some(false), ..Properties::default() },
                ..ConnAck::default()
            },
            "the broker retains nothing: unset `retain`",
        ),
    ] {
        *stub.shared.connack.lock() = connack;
        let error = stub.sink().deliver(&[delivery(1)], &Progress::default()).await.unwrap_err();
        assert!(error.to_string().ends_with(cause), "{error}");
        assert!(matches!(error, DeliveryError::Retry { delivered: 0, .. }));
    }
    stub.shared.connack.lock().properties =
        Properties { maximum_packet_size: Some(60), ..Properties::default() };
    match stub.sink().deliver(&[delivery(1)], &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 0, cause } => {
            assert!(cause.to_string().ends_with("and the broker takes 60"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn qos_0_is_delivered_once_it_was_sent() {
    let stub = Stub::start(json!({ "qos": 0 })).await;
    let sink = stub.sink();
    sink.deliver(&deliveries(0..50), &Progress::default()).await.unwrap();
    while stub.taken().len() < 50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unreachable_broker_is_named_without_its_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let sink = contract::sink::<Stub>(json!({
        "broker": { "url": format!("mqtt://127.0.0.1:{port}"), "client_id": "s", "user": "u", "password": "hunter2" }
    }));
    let error = sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("connecting to mqtt://127.0.0.1:{port}")), "{error}");
    assert!(!error.contains("hunter2"));
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "topic": "a/{where}" }), "topic"),
        (json!({ "topic": "a/#" }), "topic"),
        (json!({ "qos": 3 }), "qos"),
        (json!({ "window": 0 }), "window"),
        (json!({ "broker": { "url": "mqtt://a" } }), "broker"),
        (json!({ "broker": { "url": "http://a", "client_id": "s" } }), "broker.url"),
    ] {
        let mut settings = json!({ "broker": { "url": "mqtt://a", "client_id": "s" } });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("mqtt", settings).err().unwrap().setting, at, "{more}");
    }
}
