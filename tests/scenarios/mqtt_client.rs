//! A broker that is played here (5.0), and the host's clients of it. To `it` there is published with QoS 1; what is
//! acknowledged then was taken. The others are told what is thrown. They are many: each waits the longer the more of
//! its connections were for nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use sandbar_mqtt_client::codec::{Ack, AckKind, ConnAck, Disconnect, Filter, SubAck, Subscribe, decode};
use sandbar_mqtt_client::{Packet, Properties, Qos, Version, name};
use sandbar_tests::targets::packets::PIECES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::mqtt::{WRONG, is_right, message, packets};
use crate::protocol::{Client, Protocol, Told, rest};

struct Broker {
    address: SocketAddr,
    /// To `it`.
    link: watch::Receiver<Option<Subscriber>>,
    /// Connections of the others, whose CONNECT was not answered.
    others: Mutex<mpsc::Receiver<TcpStream>>,
}

#[derive(Clone)]
struct Subscriber(mpsc::Sender<Order>);

enum Order {
    /// And tells the reason code of the acknowledgement.
    Publish(String, oneshot::Sender<u8>),
    /// Nothing comes after it.
    Half(Vec<u8>),
}

const OTHERS: usize = 100;

/// With a client that waits, or a host that is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The driver's SUBSCRIBE has it.
const SUBSCRIBE_ID: u16 = 65_535;

fn five(all: &[Packet]) -> Vec<u8> {
    packets(Version::V5, all)
}

fn publish(qos: Qos, packet_id: u16, payload: &str) -> Packet {
    Packet::Publish(message("a/b", qos, packet_id, payload))
}

/// The next packet of a client; nothing is lost when it is dropped.
async fn next(stream: &mut TcpStream, input: &mut BytesMut) -> Result<Packet> {
    loop {
        if let Some(packet) = decode(input, Version::V5, 1 << 20)? {
            return Ok(packet);
        }
        ensure!(stream.read_buf(input).await? > 0, "the client is gone");
    }
}

async fn greet(
    mut stream: TcpStream,
    link: Arc<watch::Sender<Option<Subscriber>>>,
    others: mpsc::Sender<TcpStream>,
) -> Result<()> {
    let mut input = BytesMut::new();
    let Packet::Connect(connect) = next(&mut stream, &mut input).await? else { bail!("no CONNECT") };
    if &*connect.client_id != "it" {
        return Ok(others.send(stream).await?);
    }
    stream.write_all(&five(&[Packet::ConnAck(Box::default())])).await?;
    let (orders, arriving) = mpsc::channel(1);
    link.send_replace(Some(Subscriber(orders)));
    serve(stream, input, arriving).await
}

/// Whatever is not acknowledged when it ends is lost: no session is kept.
async fn serve(mut stream: TcpStream, mut input: BytesMut, mut orders: mpsc::Receiver<Order>) -> Result<()> {
    let (mut published, mut last) = (HashMap::new(), 0);
    loop {
        let said = tokio::select! {
            order = orders.recv() => match order.context("there is another link")? {
                Order::Publish(text, told) => {
                    last = last % 60_000 + 1;
                    published.insert(last, told);
                    publish(Qos::AtLeastOnce, last, &text)
                }
                Order::Half(bytes) => {
                    stream.write_all(&bytes).await?;
                    return Ok(stream.set_zero_linger()?);
                }
            },
            packet = next(&mut stream, &mut input) => match packet? {
                Packet::Subscribe(Subscribe { packet_id, .. }) => {
                    Packet::SubAck(SubAck { packet_id, codes: vec![1] })
                }
                Packet::Ack(Ack { kind: AckKind::PubAck, packet_id, code, .. }) => {
                    let told = published.remove(&packet_id).context("that was not published")?;
                    // Whoever asked may be gone.
                    let _ = told.send(code);
                    continue;
                }
                Packet::PingReq => Packet::PingResp,
                other => bail!("{} of a client", name(&other)),
            },
        };
        stream.write_all(&five(&[said])).await?;
    }
}

impl Protocol for Broker {
    const DRIVER: &'static str = "mqtt-client";
    type Client = Subscriber;

    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, link) = watch::channel(None);
        let (other, others) = mpsc::channel(OTHERS);
        let sender = Arc::new(sender);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(greet(stream, Arc::clone(&sender), other.clone()));
            }
        });
        Ok(Self { address, link, others: Mutex::new(others) })
    }

    fn settings(&self) -> String {
        let client = |name: &str| {
            format!(
                "broker = {{ url = \"mqtt://{}\", client_id = \"{name}\", timeout_ms = 60000 }}\n\
                 filters = [\"#\"]\nclean_start = true\n",
                self.address
            )
        };
        let other = |number| {
            let name = format!("other-{number}");
            format!("[ingress.{name}]\ndriver = \"mqtt-client\"\n{}", client(&name))
        };
        client("it") + &(0..OTHERS).map(other).collect::<String>()
    }

    async fn connect(&self, _address: &str) -> Result<Subscriber> {
        let mut link = self.link.clone();
        let is_there = |link: &Option<Subscriber>| link.as_ref().is_some_and(|link| !link.0.is_closed());
        let found = timeout(PATIENCE, link.wait_for(is_there)).await.context("it does not connect")??;
        found.clone().context("no link")
    }

    /// From CONNACK on.
    fn conversations(&self) -> Vec<Vec<u8>> {
        let properties = Properties {
            receive_maximum: Some(20),
            server_keep_alive: Some(60),
            maximum_packet_size: Some(1 << 20),
            maximum_qos: Some(1),
            assigned_client_id: Some("other".into()),
            ..Properties::default()
        };
        let text = Properties { reason: Some("not now".into()), ..Properties::default() };
        let granted = Packet::SubAck(SubAck { packet_id: SUBSCRIBE_ID, codes: vec![1] });
        vec![
            five(&[
                Packet::ConnAck(Box::default()),
                granted.clone(),
                publish(Qos::AtMostOnce, 0, "20.5"),
                publish(Qos::AtLeastOnce, 6, "21.5"),
                publish(Qos::ExactlyOnce, 7, "22.5"),
                Packet::Ack(Ack::new(AckKind::PubRel, 7)),
                Packet::PingResp,
                Packet::Disconnect(Box::new(Disconnect { code: 0x8b, properties: text })),
            ]),
            five(&[
                Packet::ConnAck(Box::new(ConnAck { properties, ..ConnAck::default() })),
                publish(Qos::AtLeastOnce, 1, &"x".repeat(300)),
                granted,
                publish(Qos::AtLeastOnce, 1, "21.5"),
            ]),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let opened = five(&[Packet::ConnAck(Box::default())]);
        let after = |bytes: &[u8]| [&opened[..], bytes].concat();
        let filters = vec![Filter::new("#", Qos::AtMostOnce)];
        let mut wrong = vec![
            opened[..3].to_vec(),
            after(&opened),
            five(&[publish(Qos::AtLeastOnce, 1, "21.5")]),
            five(&[Packet::SubAck(SubAck { packet_id: SUBSCRIBE_ID, codes: vec![1] })]),
            // "No", one that knows 3.1.1 only, flags that nobody uses, a Receive Maximum of 0.
            b"\x20\x0a\0\x88\x07\x1f\0\x04busy".to_vec(),
            b"\x20\x02\0\x01".to_vec(),
            b"\x20\x03\x02\0\0".to_vec(),
            b"\x20\x06\0\0\x03\x21\0\0".to_vec(),
            b"\x20\xff\xff\xff\xff\x01".to_vec(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            // Refused, of another subscription, of none.
            after(&five(&[Packet::SubAck(SubAck { packet_id: SUBSCRIBE_ID, codes: vec![0x87] })])),
            after(&five(&[Packet::SubAck(SubAck { packet_id: 1, codes: vec![1] })])),
            after(&five(&[Packet::UnsubAck(1)])),
            after(&five(&[publish(Qos::AtLeastOnce, 1, "21.5")])[..20]),
            // To what was not sent.
            after(&five(&[
                Packet::Ack(Ack::new(AckKind::PubAck, 1)),
                Packet::Ack(Ack::new(AckKind::PubRel, 1)),
            ])),
            after(&five(&[Packet::Ack(Ack::new(AckKind::PubRec, 1))])),
            // What brokers do not send.
            after(&five(&[Packet::PingReq])),
            after(&five(&[Packet::Subscribe(Subscribe { packet_id: 1, filters })])),
            after(b"\xf0\0"),
        ];
        wrong.extend(WRONG.iter().map(|bytes| after(bytes)));
        wrong
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        PIECES
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let other = async { self.others.lock().await.recv().await };
        let mut stream = timeout(PATIENCE, other).await.context("nobody connects")?.context("no broker")?;
        drop(stream.write_all(&bytes).await);
        Ok(rest(stream).await)
    }

    async fn lose(&self, address: &str, half: Vec<u8>) -> Result<()> {
        let Subscriber(link) = self.connect(address).await?;
        link.send(Order::Half(half)).await?;
        timeout(PATIENCE, link.closed()).await.context("the link stays")
    }

    /// Packets of a client that only subscribes, each whole.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let mut rest = BytesMut::from(answer);
        while let Some(packet) = decode(&mut rest, Version::V5, 1 << 20)? {
            let is_right = match &packet {
                Packet::Subscribe(subscribe) => subscribe.packet_id == SUBSCRIBE_ID,
                Packet::Ack(ack) => ack.kind != AckKind::PubRel && is_right(ack),
                Packet::PingReq | Packet::Disconnect(_) => true,
                _ => false,
            };
            ensure!(is_right, "{} is out of place: {packet:?}", name(&packet));
        }
        ensure!(rest.is_empty(), "half a packet");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = five(&[publish(Qos::AtLeastOnce, 60_001, &format!("{marker}, and more"))]);
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Subscriber {
    async fn send(&mut self, text: &str) -> Result<Told> {
        let (told, code) = oneshot::channel();
        self.0.send(Order::Publish(text.to_owned(), told)).await?;
        Ok(match code.await.context("the link was lost")? {
            0..0x80 => Told::Acknowledged,
            code => Told::Refused(format!("{code:#04x}")),
        })
    }
}

crate::scenarios!(Broker);
