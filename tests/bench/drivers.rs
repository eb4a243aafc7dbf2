//! Readings/s that a driver takes durably, as a ratio to the same driver with a journal that is nothing: what the
//! disk costs it, and what it costs itself. A driver is one [`Sender`] and one line in [`SUBJECTS`].

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use sandbar_ingress::contract::StandIn;
use sandbar_ingress::{Intake, State, Supervised, Supervisor, SupervisorOptions};
use sandbar_pipeline::Pipeline;
use sandbar_reading::SystemClock;
use sandbar_store::{Committer, Disk, Store};
use sandbar_tests::kraken::{self, Collector};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::line;

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
        |place, load| Box::pin(webhook(place, load)),
    ),
    listening(
        "tcp",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        |place, load| Box::pin(tcp(place, load)),
    ),
    listening("kraken", |_| json!({ "listen": "127.0.0.1:0" }), |place, load| Box::pin(collect(place, load))),
    listening(
        "udp",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        |place, load| Box::pin(udp(place, load)),
    ),
    listening("coap", |_| json!({ "listen": "127.0.0.1:0" }), |place, load| Box::pin(coap(place, load))),
    listening(
        "websocket",
        |_| json!({ "listen": "127.0.0.1:0", "acknowledge": "ok", "paths": [{ "path": "/a" }] }),
        |place, load| Box::pin(websocket(place, load)),
    ),
    listening(
        "email",
        |_| json!({ "listen": "127.0.0.1:0", "payload": "body" }),
        |place, load| Box::pin(email(place, load)),
    ),
    Subject {
        driver: "files",
        connections: &[1, 64],
        far_end: |_| Ok(Box::new(())),
        settings: |folder| json!({ "path": folder, "settle_ms": 1, "remove_all_files": true }),
        sender: |place, load| Box::pin(files(place, load)),
    },
    Subject {
        driver: "bravejig",
        connections: &[1],
        far_end: line::bravejig,
        settings: |folder| json!({ "port": line::port(folder) }),
        sender: |_, load| Box::pin(nothing(load)),
    },
];

async fn webhook(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let head = format!("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", PAYLOAD.len());
    let request = [head.as_bytes(), PAYLOAD.as_bytes()].concat();
    let mut answer = vec![0; 4096];
    loop {
        stream.write_all(&request).await?;
        let mut read = 0;
        // Its body is an id, in an object: it ends with a brace.
        while read == 0 || answer[read - 1] != b'}' {
            let more = stream.read(&mut answer[read..]).await?;
            anyhow::ensure!(more > 0, "the connection ended");
            read += more;
        }
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..read]));
        if !load.goes_on() {
            return Ok(());
        }
    }
}

async fn collect(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut collector = Collector::connect(&address.to_string()).await?;
    loop {
        collector.call(kraken::Message::new("serial", "application/json", PAYLOAD.as_bytes())).await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

async fn tcp(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let line = format!("{PAYLOAD}\n");
    loop {
        stream.write_all(line.as_bytes()).await?;
        stream.read_u8().await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

async fn udp(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let mut answer = [0; 16];
    loop {
        socket.send(PAYLOAD.as_bytes()).await?;
        // The loopback loses none but when a buffer is full.
        if tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await.is_ok()
            && !load.goes_on()
        {
            return Ok(());
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Confirmable POSTs, each with a message id of its own.
async fn coap(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let (mut id, mut answer) = (0u16, [0; 64]);
    loop {
        id = id.wrapping_add(1);
        let [high, low] = id.to_be_bytes();
        let head = [0x42, 0x02, high, low, high, low, 0xB1, b'a', 0xFF];
        socket.send(&[&head, PAYLOAD.as_bytes()].concat()).await?;
        // The loopback loses none but when a buffer is full.
        if tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await.is_ok()
            && answer[1] != 0x44
        {
            anyhow::bail!("answered {:#04x}, not 2.04", answer[1]);
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

async fn websocket(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(format!("ws://{address}/a"), stream).await?;
    loop {
        socket.send(Message::text(PAYLOAD)).await?;
        socket.next().await.context("the connection ended")??;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

async fn email(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let envelope = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n";
    let message = format!("Subject: a\r\n\r\n{PAYLOAD}\r\n.\r\n");
    says(&mut stream, "HELO a\r\n", "250 localhost").await?;
    loop {
        says(&mut stream, envelope, "354").await?;
        says(&mut stream, &message, "250").await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// A file that is gone was taken.
async fn files(place: Place, load: Arc<Load>) -> Result<()> {
    let (part, file) = (format!(".{}", place.number), format!("{}.json", place.number));
    let (part, file) = (place.folder.join(part), place.folder.join(file));
    loop {
        std::fs::write(&part, PAYLOAD)?;
        std::fs::rename(&part, &file)?;
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Where the far end speaks by itself.
async fn nothing(load: Arc<Load>) -> Result<()> {
    while load.goes_on() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Reads replies until one begins so.
async fn says(stream: &mut BufReader<TcpStream>, text: &str, until: &str) -> Result<()> {
    stream.get_mut().write_all(text.as_bytes()).await?;
    let mut line = String::new();
    while !line.starts_with(until) {
        line.clear();
        anyhow::ensure!(stream.read_line(&mut line).await? > 0 && !line.starts_with(['4', '5']), "{line}");
    }
    Ok(())
}

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
