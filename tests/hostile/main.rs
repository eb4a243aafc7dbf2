//! Components that misbehave cost their own route and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::tool::succeeds;
use serde_json::{Value, json};

/// Every way to misbehave, and what its dead letter says (`None`: it is handled all the same).
const MODES: [(&str, Option<&str>); 15] = [
    ("loop", Some("longer than its 200 ms")),
    ("grow", Some("memory")),
    ("recurse", Some("trap")),
    ("huge 6", Some("output")),
    ("many 5000", Some("output")),
    ("trap", Some("trap")),
    ("log-flood 20000", None),
    ("state-flood", Some("state")),
    ("state-huge 2", Some("state")),
    ("bad-topic", Some("topic")),
    ("reserved-attribute", None),
    ("reject", Some("rejected")),
    ("retry", Some("not yet")),
    ("spin 20", None),
    // Each of its readings traps always or never.
    ("trap-at-random 1", Some("trap")),
];

async fn host(folder: &std::path::Path) -> Result<Host> {
    let text = format!(
        r#"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/{{*topic}}", topic = "{{topic}}" }}]
[module.hostile]
file = "{hostile}"
[module.counter]
file = "{counter}"
[sink.out]
kind = "file"
path = "out.jsonl"
[route.good]
topic = "good/#"
module = "counter"
sinks = ["out"]
[route.hostile]
topic = "hostile/#"
module = "hostile"
sinks = ["out"]
attempts = {{ max = 2, first_wait_ms = 10, longest_wait_ms = 20 }}
limits = {{ time_ms = 200, memory_mib = 16 }}
"#,
        hostile = guest("hostile").display(),
        counter = guest("counter").display(),
    );
    std::fs::write(folder.join("sandbar.toml"), text)?;
    Host::start(folder).await
}

async fn post(host: &Host, web: &str, path: &str, body: &str) -> Result<String> {
    let answer = host.http.post(format!("{web}/{path}")).body(body.to_owned()).send().await?;
    ensure!(answer.status() == StatusCode::ACCEPTED, "POST {path}: {}", answer.status());
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    Ok(body["id"].as_str().context("no id")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_costs_its_own_route_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = host(folder.path()).await?;
    let web = host.ingress("web").await?;
    let mut expected = Vec::new();
    for (round, (mode, code)) in MODES.iter().enumerate() {
        // Each on a topic, and so a key, of its own; good readings in between.
        let id = post(&host, &web, &format!("hostile/{round}"), mode).await?;
        expected.push((id, *mode, *code));
        post(&host, &web, "good/1", "{}").await?;
    }
    eventually("all is handled or given up on", 120, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["waiting"] == 0)
    })
    .await;
    ensure!(host.is_running(), "the host is gone:\n{}", host.stderr());

    let dead = host.all("/v1/dead-letters").await?;
    let mut wrong = Vec::new();
    for (id, mode, said) in &expected {
        let cause =
            dead.iter().find(|dead| dead["reading"]["id"] == **id).map(|dead| dead["cause"].to_string());
        let as_expected = match (said, &cause) {
            (None, None) => true,
            (Some(said), Some(cause)) => cause.to_lowercase().contains(said),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{mode}: expected {said:?}, the dead letter says {cause:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let good = host.get("/v1/routes/good").await?;
    ensure!(good["status"]["handled"] == MODES.len(), "the good route: {good}");
    every_limit_is_told(&host, &expected).await
}

/// In the route's log by reading, in its status by name, and in the metrics.
async fn every_limit_is_told(host: &Host, expected: &[(String, &str, Option<&str>)]) -> Result<()> {
    for (id, mode, said) in expected {
        let Some(said) = said else { continue };
        let logs = host.get(&format!("/v1/routes/hostile/logs?reading={id}&level=error")).await?;
        let lines = logs["items"].as_array().context("no items")?;
        let told = |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default().to_lowercase();
            text.starts_with("attempt ") && text.contains(said) && text.ends_with("it is a dead letter")
        };
        ensure!(lines.iter().any(told), "{mode}: {logs}");
    }
    let route = host.get("/v1/routes/hostile").await?;
    let handler = &route["status"]["handler"];
    // Twice each, but for what is rejected: that is not tried again.
    for (fault, at_least) in [
        ("timed_out", 2),
        ("out_of_memory", 2),
        ("trap", 4),
        ("too_much_output", 4),
        ("invalid_output", 2),
        ("rejected", 1),
        ("retry", 2),
    ] {
        ensure!(handler["faults"][fault].as_u64() >= Some(at_least), "{fault}: {handler}");
    }
    ensure!(handler["refused_writes"].as_u64() >= Some(2), "{handler}");
    let refused = host.get("/v1/routes/hostile/logs?level=warn&limit=1000").await?.to_string();
    ensure!(refused.contains("writes to the state were refused, the first of `flood/"), "{refused}");
    let status = succeeds(host.cli(&["status"]), 30).await?;
    for told in ["FAULTS", "timed_out ", "out_of_memory ", "too_much_output ", "refused_writes "] {
        ensure!(status.contains(told), "{told}: {status}");
    }

    let metrics = host.request(Method::GET, "/metrics").send().await?.text().await?;
    let figure = |name: &str| -> Result<f64> {
        let line = metrics.lines().find(|line| line.starts_with(name)).with_context(|| name.to_owned())?;
        Ok(line.rsplit(' ').next().context("no value")?.parse()?)
    };
    let calls = figure("sandbar_handler_call_seconds_count{route=\"hostile\"}")?;
    ensure!(Some(calls) == handler["calls"].as_f64() && calls >= MODES.len() as f64, "{calls}: {handler}");
    let all = figure("sandbar_handler_call_seconds_bucket{le=\"+Inf\",route=\"hostile\"}")?;
    let quick = figure("sandbar_handler_call_seconds_bucket{le=\"0.1\",route=\"hostile\"}")?;
    ensure!(all == calls && quick < calls, "those that looped took longer: {quick} of {calls}");
    let peak = figure("sandbar_handler_memory_peak_bytes{route=\"hostile\"}")?;
    ensure!(peak > 0.0 && peak <= f64::from(16 << 20), "{peak}");
    figure("sandbar_handler_instances{route=\"hostile\"}")?;
    ensure!(metrics.contains("fault=\"timed_out\"") && metrics.contains("sandbar_handler_refused_writes"));
    Ok(())
}

/// A million lines in one call: few are kept, the rest counted, and nothing of it stays in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_log_lines_cost_neither_memory_nor_other_routes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = host(folder.path()).await?;
    let web = host.ingress("web").await?;
    let table = json!({ "topic": "flood/#", "module": "hostile", "limits": { "time_ms": 120_000 } });
    let answer = host.request(Method::PUT, "/v1/routes/flood").json(&table).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    let resident = |host: &Host| -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(peak.trim().trim_end_matches(" kB").parse()?)
    };
    post(&host, &web, "flood/warm", "log-flood 10").await?;
    let before = resident(&host)?;
    post(&host, &web, "flood/1", "log-flood 1000000").await?;
    for n in 0..50 {
        post(&host, &web, &format!("good/{}", n % 5), "{}").await?;
    }
    eventually("the good readings and the flood are handled", 150, || async {
        let good = host.get("/v1/routes/good").await.is_ok_and(|route| route["status"]["handled"] == 50);
        good && host.get("/v1/routes/flood").await.is_ok_and(|route| route["status"]["handled"] == 2)
    })
    .await;
    let logs = host.get("/v1/routes/flood/logs?limit=1000").await?;
    let kept = logs["items"].as_array().context("no items")?.len();
    ensure!((1..=1000).contains(&kept), "{kept} lines are kept");
    ensure!(logs.to_string().contains("more lines"), "the rest is counted: {}", logs["items"][kept - 1]);
    let grown = resident(&host)? - before;
    ensure!(grown < 32 << 10, "{grown} KiB more");
    ensure!(host.is_running());
    Ok(())
}

/// While one route's handler loops for ever, another's readings are handled at a good part of its own speed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_looping_handler_does_not_stop_the_others() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let web = host.ingress("web").await?;
    for loops in 0..8 {
        post(&host, &web, &format!("hostile/{loops}"), "loop").await?;
    }
    for n in 0..50 {
        post(&host, &web, &format!("good/{}", n % 5), "{}").await?;
    }
    eventually("the good readings are handled", 20, || async {
        host.get("/v1/routes/good").await.is_ok_and(|route| route["status"]["handled"] == 50)
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handler_is_refused_with_the_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = host(folder.path()).await?;
    let good = std::fs::read(guest("counter"))?;
    let half = good[..good.len() / 2].to_vec();
    let mut bent = good.clone();
    let middle = bent.len() / 2;
    bent[middle..middle + 64].fill(0xff);
    let uploads: [(&str, Vec<u8>, &str); 5] = [
        ("empty", Vec::new(), "not WebAssembly"),
        ("garbage", b"this is no wasm".to_vec(), "not WebAssembly"),
        ("core-module", b"\0asm\x01\0\0\0".to_vec(), "component"),
        ("cut-in-half", half, ""),
        ("bent", bent, ""),
    ];
    for (name, bytes, said) in uploads {
        let answer = host.request(Method::PUT, &format!("/v1/modules/{name}")).body(bytes).send().await?;
        let status = answer.status();
        let problem: Value = serde_json::from_str(&answer.text().await?)?;
        ensure!(status.is_client_error(), "{name}: {status}");
        ensure!(problem["code"] == "invalid-component", "{name}: {problem}");
        ensure!(problem["detail"].as_str().unwrap_or_default().contains(said), "{name}: {problem}");
        ensure!(
            host.request(Method::GET, &format!("/v1/modules/{name}")).send().await?.status() == 404,
            "{name}"
        );
    }
    ensure!(host.is_running());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_200_megabytes_is_refused_without_being_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = host(folder.path()).await?;
    let answer = host.request(Method::PUT, "/v1/modules/huge").body(vec![0; 200 << 20]).send().await;
    // The connection may be closed while the client still sends.
    if let Ok(answer) = answer {
        ensure!(answer.status() == StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.status());
    }
    ensure!(host.is_running());
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(peak < 300 << 10, "the host has held {peak} KiB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_whose_configuration_misbehaves_is_not_deployed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = host(folder.path()).await?;
    for (mode, why) in [
        ("configure-refuse", "the module refuses it: refused as told"),
        ("configure-trap", "it does not start: trapped"),
        ("configure-loop", "it does not start: took longer than its 300 ms"),
    ] {
        let limits = json!({ "time_ms": 100, "init_time_ms": 300 });
        let table =
            json!({ "topic": "x", "module": "hostile", "config": { "mode": mode }, "limits": limits });
        let answer = host.request(Method::PUT, "/v1/routes/bad").json(&table).send().await?;
        let (status, problem) = (answer.status(), answer.text().await?);
        ensure!(status.is_client_error() && problem.contains(why), "{mode}: {status} {problem}");
    }
    ensure!(host.is_running());
    tokio::time::timeout(Duration::from_secs(5), host.get("/v1/status")).await??;
    Ok(())
}
