//! What every test here needs: a runtime in a directory of its own, a reading, a state in memory.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Attributes, ContentType, Lineage, Reading, ReadingId, StateWrite, Timestamp};
use sandbar_runtime::{
    Call, Handler, InitError, Instance, Limits, Options, Permissions, Runtime, Settings, StateUnavailable,
    StateView,
};

pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    Host { runtime: Runtime::new(Options::new(dir.path().join("code"))).unwrap(), dir }
}

impl Host {
    pub(crate) async fn try_handler(&self, wasm: &[u8], settings: Settings) -> Result<Handler, InitError> {
        self.runtime.handler(&self.runtime.load(wasm).unwrap(), settings).await
    }

    pub(crate) async fn handler(&self, wasm: &[u8]) -> Handler {
        self.try_handler(wasm, settings()).await.unwrap()
    }

    pub(crate) async fn limited(&self, wasm: &[u8], limits: Limits) -> Handler {
        self.try_handler(wasm, Settings { limits, ..settings() }).await.unwrap()
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        route: "test".parse().unwrap(),
        config: BTreeMap::new(),
        limits: limits(),
        permissions: Permissions::default(),
    }
}

/// Wide enough for a slow machine; tests of time set their own.
pub(crate) fn limits() -> Limits {
    Limits { time: Duration::from_secs(20), ..Limits::default() }
}

pub(crate) fn reading() -> Reading {
    Reading {
        id: ReadingId::from_u128(0x0192_f0c1_a2b3_0000_0000_0000_0000_002a),
        ingress: "webhook".parse().unwrap(),
        topic: "sensors/kitchen".parse().unwrap(),
        device: Some("kitchen".into()),
        time: Timestamp::from_nanos(1_700_000_000_000_000_001),
        content_type: ContentType::JSON,
        attributes: Attributes::new().with("http.method", "POST").with("ä", "ö").with("ä", ""),
        payload: Bytes::from_static(b"{\"celsius\":21.5}"),
        lineage: Lineage::default(),
    }
}

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_001_000);

#[derive(Default)]
pub(crate) struct State(Mutex<BTreeMap<Box<str>, Bytes>>);

impl State {
    pub(crate) fn commit(&self, writes: Vec<StateWrite>) {
        let mut values = self.0.lock();
        for write in writes {
            match write.value {
                Some(value) => values.insert(write.name, value),
                None => values.remove(&write.name),
            };
        }
    }
}

impl StateView for State {
    fn get(&self, name: &str, _: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        Ok(self.0.lock().get(name).cloned())
    }

    fn names(&self, prefix: &str, _: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        Ok(self.0.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
        Ok(self.0.lock().iter().map(|(name, value)| name.len() + value.len()).sum())
    }
}

/// One call with nothing in the state, on an instance of its own.
pub(crate) async fn call(handler: &Handler) -> Call {
    call_on(&mut handler.checkout().await.unwrap()).await
}

pub(crate) async fn call_on(instance: &mut Instance) -> Call {
    instance.handle(&reading(), Arc::new(State::default()), NOW, None).await
}
