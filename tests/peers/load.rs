//! Many requests at once, and requests that never end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::sender::{Sender, all_is_done};
use sandbar_tests::tool;
use tokio::process::Command;

const CONFIGURATION: &str = r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/hooks/{device}", topic = "hooks/{device}" }]
[sink.out]
kind = "file"
path = "sandbar-data/out.jsonl"
[route.all]
topic = "hooks/#"
sinks = ["out"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_gets_2xx_only_and_everything_is_there() -> Result<()> {
    const REQUESTS: usize = 2000;
    let folder = tempfile::tempdir()?;
    let host = crate::host(folder.path(), CONFIGURATION).await?;
    let url = format!("{}/hooks/a", host.ingress("web").await?);
    let body = folder.path().join("body");
    std::fs::write(&body, r#"{"temperature":71.5,"unit":"F"}"#)?;
    for options in [&["--h1", "-c", "16"][..], &["-c", "8", "-m", "16"], &["-c", "200", "-m", "2"]] {
        let mut h2load = Command::new(tool::path("h2load"));
        h2load.args(options).args([
            "-n",
            &REQUESTS.to_string(),
            "-H",
            "content-type: application/json",
            "-d",
        ]);
        let said = tool::succeeds(
            {
                h2load.arg(&body).arg(&url);
                h2load
            },
            120,
        )
        .await?;
        let taken = format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx");
        ensure!(said.contains(&taken), "{options:?}: {said}");
        ensure!(said.contains(&format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout")), "{said}");
    }
    all_is_done(&host, 60).await;
    let status = host.get("/v1/status").await?;
    // It says that the device came.
    let presence = host.all("/v1/readings?ingress=devices").await?.len();
    ensure!(status["store"]["journal_readings"] == 3 * REQUESTS + presence, "{}", status["store"]);
    let lines = std::fs::read_to_string(folder.path().join("sandbar-data/out.jsonl"))?.lines().count();
    ensure!(lines == 3 * REQUESTS, "{lines} lines");
    Ok(())
}

/// While an attack goes on, others are answered soon.
async fn stays_available(host: &Host, url: &str, options: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut slowhttptest = Command::new(tool::path("slowhttptest"));
    slowhttptest.args(options).args(["-c", "200", "-r", "100", "-i", "1", "-l", "7", "-u", url]);
    slowhttptest.current_dir(folder.path());
    let mut sender = Sender::new(host).await?;
    let mut attack = tokio::spawn(tool::run(slowhttptest, 60));
    let (mut slowest, mut answered) = (Duration::ZERO, 0);
    let said = loop {
        tokio::select! {
            said = &mut attack => break said??,
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let began = Instant::now();
        sender.send("/hooks/normal", "{}").await.context("to the webhook")?;
        let status = tokio::time::timeout(Duration::from_secs(10), host.get("/v1/status")).await;
        status.context("the API does not answer")??;
        slowest = slowest.max(began.elapsed());
        answered += 1;
    };
    ensure!(
        said.stdout.contains("exit status") || said.stderr.contains("exit status") || said.code == Some(0),
        "{said:?}"
    );
    ensure!(answered >= 8, "only {answered} requests of others were answered");
    ensure!(slowest < Duration::from_secs(3), "others waited for {slowest:?}");
    sender.check_journal(host).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_do_not_keep_others_from_being_answered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = crate::host(folder.path(), CONFIGURATION).await?;
    let web = format!("{}/hooks/slow", host.ingress("web").await?);
    let api = format!("{}/v1/readings", host.api);
    for url in [web, api] {
        for attack in [&["-H"][..], &["-B", "-f", "application/json"]] {
            stays_available(&host, &url, attack).await.with_context(|| format!("{attack:?} on {url}"))?;
        }
    }
    stays_available(&host, &format!("{}/openapi.json", host.api), &["-X", "-k", "3"])
        .await
        .context("slow readers")?;
    ensure!(host.is_running());
    crate::check_log(&host)
}
