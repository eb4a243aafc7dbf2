//! A BraveJIG router on a pseudo terminal. Its line says nothing of what the host took.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::protocol::{Client, Protocol, Told};

struct BraveJig {
    folder: tempfile::TempDir,
    router: Arc<Mutex<Router>>,
    /// What was thrown may have ended within a frame.
    is_dirty: AtomicBool,
}

/// The emulator, plugged in until it is dropped.
struct Router {
    child: Child,
    input: ChildStdin,
}

struct Module(Arc<Mutex<Router>>);

/// A frame that is garbage is given up after a second of silence.
const SILENCE: Duration = Duration::from_millis(1200);

impl Router {
    fn plug_in(port: &Path) -> Result<Self> {
        let script = sandbar_tests::checkout().join("tests/peers/bravejig/router.py");
        let mut command = Command::new(sandbar_tests::tool::path("python3"));
        command.arg(script).arg(port).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let ready = lines.next().context("it ended")??;
        ensure!(ready.contains("ready"), "{ready}");
        // What it tells is not of interest, but has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, input })
    }

    fn tell(&mut self, order: &Value) -> Result<()> {
        Ok(writeln!(self.input, "{order}")?)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Measurements of light whose bytes are this text.
fn data(text: &str) -> Vec<u8> {
    let mut samples = text.as_bytes().to_vec();
    samples.resize(text.len().next_multiple_of(4), b' ');
    let count = u16::try_from(samples.len() / 4).expect("a short text").to_le_bytes();
    [&[90, 1, 0, 0, 0, 0x6a][..], &count, &samples].concat()
}

fn frame(sensor: u16, data: &[u8]) -> Vec<u8> {
    let size = u16::try_from(data.len()).expect("little data").to_le_bytes();
    let device = 0x2468_0024_0123_4567u64.to_le_bytes();
    [&[1, 0][..], &size, &[0, 0, 0, 0x6a], &device, &sensor.to_le_bytes(), &[0xc4, 7, 0], data].concat()
}

impl BraveJig {
    fn port(&self) -> std::path::PathBuf {
        self.folder.path().join("port")
    }
}

impl Protocol for BraveJig {
    const DRIVER: &'static str = "bravejig";
    const CONNECTIONS: usize = 1;
    type Client = Module;

    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let router = Router::plug_in(&folder.path().join("port"))?;
        Ok(Self { folder, router: Arc::new(Mutex::new(router)), is_dirty: AtomicBool::new(false) })
    }

    fn settings(&self) -> String {
        format!("port = \"{}\"\npayload = \"raw\"\n", self.port().display())
    }

    async fn connect(&self, _address: &str) -> Result<Module> {
        if self.is_dirty.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(SILENCE).await;
        }
        Ok(Module(Arc::clone(&self.router)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let mut two = data("21.522.5");
        two[6] = 1;
        vec![
            frame(0x0121, &data("21.5")),
            frame(0x0123, &two),
            frame(0x0125, &[90, 1, 0, 0, 0, 0x6a, 2, 0, 1, 2, 3, 4]),
            [&[1, 2, 0, 0, 0, 0x6a, 0xcf, 8, 7, 6, 5, 4, 3, 2, 1, 2][..], &[7; 16]].concat(),
            [&[1, 1, 0, 0, 0, 0x6a][..], &[0x67; 8], &[0x21, 1, 2, 0, 0x0d, 8]].concat(),
            vec![1, 0xff, 0, 0, 0, 0x6a, 4],
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let whole = frame(0x0121, &data("21.5"));
        vec![
            whole[..whole.len() - 1].to_vec(),
            frame(0x0999, &data("21.5")),
            frame(0x0121, &data("21.5")[..9]),
            [&[1, 0, 0xff, 0xff][..], &[0; 300]].concat(),
            vec![1; 2000],
            [1, 0].repeat(1000),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\x01\0", b"\x01\x01", b"\x01\x02", b"\x01\x03", b"\x01\xff", b"\xff\xff", b"\0", b"\x21\x01"]
    }

    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.is_dirty.store(true, Ordering::Relaxed);
        self.router.lock().tell(&json!({ "bytes": hex(&bytes) }))?;
        Ok(Vec::new())
    }

    async fn lose(&self, _address: &str, bytes: Vec<u8>) -> Result<()> {
        self.router.lock().tell(&json!({ "bytes": hex(&bytes) }))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let port = self.port();
        let mut router = self.router.lock();
        drop((router.child.kill(), router.child.wait()));
        std::fs::remove_file(&port)?;
        *router = Router::plug_in(&port)?;
        Ok(())
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        ensure!(answer.is_empty(), "nothing is answered");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let mut whole = frame(0x0121, &data(&format!("{marker}   ")));
        whole.pop();
        Some(whole)
    }
}

impl Client for Module {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.lock().tell(&json!({ "uplink": { "sensor": 0x0121, "data": hex(&data(text)) } }))?;
        Ok(Told::Nothing)
    }
}

crate::scenarios!(BraveJig);
