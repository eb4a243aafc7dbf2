//! A serial line: a pseudo terminal, whose far end socat brings here.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::tool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// With a host that is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Unplugged when it is dropped.
pub(crate) struct Line {
    folder: tempfile::TempDir,
    listener: TcpListener,
    plugged: Option<(Child, TcpStream)>,
}

impl Line {
    pub(crate) async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut line = Self { folder: tempfile::tempdir()?, listener, plugged: None };
        line.plug_in().await?;
        Ok(line)
    }

    /// What the host opens.
    pub(crate) fn port(&self) -> PathBuf {
        self.folder.path().join("port")
    }

    async fn plug_in(&mut self) -> Result<()> {
        let end = format!("pty,raw,echo=0,link={}", self.port().display());
        let here = format!("tcp:{}", self.listener.local_addr()?);
        let socat = Command::new(tool::path("socat")).args([end, here]).stderr(Stdio::null()).spawn()?;
        let (stream, _) = tokio::time::timeout(Duration::from_secs(10), self.listener.accept()).await??;
        self.plugged = Some((socat, stream));
        for _ in 0..500 {
            if self.port().exists() {
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
            drop(std::fs::remove_file(self.port()));
        }
    }

    pub(crate) fn stream(&mut self) -> Result<&mut TcpStream> {
        Ok(&mut self.plugged.as_mut().context("it is unplugged")?.1)
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let said = tokio::time::timeout(PATIENCE, self.stream()?.write_all(bytes)).await;
        Ok(said.context("nobody listens")??)
    }

    /// What is said until there is silence.
    pub(crate) async fn rest(&mut self, quiet: Duration) -> Result<Vec<u8>> {
        let (mut said, stream) = (Vec::new(), self.stream()?);
        while let Ok(read) = tokio::time::timeout(quiet, stream.read_buf(&mut said)).await {
            ensure!(read? > 0, "the line was lost");
        }
        Ok(said)
    }

    /// What was said by now.
    pub(crate) fn said(&mut self) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        match self.stream()?.try_read_buf(&mut said) {
            Ok(0) => anyhow::bail!("the line was lost"),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(said),
        }
    }

    /// Says this, is pulled out, and plugged in again.
    pub(crate) async fn lose(&mut self, half: &[u8]) -> Result<()> {
        self.say(half).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.unplug();
        self.plug_in().await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.unplug();
    }
}
