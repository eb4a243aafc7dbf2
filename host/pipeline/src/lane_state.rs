//! The state that a handler sees during a turn: what is committed, under what the turn has written so far.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Scope, StateWrite, Timestamp};
use sandbar_runtime::{StateUnavailable, StateView};
use sandbar_store::Store;

pub(crate) struct LaneState {
    store: Store,
    scope: Scope,
    written: Mutex<BTreeMap<Box<str>, StateWrite>>,
}

impl LaneState {
    pub(crate) fn new(store: Store, scope: Scope) -> Self {
        Self { store, scope, written: Mutex::default() }
    }

    /// Later calls of the turn see what this one wrote.
    pub(crate) fn write(&self, writes: Vec<StateWrite>) {
        self.written.lock().extend(writes.into_iter().map(|write| (write.name.clone(), write)));
    }

    /// Everything that the turn wrote, the last value of each name.
    pub(crate) fn written(&self) -> Vec<StateWrite> {
        self.written.lock().values().cloned().collect()
    }
}

impl StateView for LaneState {
    fn get(&self, name: &str, now: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        if let Some(write) = self.written.lock().get(name) {
            return Ok(live(write, now).cloned());
        }
        Ok(self.store.state(&self.scope, name)?)
    }

    fn names(&self, prefix: &str, now: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        let mut names: BTreeSet<_> = self.store.state_names(&self.scope, prefix)?.into_iter().collect();
        for write in self.written.lock().values().filter(|write| write.name.starts_with(prefix)) {
            match live(write, now) {
                Some(_) => drop(names.insert(write.name.clone())),
                None => drop(names.remove(&write.name)),
            }
        }
        Ok(names.into_iter().collect())
    }

    fn used(&self, now: Timestamp) -> Result<usize, StateUnavailable> {
        let (mut bytes, _) = self.store.state_used(&self.scope)?;
        for write in self.written.lock().values() {
            if let Some(old) = self.store.state(&self.scope, &write.name)? {
                bytes = bytes.saturating_sub(write.name.len() + old.len());
            }
            bytes += live(write, now).map_or(0, |new| write.name.len() + new.len());
        }
        Ok(bytes)
    }
}

fn live(write: &StateWrite, now: Timestamp) -> Option<&Bytes> {
    write.value.as_ref().filter(|_| write.expires.is_none_or(|expires| expires > now))
}
