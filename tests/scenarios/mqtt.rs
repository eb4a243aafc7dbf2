//! MQTT clients, of which one half speaks 3.1.1 and publishes with QoS 1, and the other 5.0 with QoS 2.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use sandbar_mqtt_client::codec::{Ack, AckKind, Connect, Filter, Subscribe, Unsubscribe, decode, encode};
use sandbar_mqtt_client::{Link, Packet, Properties, Publish, Qos, Session, Version, name};
use sandbar_tests::publisher::{KEPT, broker};
use sandbar_tests::targets::packets::PIECES;

use crate::protocol::{Client, Protocol, Told};

/// Each connection is another client's: a second one of the same would end the first.
struct Mqtt {
    connected: AtomicU64,
}

struct Device {
    link: Link,
    qos: Qos,
    packet_id: u16,
}

/// That throw.
const CLIENTS: u64 = 32;

pub(crate) fn packets(version: Version, packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| encode(packet, version, &mut bytes));
    bytes
}

fn connect(version: Version, client: &str) -> Packet {
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: client.into(),
        user: Some("user".into()),
        password: Some("password".into()),
        properties: Properties {
            receive_maximum: Some(5),
            topic_alias_maximum: Some(5),
            maximum_packet_size: Some(1 << 20),
            ..Properties::default()
        },
    }))
}

/// With what 5.0 says of it.
pub(crate) fn message(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Publish {
    let properties = Properties {
        is_text: true,
        message_expiry: Some(60),
        content_type: Some("text/plain".into()),
        response_topic: Some("answers".into()),
        correlation_data: Some("7".into()),
        user: vec![("unit".into(), "\u{b0}C".into())],
        ..Properties::default()
    };
    let payload = payload.to_owned().into();
    Publish { qos, packet_id, topic: topic.into(), properties, payload, ..Publish::default() }
}

fn publish(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Packet {
    let mut message = message(topic, qos, packet_id, payload);
    message.properties.topic_alias = Some(1);
    Packet::Publish(message)
}

/// PUBLISH (5.0) as nobody may write it.
pub(crate) const WRONG: &[&[u8]] = &[
    // Topics: no UTF-8, a wildcard, NUL, none.
    b"\x32\x07\0\x02\xc3\x28\0\x01\0",
    b"\x32\x06\0\x01#\0\x01\0",
    b"\x32\x06\0\x01\0\0\x01\0",
    b"\x32\x05\0\0\0\x01\0",
    // Packet identifier 0, QoS 3, longer than all that can be sent.
    b"\x32\x06\0\x01a\0\0\0",
    b"\x36\x06\0\x01a\0\x01\0",
    b"\x30\xff\xff\xff\x7f\0\x01a\0x",
    // Properties: alias 0, one that stands for nothing, one twice, none that there is, one too long.
    b"\x30\x07\0\x01a\x03\x23\0\0",
    b"\x30\x06\0\0\x03\x23\0\x05",
    b"\x30\x08\0\x01a\x04\x01\0\x01\0",
    b"\x30\x06\0\x01a\x02\x7f\0",
    b"\x30\x08\0\x01a\x04\x03\xff\xff\0",
];

/// Subscribes to what it publishes, with each quality of service, and takes its leave.
fn conversation(version: Version, client: &str) -> Vec<u8> {
    let topic = format!("throw/{client}");
    let filter = Filter::new(format!("{topic}/#"), Qos::ExactlyOnce);
    let all = [
        connect(version, client),
        Packet::Subscribe(Subscribe { packet_id: 1, filters: vec![filter.clone()] }),
        publish(&topic, Qos::AtMostOnce, 0, "20.5"),
        publish(&topic, Qos::AtLeastOnce, 2, "21.5"),
        publish(&topic, Qos::ExactlyOnce, 3, "22.5"),
        Packet::Ack(Ack::new(AckKind::PubRel, 3)),
        Packet::PingReq,
        Packet::Unsubscribe(Unsubscribe { packet_id: 4, filters: vec![filter.filter] }),
        Packet::Disconnect(Box::default()),
    ];
    packets(version, &all)
}

/// CONNECT with a will (5.0, section 3.1.3.2), after which there is nothing more.
fn last_will(client: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let (head, delay) = ([text("MQTT"), vec![5, 0xce, 0, 60, 0]].concat(), vec![5, 0x18, 0, 0, 0, 0]);
    let body = [head, text(client), delay, text("throw/will"), text("gone"), text("user"), text("password")]
        .concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

/// Whether it says what its kind may say (5.0, sections 3.4 to 3.7); with 3.1.1 it says nothing.
pub(crate) fn is_right(ack: &Ack) -> bool {
    match ack.kind {
        AckKind::PubAck | AckKind::PubRec => {
            [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99].contains(&ack.code)
        }
        AckKind::PubRel | AckKind::PubComp => [0, 0x92].contains(&ack.code),
    }
}

impl Protocol for Mqtt {
    const DRIVER: &'static str = "mqtt";
    type Client = Device;

    async fn start() -> Result<Self> {
        Ok(Self { connected: AtomicU64::new(0) })
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\npacket_max = 131072\n".to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Device> {
        let number = self.connected.fetch_add(1, Ordering::Relaxed);
        let (version, qos) = [("3.1.1", Qos::AtLeastOnce), ("5", Qos::ExactlyOnce)][number as usize % 2];
        let port = address.rsplit(':').next().context("no port")?.parse()?;
        let session = Session { clean_start: true, expiry_s: 0, ..KEPT };
        let (link, _) = Link::open(&broker(port, &format!("send-{number}"), version), session).await?;
        Ok(Device { link, qos, packet_id: 0 })
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let of_client = |number: u64| {
            let client = format!("throw-{number}");
            [conversation(Version::V3, &client), conversation(Version::V5, &client), last_will(&client)]
        };
        (0..CLIENTS).flat_map(of_client).collect()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let after = |version: Version, bytes: &[u8]| {
            // Each is given a name of its own.
            [&packets(version, &[connect(version, "")])[..], bytes].concat()
        };
        let (three, five) =
            (|bytes: &[u8]| after(Version::V3, bytes), |bytes: &[u8]| after(Version::V5, bytes));
        let large = packets(Version::V5, &[publish("a", Qos::AtLeastOnce, 1, &"x".repeat(200_000))]);
        let mut wrong = vec![
            three(b"")[..10].to_vec(),
            three(&three(b"")),
            five(&large),
            five(&large[..1000]),
            // Before CONNECT.
            packets(Version::V3, &[publish("a", Qos::AtLeastOnce, 1, "21.5")]),
            // Another version, another protocol, a flag that nobody uses, no name of a session that is to be kept.
            b"\x10\x0d\0\x04MQTT\x09\x02\0\x3c\0\x01c".to_vec(),
            b"\x10\x0d\0\x04MQTX\x04\x02\0\x3c\0\x01c".to_vec(),
            b"\x10\x0d\0\x04MQTT\x04\x03\0\x3c\0\x01c".to_vec(),
            b"\x10\x0c\0\x04MQTT\x04\0\0\x3c\0\0".to_vec(),
            b"\x10\xff\xff\xff\xff\x01".to_vec(),
            // No filter, one that is none, options that nobody uses.
            three(b"\x82\x02\0\x01"),
            five(b"\x82\x09\0\x01\0\0\x03a#b\x01"),
            five(b"\x82\x07\0\x01\0\0\x01a\xc1"),
            // What clients do not send, AUTH for nothing, flags, a body of PINGREQ.
            three(b"\x20\x02\0\0"),
            three(b"\x90\x03\0\x01\0"),
            five(b"\xf0\0"),
            three(b"\xf0\0"),
            three(b"\xc1\0"),
            three(b"\xc0\x01\0"),
            // Of other protocols.
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        ];
        wrong.extend(WRONG.iter().map(|bytes| five(bytes)));
        wrong
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        PIECES
    }

    /// Packets of a broker, each whole: nothing before CONNACK, nothing after it refuses, nothing after DISCONNECT,
    /// which 3.1.1 does not have.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let Some(length) = answer.get(1) else {
            ensure!(answer.is_empty(), "half a packet");
            return Ok(());
        };
        let version = if *length == 2 { Version::V3 } else { Version::V5 };
        let (mut rest, mut said) = (BytesMut::from(answer), Vec::new());
        while let Some(packet) = decode(&mut rest, version, 1 << 20)? {
            said.push(packet);
        }
        ensure!(rest.is_empty(), "half a packet");
        let Some((Packet::ConnAck(first), others)) = said.split_first() else { bail!("no CONNACK") };
        ensure!(first.code == 0 || others.is_empty(), "{first:?}, and {others:?}");
        for (left, packet) in (0..others.len()).rev().zip(others) {
            let is_right = match packet {
                Packet::Publish(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => true,
                Packet::Ack(ack) => is_right(ack),
                Packet::Disconnect(last) => version == Version::V5 && left == 0 && last.code >= 0x80,
                _ => false,
            };
            ensure!(is_right, "{} is out of place: {packet:?}", name(packet));
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let all =
            [connect(Version::V5, "lost"), publish("a", Qos::AtLeastOnce, 1, &format!("{marker}, and more"))];
        let whole = packets(Version::V5, &all);
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Device {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.link.send(&publish("right", self.qos, self.packet_id, text));
        loop {
            match self.link.next().await? {
                Packet::Ack(Ack { code: code @ 0x80.., .. }) => {
                    return Ok(Told::Refused(format!("{code:#04x}")));
                }
                Packet::Ack(Ack { kind: AckKind::PubRec, packet_id, .. }) => {
                    self.link.send(&Packet::Ack(Ack::new(AckKind::PubRel, packet_id)));
                }
                Packet::Ack(_) => return Ok(Told::Acknowledged),
                other => bail!("{other:?}"),
            }
        }
    }
}

crate::scenarios!(Mqtt);
