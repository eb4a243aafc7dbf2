//! What would take minutes with a clock that runs by itself; the rest is in the driver's own tests.

use std::net::UdpSocket as Node;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use sandbar_mqtt_client::codec::{Version, decode};
use serde_json::json;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::advance;
use tracing::span;

use super::super::super::broker::testing::broker;
use super::*;

/// A client that is connected, its node, and the broker's end of its pipe, of which nobody makes anything.
struct Bench {
    client: Client,
    node: Node,
    far: DuplexStream,
}

impl Bench {
    async fn new() -> Self {
        let node = Node::bind("127.0.0.1:0").unwrap();
        node.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let broker = broker(json!({}));
        let complaints = Arc::new(Complaints::new(broker.session.ingress().clone()));
        let (address, topics) = (node.local_addr().unwrap(), Topics::new(Arc::default()));
        let mut client = Client::new(broker, socket, address, None, topics, complaints);
        let (pipe, far, _held) = Pipe::new();
        client.pipe = Some(pipe);
        client.state = State::Active;
        client.patience = SILENT_MAX;
        Self { client, node, far }
    }

    async fn tell(&mut self, message: Message) {
        assert!(self.client.told(message).await.is_ok(), "it is over");
    }

    async fn bring(&mut self, packet: Packet) {
        assert!(self.client.pass_on(packet).await.is_ok(), "it is over");
    }

    /// So much later the timer is looked at.
    async fn later(&mut self, wait: Duration) {
        advance(wait).await;
        assert!(self.client.timer().await.is_ok(), "it is over");
    }

    /// What the node is told.
    fn heard(&self) -> Vec<u8> {
        let mut buffer = [0; 300];
        let size = self.node.recv(&mut buffer).expect("nothing came");
        buffer[..size].to_vec()
    }

    fn nothing_heard(&self) {
        self.node.set_nonblocking(true).unwrap();
        assert!(self.node.recv(&mut [0; 300]).is_err(), "something came");
        self.node.set_nonblocking(false).unwrap();
    }

    /// What the broker is told.
    fn given(&mut self) -> Vec<Packet> {
        let mut input = BytesMut::with_capacity(1 << 20);
        let pipe = self.client.pipe.as_mut().unwrap();
        while pipe.drive(false).now_or_never().is_some() {
            self.far.read_buf(&mut input).now_or_never().unwrap().unwrap();
        }
        std::iter::from_fn(|| decode(&mut input, Version::V5, 1 << 20).unwrap()).collect()
    }
}

fn publish(qos: Qos, topic: &str) -> Packet {
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { 7 };
    Packet::Publish(Publish {
        qos,
        topic: topic.into(),
        packet_id,
        payload: "x".into(),
        ..Publish::default()
    })
}

fn ack(kind: AckKind) -> Packet {
    Packet::Ack(Ack::new(kind, 7))
}

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

#[tokio::test(start_paused = true)]
async fn who_falls_asleep_with_a_message_under_way_is_not_lost_and_gets_it_when_it_wakes() {
    let mut bench = Bench::new().await;
    bench.bring(publish(Qos::AtLeastOnce, "ab")).await;
    assert_eq!(bench.heard(), b"\x08\x0C\x22ab\0\x07x");
    bench.tell(Message::Disconnect(Some(600))).await;
    assert_eq!(bench.heard(), b"\x02\x18");
    for _ in 0..10 {
        bench.later(Duration::from_secs(60)).await;
    }
    bench.nothing_heard();

    // It is sent again as often as to anybody, and then the client sleeps on.
    bench.tell(Message::PingReq(None)).await;
    for _ in 0..5 {
        assert_eq!(bench.heard(), b"\x08\x0C\xA2ab\0\x07x");
        bench.later(Duration::from_secs(10)).await;
    }
    bench.later(Duration::from_secs(60)).await;
    bench.nothing_heard();

    bench.tell(Message::PingReq(None)).await;
    assert_eq!(bench.heard(), b"\x08\x0C\xA2ab\0\x07x");
    bench.tell(Message::PubAck { topic_id: 0, id: 7, code: code::ACCEPTED }).await;
    assert_eq!(bench.given(), [ack(AckKind::PubAck)]);

    advance(Duration::from_secs(900)).await;
    assert!(bench.client.timer().await.is_err(), "it may sleep for so long, and no longer");
}

#[tokio::test(start_paused = true)]
async fn a_release_is_sent_again_until_it_is_answered() {
    let mut bench = Bench::new().await;
    bench.bring(publish(Qos::ExactlyOnce, "ab")).await;
    assert_eq!(bench.heard(), b"\x08\x0C\x42ab\0\x07x");
    // The broker is told once.
    bench.tell(Message::PubRec(7)).await;
    bench.tell(Message::PubRec(7)).await;
    assert_eq!(bench.given(), [ack(AckKind::PubRec)]);

    bench.bring(ack(AckKind::PubRel)).await;
    assert_eq!(bench.heard(), b"\x04\x10\0\x07");
    bench.later(Duration::from_secs(10)).await;
    assert_eq!(bench.heard(), b"\x04\x10\0\x07");
    bench.tell(Message::PubRec(7)).await;
    assert_eq!(bench.heard(), b"\x04\x10\0\x07");
    assert_eq!(bench.given(), []);

    bench.tell(Message::PubComp(7)).await;
    assert_eq!(bench.given(), [ack(AckKind::PubComp)]);
    bench.later(Duration::from_secs(10)).await;
    bench.nothing_heard();
}

#[tokio::test]
async fn what_is_sent_again_is_not_counted_twice_and_each_counts_until_it_is_done() {
    let mut bench = Bench::new().await;
    let told = |qos, id| {
        let (flags, topic) = (Flags { qos, ..Flags::default() }, Topic::Short(*b"ab"));
        Message::Publish { flags, topic, id, payload: "x".into() }
    };
    for id in 1..=PUBLISHING_MAX as u16 {
        bench.tell(told(if id == 7 { 2 } else { 1 }, id)).await;
    }
    assert_eq!(bench.given().len(), PUBLISHING_MAX);
    for qos in [1, 2] {
        bench.tell(told(qos, 100)).await;
        assert_eq!(bench.heard(), b"\x07\x0Dab\0\x64\x01", "congestion");
    }
    bench.tell(told(1, 1)).await;
    assert_eq!(bench.given(), [], "its answer is to come");
    bench.tell(told(2, 7)).await;
    assert_eq!(bench.given().len(), 1, "its answer may have been lost");
    bench.nothing_heard();
    bench.bring(ack(AckKind::PubRec)).await;
    assert_eq!(bench.heard(), b"\x04\x0F\0\x07");
    bench.tell(told(1, 100)).await;
    assert_eq!(bench.heard(), b"\x07\x0Dab\0\x64\x01");
    bench.bring(ack(AckKind::PubComp)).await;
    assert_eq!(bench.heard(), b"\x04\x0E\0\x07");
    bench.tell(told(1, 100)).await;
    assert_eq!(bench.given().len(), 1);
}

#[tokio::test]
async fn what_a_broker_that_is_behind_has_not_read_is_bounded() {
    let mut bench = Bench::new().await;
    for _ in 0..200 {
        let (flags, topic, payload) = (Flags::default(), Topic::Short(*b"ab"), vec![0; 1000].into());
        bench.tell(Message::Publish { flags, topic, id: 0, payload }).await;
    }
    assert!((60..70).contains(&bench.given().len()));
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Log(Arc<AtomicUsize>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_client_with_too_many_topics_does_not_fill_the_log() {
    let mut bench = Bench::new().await;
    for number in 0..1024 {
        bench.client.topics.register(&number.to_string());
    }
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    for _ in 0..100 {
        bench.bring(publish(Qos::AtMostOnce, "one/more")).await;
    }
    assert_eq!(log.0.load(Ordering::Relaxed), 1);
}
