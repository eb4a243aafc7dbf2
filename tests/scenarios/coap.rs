//! CoAP: confirmable POSTs, answered 2.04.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::net::UdpSocket;

use crate::protocol::{Client, Protocol, Told};

struct Coap;

struct Node {
    socket: UdpSocket,
    id: u16,
}

async fn socket(address: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// A confirmable POST to `/a/b` with the message id as token.
fn post(id: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    [&[0x42, 0x02, high, low, high, low, 0xB1, b'a', 0x01, b'b', 0xFF], payload].concat()
}

impl Protocol for Coap {
    const DRIVER: &'static str = "coap";
    type Client = Node;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\n".to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Node> {
        Ok(Node { socket: socket(address).await?, id: 0 })
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![
            post(1, b"21.5"),
            post(2, b"{\"temperature\":71.5,\"unit\":\"F\"}"),
            b"\x40\x01\x00\x03\xBB.well-known\x04core".to_vec(),
            b"\x41\x03\x00\x04t\xB1a\xD1\x03\x08\xFF0123456789abcdef".to_vec(),
            b"\x41\x01\x00\x05t\x60\x51a".to_vec(),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![
            Vec::new(),
            b"\x40".to_vec(),
            b"\x40\x02\x00\x01\xFF".to_vec(),
            b"\x4F\x02\x00\x01".to_vec(),
            b"\x40\x02\x00\x01\xFE".to_vec(),
            b"\x40\x02\x00\x01\xBE\xFF\xFFa".to_vec(),
            b"\x40\xE2\x00\x01".to_vec(),
            b"\xC0\x02\x00\x01".to_vec(),
            b"\x60\x44\x00\x01".to_vec(),
            post(9, &[b'x'; 60_000]),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\xFF",
            b"\xB1",
            b"\xD1\x0E\x07",
            b"\xD1\x0A\x0E",
            b"\xE0\x00\x00",
            b"\x0D\x00",
            b"\x60",
            b"\x40\x02",
        ]
    }

    /// What is no message is not answered.
    async fn throw(&self, address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let socket = socket(address).await?;
        socket.send(&bytes).await?;
        let mut answer = vec![0; 2000];
        let received = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut answer)).await;
        answer.truncate(received.map_or(Ok(0), |size| size)?);
        Ok(answer)
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let is_message = answer.is_empty() || answer.len() >= 4 && answer[0] >> 6 == 1;
        ensure!(is_message, "{answer:?}");
        Ok(())
    }

    fn half(&self, _marker: &str) -> Option<Vec<u8>> {
        None
    }
}

impl Client for Node {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.id += 1;
        let request = post(self.id, text.as_bytes());
        let mut answer = [0; 2000];
        self.socket.send(&request).await?;
        loop {
            let size = match tokio::time::timeout(Duration::from_secs(2), self.socket.recv(&mut answer)).await
            {
                Ok(received) => received?,
                // As every client does it.
                Err(_) => {
                    self.socket.send(&request).await?;
                    continue;
                }
            };
            let (kind, code) = (answer[0] >> 4 & 3, answer[1]);
            if kind == 0 {
                self.socket.send(&[0x60, 0, answer[2], answer[3]]).await?;
            }
            match code {
                0 => {}
                0x44 => return Ok(Told::Acknowledged),
                code => {
                    let text = String::from_utf8_lossy(&answer[6.min(size)..size]).into_owned();
                    return Ok(Told::Refused(format!("{}.{:02} {text}", code >> 5, code & 31)));
                }
            }
        }
    }
}

crate::scenarios!(Coap);
