//! A cable for tests: two pseudo terminals that socat joins.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{FlowControl, PortStream, SerialPort};

/// Plugged in until it is dropped.
pub(crate) struct Cable {
    socat: Child,
    folder: tempfile::TempDir,
}

impl Cable {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { socat: plug(folder.path()).await, folder }
    }

    /// The host's end.
    pub(crate) fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    /// The device's end, opened.
    pub(crate) fn device(&self) -> PortStream {
        let path = self.folder.path().join("device");
        SerialPort::new(path.to_str().unwrap(), 9600, "8N1", FlowControl::None).unwrap().open().unwrap()
    }

    /// Both ends are gone, until it is plugged in again.
    pub(crate) fn unplug(&mut self) {
        self.socat.kill().unwrap();
        self.socat.wait().unwrap();
        for end in ["host", "device"] {
            let _ = std::fs::remove_file(self.folder.path().join(end));
        }
    }

    pub(crate) async fn plug_in(&mut self) {
        self.socat = plug(self.folder.path()).await;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

async fn plug(folder: &Path) -> Child {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", folder.join(name).display());
    let socat = Command::new("socat").args([end("host"), end("device")]).stderr(Stdio::null()).spawn();
    let mut socat = socat.expect("socat is installed: tests/setup.sh does it");
    for _ in 0..500 {
        if folder.join("host").exists() && folder.join("device").exists() {
            return socat;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = socat.kill();
    let _ = socat.wait();
    panic!("socat makes no terminals");
}
