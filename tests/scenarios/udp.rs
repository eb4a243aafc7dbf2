//! UDP datagrams, acknowledged by datagrams.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::UdpSocket;

use crate::protocol::{Client, Protocol, Told};

struct Datagrams;

struct Socket(UdpSocket);

async fn socket(address: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    Ok(socket)
}

impl Protocol for Datagrams {
    const DRIVER: &'static str = "udp";
    type Client = Socket;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\ndatagram_max = 20000\ntopic = \"probes/{ip}\"\ndevice = \"{ip}\"\n\
         acknowledge = \"OK {id}\"\nrefuse = \"NO {reason}\"\n"
            .to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Socket> {
        Ok(Socket(socket(address).await?))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![b"21.5".to_vec(), b"{\"temperature\":71.5,\"unit\":\"F\"}".to_vec()]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![Vec::new(), vec![b'x'; 20_001], vec![b'x'; 65_000], b"\xff\xfe\xc3\x28".to_vec()]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\n", b"\0", b"\xff", b"\xc3\x28", b"{", b"\""]
    }

    async fn throw(&self, address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let socket = socket(address).await?;
        socket.send(&bytes).await?;
        let mut answer = vec![0; 2000];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await;
        let size = received.context("every datagram is answered")??;
        answer.truncate(size);
        Ok(answer)
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(answer)?;
        ensure!(text.starts_with("OK ") || text.starts_with("NO "), "{text}");
        Ok(())
    }

    fn half(&self, _marker: &str) -> Option<Vec<u8>> {
        None
    }
}

impl Client for Socket {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.send(text.as_bytes()).await?;
        let mut answer = [0; 2000];
        let size = tokio::time::timeout(Duration::from_secs(5), self.0.recv(&mut answer)).await??;
        let answer = std::str::from_utf8(&answer[..size])?;
        match answer.split_once(' ').context("half an answer")? {
            ("OK", _) => Ok(Told::Acknowledged),
            (_, reason) => Ok(Told::Refused(reason.to_owned())),
        }
    }
}

crate::scenarios!(Datagrams);
