//! What the tests beside it stand on: a pipeline, and its store on a simulated disk.

#![allow(dead_code, reason = "each of them needs a part of it")]

use std::sync::Arc;

use sandbar_pipeline::{Attempts, Filter, Key, Options, Pipeline, Replying, Route};
use sandbar_reading::Clock;
use sandbar_store::simulated::Simulated;
use sandbar_store::{Committer, Store};

pub(crate) struct Rig {
    pub(crate) disk: Simulated,
    pub(crate) store: Store,
    pub(crate) pipeline: Pipeline,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn on(disk: Simulated, clock: Arc<dyn Clock>, options: Options) -> Self {
        let (folder, medium) = (tempfile::tempdir().unwrap(), Arc::new(disk.clone()));
        let of_store = sandbar_store::Options::default();
        let store =
            Store::open(medium, folder.path().into(), of_store, clock.clone(), Committer::Task).unwrap();
        let pipeline = Pipeline::start(store.clone(), clock, options).unwrap();
        Self { disk, store, pipeline, _folder: folder }
    }
}

/// The route `r`, which takes what comes as `in`, one at a time, and does nothing with it.
pub(crate) fn route() -> Route {
    Route {
        name: "r".parse().unwrap(),
        filter: Filter { topics: vec!["in".parse().unwrap()], ..Filter::default() },
        key: Key::Device,
        handler: None,
        sinks: Vec::new(),
        reply: Replying::Nobody,
        attempts: Attempts::default(),
        concurrency: 1,
        batch: 64,
        version: 1,
        candidate: None,
    }
}
