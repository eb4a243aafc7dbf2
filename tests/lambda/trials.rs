//! Versions change, are compared and taken back under load, and through `kill -9`: nothing is lost, doubled or out
//! of order.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::all_is_done;
use serde_json::{Value, json};

use crate::{call, delivered, done, upload};

/// Devices whose readings are sent side by side: more than this machine has room for, so that it gives what it can.
const DEVICES: usize = 64;

/// Sends from every device, one reading after the other, until it is stopped or the host is gone. What was
/// acknowledged, by device, in order.
struct Load {
    began: Instant,
    stop: tokio_util::sync::CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    async fn start(host: &Host) -> Result<Self> {
        let stop = tokio_util::sync::CancellationToken::new();
        let web = host.ingress("web").await?;
        let one = |device: usize| {
            let (http, stop) = (host.http.clone(), stop.clone());
            let url = format!("{web}/load/{device}");
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.is_cancelled() {
                    let Ok(answer) = http.post(&url).body("{}").send().await else { break };
                    let Ok(text) = answer.text().await else { break };
                    let body: Value = serde_json::from_str(&text).unwrap_or_default();
                    acknowledged.extend(body["id"].as_str().map(str::to_owned));
                }
                acknowledged
            })
        };
        Ok(Self { began: Instant::now(), tasks: (0..DEVICES).map(one).collect(), stop })
    }

    async fn end(self) -> Result<Vec<String>> {
        self.stop.cancel();
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await?);
        }
        let seconds = self.began.elapsed().as_secs_f64();
        println!("{} readings acknowledged, {:.0} a second", all.len(), all.len() as f64 / seconds);
        Ok(all)
    }
}

async fn start(folder: &std::path::Path) -> Result<Host> {
    let host = crate::host(folder, "").await?;
    upload(&host, "m", &guest("counter"), true).await?;
    let table = json!({ "module": "m", "topic": ["load/#"], "sinks": ["out"], "key": "topic" });
    done(&host, Method::PUT, "/v1/routes/r", table).await?;
    Ok(host)
}

/// Each acknowledged reading was delivered once, and those of one topic in the order of their ids.
fn check(host: &Host, acknowledged: &[String]) -> Result<()> {
    let (mut seen, mut last) = (HashSet::new(), HashMap::<String, String>::new());
    for line in delivered(host) {
        let reading = line["reading"].as_str().context("no reading")?.to_owned();
        ensure!(seen.insert(reading.clone()), "{reading} was delivered twice");
        let topic = line["topic"].as_str().context("no topic")?.to_owned();
        if let Some(before) = last.insert(topic.clone(), reading.clone()) {
            ensure!(before < reading, "{topic}: {reading} came after {before}");
        }
    }
    let lost: Vec<_> = acknowledged.iter().filter(|id| !seen.contains(*id)).collect();
    ensure!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    println!("{} readings, each delivered once and in order", acknowledged.len());
    Ok(())
}

const CHANGE: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activation_roll_back_shadow_and_canary_under_load() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    // The same handler in other bytes: a custom section is added.
    let other = folder.path().join("other.wasm");
    std::fs::write(&other, another(&std::fs::read(guest("counter"))?))?;
    ensure!(upload(&host, "m", &other, false).await? == 2);
    let load = Load::start(&host).await?;
    for round in 0..3 {
        for version in [2, 1] {
            done(&host, Method::POST, "/v1/modules/m/activate", json!({ "version": version })).await?;
            tokio::time::sleep(CHANGE).await;
        }
        for mode in ["shadow", "canary"] {
            let asked = json!({ "version": 2, "mode": mode, "percent": 50 });
            done(&host, Method::PUT, "/v1/modules/m/candidate", asked).await?;
            tokio::time::sleep(CHANGE).await;
            if mode == "shadow" {
                let module = host.get("/v1/modules/m").await?;
                let compared = &module["candidate"]["routes"][0];
                ensure!(compared["calls"].as_u64() > Some(0) && compared["different"] == 0, "{compared}");
            }
            done(&host, Method::DELETE, "/v1/modules/m/candidate", Value::Null).await?;
        }
        let asked = json!({ "version": 2, "mode": "canary", "percent": 50 });
        done(&host, Method::PUT, "/v1/modules/m/candidate", asked).await?;
        tokio::time::sleep(CHANGE).await;
        let promoted = done(&host, Method::POST, "/v1/modules/m/promote", Value::Null).await?;
        ensure!(promoted["active"] == 2, "round {round}: {promoted}");
        done(&host, Method::POST, "/v1/modules/m/activate", json!({ "version": 1 })).await?;
    }
    let acknowledged = load.end().await?;
    all_is_done(&host, 60).await;
    check(&host, &acknowledged)
}

/// A component with a custom section more: other bytes, another digest, the same behaviour.
pub(crate) fn another(wasm: &[u8]) -> Vec<u8> {
    let mut other = wasm.to_vec();
    other.extend([0, 6, 4, b'n', b'o', b't', b'e', b'2']);
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_rolled_back_by_itself_under_load() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    upload(&host, "m", &guest("hostile"), false).await?;
    let load = Load::start(&host).await?;
    let asked = json!({ "version": 2, "mode": "canary", "percent": 50, "errors_after": 10 });
    done(&host, Method::PUT, "/v1/modules/m/candidate", asked).await?;
    sandbar_tests::eventually("the canary is taken back", 30, || async {
        host.get("/v1/modules/m").await.is_ok_and(|module| module["candidate"].is_null())
    })
    .await;
    let acknowledged = load.end().await?;
    let module = host.get("/v1/modules/m").await?;
    ensure!(module["active"] == 1 && module["last_trial"]["version"] == 2, "{module}");
    all_is_done(&host, 60).await;
    ensure!(host.get("/v1/status").await?["store"]["dead_letters"] == 0);
    check(&host, &acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_each_loses_and_doubles_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = start(folder.path()).await?;
    let other = folder.path().join("other.wasm");
    std::fs::write(&other, another(&std::fs::read(guest("counter"))?))?;
    upload(&host, "m", &other, false).await?;
    let mut acknowledged = Vec::new();
    let changes = [
        ("activation", Method::POST, "activate", json!({ "version": 2 })),
        ("roll-back", Method::POST, "activate", json!({ "version": 1 })),
        ("shadow", Method::PUT, "candidate", json!({ "version": 2, "mode": "shadow" })),
        ("canary", Method::PUT, "candidate", json!({ "version": 2, "mode": "canary", "percent": 50 })),
        ("promotion", Method::POST, "promote", Value::Null),
    ];
    for (what, method, path, body) in changes {
        let load = Load::start(&host).await?;
        tokio::time::sleep(CHANGE).await;
        // The host may be gone before it can answer.
        let path = format!("/v1/modules/m/{path}");
        let asked = call(&host, method, &path, body);
        drop(tokio::time::timeout(Duration::from_millis(30), asked).await);
        host.kill();
        acknowledged.extend(load.end().await?);
        host = Host::start(folder.path()).await.with_context(|| format!("after a kill during {what}"))?;
        let module = host.get("/v1/modules/m").await?;
        ensure!(
            module["versions"].as_array().is_some_and(|versions| versions.len() == 2),
            "{what}: {module}"
        );
    }
    all_is_done(&host, 60).await;
    check(&host, &acknowledged)
}

/// What a route of its own is given to do, while the others' readings are counted.
const HOSTILE: [&str; 11] = [
    "loop",
    "grow",
    "recurse",
    "huge 6",
    "many 5000",
    "log-flood 1000000",
    "state-flood",
    "trap",
    "trap-at-random 2",
    "retry",
    "GET http://127.0.0.1:9/",
];

/// Each costs its own route only: none of the others' readings is lost, doubled or out of order. What it costs them in
/// time is printed, as a ratio of the same run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_routes_leave_others_their_throughput() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    upload(&host, "hostile", &guest("hostile"), true).await?;
    upload(&host, "permitted", &guest("permitted"), true).await?;
    let web = host.ingress("web").await?;
    for (route, module) in [("hostile", "hostile"), ("forbidden", "permitted")] {
        let table = json!({ "module": module, "topic": [format!("{route}/#")], "key": "topic", "concurrency": 1,
            "limits": { "time_ms": 100, "memory_mib": 16 },
            "attempts": { "max": 2, "first_wait_ms": 50, "longest_wait_ms": 50 } });
        done(&host, Method::PUT, &format!("/v1/routes/{route}"), table).await?;
    }
    let mut acknowledged = Vec::new();
    // More of them say more: what docs/performance.md shows is of 10.
    let rounds = std::env::var("SANDBAR_ROUNDS").map_or(Ok(2), |rounds| rounds.parse())?;
    for mode in HOSTILE {
        let route = if mode.starts_with("GET") { "forbidden" } else { "hostile" };
        let (mut alone, mut beside) = (0, 0);
        // Interleaved, so that the machine's moods are shared.
        for round in 0..rounds {
            for hostile in [false, true] {
                let stop = tokio_util::sync::CancellationToken::new();
                let (http, url, stopped) =
                    (host.http.clone(), format!("{web}/{route}/{round}"), stop.clone());
                // One at a time, for as long as the others are counted.
                let misbehaves = tokio::spawn(async move {
                    while hostile && !stopped.is_cancelled() {
                        let answer = http.post(&url).body(mode).send().await?;
                        ensure!(answer.status().is_success(), "{}", answer.status());
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    Ok(())
                });
                // What is counted is what it costs day and night, not what it may waste at first.
                tokio::time::sleep(Duration::from_secs(u64::from(hostile))).await;
                let load = Load::start(&host).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let taken = load.end().await?;
                *(if hostile { &mut beside } else { &mut alone }) += taken.len();
                acknowledged.extend(taken);
                stop.cancel();
                misbehaves.await??;
                all_is_done(&host, 120).await;
            }
        }
        println!(
            "{mode}: others' readings beside it ÷ alone: {beside} ÷ {alone} = {:.2}",
            beside as f64 / alone as f64
        );
    }
    check(&host, &acknowledged)
}
