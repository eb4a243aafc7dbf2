//! What small readings feel of a picture that comes every second: with its payload in a file of its own, as it is,
//! and in the journal, as it would be.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sandbar_reading::{Clock, SystemClock};
use sandbar_tests::host::Host;
use sandbar_tests::seed::Random;

use crate::start;

const PICTURE_BYTES: usize = 5 << 20;
/// Small readings: so many devices, each with one on its way at a time, and one every so often.
const DEVICES: usize = 16;
const PACE: Duration = Duration::from_millis(20);
/// Of each of the three, in turn.
const SLICE: Duration = Duration::from_secs(5);
const ROUNDS: usize = 6;

#[derive(Default)]
struct Latencies {
    small: Vec<f64>,
    pictures: Vec<f64>,
}

pub(crate) async fn large() -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let in_files = host(folders[0].path(), 64 << 10).await?;
    let in_journal = host(folders[1].path(), 8 << 20).await?;
    let kinds = [
        ("none", &in_files, false),
        ("5 MiB each second, in files", &in_files, true),
        ("5 MiB each second, in the journal", &in_journal, true),
    ];
    let mut measured: [Latencies; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (latencies, (_, host, pictures)) in measured.iter_mut().zip(&kinds) {
            slice(host, *pictures, latencies).await?;
        }
    }
    println!("## Small readings beside large ones\n");
    println!(
        "{DEVICES} devices, each a 200-byte reading every {} ms; {ROUNDS} times {} s of each row, in turn.\n",
        PACE.as_millis(),
        SLICE.as_secs()
    );
    println!(
        "| pictures | small readings | p50 | p99 | most | a picture's p50 | most |\n|---|---|---|---|---|---|---|"
    );
    for (latencies, (name, ..)) in measured.iter_mut().zip(&kinds) {
        let count = latencies.small.len();
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| quantile(&mut latencies.small, part));
        print!("| {name} | {count} | {p50:.2} ms | {p99:.2} ms | {most:.1} ms |");
        match latencies.pictures.is_empty() {
            true => println!(" – | – |"),
            false => {
                let [p50, most] = [0.5, 1.0].map(|part| quantile(&mut latencies.pictures, part));
                println!(" {p50:.0} ms | {most:.0} ms |");
            }
        }
    }
    println!();
    Ok(())
}

async fn host(folder: &Path, inline_max: usize) -> Result<Host> {
    let text = format!(
        r#"
[host]
inline_max_bytes = {inline_max}
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/{{kind}}/{{device}}", device = "{{device}}", topic = "{{kind}}/{{device}}" }}]
[route.all]
topic = "+/+"
"#
    );
    std::fs::write(folder.join("sandbar.toml"), text)?;
    start(folder).await
}

async fn slice(host: &Host, pictures: bool, latencies: &mut Latencies) -> Result<()> {
    let web = host.ingress("web").await?;
    let stopped = Arc::new(AtomicBool::new(false));
    let small = (0..DEVICES).map(|device| {
        let (url, stopped) = (format!("{web}/small/d{device}"), stopped.clone());
        let begin = PACE.mul_f64(device as f64 / DEVICES as f64);
        tokio::spawn(send(url, stopped, begin, PACE, |_| vec![b'x'; 200]))
    });
    let small: Vec<_> = small.collect();
    let picture = pictures.then(|| {
        let begin = Duration::from_millis(300);
        let each = |n| Random::new(n).bytes(PICTURE_BYTES);
        tokio::spawn(send(
            format!("{web}/picture/camera"),
            stopped.clone(),
            begin,
            Duration::from_secs(1),
            each,
        ))
    });
    tokio::time::sleep(SLICE).await;
    stopped.store(true, Ordering::Relaxed);
    for device in small {
        latencies.small.extend(device.await??);
    }
    if let Some(picture) = picture {
        latencies.pictures.extend(picture.await??);
    }
    Ok(())
}

/// Milliseconds that each took.
async fn send(
    url: String,
    stopped: Arc<AtomicBool>,
    begin: Duration,
    pace: Duration,
    body: impl Fn(u64) -> Vec<u8> + Send,
) -> Result<Vec<f64>> {
    let http = reqwest::Client::new();
    let mut took = Vec::new();
    tokio::time::sleep(begin).await;
    // No two pictures are the same.
    let first = SystemClock.now().nanos();
    for n in first.. {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let body = body(n);
        let began = Instant::now();
        let answer = http.post(&url).body(body).send().await.context("sending a reading")?;
        let status = answer.status();
        ensure!(status == 202, "{status} {}", answer.text().await?);
        drop(answer.bytes().await?);
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(pace.saturating_sub(began.elapsed())).await;
    }
    Ok(took)
}

fn quantile(all: &mut [f64], part: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    let at = ((all.len() as f64 * part).ceil() as usize).clamp(1, all.len().max(1)) - 1;
    all.get(at).copied().unwrap_or(f64::NAN)
}
