//! A client of bytes, with no state of its own: the test decides what it says.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    stream: TcpStream,
    five: bool,
}

/// A packet as it came.
pub(super) type Got = (u8, Vec<u8>);

pub(super) fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// What to say in CONNECT.
#[derive(Clone, Debug)]
pub(super) struct Hello<'a> {
    pub(super) five: bool,
    pub(super) id: &'a str,
    pub(super) clean: bool,
    /// Encoded, without their length.
    pub(super) properties: &'a [u8],
    pub(super) will: Option<(&'a str, &'a str)>,
    pub(super) user: Option<(&'a str, &'a str)>,
}

impl<'a> Hello<'a> {
    pub(super) fn three(id: &'a str) -> Self {
        Self { five: false, id, clean: true, properties: &[], will: None, user: None }
    }

    pub(super) fn five(id: &'a str) -> Self {
        Self { five: true, ..Self::three(id) }
    }

    /// A session that outlives its connections.
    pub(super) fn kept(self) -> Self {
        let properties: &[u8] = if self.five { &[17, 0, 0, 1, 0] } else { &[] };
        Self { clean: false, properties, ..self }
    }
}

impl Client {
    pub(super) async fn link(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.unwrap()
    }

    /// The body of CONNACK with it.
    pub(super) async fn hello(address: SocketAddr, hello: Hello<'_>) -> (Self, Vec<u8>) {
        let mut client = Self { stream: Self::link(address).await, five: hello.five };
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = bit(hello.clean, 2) | bit(hello.will.is_some(), 4) | bit(hello.user.is_some(), 0xC0);
        let mut body = text("MQTT");
        body.extend([if hello.five { 5 } else { 4 }, flags, 0, 0]);
        if hello.five {
            body.push(hello.properties.len() as u8);
            body.extend(hello.properties);
        }
        body.extend(text(hello.id));
        if let Some((topic, payload)) = hello.will {
            body.extend(vec![0; usize::from(hello.five)]);
            body.extend([text(topic), text(payload)].concat());
        }
        if let Some((user, password)) = hello.user {
            body.extend([text(user), text(password)].concat());
        }
        client.say(0x10, &body).await;
        let (first, body) = client.hear().await;
        assert_eq!(first, 0x20);
        (client, body)
    }

    pub(super) async fn connect(address: SocketAddr, hello: Hello<'_>) -> Self {
        let (client, connack) = Self::hello(address, hello).await;
        assert_eq!(connack[1], 0, "refused");
        client
    }

    pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        let mut length = body.len();
        while length > 0x7f {
            packet.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        packet
    }

    pub(super) async fn say(&mut self, first: u8, body: &[u8]) {
        // The broker may have hung up, which the test then sees.
        let _ = self.stream.write_all(&Self::packet(first, body)).await;
    }

    pub(super) async fn publish(&mut self, qos: u8, id: u16, topic: &str, payload: &[u8]) {
        self.publish_with(qos << 1, id, topic, &[], payload).await;
    }

    pub(super) async fn publish_with(
        &mut self,
        flags: u8,
        id: u16,
        topic: &str,
        properties: &[u8],
        payload: &[u8],
    ) {
        let mut body = text(topic);
        if flags & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.five {
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        body.extend(payload);
        self.say(0x30 | flags, &body).await;
    }

    /// The reason of SUBACK.
    pub(super) async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.ask_for(filter, options).await;
        self.suback().await
    }

    pub(super) async fn ask_for(&mut self, filter: &str, options: u8) {
        let mut body = vec![0, 99];
        body.extend(vec![0; usize::from(self.five)]);
        body.extend(text(filter));
        body.push(options);
        self.say(0x82, &body).await;
    }

    pub(super) async fn suback(&mut self) -> u8 {
        let (first, body) = self.hear().await;
        assert_eq!((first, &body[..2]), (0x90, &[0, 99][..]));
        *body.last().unwrap()
    }

    pub(super) async fn ack(&mut self, first: u8, id: &[u8]) {
        self.say(first, &id[..2]).await;
    }

    /// `None` at the end of the link.
    pub(super) async fn next(&mut self) -> Option<Got> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("nothing came")
    }

    pub(super) async fn hear(&mut self) -> Got {
        self.next().await.expect("the broker hung up")
    }

    /// Quality of service, retain flag, packet identifier, topic and payload of the next PUBLISH.
    pub(super) async fn message(&mut self) -> Publish {
        let (first, body) = self.hear().await;
        self.published(first, &body)
    }

    pub(super) fn published(&self, first: u8, body: &[u8]) -> Publish {
        assert_eq!(first & 0xf0, 0x30, "{first:#x} {body:x?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let qos = (first >> 1) & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let mut properties = Vec::new();
        if self.five {
            let length = usize::from(rest[0]);
            properties = rest[1..=length].to_vec();
            rest = &rest[1 + length..];
        }
        let payload = String::from_utf8_lossy(rest).into_owned();
        Publish { qos, retain: first & 1 == 1, again: first & 8 == 8, id, topic, payload, properties }
    }

    /// Nothing has come that was not heard: PINGRESP is the next.
    pub(super) async fn expect_nothing(&mut self) {
        self.say(0xC0, &[]).await;
        assert_eq!(self.hear().await, (0xD0, Vec::new()));
    }

    /// The broker ends the link, with a word in version 5.0.
    pub(super) async fn expect_end(mut self) {
        while let Some((first, _)) = self.next().await {
            assert_eq!(first, 0xE0, "only a DISCONNECT");
        }
    }

    /// Leaves properly, and waits until the broker has seen it.
    pub(super) async fn leave(mut self) {
        self.say(0xE0, &[]).await;
        assert_eq!(self.next().await, None);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) again: bool,
    pub(super) id: u16,
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) properties: Vec<u8>,
}
