//! A disk in memory that fails on command, for tests and simulations. Everything follows from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::folder::Folder;
use crate::medium::{Medium, Storage};

/// The smallest part of a write that a power loss keeps or loses whole.
const SECTOR: usize = 512;

/// Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Simulated(Arc<Mutex<State>>);

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// ENOSPC
    Full,
    /// EIO
    Broken,
}

#[derive(Debug)]
struct State {
    /// What a power loss leaves.
    durable: Vec<u8>,
    /// What is read: `durable` and the unsynced writes.
    cached: Vec<u8>,
    unsynced: Vec<Write>,
    random: StdRng,
    fail_writes: Option<Failure>,
    fail_syncs: Option<Failure>,
    fail_reads: bool,
    /// Bytes of the storage that cannot be read.
    bad: BTreeSet<usize>,
    /// How many more writes and syncs there is power for.
    power: Option<u64>,
    /// Which opening the disk belongs to; older ones can do nothing.
    opening: u64,
    /// How often the power came back; what was opened before can do nothing.
    life: u64,
    in_use: bool,
    syncs: u64,
    /// The storage has its name.
    made: bool,
    /// It is not found for now.
    away: bool,
    /// Files of payloads that a power loss leaves.
    durable_files: BTreeMap<Digest, Vec<u8>>,
    /// What is seen of them: `durable_files` and the unsynced changes of names.
    files: BTreeMap<Digest, Vec<u8>>,
    renamed: Vec<(Digest, Option<Vec<u8>>)>,
    fail_payloads: Option<Failure>,
    /// Files of payloads that lie on a bad part of the disk.
    unreadable: BTreeSet<Digest>,
    payload_time: Duration,
}

#[derive(Debug)]
enum Write {
    Bytes { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Simulated {
    /// A disk without a store.
    pub fn new(seed: u64) -> Self {
        Self::with(Vec::new(), false, seed)
    }

    /// A disk that holds a file of these bytes.
    pub fn holding(bytes: Vec<u8>, seed: u64) -> Self {
        Self::with(bytes, true, seed)
    }

    fn with(bytes: Vec<u8>, made: bool, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: bytes.clone(),
            cached: bytes,
            unsynced: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            fail_writes: None,
            fail_syncs: None,
            fail_reads: false,
            bad: BTreeSet::new(),
            power: None,
            opening: 0,
            life: 0,
            in_use: false,
            syncs: 0,
            made,
            away: false,
            durable_files: BTreeMap::new(),
            files: BTreeMap::new(),
            renamed: Vec::new(),
            fail_payloads: None,
            unreadable: BTreeSet::new(),
            payload_time: Duration::ZERO,
        })))
    }

    /// What is on the disk.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().durable.clone()
    }

    /// From now on writes fail, or no longer.
    pub fn fail_writes(&self, failure: Option<Failure>) {
        self.0.lock().fail_writes = failure;
    }

    /// From now on syncs fail, or no longer. What such a sync was to write is written in part.
    pub fn fail_syncs(&self, failure: Option<Failure>) {
        self.0.lock().fail_syncs = failure;
    }

    /// From now on reads fail with EIO, or no longer.
    pub fn fail_reads(&self, fail: bool) {
        self.0.lock().fail_reads = fail;
    }

    /// From now on reads fail with EIO of wherever the storage holds these bytes now; with none, of nowhere.
    pub fn fail_reads_of(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        let held = state.cached.windows(bytes.len().max(1)).enumerate();
        let bad = held.filter(|(_, held)| *held == bytes).map(|(at, _)| at).collect();
        state.bad = bad;
    }

    /// From now on files of payloads cannot be written, or again can.
    pub fn fail_payloads(&self, failure: Option<Failure>) {
        self.0.lock().fail_payloads = failure;
    }

    /// From now on the file of a payload cannot be read, or again can.
    pub fn fail_payload(&self, digest: &Digest, fail: bool) {
        let unreadable = &mut self.0.lock().unreadable;
        if fail {
            unreadable.insert(*digest)
        } else {
            unreadable.remove(digest)
        };
    }

    /// From now on the store's file is not there, or is again. Who has it open keeps it.
    pub fn take_away(&self, away: bool) {
        self.0.lock().away = away;
    }

    /// How long the file of a payload takes.
    pub fn set_payload_time(&self, time: Duration) {
        self.0.lock().payload_time = time;
    }

    /// The files of payloads that there are.
    pub fn payloads(&self) -> Vec<Digest> {
        self.0.lock().files.keys().copied().collect()
    }

    /// Changes or, with `None`, removes the file of a payload.
    pub fn damage_payload(&self, digest: &Digest, bytes: Option<Vec<u8>>) {
        let mut state = self.0.lock();
        state.rename(*digest, bytes);
        state.sync_names();
    }

    /// The power goes at the `operations`-th write or sync from now: it and all later ones fail.
    pub fn lose_power_after(&self, operations: u64) {
        self.0.lock().power = Some(operations);
    }

    /// The power comes back. Of what was written and not synced, any part is there. What is open stays dead.
    pub fn restore_power(&self) {
        let mut state = self.0.lock();
        state.power = None;
        state.opening += 1;
        state.life += 1;
        state.in_use = false;
        state.keep_some();
        state.keep_some_names();
    }

    /// How often the disk was flushed.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }
}

impl State {
    /// Of the unsynced writes, any part reaches the disk; often all or nothing, which chance would not bring.
    fn keep_some(&mut self) {
        let chances: &[f64] = match self.random.random_range(0..4) {
            0 => &[0.0],
            1 => &[1.0],
            _ => &[0.0, 0.5, 1.0],
        };
        for write in std::mem::take(&mut self.unsynced) {
            match write {
                Write::SetLen(len) => {
                    let chance = chances.iter().sum::<f64>() / chances.len() as f64;
                    if self.random.random_bool(chance) {
                        self.durable.resize(len, 0);
                    }
                }
                Write::Bytes { offset, data } => {
                    // Whole, not at all, or torn.
                    let chance = chances[self.random.random_range(0..chances.len())];
                    for (index, sector) in data.chunks(SECTOR).enumerate() {
                        if self.random.random_bool(chance) {
                            put(&mut self.durable, offset + index * SECTOR, sector);
                        }
                    }
                }
            }
        }
        self.cached = self.durable.clone();
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(failure) = self.fail_syncs {
            // As Linux does: what is cached now counts as written, and is not.
            let cached = self.cached.clone();
            self.keep_some();
            self.cached = cached;
            return Err(failure.error());
        }
        for write in self.unsynced.drain(..) {
            match write {
                Write::Bytes { offset, data } => put(&mut self.durable, offset, &data),
                Write::SetLen(len) => self.durable.resize(len, 0),
            }
        }
        Ok(())
    }

    /// Each change of a name is on the disk, or not.
    fn keep_some_names(&mut self) {
        for (digest, bytes) in std::mem::take(&mut self.renamed) {
            if self.random.random_bool(0.5) {
                set(&mut self.durable_files, digest, bytes);
            }
        }
        self.files = self.durable_files.clone();
    }

    fn rename(&mut self, digest: Digest, bytes: Option<Vec<u8>>) {
        set(&mut self.files, digest, bytes.clone());
        self.renamed.push((digest, bytes));
    }

    fn sync_names(&mut self) {
        for (digest, bytes) in std::mem::take(&mut self.renamed) {
            set(&mut self.durable_files, digest, bytes);
        }
    }

    /// What a folder does takes power, too.
    fn use_power_of_life(&mut self, life: u64) -> io::Result<()> {
        match life == self.life {
            true => self.use_power(self.opening),
            false => Err(lost()),
        }
    }

    fn use_power(&mut self, opening: u64) -> io::Result<()> {
        self.alive(opening)?;
        if let Some(left) = &mut self.power {
            *left = left.saturating_sub(1);
        }
        self.alive(opening)
    }

    fn alive(&self, opening: u64) -> io::Result<()> {
        if self.opening != opening || self.power == Some(0) {
            return Err(lost());
        }
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("the simulated power is lost")
}

fn set(files: &mut BTreeMap<Digest, Vec<u8>>, digest: Digest, bytes: Option<Vec<u8>>) {
    match bytes {
        Some(bytes) => drop(files.insert(digest, bytes)),
        None => drop(files.remove(&digest)),
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Broken => io::Error::other("simulated input/output error"),
        }
    }
}

impl Medium for Simulated {
    fn path(&self) -> &Path {
        Path::new("simulated")
    }

    fn open(&self, may_make: bool) -> io::Result<Storage> {
        let mut state = self.0.lock();
        if state.in_use {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is open already"));
        }
        let opening = state.opening + 1;
        state.alive(state.opening)?;
        let is_new = !state.made || state.away;
        if is_new && !may_make {
            return Err(io::ErrorKind::NotFound.into());
        }
        if is_new {
            // Whatever is left of a new one is of no use.
            (state.durable, state.cached) = (Vec::new(), Vec::new());
            state.unsynced.clear();
        }
        state.sync()?;
        // What the device has, not what is cached.
        state.cached = state.durable.clone();
        (state.opening, state.in_use) = (opening, true);
        let backend = Box::new(Opening { disk: self.clone(), opening });
        Ok(Storage { backend, is_new })
    }

    fn made(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let opening = state.opening;
        state.use_power(opening)?;
        state.made = true;
        Ok(())
    }

    fn payloads(&self) -> io::Result<Box<dyn Folder>> {
        let state = self.0.lock();
        state.alive(state.opening)?;
        Ok(Box::new(Files { disk: self.clone(), life: state.life }))
    }

    fn takes(&self, bytes: usize) -> Duration {
        if bytes == 0 { Duration::ZERO } else { self.0.lock().payload_time }
    }

    fn recover(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive(state.opening)?;
        if let Some(failure) = state.fail_writes.or(state.fail_syncs) {
            return Err(failure.error());
        }
        state.keep_some();
        Ok(())
    }
}

#[derive(Debug)]
struct Opening {
    disk: Simulated,
    opening: u64,
}

impl StorageBackend for Opening {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        state.alive(self.opening)?;
        Ok(state.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock();
        state.alive(self.opening)?;
        let from = offset as usize;
        if state.fail_reads || state.bad.range(from..from + out.len()).next().is_some() {
            return Err(Failure::Broken.error());
        }
        let there = state.cached.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.use_power(self.opening)?;
        if let Some(failure) = state.fail_writes {
            return Err(failure.error());
        }
        state.cached.resize(len as usize, 0);
        state.unsynced.push(Write::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.use_power(self.opening)?;
        state.sync()?;
        state.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if let Err(lost) = state.use_power(self.opening) {
            if state.opening == self.opening {
                // The power went in the middle of it.
                state.unsynced.push(Write::Bytes { offset: offset as usize, data: data.to_vec() });
            }
            return Err(lost);
        }
        if let Some(failure) = state.fail_writes {
            return Err(failure.error());
        }
        put(&mut state.cached, offset as usize, data);
        state.unsynced.push(Write::Bytes { offset: offset as usize, data: data.to_vec() });
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.opening == self.opening {
            state.in_use = false;
        }
        Ok(())
    }
}

/// The folder of payloads.
struct Files {
    disk: Simulated,
    life: u64,
}

impl Folder for Files {
    fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if !state.files.contains_key(digest) {
            // To write it, to flush it, and to give it its name: before that it is as good as not there.
            for _ in 0..3 {
                state.use_power_of_life(self.life)?;
            }
            if let Some(failure) = state.fail_payloads.or(state.fail_writes).or(state.fail_syncs) {
                return Err(failure.error());
            }
            state.rename(*digest, Some(bytes.to_vec()));
        }
        state.use_power_of_life(self.life)?;
        if let Some(failure) = state.fail_syncs {
            return Err(failure.error());
        }
        state.sync_names();
        Ok(())
    }

    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let state = self.disk.0.lock();
        if state.life != self.life {
            return Err(lost());
        }
        if state.fail_reads {
            return Err(Failure::Broken.error());
        }
        if state.unreadable.contains(digest) {
            return Err(Errno::IO.into());
        }
        Ok(state.files.get(digest).cloned())
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.use_power_of_life(self.life)?;
        if let Some(failure) = state.fail_payloads {
            return Err(failure.error());
        }
        state.rename(*digest, None);
        Ok(())
    }

    fn digests(&self) -> io::Result<Vec<Digest>> {
        let state = self.disk.0.lock();
        if state.life != self.life {
            return Err(lost());
        }
        Ok(state.files.keys().copied().collect())
    }
}
