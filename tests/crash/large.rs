//! The same with payloads that have files of their own: none that was acknowledged is missing or altered, and no
//! file stays that nothing refers to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::receiver::Receiver;
use sandbar_tests::seed::{Random, seed};
use serde_json::{Value, json};

const DEVICES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_large_payload_is_lost_altered_or_left_behind() -> Result<()> {
    let kills =
        std::env::var("SANDBAR_KILLS").map_or(20, |text| text.parse().expect("SANDBAR_KILLS is a number"));
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let receiver = Receiver::start().await?;
    receiver.fail_every(7);
    // More than a quick machine takes: retention comes later.
    configure(folder.path(), &receiver, 64 << 10)?;
    let load = Load::default();
    for kill in 0..kills {
        let host = Host::start(folder.path()).await.with_context(|| format!("start after {kill} kills"))?;
        receiver.set_failing(random.chance(30));
        let clients = load.start(&host.ingress("web").await?);
        tokio::time::sleep(Duration::from_millis(50 + random.below(500))).await;
        host.kill();
        load.stop(clients).await;
    }

    receiver.set_failing(false);
    receiver.fail_every(0);
    let host = Host::start(folder.path()).await?;
    sandbar_tests::sender::all_is_done(&host, 120).await;
    let acknowledged = load.acknowledged.lock().expect("not poisoned").clone();
    let large = acknowledged.values().flatten().filter(|(_, n)| is_large(*n)).count();
    println!("{kills} kills, {large} large readings acknowledged");
    ensure!(large > kills, "only {large} large readings were acknowledged: that was no load");
    for (device, readings) in &acknowledged {
        for (id, n) in readings {
            let reading = host.get(&format!("/v1/readings/{id}")).await?;
            let is_same = reading["payload_json"] == body(device, *n);
            ensure!(is_same, "{device}: reading {id} is missing or not as it was sent");
        }
    }
    check_sink(&receiver, &acknowledged)?;
    ensure!(host.all("/v1/dead-letters").await?.is_empty(), "something was given up on");
    no_orphans(&host, folder.path()).await?;

    // Retention leaves a part of them, or none.
    host.kill();
    configure(folder.path(), &receiver, 1)?;
    let host = Host::start(folder.path()).await?;
    eventually("the journal is as small as it is to be", 60, || async {
        let status = host.get("/v1/status").await.unwrap_or_default();
        status["store"]["journal_bytes"].as_u64().is_some_and(|bytes| bytes <= 1 << 20)
    })
    .await;
    no_orphans(&host, folder.path()).await?;
    host.kill();
    let host = Host::start(folder.path()).await?;
    no_orphans(&host, folder.path()).await
}

fn configure(folder: &Path, receiver: &Receiver, journal_mib: u32) -> Result<()> {
    let text = format!(
        r#"
[host]
data_dir = "sandbar-data"
journal_mib = {journal_mib}
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/d/{{device}}", device = "{{device}}", topic = "sensors/{{device}}" }}]
[sink.there]
kind = "http"
url = "{url}"
body = "payload"
[sink.there.offering]
batch_max = 1
first_wait_ms = 5
longest_wait_ms = 50
[route.on]
ingress = ["web"]
sinks = ["there"]
"#,
        url = receiver.url()
    );
    Ok(std::fs::write(folder.join("sandbar.toml"), text)?)
}

/// Two of three.
const fn is_large(n: u64) -> bool {
    !n.is_multiple_of(3)
}

/// What a device sends: every fourth large one is everybody's.
fn body(device: &str, n: u64) -> Value {
    let of = if n.is_multiple_of(4) { "all" } else { device };
    let mut random = Random::new(n ^ of.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte)));
    let bytes = if is_large(n) { 70_000 + random.below(400_000) as usize } else { 50 };
    let fill: String = random.bytes(bytes / 2).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "of": of, "n": n, "fill": fill })
}

/// What each device was told: id and what it was of.
type Acknowledged = BTreeMap<String, Vec<(String, u64)>>;

#[derive(Clone, Default)]
struct Load {
    acknowledged: Arc<Mutex<Acknowledged>>,
    next: Arc<[AtomicU64; DEVICES]>,
    stopped: Arc<AtomicBool>,
}

impl Load {
    fn start(&self, web: &str) -> Vec<tokio::task::JoinHandle<()>> {
        self.stopped.store(false, Ordering::Relaxed);
        let http = reqwest::Client::new();
        (0..DEVICES)
            .map(|device| {
                let (load, http) = (self.clone(), http.clone());
                let url = format!("{web}/d/d{device}");
                tokio::spawn(async move {
                    while !load.stopped.load(Ordering::Relaxed) {
                        if load.send(&http, &url, device).await.is_none() {
                            return;
                        }
                    }
                })
            })
            .collect()
    }

    async fn send(&self, http: &reqwest::Client, url: &str, device: usize) -> Option<()> {
        // What was not acknowledged may be there all the same: the next one is another.
        let n = self.next[device].fetch_add(1, Ordering::Relaxed);
        let device = format!("d{device}");
        let sent =
            http.post(url).header("content-type", "application/json").body(body(&device, n).to_string());
        let answer = sent.send().await.ok()?;
        if answer.status() != 202 {
            return Some(());
        }
        let told: Value = serde_json::from_str(&answer.text().await.ok()?).expect("a 202 is JSON");
        let id = told["id"].as_str().expect("a 202 has an id").to_owned();
        self.acknowledged.lock().expect("not poisoned").entry(device).or_default().push((id, n));
        Some(())
    }

    async fn stop(&self, clients: Vec<tokio::task::JoinHandle<()>>) {
        self.stopped.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("a client panicked");
        }
    }
}

/// Everything came, whole and each device's in order. Whose a shared payload was is not told.
fn check_sink(receiver: &Receiver, acknowledged: &Acknowledged) -> Result<()> {
    let taken = receiver.taken();
    for (device, readings) in acknowledged {
        let mut last = None;
        for (id, n) in readings {
            let expected = body(device, *n);
            let at = taken.iter().position(|taken| taken.body == expected);
            let at =
                at.with_context(|| format!("{device}: reading {id} never came, or not as it was sent"))?;
            if n % 4 != 0 {
                ensure!(last.is_none_or(|last| last < at), "{device}: delivered out of order");
                last = Some(at);
            }
        }
    }
    Ok(())
}

/// As many files as there are payloads that something refers to.
async fn no_orphans(host: &Host, folder: &Path) -> Result<()> {
    eventually("no file is left that nothing refers to", 30, || async {
        let status = host.get("/v1/status").await.unwrap_or_default();
        let files = std::fs::read_dir(folder.join("sandbar-data/store.payloads")).map_or(0, Iterator::count);
        status["store"]["payload_files"] == files
    })
    .await;
    Ok(())
}
