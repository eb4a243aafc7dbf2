//! Lines on a serial port: a pseudo terminal, whose far end socat brings here. A line has one far end; who speaks has it
//! for as long.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::tool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::protocol::{Client, Protocol, Told};

struct Serial {
    folder: tempfile::TempDir,
    line: Arc<Mutex<Line>>,
}

struct Line {
    listener: TcpListener,
    path: PathBuf,
    plugged: Option<(Child, TcpStream)>,
}

struct Device(Arc<Mutex<Line>>);

/// Longer than an answer takes that is owed.
const QUIET: Duration = Duration::from_millis(150);

impl Line {
    async fn plug_in(&mut self) -> Result<()> {
        let end = format!("pty,raw,echo=0,link={}", self.path.display());
        let here = format!("tcp:{}", self.listener.local_addr()?);
        let socat = Command::new(tool::path("socat")).args([end, here]).stderr(Stdio::null()).spawn()?;
        let (stream, _) = tokio::time::timeout(Duration::from_secs(10), self.listener.accept()).await??;
        self.plugged = Some((socat, stream));
        for _ in 0..500 {
            if self.path.exists() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("socat makes no terminal")
    }

    fn unplug(&mut self) {
        if let Some((mut socat, _)) = self.plugged.take() {
            drop(socat.kill());
            drop(socat.wait());
            drop(std::fs::remove_file(&self.path));
        }
    }

    fn stream(&mut self) -> Result<&mut TcpStream> {
        Ok(&mut self.plugged.as_mut().context("it is unplugged")?.1)
    }

    /// What is said until there is silence.
    async fn rest(&mut self, quiet: Duration) -> Result<Vec<u8>> {
        let (mut said, stream) = (Vec::new(), self.stream()?);
        while let Ok(read) = tokio::time::timeout(quiet, stream.read_buf(&mut said)).await {
            ensure!(read? > 0, "the line was lost");
        }
        Ok(said)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.unplug();
    }
}

impl Protocol for Serial {
    const DRIVER: &'static str = "serial";
    type Client = Device;

    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut line = Line { listener, path: folder.path().join("port"), plugged: None };
        line.plug_in().await?;
        Ok(Self { folder, line: Arc::new(Mutex::new(line)) })
    }

    fn settings(&self) -> String {
        format!(
            "port = \"{}\"\nframe_max = 65536\ntopic = \"line\"\ndevice = \"scale\"\n\
             acknowledge = \"OK {{id}}\\n\"\nrefuse = \"NO {{reason}}\\n\"\n",
            self.folder.path().join("port").display()
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
        line.stream()?.write_all(&[&bytes[..], b"\n"].concat()).await?;
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
        let mut line = self.line.lock().await;
        line.stream()?.write_all(&half).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        line.unplug();
        line.plug_in().await
    }
}

impl Client for Device {
    async fn send(&mut self, text: &str) -> Result<Told> {
        let mut line = self.0.lock().await;
        let stream = line.stream()?;
        stream.write_all(format!("{text}\n").as_bytes()).await?;
        let mut answer = Vec::new();
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
