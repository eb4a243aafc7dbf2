//! What a call costs: prints a table of times, of ratios, and of memory. Run it in release mode.
//!
//! Paths of components and of scripts (.js) may be given: each is called with a JSON reading, on warm instances and on
//! fresh ones.
//!
//! Rounds of all measurements take turns, so that a busy machine hits them alike; each figure is the median round.

#![allow(clippy::print_stdout, reason = "that is what it is for")]
#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType, Lineage, Reading, ReadingId, Timestamp};
use sandbar_runtime::{
    Handler, Instance, Limits, Options, Permissions, Runtime, Settings, StateUnavailable, StateView, script,
    test_components,
};

/// Many and short, so that on a busy machine most of them are not interrupted.
const ROUNDS: usize = 301;
const CALLS: u32 = 200;
const INSTANCES: usize = 100;
/// Those of a reading, and of the message that comes of it.
const ATTRIBUTES: [usize; 4] = [0, 1, 4, 16];

struct Nothing;

impl StateView for Nothing {
    fn get(&self, _: &str, _: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
        Ok(None)
    }

    fn names(&self, _: &str, _: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
        Ok(Vec::new())
    }

    fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
        Ok(0)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let started = resident();
    let runtime = Runtime::new(Options::new(dir.path())).unwrap();
    let engine = resident();
    println!("instances: {:?}", runtime.instance_memory());

    let nothing = handler(&runtime, &test_components::nothing(), Limits::default()).await;
    let echo = handler(&runtime, &test_components::echo(), Limits::default()).await;
    // Never kept: every checkout makes an instance, as after a trap.
    let fresh = Limits { recycle_percent: 0, ..Limits::default() };
    let fresh = handler(&runtime, &test_components::echo(), fresh).await;
    let (empty, reading) = (reading_of(0, 0), reading_of(200, 4));
    let mut warm_nothing = nothing.checkout().await.unwrap();
    let mut warm_echo = echo.checkout().await.unwrap();

    let with_attributes = ATTRIBUTES.map(|count| reading_of(200, count));
    let mut times = [const { Vec::new() }; 4];
    let mut by_attributes = [const { Vec::new() }; ATTRIBUTES.len()];
    for _ in 0..ROUNDS {
        times[0].push(calls(&mut warm_nothing, &empty, CALLS).await);
        times[1].push(calls(&mut warm_echo, &reading, CALLS).await);
        times[2].push(checkouts(&echo, &reading, CALLS).await);
        times[3].push(checkouts(&fresh, &reading, CALLS / 10).await);
        for (times, reading) in by_attributes.iter_mut().zip(&with_attributes) {
            times.push(calls(&mut warm_echo, reading, CALLS).await);
        }
    }
    let [no_op, warm, pooled, fresh] = times.map(median);
    println!("no-op call                          {no_op:8.0} ns");
    println!("warm handle, 200 B, 4 attributes    {warm:8.0} ns   {:5.2} x no-op", warm / no_op);
    println!("the same with checkout, warm        {pooled:8.0} ns   {:5.2} x warm", pooled / warm);
    println!("the same with checkout, fresh       {fresh:8.0} ns   {:5.2} x warm", fresh / warm);

    for (count, times) in ATTRIBUTES.iter().zip(by_attributes) {
        println!("warm handle, 200 B, {count:2} attributes   {:8.0} ns", median(times));
    }
    println!(
        "\n| module | size | cold compile | fresh instance and call | warm call | memory, first → later |"
    );
    println!("|---|---|---|---|---|---|");
    for path in std::env::args().skip(1) {
        given(&runtime, &path).await;
    }

    let before = resident();
    let many = Limits { instances: INSTANCES, ..Limits::default() };
    let many = handler(&runtime, &test_components::echo(), many).await;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let mut instance = many.checkout().await.unwrap();
        instance.handle(&reading, Arc::new(Nothing), Timestamp::default(), None).await.result.unwrap();
        instances.push(instance);
    }
    let each = (resident().saturating_sub(before)) / INSTANCES as u64;
    println!("memory: engine {} KiB, a warm instance {} KiB", (engine - started) >> 10, each >> 10);
}

/// A component from outside, as a row of a table: it may want a configuration that it does not get here, or reject
/// the reading.
async fn given(runtime: &Runtime, path: &str) {
    let reading =
        Reading { payload: Bytes::from_static(br#"{"temperature":70.5,"unit":"F"}"#), ..reading_of(0, 4) };
    let mut wasm = Bytes::from(std::fs::read(path).unwrap());
    if path.ends_with(".js") {
        wasm = script::javascript(std::str::from_utf8(&wasm).unwrap());
    }
    let started = Instant::now();
    let component = runtime.load(&wasm).unwrap();
    let compiled = started.elapsed();
    let limits = Limits { memory: 128 << 20, ..Limits::default() };
    // Never kept: every checkout makes an instance.
    let fresh = Limits { recycle_percent: 0, ..limits.clone() };
    let (handler, fresh) = match (
        runtime.handler(&component, settings(limits)).await,
        runtime.handler(&component, settings(fresh)).await,
    ) {
        (Ok(handler), Ok(fresh)) => (handler, fresh),
        (Err(error), _) | (_, Err(error)) => return println!("{path}: {error}"),
    };
    let mut instance = handler.checkout().await.unwrap();
    let state: Arc<dyn StateView> = Arc::new(Nothing);
    let first = instance.handle(&reading, Arc::clone(&state), Timestamp::default(), None).await;
    if let Err(fault) = first.result {
        return println!("{path}: {fault}");
    }
    let early = handler.stats().memory_peak >> 10;
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        warm.push(calls(&mut instance, &reading, CALLS / 10).await);
        cold.push(checkouts(&fresh, &reading, 3).await);
    }
    let late = handler.stats().memory_peak >> 10;
    let name = std::path::Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    println!(
        "| {name} | {} KB | {:.0} ms | {:.1} µs | {:.1} µs | {early} → {late} KiB |",
        wasm.len() / 1000,
        compiled.as_secs_f64() * 1e3,
        median(cold) / 1e3,
        median(warm) / 1e3,
    );
}

async fn handler(runtime: &Runtime, wasm: &[u8], limits: Limits) -> Handler {
    runtime.handler(&runtime.load(wasm).unwrap(), settings(limits)).await.unwrap()
}

fn settings(limits: Limits) -> Settings {
    Settings {
        route: "cost".parse().unwrap(),
        config: Default::default(),
        limits,
        permissions: Permissions::default(),
    }
}

fn reading_of(payload: usize, attributes: usize) -> Reading {
    Reading {
        id: ReadingId::from_u128(1 << 100),
        ingress: "webhook".parse().unwrap(),
        topic: "sensors/kitchen/temperature".parse().unwrap(),
        device: Some("kitchen".into()),
        time: Timestamp::from_millis(1_700_000_000_000),
        content_type: ContentType::JSON,
        attributes: (0..attributes)
            .map(|n| (format!("http.header.{n}"), "a short value"))
            .collect::<Attributes>(),
        payload: vec![b'x'; payload].into(),
        lineage: Lineage::default(),
    }
}

/// Nanoseconds of one call.
async fn calls(instance: &mut Instance, reading: &Reading, count: u32) -> f64 {
    let state: Arc<dyn StateView> = Arc::new(Nothing);
    let started = Instant::now();
    for _ in 0..count {
        instance.handle(reading, Arc::clone(&state), Timestamp::default(), None).await.result.unwrap();
    }
    started.elapsed().as_nanos() as f64 / f64::from(count)
}

async fn checkouts(handler: &Handler, reading: &Reading, count: u32) -> f64 {
    let state: Arc<dyn StateView> = Arc::new(Nothing);
    let started = Instant::now();
    for _ in 0..count {
        let mut instance = handler.checkout().await.unwrap();
        instance.handle(reading, Arc::clone(&state), Timestamp::default(), None).await.result.unwrap();
    }
    started.elapsed().as_nanos() as f64 / f64::from(count)
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
