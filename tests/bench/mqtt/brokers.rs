//! The brokers that are measured, each a process of its own on a free port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sandbar_tests::free_port;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::tool;

pub(crate) struct Broker {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Whether a subscriber with a session takes everything: only then has mosquitto something to save.
    pub(crate) is_watched: bool,
    process: Process,
    _folder: tempfile::TempDir,
}

enum Process {
    Ours(Host),
    Theirs(Child),
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Process::Theirs(child) = &mut self.process {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Broker {
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        let id = match &self.process {
            Process::Ours(host) => host.id(),
            Process::Theirs(child) => child.id(),
        };
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }

    pub(crate) fn host(&self) -> Option<&Host> {
        match &self.process {
            Process::Ours(host) => Some(host),
            Process::Theirs(_) => None,
        }
    }

    /// With one worker, as mosquitto has; `more` is further configuration.
    pub(crate) async fn ours(more: &str) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let text = format!(
            "[host]\njournal_mib = 4096\n[api]\nlisten = \"127.0.0.1:0\"\n[ingress.mqtt]\ndriver = \"mqtt\"\n\
             listen = \"127.0.0.1:{port}\"\nconnections_max = 20000\nsubscriptions_max = 200000\n{more}"
        );
        std::fs::write(folder.path().join("sandbar.toml"), text)?;
        let mut command = Command::new(binary());
        command.env("TOKIO_WORKER_THREADS", "1");
        let host = Host::start_with(folder.path(), command).await?;
        host.ingress("mqtt").await?;
        Ok(Self { name: "sandbar", port, is_watched: false, process: Process::Ours(host), _folder: folder })
    }

    pub(crate) async fn mosquitto(autosave: bool) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let kept = match autosave {
            true => format!(
                "persistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n",
                folder.path().display()
            ),
            false => "persistence false\n".to_owned(),
        };
        let file = folder.path().join("mosquitto.conf");
        let text = format!(
            "user root\nallow_anonymous true\nlistener {port} 127.0.0.1\nmax_inflight_messages 0\n\
             max_queued_messages 0\n{kept}"
        );
        std::fs::write(&file, text)?;
        let debian = PathBuf::from("/usr/sbin/mosquitto");
        let program = if debian.is_file() { debian } else { tool::path("mosquitto") };
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let name = if autosave { "mosquitto, autosave" } else { "mosquitto, memory" };
        Ok(Self { name, port, is_watched: autosave, process: launch(command, port).await?, _folder: folder })
    }

    /// `None` if it is not there: it takes minutes to build, and only those who compare have a use for it.
    pub(crate) async fn rumqttd() -> Result<Option<Self>> {
        let Some(program) = rumqttd_path().filter(|path| path.is_file()) else { return Ok(None) };
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let file = folder.path().join("rumqttd.toml");
        std::fs::write(&file, rumqttd_configuration(port))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let process = launch(command, port).await?;
        Ok(Some(Self { name: "rumqttd", port, is_watched: false, process, _folder: folder }))
    }
}

fn rumqttd_path() -> Option<PathBuf> {
    let cache = std::env::var_os("SANDBAR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/sandbar")))?;
    Some(cache.join("peers/bin/rumqttd"))
}

fn rumqttd_configuration(port: u16) -> String {
    format!(
        r#"
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20480
max_inflight_count = 500
dynamic_filters = true
"#
    )
}

async fn launch(mut command: Command, port: u16) -> Result<Process> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(Process::Theirs(child));
        }
        if let Some(status) = child.try_wait()? {
            bail!("{command:?} ended with {status}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{command:?} does not listen after 5 s")
}
