//! The router that the tests speak to: `tests/peers/bravejig/router.py`, which knows nothing of this code.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Plugged in until it is dropped.
pub(super) struct Router {
    child: Child,
    input: ChildStdin,
    /// What it was asked, in order.
    asked: Arc<Mutex<Vec<Value>>>,
    folder: tempfile::TempDir,
}

impl Router {
    pub(super) fn plug_in() -> Self {
        Self::with(&[], tempfile::tempdir().unwrap())
    }

    /// One that answers nothing.
    pub(super) fn muted() -> Self {
        Self::with(&["--mute"], tempfile::tempdir().unwrap())
    }

    fn with(arguments: &[&str], folder: tempfile::TempDir) -> Self {
        // Not of the checkout that this was compiled in: a target directory may serve several.
        let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        let script = format!("{package}/../../tests/peers/bravejig/router.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(folder.path().join("port"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed: tests/setup.sh does it");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(output).lines();
        let ready = lines.next().unwrap().unwrap();
        assert!(ready.contains("ready"), "{ready}");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, input, asked, folder }
    }

    pub(super) fn port(&self) -> PathBuf {
        self.folder.path().join("port")
    }

    pub(super) fn tell(&mut self, order: &Value) {
        writeln!(self.input, "{order}").unwrap();
    }

    /// The same, and resolves once it has done so.
    pub(super) async fn set(&mut self, order: &Value) {
        let done = |asked: &[Value]| asked.iter().filter(|asked| asked.get("did").is_some()).count();
        let before = done(&self.asked());
        self.tell(order);
        for _ in 0..1000 {
            if done(&self.asked()) > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not do {order}");
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tell(&json!({ "bytes": hex }));
    }

    pub(super) fn uplink(&mut self, sensor: u16, data: &[u8]) {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tell(&json!({ "uplink": { "sensor": sensor, "data": hex } }));
    }

    /// One sample of the illuminance.
    pub(super) fn lux(&mut self, value: f32) {
        let data = [&[90, 1, 0, 0, 0x60, 0x6a, 1, 0][..], &value.to_le_bytes()].concat();
        self.uplink(0x0121, &data);
    }

    pub(super) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// Resolves once it was asked so.
    pub(super) async fn wait_asked(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            if let Some(found) = self.asked().into_iter().find(&is_it) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was asked {:?}", self.asked());
    }

    pub(super) fn unplug(&mut self) {
        drop((self.child.kill(), self.child.wait()));
        drop(std::fs::remove_file(self.port()));
    }

    pub(super) fn plug_in_again(&mut self) {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        *self = Self::with(&[], folder);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}
