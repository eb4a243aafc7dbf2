//! The real binary is killed at random moments under load, again and again on the same data. What was
//! acknowledged must be there, handled exactly once in effect, and delivered, in order for each device.
//!
//! `SANDBAR_KILLS` says how often (20 in CI, 200 with `make crash`), `SANDBAR_SEED` which run.

mod large;
mod mqtt;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::receiver::{Receiver, Taken};
use sandbar_tests::seed::{Random, seed};

const DEVICES: usize = 24;

/// What a device was told: the ids of its acknowledged readings, in the order it sent them.
type Acknowledged = BTreeMap<String, Vec<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_everything_is_handled_once() -> Result<()> {
    let kills =
        std::env::var("SANDBAR_KILLS").map_or(20, |text| text.parse().expect("SANDBAR_KILLS is a number"));
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let failing = Receiver::start().await?;
    let slow = Receiver::start().await?;
    failing.fail_every(5);
    slow.set_delay(Duration::from_millis(3));
    std::fs::write(folder.path().join("sandbar.toml"), configuration(&failing, &slow)?)?;

    let load = Load::default();
    for kill in 0..kills {
        let host = Host::start(folder.path()).await.with_context(|| format!("start after {kill} kills"))?;
        failing.set_failing(random.chance(50));
        let clients = load.start(&host.ingress("web").await?);
        tokio::time::sleep(Duration::from_millis(20 + random.below(400))).await;
        host.kill();
        load.stop(clients).await;
    }

    failing.set_failing(false);
    failing.fail_every(0);
    slow.set_delay(Duration::ZERO);
    let host = Host::start(folder.path()).await?;
    eventually("everything is handled and delivered", 120, || async {
        let status = host.get("/v1/status").await.unwrap_or_default();
        let store = &status["store"];
        store["waiting"] == 0 && store["outbox"] == 0
    })
    .await;
    let acknowledged = load.acknowledged();
    let count: usize = acknowledged.values().map(Vec::len).sum();
    println!("{kills} kills, {count} readings acknowledged");
    ensure!(count > kills * 5, "only {count} readings were acknowledged: that was no load");

    let journal = journal(&host).await?;
    for (device, ids) in &acknowledged {
        let journaled = journal.get(device).context("a device is missing from the journal")?;
        let positions: Vec<_> =
            ids.iter().map(|id| journaled.iter().position(|(known, _)| known == id)).collect();
        ensure!(positions.iter().all(Option::is_some), "{device}: acknowledged and not in the journal");
        ensure!(positions.is_sorted(), "{device}: journaled out of order");
    }
    check_file(folder.path(), &journal)?;
    for (name, receiver) in [("failing", &failing), ("slow", &slow)] {
        check_sink(&receiver.taken(), &journal).with_context(|| format!("sink {name}"))?;
    }
    ensure!(host.all("/v1/dead-letters").await?.is_empty(), "something was given up on");
    Ok(())
}

fn configuration(failing: &Receiver, slow: &Receiver) -> Result<String> {
    let counter = guest("counter");
    Ok(format!(
        r#"
[host]
data_dir = "sandbar-data"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/d/{{device}}", device = "{{device}}", topic = "sensors/{{device}}" }}]
[sink.failing]
kind = "http"
url = "{failing}"
[sink.failing.offering]
first_wait_ms = 5
longest_wait_ms = 50
[sink.slow]
kind = "http"
url = "{slow}"
[sink.file]
kind = "file"
path = "sandbar-data/out.jsonl"
rotate_bytes = 2000000
keep = 1000
[module.counter]
file = "{counter}"
[route.count]
ingress = ["web"]
module = "counter"
sinks = ["failing", "slow", "file"]
[route.again]
topic = "counted/#"
module = "counter"
config = {{ prefix = "again" }}
key = "none"
sinks = []
"#,
        failing = failing.url(),
        slow = slow.url(),
        counter = counter.display(),
    ))
}

/// One client a device, each with one reading on its way at a time.
#[derive(Clone, Default)]
struct Load {
    acknowledged: Arc<std::sync::Mutex<Acknowledged>>,
    stopped: Arc<AtomicBool>,
}

impl Load {
    fn start(&self, web: &str) -> Vec<tokio::task::JoinHandle<()>> {
        self.stopped.store(false, Ordering::Relaxed);
        let http = reqwest::Client::new();
        (0..DEVICES)
            .map(|device| {
                let (load, http) = (self.clone(), http.clone());
                let device = format!("d{device}");
                let url = format!("{web}/d/{device}");
                tokio::spawn(async move {
                    while !load.stopped.load(Ordering::Relaxed) {
                        let sent = http.post(&url).body(r#"{"temperature":71.5,"unit":"F"}"#).send();
                        let Ok(answer) = sent.await else { return };
                        if answer.status() != 202 {
                            continue;
                        }
                        // The status line is the acknowledgement; without the body its id is not known.
                        let Ok(body) = answer.text().await else { return };
                        let body: serde_json::Value = serde_json::from_str(&body).expect("a 202 is JSON");
                        let id = body["id"].as_str().expect("a 202 has an id").to_owned();
                        let mut acknowledged = load.acknowledged.lock().expect("not poisoned");
                        acknowledged.entry(device.clone()).or_default().push(id);
                    }
                })
            })
            .collect()
    }

    async fn stop(&self, clients: Vec<tokio::task::JoinHandle<()>>) {
        self.stopped.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("a client panicked");
        }
    }

    fn acknowledged(&self) -> Acknowledged {
        self.acknowledged.lock().expect("not poisoned").clone()
    }
}

/// Every device's readings from the webhook: id and how the counter must have counted it.
type Journal = HashMap<String, Vec<(String, u64)>>;

async fn journal(host: &Host) -> Result<Journal> {
    let mut readings = host.all("/v1/readings?ingress=web").await?;
    // Ids sort by acceptance.
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    let mut journal = Journal::new();
    for reading in readings {
        let device = reading["device"].as_str().context("a reading without device")?.to_owned();
        let journaled = journal.entry(device).or_default();
        let n = journaled.len() as u64 + 1;
        journaled.push((reading["id"].as_str().context("a reading without id")?.to_owned(), n));
    }
    Ok(journal)
}

/// What a sink got, repeats of a delivery left out, is what the counter must have put out: every reading
/// once, counted without a gap, each device in order.
fn check_sink(taken: &[Taken], journal: &Journal) -> Result<()> {
    let mut offered = BTreeSet::new();
    let mut counted: HashMap<String, u64> = HashMap::new();
    for taken in taken {
        ensure!(!taken.idempotency_id.is_empty(), "a delivery without an idempotency id");
        if offered.insert(taken.idempotency_id.clone()) {
            let id = taken.body["id"].as_str().context("no id")?.to_owned();
            let n = taken.body["n"].as_u64().context("no n")?;
            ensure!(counted.insert(id.clone(), n).is_none(), "reading {id} was handled twice in effect");
        }
    }
    check_counts(&counted, journal)?;
    let order: Vec<_> = taken.iter().filter_map(|taken| taken.body["id"].as_str()).collect();
    let first_at: HashMap<_, _> = order.iter().enumerate().rev().map(|(at, id)| (*id, at)).collect();
    for (device, readings) in journal {
        let in_order = readings.iter().map(|(id, _)| first_at.get(id.as_str())).is_sorted();
        ensure!(in_order, "{device}: delivered out of order");
    }
    Ok(())
}

fn check_counts(counted: &HashMap<String, u64>, journal: &Journal) -> Result<()> {
    for (device, readings) in journal {
        for (id, n) in readings {
            let got = counted.get(id).with_context(|| format!("{device}: reading {id} is missing"))?;
            ensure!(got == n, "{device}: reading {id} was counted as {got}, not as {n}");
        }
    }
    let journaled: usize = journal.values().map(Vec::len).sum();
    ensure!(counted.len() == journaled, "{} counted, {journaled} journaled", counted.len());
    Ok(())
}

/// The file sink doubles nothing, even across kills.
fn check_file(folder: &std::path::Path, journal: &Journal) -> Result<()> {
    let mut text = String::new();
    for file in std::fs::read_dir(folder.join("sandbar-data"))? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("out.jsonl")) {
            text.push_str(&std::fs::read_to_string(path)?);
            text.push('\n');
        }
    }
    let mut counted = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        // A kill may leave half a line, which the next start completes with a newline and writes again.
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let body = &line["payload"];
        let id = body["id"].as_str().context("no id in the file")?.to_owned();
        let n = body["n"].as_u64().context("no n in the file")?;
        ensure!(counted.insert(id.clone(), n).is_none(), "reading {id} is in the file twice");
    }
    check_counts(&counted, journal).context("the file")
}
