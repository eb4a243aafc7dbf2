//! Readings/s that a driver takes durably, as a ratio to the same driver with a journal that is nothing: what the
//! disk costs it, and what it costs itself. A driver is one [`Subject`], with who sends to it or its far end.
//!
//! `schedule` and `simulator` make readings at the pace that they are told: they are under no load.

mod bluez;
mod line;
mod senders;
mod served;

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use sandbar_ingress::contract::StandIn;
use sandbar_ingress::{Intake, State, Supervised, Supervisor, SupervisorOptions};
use sandbar_pipeline::Pipeline;
use sandbar_reading::SystemClock;
use sandbar_store::{Committer, Disk, Store};
use serde_json::{Map, Value, json};

pub(crate) use self::bluez::address as bus_address;

/// 200 bytes.
const PAYLOAD: &str = concat!(
    r#"{"temperature":71.5,"unit":"F","note":""#,
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    r#""}"#
);

const ROUNDS: usize = 3;
const RUN: Duration = Duration::from_secs(2);

/// A driver, and how to drive it.
struct Subject {
    driver: &'static str,
    /// How many connections it is measured with.
    connections: &'static [usize],
    /// Starts what the driver connects to, if it does, in a folder of its own; it lives as long as the value.
    far_end: fn(&Path) -> Result<Box<dyn Any + Send>>,
    /// Settings, with that folder.
    settings: fn(&Path) -> Value,
    /// One connection, one reading on its way at a time, while the load goes on.
    sender: fn(Place, Arc<Load>) -> BoxFuture<'static, Result<()>>,
}

/// Where a sender reaches the driver.
struct Place {
    /// Nothing where the driver does not listen.
    address: Option<SocketAddr>,
    /// What was given to `far_end` and `settings`.
    folder: PathBuf,
    /// Of the senders, from 0.
    number: usize,
}

impl Place {
    fn address(&self) -> Result<SocketAddr> {
        self.address.context("the driver does not listen")
    }
}

/// Of a driver that listens.
const fn listening(
    driver: &'static str,
    settings: fn(&Path) -> Value,
    sender: fn(Place, Arc<Load>) -> BoxFuture<'static, Result<()>>,
) -> Subject {
    Subject { driver, connections: &[1, 64], far_end: |_| Ok(Box::new(())), settings, sender }
}

/// Of a driver that connects to what speaks by itself, or once it is asked.
const fn connecting(
    driver: &'static str,
    far_end: fn(&Path) -> Result<Box<dyn Any + Send>>,
    settings: fn(&Path) -> Value,
) -> Subject {
    Subject {
        driver,
        connections: &[1],
        far_end,
        settings,
        sender: |_, load| Box::pin(senders::nothing(load)),
    }
}

struct Load {
    is_over: AtomicBool,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

const SUBJECTS: &[Subject] = &[
    listening(
        "webhook",
        |_| json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/a" }] }),
        |place, load| Box::pin(senders::webhook(place, load)),
    ),
    listening(
        "tcp",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        |place, load| Box::pin(senders::tcp(place, load)),
    ),
    listening(
        "kraken",
        |_| json!({ "listen": "127.0.0.1:0" }),
        |place, load| Box::pin(senders::collect(place, load)),
    ),
    listening(
        "udp",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        |place, load| Box::pin(senders::udp(place, load)),
    ),
    listening(
        "coap",
        |_| json!({ "listen": "127.0.0.1:0" }),
        |place, load| Box::pin(senders::coap(place, load)),
    ),
    listening(
        "websocket",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": "ok", "paths": [{ "path": "/a" }] }),
        |place, load| Box::pin(senders::websocket(place, load)),
    ),
    listening(
        "email",
        |_| json!({ "listen": "127.0.0.1:0", "payload": "body" }),
        |place, load| Box::pin(senders::email(place, load)),
    ),
    listening(
        "mqtt",
        |_| json!({ "listen": "127.0.0.1:0" }),
        |place, load| Box::pin(senders::mqtt(place, load)),
    ),
    listening(
        "pyaiot",
        |_| json!({ "listen": "127.0.0.1:0" }),
        |place, load| Box::pin(senders::pyaiot(place, load)),
    ),
    listening(
        "sandbar",
        |_| {
            let host = |number| (format!("host-{number}"), json!({ "token": format!("token-{number}") }));
            json!({ "listen": "127.0.0.1:0", "hosts": (0..64).map(host).collect::<Map<_, _>>() })
        },
        |place, load| Box::pin(senders::sandbar(place, load)),
    ),
    Subject {
        driver: "files",
        connections: &[1, 64],
        far_end: |_| Ok(Box::new(())),
        settings: |folder| json!({ "path": folder, "settle_ms": 1, "remove_all_files": true }),
        sender: |place, load| Box::pin(senders::files(place, load)),
    },
    connecting(
        "serial",
        line::serial,
        |folder| json!({ "port": line::port(folder), "acknowledge": { "hex": "06" } }),
    ),
    connecting("ble", bluez::bluez, |_| json!({ "duplicate_window_ms": 0 })),
    connecting("gps", line::gps, |folder| json!({ "port": line::port(folder), "interval_ms": 0 })),
    connecting("bravejig", line::bravejig, |folder| json!({ "port": line::port(folder) })),
    connecting("modbus", served::modbus, |folder| {
        let values = json!([{ "name": "a", "function": "holding", "address": 0, "type": "string", "registers": PAYLOAD.len() / 2 }]);
        let unit = |number| json!({ "unit": number, "values": values });
        // Polls are a millisecond apart, at least; within one, unit after unit is read.
        json!({
            "connect": served::address(folder), "interval_ms": 1, "units": (1..=200).map(unit).collect::<Vec<_>>(),
        })
    }),
    // Pictures are a millisecond apart, at least.
    connecting(
        "camera",
        served::camera,
        |folder| json!({ "url": format!("http://{}/", served::address(folder)), "interval_ms": 1 }),
    ),
    connecting("mqtt-client", served::mqtt, |folder| {
        let url = format!("mqtt://{}", served::address(folder));
        json!({ "broker": { "url": url, "version": "3.1.1", "client_id": "b" }, "filters": ["#"] })
    }),
];

/// As a host has it, on a disk.
fn pipeline(folder: &Path) -> Result<Pipeline> {
    let clock = Arc::new(SystemClock);
    let medium = Arc::new(Disk::new(folder.join("store")));
    let modules = folder.join("modules");
    let store =
        Store::open(medium, modules, sandbar_store::Options::default(), clock.clone(), Committer::Thread)?;
    Ok(Pipeline::start(store, clock, sandbar_pipeline::Options::default())?)
}

/// All of them, or the one that is named.
pub(crate) async fn drivers(only: Option<&str>) -> Result<()> {
    println!("## Drivers, 200-byte readings/s, one on its way per connection (median of {ROUNDS})\n");
    println!("| driver | connections | durably | journal is nothing | ratio |\n|---|---|---|---|---|");
    for subject in SUBJECTS.iter().filter(|subject| only.is_none_or(|only| only == subject.driver)) {
        for &connections in subject.connections {
            let (mut durable, mut nothing) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let folder = tempfile::tempdir()?;
                let pipeline = pipeline(folder.path())?;
                durable.push(measure(subject, pipeline.intake(), connections).await?);
                pipeline.stop().await;
                let stand_in = StandIn::new();
                stand_in.forget();
                nothing.push(measure(subject, stand_in, connections).await?);
            }
            let (durable, nothing) = (median(durable), median(nothing));
            println!(
                "| {} | {connections} | {durable:.0} | {nothing:.0} | {:.2} |",
                subject.driver,
                durable / nothing
            );
        }
    }
    println!();
    Ok(())
}

async fn measure(subject: &Subject, intake: Arc<dyn Intake>, connections: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let far_end = (subject.far_end)(folder.path())?;
    let driver = sandbar_ingress::build(subject.driver, (subject.settings)(folder.path()))?;
    let ingress: Supervised = Supervisor::start("it".parse()?, driver, intake, SupervisorOptions::default());
    let address = ingress.wait_for(|status| status.state == State::Running).await.address;
    let load = Arc::new(Load { is_over: AtomicBool::new(false) });
    let place = |number| Place { address, folder: folder.path().to_owned(), number };
    let senders: Vec<_> = (0..connections)
        .map(|number| tokio::spawn((subject.sender)(place(number), Arc::clone(&load))))
        .collect();
    // Not the time in which they connect.
    tokio::time::sleep(RUN / 10).await;
    let (before, began) = (ingress.status().accepted, Instant::now());
    tokio::time::sleep(RUN).await;
    let per_second = (ingress.status().accepted - before) as f64 / began.elapsed().as_secs_f64();
    load.is_over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await??;
    }
    ingress.stop(Duration::from_secs(5)).await;
    drop(far_end);
    Ok(per_second)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
