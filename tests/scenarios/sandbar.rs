//! Readings of another host, each acknowledged by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use sandbar_reading::relay::{Down, Relayed, SUB_PROTOCOL, Told as What, Up};
use sandbar_reading::{Attributes, ContentType, DeliveryId, Message, Timestamp};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::frames::{self, answered, frame, handshake, is_usual};
use crate::protocol::{Client, Protocol, Told};

/// Each connection is another host's: a second one of the same would end the first.
struct Sites {
    connected: AtomicU64,
    sent: Arc<AtomicU64>,
}

struct Site {
    socket: WebSocketStream<TcpStream>,
    sent: Arc<AtomicU64>,
}

/// That send right readings; so many others throw.
const HOSTS: u64 = 32;

fn reading(id: u128, payload: &str) -> Vec<u8> {
    let message = Message {
        topic: "a/b".parse().expect("a topic"),
        device: Some("d1".into()),
        content_type: ContentType::TEXT,
        attributes: Attributes::new().with("k", "v"),
        payload: payload.to_owned().into(),
    };
    let time = Timestamp::from_millis(1_700_000_000_000);
    Up::Reading(Relayed { id: DeliveryId::from_u128(id), time, message }).encode().to_vec()
}

/// Of the host that throws, which has this number.
fn open(number: u64) -> Vec<u8> {
    let headers =
        format!("Sec-WebSocket-Protocol: {SUB_PROTOCOL}\r\nAuthorization: Bearer throw-{number}\r\n");
    handshake("/", &headers)
}

fn thrown(number: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    [open(number), frames.concat()].concat()
}

impl Protocol for Sites {
    const DRIVER: &'static str = "sandbar";
    type Client = Site;

    async fn start() -> Result<Self> {
        Ok(Self { connected: AtomicU64::new(0), sent: Arc::default() })
    }

    fn settings(&self) -> String {
        let kinds = ["send", "throw"].into_iter();
        let hosts = kinds.flat_map(|kind| {
            (0..HOSTS).map(move |number| format!("{kind}-{number} = {{ token = \"{kind}-{number}\" }}\n"))
        });
        format!("listen = \"127.0.0.1:0\"\n[ingress.it.hosts]\n{}", hosts.collect::<String>())
    }

    async fn connect(&self, address: &str) -> Result<Site> {
        let number = self.connected.fetch_add(1, Ordering::Relaxed) % HOSTS;
        let mut request = format!("ws://{address}/").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer send-{number}").parse()?);
        headers.insert("sec-websocket-protocol", SUB_PROTOCOL.parse()?);
        let (socket, _) = client_async(request, TcpStream::connect(address).await?).await?;
        Ok(Site { socket, sent: Arc::clone(&self.sent) })
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let told = |told: What| Up::Told { id: DeliveryId::from_u128(7), told }.encode().to_vec();
        let of_host = |number: u64| {
            let id = u128::from(number) << 64;
            let (long, bye) = (reading(id | 1, &"x".repeat(300)), frame(0x88, b"\x03\xe8"));
            [
                thrown(number, &[frame(0x82, &reading(id | 2, "21.5")), bye]),
                thrown(number, &[frame(0x02, &long[..100]), frame(0x89, b"ping"), frame(0x80, &long[100..])]),
                thrown(
                    number,
                    &[
                        frame(0x82, &told(What::Done)),
                        frame(0x82, &told(What::Retry("later".to_owned()))),
                        frame(0x82, &reading(id | 3, "22.5")),
                        frame(0x82, &reading(id | 3, "22.5")),
                    ],
                ),
            ]
        };
        (1..HOSTS).flat_map(of_host).collect()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let headed = |head: &str| [&(head.len() as u32).to_be_bytes()[..], head.as_bytes()].concat();
        let down = Down::Taken { id: DeliveryId::from_u128(1) }.encode();
        let bearing = |headers: &str| handshake("/", headers);
        vec![
            open(0)[..40].to_vec(),
            bearing(""),
            bearing("Sec-WebSocket-Protocol: sandbar.1\r\n"),
            bearing("Sec-WebSocket-Protocol: sandbar.1\r\nAuthorization: Bearer wrong\r\n"),
            bearing("Sec-WebSocket-Protocol: sandbar.2\r\nAuthorization: Bearer throw-0\r\n"),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            [&b"GET /"[..], &[b'x'; 100_000]].concat(),
            thrown(1, &[frame(0x81, b"text")]),
            thrown(2, &[frame(0x82, b"")]),
            thrown(3, &[frame(0x82, b"\xff\xff\xff\xff{}")]),
            thrown(4, &[frame(0x82, &headed("{}"))]),
            thrown(5, &[frame(0x82, &headed(&"[".repeat(50_000)))]),
            thrown(6, &[frame(0x82, &headed(r#"{"say":"told","id":"x","told":{"is":"done"}}"#))]),
            thrown(7, &[frame(0x82, &down)]),
            thrown(8, &[b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()]),
            thrown(9, &[b"\x82\x05hello".to_vec()]),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\r\n",
            b"\0",
            b"\xff\xff\xff\xff",
            b"\x82\x80\0\0\0\0",
            b"\x88\x80\0\0\0\0",
            b"{\"say\":",
            b"\"",
            b"}",
            b"#",
        ]
    }

    async fn throw(&self, address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        frames::throw(address, &bytes).await
    }

    async fn lose(&self, address: &str, bytes: Vec<u8>) -> Result<()> {
        frames::lose(address, &bytes).await
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        for (first, payload) in answered(answer)? {
            match first {
                0x82 => drop(Down::decode(&payload.to_vec().into())?),
                first => ensure!(first != 0x81 && is_usual(first), "a frame {first:#x}"),
            }
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = thrown(0, &[frame(0x82, &reading(9, &format!("{marker}, and more")))]);
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Site {
    async fn send(&mut self, text: &str) -> Result<Told> {
        let id = u128::from(self.sent.fetch_add(1, Ordering::Relaxed)) + 1;
        self.socket.send(Frame::binary(reading(id, text))).await?;
        loop {
            match self.socket.next().await.context("the connection was lost")?? {
                Frame::Binary(bytes) => match Down::decode(&bytes)? {
                    Down::Taken { id: taken } if taken == DeliveryId::from_u128(id) => {
                        return Ok(Told::Acknowledged);
                    }
                    Down::Refused { cause, .. } => return Ok(Told::Refused(cause)),
                    other => anyhow::bail!("{other:?}"),
                },
                Frame::Close(_) => anyhow::bail!("the connection was closed"),
                _ => {}
            }
        }
    }
}

crate::scenarios!(Sites);
