//! Changes of a host that works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::{all_is_done, check_journal, check_lines};
use sandbar_tests::tool;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONFIGURATION: &str = r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/d/{device}", topic = "load/{device}" }]
[sink.out]
kind = "file"
path = "sandbar-data/out.jsonl"
"#;

/// Clients that send one reading after the other until told to stop.
struct Load {
    stopped: Arc<AtomicBool>,
    clients: JoinSet<Result<Vec<String>>>,
}

impl Load {
    fn start(web: &str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for device in 0..6 {
            let (stopped, url) = (stopped.clone(), format!("{web}/d/{device}"));
            clients.spawn(async move {
                let http = reqwest::Client::new();
                let mut acknowledged = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    let sent = http.post(&url).body(r#"{"temperature":71.5,"unit":"F"}"#).send().await;
                    // Once it is told to stop, the host may answer 503, or not at all.
                    let Ok(answer) = sent else { break };
                    if answer.status() != 202 {
                        ensure!(answer.status() == 503, "{}", answer.status());
                        break;
                    }
                    let Ok(body) = answer.text().await else { break };
                    let body: Value = serde_json::from_str(&body)?;
                    acknowledged.push(body["id"].as_str().context("no id")?.to_owned());
                }
                Ok(acknowledged)
            });
        }
        Self { stopped, clients }
    }

    /// The ids of what was acknowledged.
    async fn stop(mut self) -> Result<Vec<String>> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            acknowledged.extend(client??);
        }
        ensure!(acknowledged.len() > 20, "only {} readings were acknowledged: no load", acknowledged.len());
        Ok(acknowledged)
    }
}

/// Everything was handled once, by whichever version.
async fn check_nothing_lost(host: &Host, ids: &[String]) -> Result<()> {
    all_is_done(host, 60).await;
    check_journal(host, ids).await?;
    let dead = host.all("/v1/dead-letters").await?;
    ensure!(dead.is_empty(), "something was given up on: {}", dead[0]);
    check_lines(&host.data("out.jsonl"), ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_are_deployed_and_rolled_back_under_load_and_nothing_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = crate::host(folder.path(), CONFIGURATION).await?;
    let (counter, celsius) = (guest("counter"), guest("fahrenheit-to-celsius"));
    let (counter, celsius) = (counter.display().to_string(), celsius.display().to_string());
    let first = ["deploy", "changing", counter.as_str(), "--topic", "load/#", "--sink", "out"];
    tool::succeeds(host.cli(&first), 30).await?;

    let load = Load::start(&host.ingress("web").await?);
    for _ in 0..5 {
        tool::succeeds(host.cli(&["deploy", "changing", &celsius]), 30).await?;
        tool::succeeds(host.cli(&["rollback", "changing"]), 30).await?;
        tool::succeeds(host.cli(&["deploy", "changing", &counter]), 30).await?;
        tool::succeeds(host.cli(&["rollback", "changing", "1"]), 30).await?;
    }
    let ids = load.stop().await?;
    check_nothing_lost(&host, &ids).await?;
    let module = host.get("/v1/modules/changing").await?;
    ensure!(module["active"] == 1, "{module}");
    let lines = std::fs::read_to_string(host.data("out.jsonl"))?;
    ensure!(lines.contains("load/0/celsius") && lines.contains("counted/0"), "only one version ever handled");
    crate::check_log(&host)
}

/// One HTTP/1.1 connection that is kept.
struct Kept(TcpStream);

impl Kept {
    async fn open(web: &str) -> Result<Self> {
        Ok(Self(TcpStream::connect(web.trim_start_matches("http://")).await?))
    }

    async fn send(&mut self) -> Result<String> {
        let request = "POST /d/kept HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        self.0.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"}") {
            let mut bytes = [0; 1024];
            let read = tokio::time::timeout(Duration::from_secs(10), self.0.read(&mut bytes)).await??;
            ensure!(read > 0, "the connection was closed");
            answer.extend_from_slice(&bytes[..read]);
        }
        let answer = String::from_utf8(answer)?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let (_, id) = answer.split_once("{\"id\":\"").context("no id")?;
        Ok(id.trim_end_matches("\"}").to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_reloaded_whole_or_not_at_all_and_connections_stay() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = crate::host(folder.path(), CONFIGURATION).await?;
    let mut kept = Kept::open(&host.ingress("web").await?).await?;
    let mut ids = vec![kept.send().await?];

    // The API's two lines come before it: the mistake is in line 14.
    let bad = format!(
        "{CONFIGURATION}[route.new]\ntopic = \"load/#\"\nsinks = [\"uot\"]\n[sink.more]\nkind = \"log\"\n"
    );
    let line = 2 + bad.lines().position(|line| line.contains("uot")).context("no mistake")? + 1;
    crate::configure(folder.path(), &bad)?;
    let place = format!("sandbar.toml:{line}: ");
    eventually("the log names the line", 20, || async { host.stderr().contains(&place) }).await;
    ensure!(host.stderr().contains("the configuration stays as it was"), "{}", host.stderr());
    let answer = host.request(Method::POST, "/v1/config/reload").send().await?;
    let status = answer.status();
    let problem: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(
        status == 422 && problem["line"] == line && problem["code"] == "invalid-config",
        "{status} {problem}"
    );
    ensure!(
        host.request(Method::GET, "/v1/sinks/more").send().await?.status() == 404,
        "half of it was applied"
    );
    ids.push(kept.send().await?);

    let counter = guest("counter");
    let good = format!(
        "{CONFIGURATION}[module.counter]\nfile = \"{}\"\n[route.new]\ntopic = \"load/#\"\nmodule = \"counter\"\nsinks = [\"out\"]\n",
        counter.display()
    );
    crate::configure(folder.path(), &good)?;
    eventually("the route is there", 20, || async { host.get("/v1/routes/new").await.is_ok() }).await;
    let handled = vec![kept.send().await?];
    ids.extend(handled.clone());
    check_journal(&host, &ids).await?;
    check_nothing_lost(&host, &handled).await?;

    // What is no longer declared goes.
    crate::configure(folder.path(), CONFIGURATION)?;
    eventually("the route is gone", 20, || async { host.get("/v1/routes/new").await.is_err() }).await;
    kept.send().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_told_to_stop_under_load_has_everything() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        "{CONFIGURATION}[module.counter]\nfile = \"{}\"\n[route.count]\ntopic = \"load/#\"\nmodule = \"counter\"\nsinks = [\"out\"]\n",
        guest("counter").display()
    );
    let mut ids = Vec::new();
    for _ in 0..3 {
        let host = crate::host(folder.path(), &configuration).await?;
        let load = Load::start(&host.ingress("web").await?);
        eventually("there is load", 20, || async {
            host.get("/v1/status").await.is_ok_and(|status| status["store"]["readings"].as_u64() > Some(100))
        })
        .await;
        let code = host.terminate().await?;
        ensure!(code == Some(0), "it ended with {code:?}");
        ids.extend(load.stop().await?);
    }
    let host = crate::host(folder.path(), &configuration).await?;
    check_nothing_lost(&host, &ids).await
}
