//! What MQTT costs: acknowledged messages, latency through a handler, and what grows with connections, topics and
//! subscriptions. Beside brokers that others wrote, interleaved, because these machines are noisy.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod brokers;
mod latency;
mod raw;
mod scale;
mod throughput;

use anyhow::Result;

const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    println!("# MQTT\n");
    scale::raise_file_limit()?;
    throughput::run().await?;
    latency::run().await?;
    scale::run().await
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
