//! With real files, against a stand-in for the host; `tests/files` has the tools that write them.

mod event;
mod interval;
mod tail;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::Refused;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Files;
use crate::contract::{Peer, StandIn, Taken, Told, running, supervise};
use crate::{State, Supervised};

/// Who puts files into a folder, and knows that each was taken when it is gone.
struct Dropping {
    folder: TempDir,
}

impl Peer for Dropping {
    type Driver = Files;
    const HOLDS_BACK: bool = true;

    async fn prepare() -> (Self, Value) {
        let folder = tempfile::tempdir().unwrap();
        let settings = json!({ "path": folder.path(), "settle_ms": 20, "remove_all_files": true });
        (Self { folder }, settings)
    }

    async fn reach(&mut self, _address: Option<std::net::SocketAddr>) {}

    async fn send(&self, payload: Bytes) -> Told {
        let name = format!("{:x}.txt", rand::random::<u64>());
        let (part, whole) = (self.folder.path().join(".part"), self.folder.path().join(name));
        std::fs::write(&part, payload).unwrap();
        std::fs::rename(part, &whole).unwrap();
        while whole.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Told::Acknowledged
    }

    fn told_for(&self, _refused: &Refused) -> Told {
        Told::Nothing
    }

    /// What is no file that is to be read.
    async fn send_garbage(&self, bytes: Bytes) {
        let name = |text: &str| self.folder.path().join(format!("{text}{}", bytes.len()));
        std::fs::write(name(".hidden"), &bytes).unwrap();
        std::fs::create_dir(name("folder")).unwrap();
        std::fs::write(name("folder").join("a.txt"), &bytes).unwrap();
        std::os::unix::fs::symlink("/nowhere", name("link")).unwrap();
    }

    async fn send_half(&self) -> Box<dyn Send> {
        // A writer that ends looks as if it were done, unless it renames what is whole.
        let mut file = std::fs::File::create(self.folder.path().join("half.txt.part")).unwrap();
        std::io::Write::write_all(&mut file, b"21").unwrap();
        Box::new(file)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

mod contract {
    crate::driver_contract!(super::Dropping);
}

struct Running {
    folder: TempDir,
    host: Arc<StandIn>,
    settings: Value,
    ingress: Supervised,
}

fn merged(mut settings: Value, more: &Value) -> Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

impl Running {
    async fn start(more: Value) -> Self {
        Self::prepared(more, |_| ()).await
    }

    /// With what `prepare` puts into the folder before.
    async fn prepared(more: Value, prepare: impl FnOnce(&Path)) -> Self {
        let (folder, host) = (tempfile::tempdir().unwrap(), StandIn::with_reading_max(1000));
        prepare(folder.path());
        let settings = merged(json!({ "path": folder.path(), "settle_ms": 30 }), &more);
        let ingress = supervise::<Files>(settings.clone(), &host);
        running(&ingress).await;
        Self { folder, host, settings, ingress }
    }

    async fn stop(&self) {
        self.ingress.stop(Duration::from_secs(10)).await;
        assert_eq!(self.ingress.status().state, State::Stopped);
    }

    async fn restart(&mut self, more: Value) {
        self.stop().await;
        self.settings = merged(self.settings.take(), &more);
        self.ingress = supervise::<Files>(self.settings.clone(), &self.host);
        running(&self.ingress).await;
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = std::fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    async fn taken(&self, count: usize) -> Vec<Taken> {
        crate::contract::in_time(self.host.wait_taken(count)).await
    }

    /// What would be done by then is not.
    async fn nothing_more(&self, count: usize) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(texts(&self.host.taken()).len(), count, "{:?}", texts(&self.host.taken()));
    }
}

/// Event and payload.
fn texts(taken: &[Taken]) -> Vec<(String, String)> {
    let text = |taken: &Taken| {
        let event = taken.inbound.attributes.get("file.event").unwrap().to_owned();
        (event, String::from_utf8_lossy(&taken.inbound.payload).into_owned())
    };
    taken.iter().map(text).collect()
}

fn payloads(taken: &[Taken]) -> Vec<String> {
    texts(taken).into_iter().map(|(_, text)| text).collect()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |more: Value| {
        let settings = merged(json!({ "path": "/in" }), &more);
        crate::build("files", settings).err().unwrap().setting
    };
    assert_eq!(setting(json!({ "patterns": ["*", "[a"] })), "patterns[1]");
    assert_eq!(setting(json!({ "patterns": [] })), "patterns");
    assert_eq!(setting(json!({ "exclude": ["/a"] })), "exclude[0]");
    assert_eq!(setting(json!({ "settle_ms": 0 })), "settle_ms");
    assert_eq!(setting(json!({ "topic": "a/#" })), "topic");
    assert_eq!(setting(json!({ "content_type": "x" })), "content_type");
    assert_eq!(setting(json!({ "path": "" })), "path");
    assert_eq!(setting(json!({ "move_to": "/in" })), "move_to");
    assert_eq!(setting(json!({ "move_to": "/done", "remove_created": true })), "remove_created");
    assert_eq!(setting(json!({ "mode": "interval", "remove_created": true })), "remove_created");
    assert_eq!(setting(json!({ "mode": "tail", "remove_all_files": true })), "remove_all_files");
}
