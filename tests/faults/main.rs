//! The real binary on disks that fill up, fail and are damaged, made so by the kernel.

mod damage;
mod disk_full;
mod large;
mod start;
mod sync_fails;

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::{Sender, all_is_done, check_lines};
use serde_json::Value;

/// `/d/{device}` is counted by a handler and written to a file; `/plain/…` is only journaled.
fn configure(folder: &Path) -> Result<()> {
    let text = format!(
        r#"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [
  {{ path = "/d/{{device}}", topic = "sensors/{{device}}" }},
  {{ path = "/plain/{{*rest}}", topic = "plain/{{rest}}" }},
]
[module.counter]
file = "{counter}"
[sink.file]
kind = "file"
path = "sandbar-data/out.jsonl"
[sink.file.offering]
first_wait_ms = 5
longest_wait_ms = 100
[route.count]
topic = "sensors/#"
module = "counter"
sinks = ["file"]
attempts = {{ max = 1000, first_wait_ms = 5, longest_wait_ms = 100 }}
"#,
        counter = guest("counter").display(),
    );
    Ok(std::fs::write(folder.join("sandbar.toml"), text)?)
}

/// Everything acknowledged is in the journal; what went to `/d/…` was handled, and is in the file once.
async fn check_all(host: &Host, sender: &Sender) -> Result<()> {
    all_is_done(host, 60).await;
    sender.check_journal(host).await?;
    let dead = host.all("/v1/dead-letters").await?;
    ensure!(dead.is_empty(), "something was given up on: {}", dead[0]);
    let mut handled = Vec::new();
    for reading in host.all("/v1/readings?topic=sensors/%23").await? {
        handled.extend(reading["id"].as_str().map(str::to_owned));
    }
    check_lines(&host.data("out.jsonl"), &handled)
}

/// What the API says of a host that cannot write: 503, with the reasons.
async fn reasons(host: &Host) -> Result<String> {
    let answer = host.http.get(format!("{}/readyz", host.api)).send().await?;
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(status == 503 && body["ready"] == false, "{status} {body}");
    let status = host.get("/v1/status").await?;
    ensure!(status["ready"] == false && status["problems"] == body["reasons"], "{status}\nis not as\n{body}");
    Ok(body["reasons"].to_string())
}

async fn is_ready(host: &Host) -> bool {
    let answer = host.http.get(format!("{}/readyz", host.api)).send().await;
    answer.is_ok_and(|answer| answer.status() == 200)
}
