//! Lines of text on a serial line, which has one far end; who speaks has it for as long.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use crate::line::Line;
use crate::protocol::{Client, Protocol, Told};

struct Serial {
    port: PathBuf,
    line: Arc<Mutex<Line>>,
}

struct Device(Arc<Mutex<Line>>);

/// Longer than an answer takes that is owed.
const QUIET: Duration = Duration::from_millis(150);

impl Protocol for Serial {
    const DRIVER: &'static str = "serial";
    type Client = Device;

    async fn start() -> Result<Self> {
        let line = Line::new().await?;
        Ok(Self { port: line.port(), line: Arc::new(Mutex::new(line)) })
    }

    fn settings(&self) -> String {
        format!(
            "port = \"{}\"\nframe_max = 65536\ntopic = \"line\"\ndevice = \"scale\"\n\
             acknowledge = \"OK {{id}}\\n\"\nrefuse = \"NO {{reason}}\\n\"\n",
            self.port.display()
        )
    }

    async fn connect(&self, _address: &str) -> Result<Device> {
        self.line.lock().await.rest(QUIET).await?;
        Ok(Device(Arc::clone(&self.line)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![b"21.5\n22.5\r\n".to_vec(), b"\x02ST,GS,+0012.5kg\x03\r\n".repeat(5)]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![
            vec![b'x'; 200_000],
            b"\xff\xfe\xc3\x28\n".to_vec(),
            vec![b'\n'; 10_000],
            b"\x11\x13\x03\x1a\x04\0".to_vec(),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\x03", b"\x04", b"\x11", b"\x13", b"\x7f"]
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut line = self.line.lock().await;
        // What comes after it is not a part of it.
        line.say(&[&bytes[..], b"\n"].concat()).await?;
        line.rest(Duration::from_millis(20)).await
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(answer)?;
        // Answers to what was thrown before may have been read in part.
        let strange = text
            .lines()
            .skip(1)
            .find(|line| !line.is_empty() && !"OK NO ".contains(&line[..line.len().min(3)]));
        ensure!(strange.is_none(), "{strange:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        Some(marker.into())
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        self.line.lock().await.lose(&half).await
    }
}

impl Client for Device {
    async fn send(&mut self, text: &str) -> Result<Told> {
        let mut line = self.0.lock().await;
        line.say(format!("{text}\n").as_bytes()).await?;
        let (mut answer, stream) = (Vec::new(), line.stream()?);
        while !answer.ends_with(b"\n") {
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut answer)).await?;
            ensure!(read? > 0, "the line was lost");
        }
        let answer = std::str::from_utf8(&answer)?;
        match answer.lines().last().and_then(|line| line.split_once(' ')).context("half an answer")? {
            ("OK", _) => Ok(Told::Acknowledged),
            (_, reason) => Ok(Told::Refused(reason.to_owned())),
        }
    }
}

crate::scenarios!(Serial);
