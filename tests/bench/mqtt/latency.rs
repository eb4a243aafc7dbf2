//! From a publish to the subscriber, one at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sandbar_tests::host::guest;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::brokers::Broker;
use crate::raw;

const COUNT: usize = 1000;

pub(crate) async fn run() -> Result<()> {
    let more = format!(
        "[module.celsius]\nfile = \"{}\"\n[sink.out]\nkind = \"local-mqtt\"\ningress = \"mqtt\"\n\
         [route.celsius]\ntopic = \"in/+\"\nmodule = \"celsius\"\nsinks = [\"out\"]\n",
        guest("fahrenheit-to-celsius").display()
    );
    let ours = Broker::ours(&more).await?;
    let mosquitto = Broker::mosquitto(false).await?;
    println!("## Latency, QoS 1, one message at a time, of {COUNT}\n");
    println!("| way | p50 ms | p99 ms |\n|---|---|---|");
    let reading = br#"{"temperature":71.6,"unit":"F"}"#;
    for (way, broker, filter) in [
        ("sandbar: publish → handler → outbox → subscriber", &ours, "#"),
        ("sandbar: publish → subscriber", &ours, "plain"),
        ("mosquitto, memory: publish → subscriber", &mosquitto, "plain"),
    ] {
        let topic = if filter == "plain" { "plain" } else { "in/a" };
        let (p50, p99) = measure(broker, filter, topic, reading).await.with_context(|| way.to_owned())?;
        println!("| {way} | {p50:.2} | {p99:.2} |");
    }
    println!();
    Ok(())
}

async fn measure(broker: &Broker, filter: &str, topic: &str, payload: &[u8]) -> Result<(f64, f64)> {
    let mut reader = raw::connect(broker.port, "reader", true).await?;
    raw::subscribe(&mut reader, &[filter.to_owned()], 1).await?;
    let (seen, mut came) = mpsc::channel(COUNT);
    let sent = payload.to_vec();
    // What goes through a handler comes twice: as it was published, and as it was handled.
    let wants_other = filter == "#";
    let draining = tokio::spawn(raw::drain(reader, move |payload| {
        if (payload != sent) == wants_other {
            // Nobody waits any more once the measurement is over.
            let _ = seen.try_send(Instant::now());
        }
    }));
    let mut writer = raw::connect(broker.port, "writer", true).await?;
    let mut times = Vec::with_capacity(COUNT);
    for n in 0..COUNT {
        let id = u16::try_from(n % 60_000 + 1)?;
        let began = Instant::now();
        writer.write_all(&raw::publish(topic, payload, 1, false, id)).await?;
        let at =
            tokio::time::timeout(Duration::from_secs(10), came.recv()).await?.context("the reader ended")?;
        times.push(at.duration_since(began).as_secs_f64() * 1000.0);
        // Its PUBACK, so that one is on its way at a time.
        raw::read_packet(&mut writer).await?;
    }
    draining.abort();
    times.sort_by(f64::total_cmp);
    Ok((times[COUNT / 2], times[COUNT * 99 / 100]))
}
