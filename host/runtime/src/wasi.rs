//! WASI 0.2, there and empty: no files, sockets, arguments or environment, and no HTTP but what the route permits. Clocks show the reading's time and
//! random numbers depend on the reading alone, unless the route permits the real ones
//! (docs/decisions/0005-deterministic-by-default.md).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::Reading;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::handler::Permissions;
use crate::host::Host;
use crate::logs::{LogLevel, Logs};
use crate::outgoing::{Outgoing, TraceHeaders};

/// Handles to streams, pollables and the like that an instance may hold. What is behind them is the host's memory:
/// with the two limits below, 32 MiB at most.
const RESOURCES: usize = 1024;
/// Bytes of the headers that one handle stands for.
const FIELDS_BYTES: usize = 16 << 10;
/// Random bytes a guest may ask for at once.
const RANDOM_BYTES: u64 = 1 << 20;

/// What a call sees of time and chance.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moment {
    /// Nanoseconds since the Unix epoch; 0 during `configure`.
    time: u64,
    seed: u64,
}

impl Moment {
    pub(crate) fn of(reading: &Reading) -> Self {
        let id = reading.id.as_u128();
        Self { time: reading.time.nanos(), seed: (id >> 64) as u64 ^ (id as u64).rotate_left(32) }
    }
}

pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    given: Arc<Given>,
    stdout: Lines,
    stderr: Lines,
    http: WasiHttpCtx,
    outgoing: Outgoing,
}

/// The given time and chance, as clocks and generators share it.
#[derive(Default)]
struct Given {
    time: AtomicU64,
    chance: AtomicU64,
    looks: AtomicU64,
}

impl Wasi {
    pub(crate) fn new(permissions: &Permissions, logs: &Logs, moment: Moment, trace: &TraceHeaders) -> Self {
        let given = Arc::new(Given::default());
        let (stdout, stderr) =
            (Lines::new(logs, LogLevel::Info, "stdout"), Lines::new(logs, LogLevel::Error, "stderr"));
        let mut builder = WasiCtx::builder();
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        builder.stdout(stdout.clone()).stderr(stderr.clone()).max_random_size(RANDOM_BYTES);
        if !permissions.clock {
            builder.wall_clock(ReadingClock(Arc::clone(&given)));
            builder.monotonic_clock(CountingClock(Arc::clone(&given)));
        }
        if !permissions.random {
            builder.secure_random(ReadingRandom(Arc::clone(&given)));
            builder.insecure_random(ReadingRandom(Arc::clone(&given)));
            // Asked for once in an instance's life, so it cannot depend on a reading.
            builder.insecure_random_seed(0x5a4d_bad0_5eed);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let outgoing = Outgoing::new(permissions.http.clone(), logs);
        let ctx = builder.build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES);
        let mut wasi = Self { ctx, table, given, stdout, stderr, http, outgoing };
        wasi.set(moment, trace);
        wasi
    }

    pub(crate) fn set(&mut self, moment: Moment, trace: &TraceHeaders) {
        self.outgoing.follow(trace.clone());
        self.given.time.store(moment.time, Relaxed);
        self.given.chance.store(moment.seed, Relaxed);
    }

    pub(crate) fn way_out(&self) -> &Outgoing {
        &self.outgoing
    }

    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Lines that were begun and not ended become log lines too.
    pub(crate) fn flush(&mut self) {
        self.stdout.end();
        self.stderr.end();
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi();
        WasiHttpCtxView { hooks: &mut wasi.outgoing, table: &mut wasi.table, ctx: &mut wasi.http }
    }
}

/// Stands still at the reading's time.
struct ReadingClock(Arc<Given>);

impl HostWallClock for ReadingClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.time.load(Relaxed))
    }
}

/// A microsecond later at every look: within a call the same differences at every attempt, and never backwards.
struct CountingClock(Arc<Given>);

impl HostMonotonicClock for CountingClock {
    fn resolution(&self) -> u64 {
        1000
    }

    fn now(&self) -> u64 {
        self.0.looks.fetch_add(1, Relaxed) * 1000
    }
}

/// SplitMix64, begun anew with every reading.
struct ReadingRandom(Arc<Given>);

impl rand::TryRng for ReadingRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.chance.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let random = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

/// A standard stream whose lines become log lines.
#[derive(Clone)]
struct Lines {
    logs: Logs,
    level: LogLevel,
    name: &'static str,
    begun: Arc<parking_lot::Mutex<Vec<u8>>>,
}

impl Lines {
    fn new(logs: &Logs, level: LogLevel, name: &'static str) -> Self {
        Self { logs: logs.clone(), level, name, begun: Arc::default() }
    }

    fn push(&self, bytes: &[u8]) {
        let max = self.logs.line_bytes();
        let mut begun = self.begun.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (part, ended) = match part.strip_suffix(b"\n") {
                Some(part) => (part, true),
                None => (part, false),
            };
            // One byte too many, so that it shows as cut.
            let room = (max + 1).saturating_sub(begun.len());
            begun.extend_from_slice(&part[..part.len().min(room)]);
            if ended {
                self.write(&std::mem::take(&mut *begun));
            }
        }
    }

    fn end(&self) {
        let begun = std::mem::take(&mut *self.begun.lock());
        if !begun.is_empty() {
            self.write(&begun);
        }
    }

    fn write(&self, line: &[u8]) {
        self.logs.add(self.level, self.name, &String::from_utf8_lossy(line));
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Only asked for by WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}
