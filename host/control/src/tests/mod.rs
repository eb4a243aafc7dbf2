//! The whole host, but for its API, on real files and real components.

mod deploy;
mod half_way;
mod reload;
mod restart;
mod trials;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{ContentType, Inbound, Name, SystemClock};
use tempfile::TempDir;

use crate::tables::{RouteTable, SinkTable};
use crate::{Control, Declared, Start};

const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Host {
    pub(crate) control: Control,
    pub(crate) dir: TempDir,
}

impl Host {
    /// A host whose `sandbar.toml` is `text`; `DIR` in it is the host's directory.
    pub(crate) async fn start(text: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), text).await
    }

    pub(crate) async fn start_in(dir: TempDir, text: &str) -> Self {
        let start = start(&dir, text);
        Self { control: Control::start(start).await.unwrap(), dir }
    }

    /// Stops, and starts again on the same data with another file.
    pub(crate) async fn restart(self, text: &str) -> Self {
        Self::start_in(self.stop().await, text).await
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.control.stop(GRACE).await;
        self.dir
    }

    pub(crate) fn declared(&self, text: &str) -> Declared {
        declared(self.dir.path(), text)
    }

    pub(crate) async fn upload(&self, module: &str, wasm: Vec<u8>) -> u32 {
        self.control.upload(name(module), Bytes::from(wasm), true).await.unwrap().version.version
    }

    /// Takes all readings to `module`, and its messages to `sink`.
    pub(crate) async fn put_route(&self, route: &str, module: &str, sink: &str) {
        let table = serde_json::json!({ "ingress": "api", "module": module, "sinks": sink });
        let table: RouteTable = serde_json::from_value(table).unwrap();
        self.control.put_route(name(route), table).await.unwrap();
    }

    /// A sink that writes to `out.jsonl`.
    pub(crate) async fn put_sink(&self, sink: &str) {
        let table = serde_json::json!({ "kind": "file", "path": self.dir.path().join("out.jsonl") });
        let table: SinkTable = serde_json::from_value(table).unwrap();
        self.control.put_sink(name(sink), table).await.unwrap();
    }

    pub(crate) async fn send(&self, device: &str, payload: &str) -> String {
        send(&self.control, device, payload).await
    }

    /// What the file sink has written.
    pub(crate) fn delivered(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("out.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Until nothing waits to be handled or delivered.
    pub(crate) async fn settled(&self) {
        until(|| {
            let store = self.control.status().store;
            store.waiting == 0 && store.outbox == 0
        })
        .await;
    }

    pub(crate) fn handled(&self, route: &str) -> u64 {
        self.control.route(route).unwrap().status.counts.handled
    }
}

pub(crate) fn start(dir: &TempDir, text: &str) -> Start {
    let declared = declared(dir.path(), text);
    Start { data_dir: declared.host().data_dir.clone(), declared, clock: Arc::new(SystemClock) }
}

pub(crate) fn declared(dir: &Path, text: &str) -> Declared {
    let text = text.replace("DIR", dir.to_str().unwrap());
    Declared::parse(&text, &dir.join("sandbar.toml")).unwrap()
}

pub(crate) async fn send(control: &Control, device: &str, payload: &str) -> String {
    let inbound = Inbound {
        device: Some(device.into()),
        ..Inbound::new("t".parse().unwrap(), ContentType::TEXT, Bytes::copy_from_slice(payload.as_bytes()))
    };
    control.accept(inbound).await.unwrap().id().to_string()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Looks again and again until `is_so`; gives up after long.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let looks = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !is_so() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looks).await.expect("it comes to be so within a minute");
}
