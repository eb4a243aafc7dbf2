//! WebSocket messages, acknowledged by messages.

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::frames::{answered, frame, handshake, is_usual};
use crate::protocol::{Client, Protocol, Told};

struct Messages;

struct Socket(WebSocketStream<TcpStream>);

fn after_handshake(frames: &[Vec<u8>]) -> Vec<u8> {
    [handshake("/ws/d1", ""), frames.concat()].concat()
}

impl Protocol for Messages {
    const DRIVER: &'static str = "websocket";
    type Client = Socket;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\nmessage_max = 65536\nacknowledge = '{\"accepted\":\"{id}\"}'\n\
         refuse = '{\"refused\":\"{reason}\"}'\npaths = [{ path = \"/ws/{device}\" }]\n"
            .to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        Ok(Socket(client_async(format!("ws://{address}/ws/d1"), stream).await?.0))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![
            after_handshake(&[
                frame(0x81, b"{\"temperature\":71.5}"),
                frame(0x82, b"\0\xff"),
                frame(0x88, b"\x03\xe8"),
            ]),
            after_handshake(&[frame(0x01, b"in "), frame(0x89, b"ping"), frame(0x80, b"pieces")]),
            after_handshake(&[frame(0x81, &[b'x'; 300]), frame(0x8a, b"")]),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![
            handshake("/ws/d1", "")[..40].to_vec(),
            b"GET /ws/d1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            [&b"GET /"[..], &[b'x'; 100_000]].concat(),
            after_handshake(&[frame(0x81, b"\xc3\x28")]),
            after_handshake(&[b"\x81\xff\0\0\0\0\0\x01\0\x01\0\0\0\0".to_vec(), vec![b'x'; 1000]]),
            after_handshake(&[b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()]),
            after_handshake(&[b"\x81\x05hello".to_vec()]),
            after_handshake(&[frame(0x83, b"")]),
            after_handshake(&[frame(0x09, &[0; 125]), frame(0x89, &[0; 126])]),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\r\n",
            b"\0",
            b"\xff\xff\xff\xff",
            b"\x81\x80\0\0\0\0",
            b"\x88\x80\0\0\0\0",
            b"\x80\x80\0\0\0\0",
            b"Upgrade: h2c\r\n",
        ]
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        for (first, payload) in answered(answer)? {
            ensure!(is_usual(first) && payload.len() <= 125, "a frame {first:#x} {}", payload.len());
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = after_handshake(&[frame(0x81, format!("{marker}, and more").as_bytes())]);
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Socket {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.send(Message::text(text)).await?;
        loop {
            match self.0.next().await.context("the connection was lost")?? {
                Message::Text(text) if text.starts_with("{\"accepted\":") => return Ok(Told::Acknowledged),
                Message::Text(text) => return Ok(Told::Refused(text.to_string())),
                Message::Close(_) => anyhow::bail!("the connection was closed"),
                _ => {}
            }
        }
    }
}

crate::scenarios!(Messages);
