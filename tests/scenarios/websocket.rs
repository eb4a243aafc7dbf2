//! WebSocket messages, acknowledged by messages.

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::protocol::{Client, Protocol, Told};

struct Messages;

struct Socket(WebSocketStream<TcpStream>);

const HANDSHAKE: &[u8] =
    b"GET /ws/d1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A frame as a client sends it (RFC 6455, section 5.2), masked with nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        size @ 0..=125 => frame.push(0x80 | size as u8),
        size => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn after_handshake(frames: &[Vec<u8>]) -> Vec<u8> {
    [HANDSHAKE.to_vec(), frames.concat()].concat()
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
            HANDSHAKE[..40].to_vec(),
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

    /// HTTP until the connection is open, then frames that are not masked and hold nothing strange.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(head) = head else {
            ensure!(answer.is_empty(), "half a head");
            return Ok(());
        };
        let text = std::str::from_utf8(&answer[..head])?;
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("no status")?;
        if status != "101" {
            ensure!(["400", "404", "405", "414", "426", "431"].contains(&status), "{text}");
            return Ok(());
        }
        let mut rest = &answer[head + 4..];
        while let [first, size, ..] = *rest {
            ensure!([0x81, 0x88, 0x89, 0x8a].contains(&first) && size <= 125, "a frame {first:#x} {size}");
            rest = rest.get(2 + usize::from(size)..).context("half a frame")?;
        }
        ensure!(rest.is_empty(), "half a frame");
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
