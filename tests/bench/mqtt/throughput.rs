//! QoS 1 messages of 200 bytes, acknowledged, a second.

use std::time::Duration;

use anyhow::Result;

use crate::brokers::Broker;
use crate::{ROUNDS, median, raw};

const TIME: Duration = Duration::from_secs(4);
/// Connections × messages on their way of each.
const LOADS: [(usize, usize); 3] = [(1, 1), (64, 1), (8, 64)];

pub(crate) async fn run() -> Result<()> {
    let mut brokers =
        vec![Broker::ours("").await?, Broker::mosquitto(false).await?, Broker::mosquitto(true).await?];
    match Broker::rumqttd().await? {
        Some(rumqttd) => brokers.push(rumqttd),
        None => println!("rumqttd is left out: `tests/setup.sh bench` builds it\n"),
    }
    println!("## QoS 1, acknowledged messages/s of 200 bytes (median of {ROUNDS}, interleaved)\n");
    println!("Only sandbar has them on disk by then; the subscriber beside `autosave` is what it saves.\n");
    println!("| connections × window | {} |", names(&brokers));
    println!("|---|{}", "---|".repeat(brokers.len() * 2 - 1));
    for (connections, window) in LOADS {
        let mut runs = vec![Vec::new(); brokers.len()];
        for _ in 0..ROUNDS {
            for (broker, runs) in brokers.iter().zip(&mut runs) {
                runs.push(measure(broker, connections, window).await?);
            }
        }
        let medians: Vec<f64> = runs.into_iter().map(median).collect();
        print!("| {connections} × {window} | {:.0} |", medians[0]);
        for other in &medians[1..] {
            print!(" {other:.0} | {:.2} |", medians[0] / other);
        }
        println!();
    }
    println!();
    if let Some(host) = brokers[0].host() {
        println!("Resident after this: {:.1} MB", brokers[0].resident_bytes()? / 1e6);
        println!("Store: {}\n", host.get("/v1/status").await?["store"]);
    }
    Ok(())
}

/// Ours, then each other with how many times as fast ours is.
fn names(brokers: &[Broker]) -> String {
    let others: Vec<_> = brokers[1..].iter().map(|broker| format!("{} | sandbar ÷", broker.name)).collect();
    format!("{} | {}", brokers[0].name, others.join(" | "))
}

async fn measure(broker: &Broker, connections: usize, window: usize) -> Result<f64> {
    let watcher = match broker.is_watched {
        true => Some(watch(broker.port).await?),
        false => None,
    };
    let tasks: Vec<_> = (0..connections)
        .map(|n| tokio::spawn(raw::load(broker.port, format!("b{n}"), window, TIME)))
        .collect();
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += task.await??;
    }
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    Ok(acknowledged as f64 / TIME.as_secs_f64())
}

async fn watch(port: u16) -> Result<tokio::task::JoinHandle<()>> {
    // What the last round left is forgotten.
    drop(raw::connect(port, "watcher", true).await?);
    let mut socket = raw::connect(port, "watcher", false).await?;
    raw::subscribe(&mut socket, &["bench/#".to_owned()], 1).await?;
    Ok(tokio::spawn(async move { drop(raw::drain(socket, |_| {}).await) }))
}
