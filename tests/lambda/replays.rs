//! Tries and replays of what the journal has; one that is interrupted by `kill -9` goes on where it was.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::{Sender, all_is_done};
use sandbar_tests::tool;
use serde_json::{Value, json};

use crate::{delivered, done, upload};

const READINGS: usize = 1500;

async fn start(folder: &std::path::Path) -> Result<Host> {
    let host = crate::host(folder, "").await?;
    upload(&host, "m", &guest("chain"), true).await?;
    Ok(host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_replay_resumes_and_doubles_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut host = start(folder.path()).await?;
    upload(&host, "m", &guest("counter"), true).await?;
    // Nothing goes out at first: the sink comes with the replay.
    let table = json!({ "module": "m", "topic": ["in/#"], "key": "none" });
    done(&host, Method::PUT, "/v1/routes/r", table).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/in/a", READINGS).await?;
    all_is_done(&host, 60).await;
    let table = json!({ "module": "m", "topic": ["in/#"], "key": "none", "sinks": ["out"] });
    done(&host, Method::PUT, "/v1/routes/r", table).await?;
    let asked = json!({ "route": "r", "since": "2020-01-01T00:00:00Z" });
    let replay = done(&host, Method::POST, "/v1/replays", asked).await?;
    let path = format!("/v1/replays/{}", replay["id"].as_str().context("no id")?);
    for _ in 0..3 {
        host.kill();
        host = Host::start(folder.path()).await?;
    }
    eventually("the replay is over", 60, || async {
        host.get(&path).await.is_ok_and(|replay| replay["state"] == "done")
    })
    .await;
    all_is_done(&host, 60).await;
    let replay = host.get(&path).await?;
    ensure!(replay["handled"] == READINGS && replay["failed"] == 0, "{replay}");
    let lines = delivered(&host);
    let ids: HashSet<_> = lines.iter().map(|line| line["reading"].to_string()).collect();
    ensure!(
        lines.len() == READINGS && ids.len() == READINGS,
        "{} lines, {} readings",
        lines.len(),
        ids.len()
    );
    // Its state is its own, and kept through the kills: it counts from 1, and each once.
    for (index, line) in lines.iter().enumerate() {
        ensure!(line["payload"]["n"] == index + 1, "line {index}: {line}");
        ensure!(line["attributes"]["sandbar.replay"] == replay["id"], "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tries_traces_and_shows_logs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    upload(&host, "m", &guest("counter"), true).await?;
    let table = json!({ "module": "m", "topic": ["in/#"], "sinks": ["out"] });
    done(&host, Method::PUT, "/v1/routes/r", table).await?;
    let id = crate::send(&host, "in/a", "ok").await?;
    all_is_done(&host, 60).await;
    let hostile = guest("hostile").display().to_string();
    let tried = tool::succeeds(host.cli(&["try", &hostile, "--from", "r", "--last", "5"]), 30).await?;
    ensure!(tried.contains("1 readings tried: 0 the same, 1 different, 0 failed"), "{tried}");
    ensure!(tried.contains("output 0 is another one"), "{tried}");
    let tried = tool::succeeds(host.cli(&["try", &hostile, "--from", "in/#", "--json"]), 30).await?;
    let tried: Value = serde_json::from_str(&tried)?;
    ensure!(
        tried["tried"] == 1 && tried["items"][0]["candidate"]["outputs"][0]["topic"] == "hostile",
        "{tried}"
    );
    let trace = tool::succeeds(host.cli(&["trace", &id]), 30).await?;
    for part in ["route r  took it", "version 2 (active)", "to sink/out", "done"] {
        ensure!(trace.contains(part), "{part}: {trace}");
    }
    upload(&host, "m", &guest("hostile"), true).await?;
    crate::send(&host, "in/a", "reject").await?;
    eventually("it is given up on", 30, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["dead_letters"] == 1)
    })
    .await;
    let logs = tool::succeeds(host.cli(&["logs", "r"]), 30).await?;
    ensure!(
        logs.contains("attempt 1 of 5 failed: rejected: rejected as told; it is a dead letter"),
        "{logs}"
    );
    let replayed =
        tool::succeeds(host.cli(&["replay", "--route", "r", "--dead-letters", "--version", "2"]), 30);
    replayed.await?;
    eventually("the dead letter is handled", 30, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["dead_letters"] == 0)
    })
    .await;
    let list = tool::succeeds(host.cli(&["replay", "list"]), 30).await?;
    ensure!(list.contains("done"), "{list}");
    Ok(())
}
