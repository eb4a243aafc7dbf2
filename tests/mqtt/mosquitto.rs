//! Eclipse Mosquitto: its broker as a child process, and its clients.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use sandbar_tests::tool;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

/// A broker that is killed when dropped.
pub(crate) struct Mosquitto {
    child: Child,
    configuration: PathBuf,
    pub(crate) port: u16,
}

/// Debian keeps servers where not every user's PATH leads.
fn program() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/mosquitto");
    if debian.is_file() { debian } else { tool::path("mosquitto") }
}

impl Mosquitto {
    /// With `more` behind its listener on a free port, and what it keeps in `folder`.
    pub(crate) async fn start(folder: &Path, more: &str) -> Result<Self> {
        let port = sandbar_tests::free_port()?;
        let configuration = folder.join("mosquitto.conf");
        let kept = folder.join("mosquitto");
        std::fs::create_dir_all(&kept)?;
        // As root it would become a user who may not write there. Its own clients take 20 at once, and it heeds
        // nothing but this setting.
        let text = format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_interval 1\n\
             autosave_on_changes true\nmax_inflight_messages 20\nmax_queued_messages 100000\n\
             listener {port} 127.0.0.1\nallow_anonymous true\n{more}\n",
            kept.display()
        );
        std::fs::write(&configuration, text)?;
        let child = launch(&configuration, port).await?;
        Ok(Self { child, configuration, port })
    }

    /// The same again: SIGTERM, so that it keeps its sessions, then a new process.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.child = launch(&self.configuration, self.port).await?;
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.child = launch(&self.configuration, self.port).await?;
        Ok(())
    }
}

async fn launch(configuration: &Path, port: u16) -> Result<Child> {
    let mut child = Command::new(program())
        .arg("-c")
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(child);
        }
        if let Some(status) = child.try_wait()? {
            bail!("mosquitto ended with {status}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("mosquitto does not listen after 5 s")
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `mosquitto_pub` or another of its clients, at this port, in this version of MQTT (`311` or `5`).
pub(crate) fn client(name: &str, port: u16, version: &str, arguments: &[&str]) -> tokio::process::Command {
    // Into a pipe it would write only once it has a page full.
    let mut command = tokio::process::Command::new(tool::path("stdbuf"));
    command.arg("-oL").arg(tool::path(name));
    command.args(["-h", "localhost", "-p", &port.to_string(), "-V", version]).args(arguments);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

pub(crate) async fn publish(port: u16, version: &str, arguments: &[&str]) -> Result<()> {
    tool::succeeds(client("mosquitto_pub", port, version, arguments), 20).await.map(drop)
}

/// A running `mosquitto_sub`, whose lines are its messages.
pub(crate) struct Subscriber {
    child: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What waited in its session comes before the subscription is confirmed.
    early: VecDeque<String>,
}

impl Subscriber {
    /// Returns once the broker has confirmed the subscription.
    pub(crate) async fn start(port: u16, version: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = client("mosquitto_sub", port, version, arguments);
        // The debug lines say when it is subscribed.
        let mut child = command.arg("-d").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut subscriber = Self { child, lines: BufReader::new(stdout).lines(), early: VecDeque::new() };
        loop {
            let line = subscriber.line().await?;
            if line.starts_with("Subscribed") {
                return Ok(subscriber);
            }
            if !line.starts_with("Client ") {
                subscriber.early.push_back(line);
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        match tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            other => {
                let mut said = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    drop(
                        tokio::time::timeout(Duration::from_millis(200), stderr.read_to_string(&mut said))
                            .await,
                    );
                }
                bail!("mosquitto_sub says nothing more: {other:?} {said}")
            }
        }
    }

    /// The next message, as its format says (`-F`).
    pub(crate) async fn next(&mut self) -> Result<String> {
        if let Some(line) = self.early.pop_front() {
            return Ok(line);
        }
        loop {
            let line = self.line().await?;
            let is_debug = ["Client ", "Subscribed"].iter().any(|start| line.starts_with(start));
            if !is_debug {
                return Ok(line);
            }
        }
    }
}
