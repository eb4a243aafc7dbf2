//! MQTT-SN, byte for byte as its specification has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Command, ContentType, Refused};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::super::Mqtt;
use super::client::{Client, Hello};
use super::{Bench, bench};
use crate::CommandError;
use crate::contract::in_time;

struct Node(UdpSocket);

impl Node {
    async fn at(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        Self(socket)
    }

    /// Connected, with a session that stays if it is not clean.
    async fn connected(address: SocketAddr, id: &str, clean: bool, seconds: u8) -> Self {
        let node = Self::at(address).await;
        node.say(0x04, &[&[u8::from(clean) << 2, 1, 0, seconds], id.as_bytes()].concat()).await;
        assert_eq!(node.hear().await, (0x05, vec![0]));
        node
    }

    async fn say(&self, kind: u8, body: &[u8]) {
        let message = [&[u8::try_from(body.len() + 2).unwrap(), kind], body].concat();
        self.0.send(&message).await.unwrap();
    }

    async fn hear(&self) -> (u8, Vec<u8>) {
        let mut buffer = [0; 300];
        let size = in_time(self.0.recv(&mut buffer)).await.unwrap();
        assert_eq!(usize::from(buffer[0]), size);
        (buffer[1], buffer[2..size].to_vec())
    }

    async fn expect_nothing(&self) {
        let mut buffer = [0; 300];
        let heard = tokio::time::timeout(Duration::from_millis(200), self.0.recv(&mut buffer)).await;
        assert!(heard.is_err(), "{buffer:?}");
    }

    /// Says that it has what was published to it so.
    async fn took(&self, published: &[u8]) {
        self.say(0x0D, &[&published[1..5], &[0]].concat()).await;
    }

    async fn subscribe(&self, filter: &str, qos: u8) -> u8 {
        self.say(0x12, &[&[qos << 5, 0, 9], filter.as_bytes()].concat()).await;
        let (kind, body) = self.hear().await;
        assert_eq!((kind, body[0], &body[3..]), (0x13, qos << 5, &[0, 9, 0][..]));
        body[2]
    }
}

async fn gateway(mut more: Value) -> (Bench, SocketAddr) {
    let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let topics = json!([{ "id": 7, "topic": "fixed/7" }]);
    more["mqtt_sn"]["listen"] = json!(address.to_string());
    more["mqtt_sn"]["topics"] = topics;
    (bench(more).await, address)
}

#[tokio::test]
async fn registers_and_publishes_and_is_acknowledged_after_the_receipt() {
    let (bench, address) = gateway(json!({})).await;
    let node = Node::at(address).await;
    node.say(0x01, &[0]).await;
    assert_eq!(node.hear().await, (0x02, vec![1]), "the gateway's number");
    let node = Node::connected(address, "node-1", true, 60).await;
    node.say(0x0A, b"\0\0\0\x05node/t").await;
    assert_eq!(node.hear().await, (0x0B, vec![0, 1, 0, 5, 0]));
    node.say(0x0C, b"\x00\0\x01\0\0zero").await;
    bench.host.wait_taken(1).await;
    bench.host.hold();
    node.say(0x0C, b"\x20\0\x01\0\x06one").await;
    bench.host.wait_offered(2).await;
    node.expect_nothing().await;
    bench.host.release();
    assert_eq!(node.hear().await, (0x0D, vec![0, 1, 0, 6, 0]));
    node.say(0x0C, b"\x20\0\x63\0\x07what").await;
    assert_eq!(node.hear().await, (0x0D, vec![0, 0x63, 0, 7, 2]), "no such topic");
    node.say(0x0C, b"\x40\0\x01\0\x08two").await;
    assert_eq!(node.hear().await, (0x0F, vec![0, 8]));
    node.say(0x10, &[0, 8]).await;
    assert_eq!(node.hear().await, (0x0E, vec![0, 8]));
    node.say(0x16, &[]).await;
    assert_eq!(node.hear().await, (0x17, vec![]));
    let taken = bench.host.taken();
    let seen: Vec<_> =
        taken.iter().map(|taken| (taken.inbound.topic.as_str(), &taken.inbound.payload[..])).collect();
    assert_eq!(seen, [("node/t", &b"zero"[..]), ("node/t", b"one"), ("node/t", b"two")]);
    assert_eq!(taken[0].inbound.device.as_deref(), Some("node-1"));
    node.say(0x18, &[]).await;
    assert_eq!(node.hear().await, (0x18, vec![]));
}

#[tokio::test]
async fn publishes_without_a_connection_on_short_and_fixed_topics() {
    let (bench, address) = gateway(json!({ "allow": [{ "publish": ["ab", "fixed/#"] }] })).await;
    let node = Node::at(address).await;
    node.say(0x0C, b"\x62ab\0\0short").await;
    node.say(0x0C, b"\x62xy\0\0not allowed").await;
    node.say(0x0C, b"\x61\0\x07\0\0fixed").await;
    let taken = bench.host.wait_taken(2).await;
    let topics: Vec<_> = taken.iter().map(|taken| taken.inbound.topic.as_str()).collect();
    assert_eq!(topics, ["ab", "fixed/7"]);
    // Who is not connected is told, where an answer is expected.
    node.say(0x0C, b"\x20\0\x01\0\x06one").await;
    assert_eq!(node.hear().await, (0x18, vec![]));
}

#[tokio::test]
async fn gets_what_it_subscribed_to_with_topics_registered_on_the_way() {
    let (bench, address) = gateway(json!({})).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    assert_eq!(node.subscribe("led/node-1", 1).await, 1);
    assert_eq!(node.subscribe("all/#", 1).await, 0);
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    other.publish(0, 0, "led/node-1", b"on").await;
    assert_eq!(node.hear().await, (0x0C, b"\x00\0\x01\0\0on".to_vec()));
    other.publish(1, 3, "all/x/y", b"hi").await;
    assert_eq!(other.hear().await, (0x40, vec![0, 3]));
    let (kind, body) = node.hear().await;
    assert_eq!((kind, &body[..2], &body[4..]), (0x0A, &[0, 2][..], &b"all/x/y"[..]));
    node.say(0x0B, &[0, 2, body[2], body[3], 0]).await;
    let (kind, body) = node.hear().await;
    assert_eq!((kind, &body[..3], &body[5..]), (0x0C, &[0x20, 0, 2][..], &b"hi"[..]));
    node.say(0x0D, &[0, 2, body[3], body[4], 0]).await;
    node.say(0x14, &[&[0, 0, 10], &b"all/#"[..]].concat()).await;
    assert_eq!(node.hear().await, (0x15, vec![0, 10]));
}

#[tokio::test]
async fn what_a_node_refuses_is_not_told_as_carried_out() {
    let (bench, address) = gateway(json!({ "command_topic": "d/{device}/{command}" })).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    assert_eq!(node.subscribe("d/node-1/set", 1).await, 1);
    let carry_out = || {
        let (device, name) = ("node-1".into(), "set".into());
        let command = Command { device, name, content_type: ContentType::TEXT, payload: "on".into() };
        let host = Arc::clone(&bench.host);
        tokio::spawn(async move { host.command(command).await })
    };
    let published = async || {
        let (kind, body) = node.hear().await;
        assert_eq!((kind, &body[1..3], &body[5..]), (0x0C, &[0, 1][..], &b"on"[..]));
        [body[3], body[4]]
    };
    let acknowledge = async |[high, low]: [u8; 2], code| node.say(0x0D, &[0, 1, high, low, code]).await;
    // It has forgotten the topic's number, and is told it again.
    let register = async || {
        let (kind, body) = node.hear().await;
        assert_eq!((kind, &body[..2], &body[4..]), (0x0A, &[0, 1][..], &b"d/node-1/set"[..]));
        node.say(0x0B, &[0, 1, body[2], body[3], 0]).await;
    };
    for (code, told) in [
        (0, Ok(())),
        (2, Err(CommandError::Reject("the client refused it: reason 0x90".to_owned()))),
        (3, Err(CommandError::Retry("the client refused it: reason 0x83".to_owned()))),
    ] {
        let carried_out = carry_out();
        acknowledge(published().await, 2).await;
        register().await;
        acknowledge(published().await, code).await;
        assert_eq!(in_time(carried_out).await.unwrap(), Some(told));
    }
}

#[tokio::test]
async fn a_node_is_told_what_is_refused() {
    let (bench, address) = gateway(json!({ "allow": [{ "publish": ["ab"] }] })).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    node.say(0x0C, b"\x22xy\0\x01x").await;
    assert_eq!(node.hear().await, (0x0D, vec![b'x', b'y', 0, 1, 3]), "not allowed");
    bench.host.refuse(Refused::DiskFull);
    node.say(0x0C, b"\x22ab\0\x02x").await;
    assert_eq!(node.hear().await, (0x0D, vec![b'a', b'b', 0, 2, 1]), "congestion: later");
    node.say(0x0C, b"\x22ab\0\x02x").await;
    assert_eq!(node.hear().await, (0x0D, vec![b'a', b'b', 0, 2, 0]));
}

#[tokio::test]
async fn what_was_not_acknowledged_takes_no_place_after_a_node_connected_again() {
    let (bench, address) = gateway(json!({ "receive_maximum": 2 })).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    bench.host.hold();
    node.say(0x0C, b"\x22ab\0\x01x").await;
    node.say(0x0C, b"\x22ab\0\x02x").await;
    bench.host.wait_offered(2).await;
    node.say(0x04, b"\x0C\x01\0\x3Cnode-1").await;
    assert_eq!(node.hear().await, (0x06, vec![]), "it has left its connection");
    bench.host.release();
    node.say(0x07, &[]).await;
    assert_eq!(node.hear().await, (0x05, vec![0]));
    node.say(0x0C, b"\x22ab\0\x03x").await;
    assert_eq!(node.hear().await, (0x0D, vec![b'a', b'b', 0, 3, 0]));
}

#[tokio::test]
async fn nodes_have_places_of_their_own() {
    let limits = json!({ "connections_max": 1, "keep_alive_max_s": 1, "mqtt_sn": { "clients_max": 1 } });
    let (bench, address) = gateway(limits).await;
    let _other = Client::connect(bench.address, Hello::three("other")).await;
    let node = Node::connected(address, "node-1", true, 0).await;
    let late = Node::at(address).await;
    late.say(0x04, b"\x04\x01\0\x3Cnode-2").await;
    assert_eq!(late.hear().await, (0x05, vec![1]), "congestion");
    let listed = crate::Intake::connections(&*bench.host).list(0, 10);
    let agents: Vec<_> = listed.iter().filter_map(|one| one.peer.agent.as_deref()).collect();
    assert!(agents.contains(&"MQTT-SN 1.2") && agents.contains(&"MQTT 3.1.1"), "{agents:?}");
    drop(node);
}

#[tokio::test]
async fn sleeps_while_messages_wait_for_it() {
    let (bench, address) = gateway(json!({})).await;
    let node = Node::connected(address, "node-1", false, 60).await;
    node.subscribe("ab", 1).await;
    node.say(0x18, &[0, 30]).await;
    assert_eq!(node.hear().await, (0x18, vec![]));
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    for (id, payload) in [(1, b"1"), (2, b"2")] {
        other.publish(1, id, "ab", payload).await;
        assert_eq!(other.hear().await.0, 0x40);
    }
    node.expect_nothing().await;
    node.say(0x16, b"node-1").await;
    for payload in [b"1", b"2"] {
        let (kind, body) = node.hear().await;
        assert_eq!((kind, &body[5..]), (0x0C, &payload[..]));
        node.say(0x0D, &[b'a', b'b', body[3], body[4], 0]).await;
    }
    assert_eq!(node.hear().await, (0x17, vec![]), "nothing more waits");
    other.publish(1, 3, "ab", b"3").await;
    node.expect_nothing().await;
    // It wakes up for good.
    node.say(0x04, b"\x00\x01\0\x3Cnode-1").await;
    assert_eq!(node.hear().await, (0x05, vec![0]));
    assert_eq!(node.hear().await.0, 0x0C);
}

/// Each byte is a message.
async fn publish_each(client: &mut Client, payloads: &[u8]) {
    for payload in payloads {
        client.publish(1, 1, "ab", &[*payload]).await;
        assert_eq!(client.hear().await.0, 0x40);
    }
}

#[tokio::test]
async fn who_sleeps_for_long_loses_the_oldest_of_what_finds_no_room_and_is_not_lost() {
    let (bench, address) = gateway(json!({ "queue_max": 3, "send_maximum": 1 })).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    node.subscribe("ab", 1).await;
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    node.say(0x18, &[0, 60]).await;
    assert_eq!(node.hear().await, (0x18, vec![]));
    publish_each(&mut other, b"123456").await;
    node.say(0x16, b"node-1").await;
    let mut got = Vec::new();
    loop {
        let (kind, body) = node.hear().await;
        if kind != 0x0C {
            assert_eq!(kind, 0x17, "nothing more waits");
            break;
        }
        got.push(body[5]);
        node.took(&body).await;
    }
    assert!(got.ends_with(b"456"), "{got:?}");

    // Nor does it wake up to be thrown out.
    publish_each(&mut other, b"123456").await;
    node.say(0x04, b"\x00\x01\0\x3Cnode-1").await;
    assert_eq!(node.hear().await, (0x05, vec![0]));
    let (kind, first) = node.hear().await;
    assert_eq!(kind, 0x0C);
    publish_each(&mut other, b"789").await;
    node.took(&first).await;
    let mut got = Vec::new();
    while got.last() != Some(&b'9') {
        let (kind, body) = node.hear().await;
        assert_eq!(kind, 0x0C);
        got.push(body[5]);
        node.took(&body).await;
    }
    assert!(got.ends_with(b"789"), "{got:?}");
}

#[tokio::test]
async fn who_is_behind_with_what_it_gets_is_heard_all_the_same() {
    let (bench, address) = gateway(json!({})).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    node.subscribe("ab", 1).await;
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    other.publish(1, 1, "ab", b"first").await;
    assert_eq!(other.hear().await.0, 0x40);
    let (kind, first) = node.hear().await;
    assert_eq!(kind, 0x0C);
    // While that is not acknowledged nothing follows. The broker has more for the node than it writes ahead, and does
    // not read what the node says.
    for _ in 0..600 {
        other.publish(0, 0, "ab", &[b'x'; 200]).await;
    }
    other.expect_nothing().await;
    let up = |payload: &[u8]| [&b"\x02up\0\0"[..], payload].concat();
    for _ in 0..10 {
        for _ in 0..10 {
            node.say(0x0C, &up(&[b'x'; 200])).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.took(&first).await;
    let arrives = async {
        while !bench.host.taken().iter().any(|taken| taken.inbound.payload == "last") {
            node.say(0x0C, &up(b"last")).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(arrives).await;
}

#[tokio::test]
async fn a_lost_node_leaves_its_will() {
    let (bench, address) = gateway(json!({})).await;
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    other.subscribe("gone/#", 0).await;
    let node = Node::at(address).await;
    node.say(0x04, b"\x0C\x01\0\x01node-1").await;
    assert_eq!(node.hear().await, (0x06, vec![]));
    node.say(0x07, b"\x00gone/1").await;
    assert_eq!(node.hear().await, (0x08, vec![]));
    node.say(0x09, b"bye").await;
    assert_eq!(node.hear().await, (0x05, vec![0]));
    assert_eq!(node.hear().await, (0x18, vec![]), "silent for one and a half seconds");
    let message = other.message().await;
    assert_eq!((&*message.topic, &*message.payload), ("gone/1", "bye"));
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let (bench, address) = gateway(json!({})).await;
    let node = Node::connected(address, "node-1", true, 60).await;
    let mut noise: Vec<u8> = (0..=255).collect();
    for _ in 0..256 {
        noise.rotate_left(1);
        node.0.send(&noise).await.unwrap();
        node.0.send(&noise[..7]).await.unwrap();
    }
    node.0.send(&[]).await.unwrap();
    let fresh = Node::connected(address, "node-2", true, 60).await;
    fresh.say(0x0C, b"\x22ab\0\x01fine").await;
    assert_eq!(fresh.hear().await, (0x0D, vec![b'a', b'b', 0, 1, 0]));
    assert_eq!(bench.host.taken().last().unwrap().inbound.payload, "fine");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let none = json!({ "mqtt_sn": { "listen": "127.0.0.1:0", "clients_max": 0 } });
    let built = sandbar_reading::settings(none).and_then(<Mqtt as crate::Driver>::new);
    assert_eq!(built.err().unwrap().setting, "mqtt_sn.clients_max");
    let setting = |topics: Value| {
        let table = json!({ "mqtt_sn": { "listen": "127.0.0.1:0", "topics": topics } });
        let built = sandbar_reading::settings(table).and_then(<Mqtt as crate::Driver>::new);
        built.err().unwrap().setting
    };
    assert_eq!(setting(json!([{ "id": 0, "topic": "a" }])), "mqtt_sn.topics[0].id");
    assert_eq!(setting(json!([{ "id": 1, "topic": "a/#" }])), "mqtt_sn.topics[0].topic");
    assert_eq!(
        setting(json!([{ "id": 1, "topic": "a" }, { "id": 1, "topic": "b" }])),
        "mqtt_sn.topics[1].id"
    );
}
