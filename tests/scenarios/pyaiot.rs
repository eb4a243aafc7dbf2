//! Pyaiot's WebSocket nodes and gateways. They are told nothing; dashboards are, once it is on disk.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::frames::{self, answered, frame, handshake, is_usual};
use crate::protocol::{Client, Protocol, Told};

struct Pyaiot {
    folder: tempfile::TempDir,
    connected: AtomicU64,
}

type Socket = WebSocketStream<TcpStream>;

struct Node {
    uid: String,
    is_behind_gateway: bool,
    /// Its own, or its gateway's.
    socket: Socket,
    dashboard: Socket,
}

/// Key and token of Fernet's specification, whose text is `hello`.
const KEYS: &str = "[keys]\nsecret = hello\nprivate = cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n";
const TOKEN: &str = "token,gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

async fn connect(address: &str, path: &str) -> Result<Socket> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    if path == "/gw" {
        request.headers_mut().insert("sec-websocket-protocol", TOKEN.parse()?);
    }
    Ok(client_async(request, TcpStream::connect(address).await?).await?.0)
}

fn text(message: &Value) -> Vec<u8> {
    frame(0x81, message.to_string().as_bytes())
}

fn node(frames: &[Vec<u8>]) -> Vec<u8> {
    [handshake("/node", ""), frames.concat()].concat()
}

fn gateway(frames: &[Vec<u8>]) -> Vec<u8> {
    [handshake("/gw", &format!("Sec-WebSocket-Protocol: {TOKEN}\r\n")), frames.concat()].concat()
}

fn dashboard(frames: &[Vec<u8>]) -> Vec<u8> {
    [handshake("/ws", ""), frames.concat()].concat()
}

fn update(data: &Value) -> Value {
    json!({ "type": "update", "data": data })
}

fn far(endpoint: &str, data: &Value) -> Value {
    json!({ "type": "update", "uid": "far", "endpoint": endpoint, "data": data, "dst": "all" })
}

impl Protocol for Pyaiot {
    const DRIVER: &'static str = "pyaiot";
    type Client = Node;

    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("keys"), KEYS)?;
        Ok(Self { folder, connected: AtomicU64::new(0) })
    }

    fn settings(&self) -> String {
        format!("listen = \"127.0.0.1:0\"\nkeys_file = \"{}\"\n", self.folder.path().join("keys").display())
    }

    async fn connect(&self, address: &str) -> Result<Node> {
        let number = self.connected.fetch_add(1, Ordering::Relaxed);
        let (uid, is_behind_gateway) = (format!("node-{number}"), number % 2 == 1);
        let mut dashboard = connect(address, "/ws").await?;
        // Who is answered is told from now on.
        dashboard.send(Message::Ping(<_>::default())).await?;
        while !dashboard.next().await.context("the dashboard was lost")??.is_pong() {}
        let path = if is_behind_gateway { "/gw".to_owned() } else { format!("/node?id={uid}") };
        Ok(Node { socket: connect(address, &path).await?, uid, is_behind_gateway, dashboard })
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![
            node(&[text(&update(&json!({ "led": "0", "temperature": 21.5 }))), frame(0x88, b"\x03\xe8")]),
            node(&[
                frame(0x01, br#"{"type":"update","#),
                frame(0x89, b""),
                frame(0x80, br#""data":{"a":1}}"#),
            ]),
            gateway(&[
                text(&json!({ "type": "update", "uid": "alive" })),
                text(&json!({ "type": "new", "uid": "far", "dst": "all" })),
                text(&far("led", &json!("1"))),
                text(&json!({ "type": "reset", "uid": "far" })),
                text(&json!({ "type": "out", "uid": "far" })),
            ]),
            gateway(&[text(&far("position", &json!({ "lat": 47.4, "lon": 8.5 })))]),
            dashboard(&[
                text(&json!({ "type": "new", "data": "dashboard" })),
                text(&update(&json!({ "uid": "far", "endpoint": "led", "payload": "1" }))),
            ]),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let many: serde_json::Map<_, _> =
            (0..400).map(|number| (format!("resource-{number}"), json!(number))).collect();
        vec![
            handshake("/node", "")[..40].to_vec(),
            handshake("/nowhere", ""),
            handshake("/gw", ""),
            handshake("/gw", "Sec-WebSocket-Protocol: token,gAAAA\r\n"),
            handshake(&format!("/node?id={}", "x".repeat(300)), ""),
            handshake("/node?id=%ff%00%2f%23", ""),
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            [&b"GET /"[..], &[b'x'; 100_000]].concat(),
            node(&[frame(0x81, b"\xc3\x28")]),
            node(&[frame(0x82, b"\0\xff")]),
            node(&[frame(0x81, b"")]),
            node(&[frame(0x81, "[".repeat(50_000).as_bytes())]),
            node(&[text(&json!({ "type": "update" }))]),
            node(&[text(&update(&json!({ "#": 1, "a/+/b": 2, "": 3, "x".repeat(300): 4, "\0": 5 })))]),
            node(&[text(&update(&Value::Object(many)))]),
            node(&[b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()]),
            node(&[b"\x81\x05hello".to_vec()]),
            gateway(&[text(&json!({ "type": "new" }))]),
            gateway(&[text(&json!({ "type": "update", "uid": "far", "endpoint": 1, "data": 1 }))]),
            gateway(&[text(&json!({ "type": "update", "uid": "#", "endpoint": "+", "data": null }))]),
            dashboard(&[text(&json!({ "type": "out", "uid": "far" }))]),
            dashboard(&[text(&update(&json!({ "uid": "far", "endpoint": "led" })))]),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\r\n",
            b"\0",
            b"\xff\xff\xff\xff",
            b"\x81\x80\0\0\0\0",
            b"\x88\x80\0\0\0\0",
            b"\"",
            b"{",
            b"}",
            b",\"uid\":null",
        ]
    }

    async fn throw(&self, address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        frames::throw(address, &bytes).await
    }

    async fn lose(&self, address: &str, bytes: Vec<u8>) -> Result<()> {
        frames::lose(address, &bytes).await
    }

    /// What is said is an object.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        for (first, payload) in answered(answer)? {
            ensure!(is_usual(first), "a frame {first:#x}");
            if first == 0x81 {
                let said: Value = serde_json::from_slice(payload)?;
                ensure!(said["type"].is_string() || said["request"] == "discover", "{said}");
            }
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = node(&[text(&update(&json!({ "note": format!("{marker}, and more") })))]);
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Node {
    async fn send(&mut self, text: &str) -> Result<Told> {
        let message = match self.is_behind_gateway {
            true => json!({ "type": "update", "uid": self.uid, "endpoint": "note", "data": text }),
            false => update(&json!({ "note": text })),
        };
        self.socket.send(Message::text(message.to_string())).await?;
        loop {
            let said = self.dashboard.next().await.context("the dashboard was lost")??;
            if let Message::Text(said) = said {
                let said: Value = serde_json::from_str(&said)?;
                if said["uid"] == *self.uid && said["data"] == text {
                    return Ok(Told::Acknowledged);
                }
            }
        }
    }
}

crate::scenarios!(Pyaiot);
