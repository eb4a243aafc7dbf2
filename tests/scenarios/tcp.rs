//! Lines over TCP, acknowledged by lines.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::protocol::{Client, Protocol, Told};

struct Lines;

struct Line(BufReader<TcpStream>);

impl Protocol for Lines {
    const DRIVER: &'static str = "tcp";
    type Client = Line;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\nframe_max = 65536\ntopic = \"lines/{ip}\"\ndevice = \"{ip}\"\n\
         acknowledge = \"OK {id}\\n\"\nrefuse = \"NO {reason}\\n\"\n"
            .to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Line> {
        Ok(Line(BufReader::new(TcpStream::connect(address).await?)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![b"21.5\n22.5\r\n".to_vec(), b"{\"temperature\":71.5,\"unit\":\"F\"}\n".repeat(20)]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![b"21.5".to_vec(), vec![b'x'; 200_000], b"\xff\xfe\xc3\x28\n".to_vec(), vec![b'\n'; 10_000]]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\n", b"\r", b"\r\n", b"\n\n\n", b"\0", b"\xff", b"\xc3\x28", b"\x04"]
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(answer)?;
        let strange = text.lines().find(|line| !line.starts_with("OK ") && !line.starts_with("NO "));
        ensure!(strange.is_none(), "{strange:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        Some(marker.into())
    }
}

impl Client for Line {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        ensure!(line.ends_with('\n'), "the connection was lost");
        match line.trim_end().split_once(' ').context("half an answer")? {
            ("OK", _) => Ok(Told::Acknowledged),
            (_, reason) => Ok(Told::Refused(reason.to_owned())),
        }
    }
}

crate::scenarios!(Lines);
