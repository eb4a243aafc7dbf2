//! Readings/s that a driver takes durably, as a ratio to the same driver with a journal that is nothing: what the
//! disk costs it, and what it costs itself. A driver is one [`Sender`] and one line in [`SUBJECTS`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use sandbar_ingress::contract::StandIn;
use sandbar_ingress::{Intake, Supervised, Supervisor, SupervisorOptions};
use sandbar_pipeline::Pipeline;
use sandbar_reading::SystemClock;
use sandbar_store::{Committer, Disk, Store};
use sandbar_tests::kraken::{self, Collector};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

/// 200 bytes.
const PAYLOAD: &str = concat!(
    r#"{"temperature":71.5,"unit":"F","note":""#,
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    r#""}"#
);

const ROUNDS: usize = 3;
const CONNECTIONS: [usize; 2] = [1, 64];
const RUN: Duration = Duration::from_secs(2);

/// A driver, and how to drive it.
struct Subject {
    driver: &'static str,
    settings: fn() -> Value,
    /// One connection, one reading on its way at a time: the count goes up with every acknowledgement.
    sender: fn(SocketAddr, Arc<Load>) -> BoxFuture<'static, Result<()>>,
}

struct Load {
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    fn count(&self) -> bool {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }
}

const SUBJECTS: &[Subject] = &[
    Subject {
        driver: "webhook",
        settings: || json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/a" }] }),
        sender: |address, load| Box::pin(webhook(address, load)),
    },
    Subject {
        driver: "tcp",
        settings: || json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        sender: |address, load| Box::pin(tcp(address, load)),
    },
    Subject {
        driver: "kraken",
        settings: || json!({ "listen": "127.0.0.1:0" }),
        sender: |address, load| Box::pin(collect(address, load)),
    },
    Subject {
        driver: "udp",
        settings: || json!({ "listen": "127.0.0.1:0", "acknowledge": { "hex": "06" } }),
        sender: |address, load| Box::pin(udp(address, load)),
    },
    Subject {
        driver: "websocket",
        settings: || json!({ "listen": "127.0.0.1:0", "acknowledge": "ok", "paths": [{ "path": "/a" }] }),
        sender: |address, load| Box::pin(websocket(address, load)),
    },
    Subject {
        driver: "email",
        settings: || json!({ "listen": "127.0.0.1:0", "payload": "body" }),
        sender: |address, load| Box::pin(email(address, load)),
    },
];

async fn webhook(address: SocketAddr, load: Arc<Load>) -> Result<()> {
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
        if !load.count() {
            return Ok(());
        }
    }
}

async fn collect(address: SocketAddr, load: Arc<Load>) -> Result<()> {
    let mut collector = Collector::connect(&address.to_string()).await?;
    loop {
        collector.call(kraken::Message::new("serial", "application/json", PAYLOAD.as_bytes())).await?;
        if !load.count() {
            return Ok(());
        }
    }
}

async fn tcp(address: SocketAddr, load: Arc<Load>) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let line = format!("{PAYLOAD}\n");
    loop {
        stream.write_all(line.as_bytes()).await?;
        stream.read_u8().await?;
        if !load.count() {
            return Ok(());
        }
    }
}

async fn udp(address: SocketAddr, load: Arc<Load>) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let mut answer = [0; 16];
    loop {
        socket.send(PAYLOAD.as_bytes()).await?;
        // The loopback loses none but when a buffer is full.
        if tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await.is_ok()
            && !load.count()
        {
            return Ok(());
        }
        if load.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

async fn websocket(address: SocketAddr, load: Arc<Load>) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(format!("ws://{address}/a"), stream).await?;
    loop {
        socket.send(Message::text(PAYLOAD)).await?;
        socket.next().await.context("the connection ended")??;
        if !load.count() {
            return Ok(());
        }
    }
}

async fn email(address: SocketAddr, load: Arc<Load>) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let envelope = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n";
    let message = format!("Subject: a\r\n\r\n{PAYLOAD}\r\n.\r\n");
    says(&mut stream, "HELO a\r\n", "250 localhost").await?;
    loop {
        says(&mut stream, envelope, "354").await?;
        says(&mut stream, &message, "250").await?;
        if !load.count() {
            return Ok(());
        }
    }
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
        for connections in CONNECTIONS {
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
    let driver = sandbar_ingress::build(subject.driver, (subject.settings)())?;
    let ingress: Supervised = Supervisor::start("it".parse()?, driver, intake, SupervisorOptions::default());
    let address = ingress.wait_for(|status| status.address.is_some()).await.address.context("no address")?;
    let load = Arc::new(Load { acknowledged: AtomicU64::new(0), is_over: AtomicBool::new(false) });
    let senders: Vec<_> =
        (0..connections).map(|_| tokio::spawn((subject.sender)(address, Arc::clone(&load)))).collect();
    // Not the time in which they connect.
    tokio::time::sleep(RUN / 10).await;
    let (before, began) = (load.acknowledged.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(RUN).await;
    let per_second =
        (load.acknowledged.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    load.is_over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await??;
    }
    ingress.stop(Duration::from_secs(5)).await;
    Ok(per_second)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
