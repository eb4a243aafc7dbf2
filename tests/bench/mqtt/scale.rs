//! What grows: with connections, with subscribers, with retained topics, with subscriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;

use crate::brokers::Broker;
use crate::raw;

pub(crate) async fn run() -> Result<()> {
    println!("## Scale\n");
    println!("| what | sandbar | mosquitto, memory |\n|---|---|---|");
    let idle = [idle(Broker::ours("").await?).await?, idle(Broker::mosquitto(false).await?).await?];
    println!("| {IDLE} idle connections, bytes each | {:.0} | {:.0} |", idle[0], idle[1]);
    let flapping =
        [flapping(&Broker::ours("").await?).await?, flapping(&Broker::mosquitto(false).await?).await?];
    println!(
        "| {FLAPPING} connections coming and going: connects/s | {:.0} | {:.0} |",
        flapping[0].0, flapping[1].0
    );
    println!(
        "| … p99 of another client's publishes meanwhile, ms | {:.1} | {:.1} |",
        flapping[0].1, flapping[1].1
    );
    let fan_out =
        [fan_out(&Broker::ours("").await?).await?, fan_out(&Broker::mosquitto(false).await?).await?];
    println!(
        "| 1 publisher to {SUBSCRIBERS} subscribers, QoS 0, deliveries/s | {:.0} | {:.0} |",
        fan_out[0], fan_out[1]
    );
    let retained =
        [retained(&Broker::ours("").await?).await?, retained(&Broker::mosquitto(false).await?).await?];
    println!(
        "| {RETAINED} retained topics: set, topics/s | {:.0} | {:.0} |",
        retained[0].set, retained[1].set
    );
    println!("| … bytes each | {:.0} | {:.0} |", retained[0].bytes, retained[1].bytes);
    println!(
        "| … all of them to a new subscriber, s | {:.2} | {:.2} |",
        retained[0].read_s, retained[1].read_s
    );
    let matching =
        [matching(&Broker::ours("").await?).await?, matching(&Broker::mosquitto(false).await?).await?];
    println!(
        "| publishes/s with 10, then with {SUBSCRIPTIONS} subscriptions (ratio) | {} | {} |",
        ratio(matching[0]),
        ratio(matching[1])
    );
    println!();
    Ok(())
}

fn ratio((few, many): (f64, f64)) -> String {
    format!("{few:.0}, {many:.0} ({:.2})", many / few)
}

const IDLE: usize = 10_000;

async fn idle(broker: Broker) -> Result<f64> {
    let before = broker.resident_bytes()?;
    let mut sockets = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let socket = raw::connect(broker.port, &format!("idle-{n}"), true).await;
        sockets.push(socket.with_context(|| format!("connection {n}"))?);
    }
    Ok((broker.resident_bytes()? - before) / IDLE as f64)
}

/// Both ends of every connection need one; brokers that are started afterwards inherit it.
pub(crate) fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(1 << 20);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?)
}

const FLAPPING: usize = 1000;
const FLAP_TIME: Duration = Duration::from_secs(5);

/// Connects a second, and the p99 of one publish at a time of a client that stays.
async fn flapping(broker: &Broker) -> Result<(f64, f64)> {
    let (port, end) = (broker.port, Instant::now() + FLAP_TIME);
    let connects = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..FLAPPING)
        .map(|n| {
            let connects = Arc::clone(&connects);
            tokio::spawn(async move {
                while Instant::now() < end {
                    // One in four leaves without a farewell.
                    if let Ok(mut socket) = raw::connect(port, &format!("flap-{n}"), true).await {
                        if n % 4 > 0 {
                            drop(socket.write_all(&[0xe0, 0]).await);
                        }
                        connects.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            })
        })
        .collect();
    let mut writer = raw::connect(port, "steady", true).await?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        writer.write_all(&raw::publish("steady", b"x", 1, false, 1)).await?;
        raw::read_packet(&mut writer).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for task in tasks {
        task.await?;
    }
    times.sort_by(f64::total_cmp);
    let per_second = connects.load(Ordering::Relaxed) as f64 / FLAP_TIME.as_secs_f64();
    Ok((per_second, times[times.len() * 99 / 100]))
}

const SUBSCRIBERS: usize = 1000;
const FAN_OUT: usize = 200;

async fn fan_out(broker: &Broker) -> Result<f64> {
    let delivered = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for n in 0..SUBSCRIBERS {
        let mut socket = raw::connect(broker.port, &format!("fan-{n}"), true).await?;
        raw::subscribe(&mut socket, &["fan".to_owned()], 0).await?;
        let delivered = Arc::clone(&delivered);
        tasks.push(tokio::spawn(raw::drain(socket, move |_| {
            delivered.fetch_add(1, Ordering::Relaxed);
        })));
    }
    let mut writer = raw::connect(broker.port, "fan-writer", true).await?;
    let wanted = (SUBSCRIBERS * FAN_OUT) as u64;
    let began = Instant::now();
    for n in 0..FAN_OUT {
        let id = u16::try_from(n + 1)?;
        // Acknowledged one by one: QoS 0 of a publisher that runs ahead may be shed.
        writer.write_all(&raw::publish("fan", &[b'x'; 100], 1, false, id)).await?;
        raw::read_packet(&mut writer).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while delivered.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    for task in tasks {
        task.abort();
    }
    let count = delivered.load(Ordering::Relaxed);
    if count < wanted {
        println!("| ({} of {wanted} were shed) | | |", wanted - count);
    }
    Ok(count as f64 / seconds)
}

const RETAINED: usize = 100_000;

struct Retained {
    set: f64,
    bytes: f64,
    read_s: f64,
}

async fn retained(broker: &Broker) -> Result<Retained> {
    let before = broker.resident_bytes()?;
    let mut writer = raw::connect(broker.port, "keeper", true).await?;
    let began = Instant::now();
    // In windows of 100, each acknowledged as a whole.
    for window in 0..RETAINED / 100 {
        let mut packets = Vec::new();
        for n in 0..100_usize {
            let topic = format!("kept/{window}/{n}");
            packets.extend(raw::publish(&topic, b"{\"temperature\":21.5}", 1, true, u16::try_from(n + 1)?));
        }
        writer.write_all(&packets).await?;
        for _ in 0..100 {
            raw::read_packet(&mut writer).await?;
        }
    }
    let set = RETAINED as f64 / began.elapsed().as_secs_f64();
    let bytes = (broker.resident_bytes()? - before) / RETAINED as f64;
    let mut reader = raw::connect(broker.port, "reader", true).await?;
    let began = Instant::now();
    reader.write_all(b"\x82\x0b\0\x01\0\x06kept/#\0").await?;
    let mut got = 0;
    while got < RETAINED {
        let read = tokio::time::timeout(Duration::from_secs(30), raw::read_packet(&mut reader)).await;
        let (first, _) = read.with_context(|| format!("{got} of {RETAINED} retained messages came"))??;
        got += usize::from(first >> 4 == 3);
    }
    Ok(Retained { set, bytes, read_s: began.elapsed().as_secs_f64() })
}

const SUBSCRIPTIONS: usize = 100_000;

/// Publishes a second at QoS 1 that match one subscription each, with few and with many that do not match.
async fn matching(broker: &Broker) -> Result<(f64, f64)> {
    let mut rates = Vec::new();
    for count in [10, SUBSCRIPTIONS] {
        let mut holders = Vec::new();
        for part in 0..10 {
            let mut socket = raw::connect(broker.port, &format!("holder-{count}-{part}"), true).await?;
            let filters: Vec<_> = (0..count / 10).map(|n| format!("site/{part}/+/{n}/temperature")).collect();
            for some in filters.chunks(1000) {
                raw::subscribe(&mut socket, some, 0).await?;
            }
            holders.push(tokio::spawn(raw::drain(socket, |_| {})));
        }
        rates.push(raw_rate(broker.port).await?);
        // Their sessions are clean: with the connections their subscriptions end.
        for holder in holders {
            holder.abort();
            drop(holder.await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok((rates[0], rates[1]))
}

async fn raw_rate(port: u16) -> Result<f64> {
    let mut writer = raw::connect(port, "matcher", true).await?;
    let packets: Vec<_> =
        (1..=64_u16).map(|id| raw::publish("site/3/x/0/temperature", b"21", 1, false, id)).collect();
    let all = packets.concat();
    let (mut count, began) = (0_u64, Instant::now());
    while began.elapsed() < Duration::from_secs(3) {
        writer.write_all(&all).await?;
        for _ in 0..64 {
            raw::read_packet(&mut writer).await?;
        }
        count += 64;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
