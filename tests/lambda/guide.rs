//! docs/guides/lambda.md as somebody follows it on the command line: what a module may do, a version tried, shadowed,
//! given a share, promoted and taken back, a reading's why, logs as they come, and once more.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::all_is_done;
use sandbar_tests::tool::succeeds;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::trials::another;

/// What the command says; it must be done.
async fn says(host: &Host, arguments: &[&str]) -> Result<String> {
    succeeds(host.cli(arguments), 60).await
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    Ok(())
}

/// Sends through the command line, and waits until it is handled and delivered; its id.
async fn send(host: &Host, payload: &str) -> Result<String> {
    let id = says(host, &["send", "in/a", payload]).await?.trim().to_owned();
    all_is_done(host, 30).await;
    Ok(id)
}

/// Version 1 counts what it is sent, in `wasi:keyvalue`; 2 does the same in other bytes; 3 rejects what it is sent.
async fn start(folder: &Path) -> Result<Host> {
    let host = crate::host(folder, "").await?;
    let (first, second) = (guest("permitted"), folder.join("second.wasm"));
    std::fs::write(&second, another(&std::fs::read(&first)?))?;
    let first = first.display().to_string();
    let deployed = says(&host, &["deploy", "m", &first, "--topic", "in/#", "--sink", "out"]).await?;
    has(
        &deployed,
        &[
            "version  1, active",
            "imports  ",
            "wasi:keyvalue/store@0.2.0-draft\n",
            "denied   ",
            " on m: every request is denied (permissions.http)",
            " on m: clocks show the reading's time (permissions.clock)",
            " on m: random numbers depend on the reading alone (permissions.random)",
        ],
    )?;
    let denied = " on m: every request is denied (permissions.http)";
    for (file, version, denied) in [(second, "2", denied), (guest("hostile"), "3", "")] {
        let said = says(&host, &["deploy", "m", &file.display().to_string(), "--no-activate"]).await?;
        let next = format!("next     sandbar modules activate m {version}");
        has(&said, &[&format!("version  {version}, not active"), denied, &next])?;
        ensure!(version == "2" || !said.contains("denied"), "{said}");
    }
    Ok(host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_tried_shadowed_given_a_share_promoted_and_taken_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    for _ in 0..3 {
        send(&host, "count").await?;
    }
    let second = folder.path().join("second.wasm").display().to_string();
    let same = "3 readings tried: 3 the same, 0 different, 0 failed; nothing was kept";
    has(&says(&host, &["try", &second, "--from", "m", "--last", "100"]).await?, &[same])?;
    has(&says(&host, &["try", "--version", "2", "--from", "in/#", "--route", "m"]).await?, &[same])?;
    let tried = says(&host, &["try", "--version", "3", "--from", "m", "--last", "1"]).await?;
    has(
        &tried,
        &["- message did/count", "+ failed: ", "1 readings tried: 0 the same, 1 different, 1 failed"],
    )?;

    has(&says(&host, &["shadow", "m", "3"]).await?, &["version 3 is on trial beside version 1"])?;
    send(&host, "count").await?;
    has(&says(&host, &["trial", "m"]).await?, &["version 3: shadow, since ", "it failed: no such mode"])?;
    let ended = says(&host, &["rollback", "m"]).await?;
    has(&ended, &["the trial is over, version 1 stays active"])?;
    has(
        &says(&host, &["trial", "m"]).await?,
        &["nothing is on trial; that of version 3 ended at", "by hand"],
    )?;

    says(&host, &["canary", "m", "2", "--percent", "100"]).await?;
    let id = send(&host, "count").await?;
    has(&says(&host, &["trial", "m"]).await?, &["version 2: canary, 100"])?;
    has(
        &says(&host, &["trace", &id]).await?,
        &["route m  took it", "version 2 (canary)", "to sink/out", "done"],
    )?;
    has(&says(&host, &["promote", "m"]).await?, &["m: version 2 is active"])?;
    has(&says(&host, &["rollback", "m"]).await?, &["m: version 1 is active, was 2"])?;

    says(&host, &["canary", "m", "3", "--percent", "100", "--errors", "5", "--after", "2"]).await?;
    for _ in 0..2 {
        send(&host, "count").await?;
    }
    eventually("the canary is given up on", 30, async || {
        let said = says(&host, &["trial", "m"]).await.unwrap_or_default();
        has(&said, &["that of version 3 ended at", "it failed at 2 of 2 readings"]).is_ok()
    })
    .await;
    // None of all this cost a reading, or its place in the count.
    let counted: Vec<_> = crate::delivered(&host).iter().map(|line| line["payload"].to_string()).collect();
    ensure!(counted == ["1", "2", "3", "4", "5", "6", "7"].map(|n| format!("\"{n}\"")), "{counted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_and_dead_letters_are_handled_once_more_as_a_trial_and_for_real() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    send(&host, "count").await?;
    says(&host, &["modules", "activate", "m", "3"]).await?;
    send(&host, "count").await?;
    says(&host, &["modules", "activate", "m", "1"]).await?;

    let of_route = ["replay", "--route", "m", "--version"];
    let all = ["--since", "2020-01-01T00:00:00Z"];
    let trial = says(&host, &[&of_route[..], &["2"], &all, &["--trial"]].concat()).await?;
    has(&trial, &["2 readings tried: 2 the same, 0 different, 0 failed; nothing was kept"])?;
    let trial = says(&host, &[&of_route[..], &["3", "--dead-letters", "--trial"]].concat()).await?;
    has(&trial, &["- message did/count  1", "+ failed: no such mode", "1 readings tried", "1 failed"])?;
    let tried = says(&host, &["try", "--version", "2", "--from", "m", "--dead-letters"]).await?;
    has(&tried, &["1 readings tried: 1 the same"])?;
    ensure!(crate::delivered(&host).len() == 1, "nothing was kept of it");

    let (letters, journal) = (vec!["2", "--dead-letters"], [&["2"][..], &all].concat());
    for (arguments, handled) in [(letters, 1), (journal, 2)] {
        let begun = says(&host, &[&of_route[..], &arguments[..], &["--json"]].concat()).await?;
        let begun: serde_json::Value = serde_json::from_str(&begun)?;
        let id = begun["id"].as_str().context("no id")?;
        eventually("the replay is over", 60, async || {
            host.get(&format!("/v1/replays/{id}")).await.is_ok_and(|replay| replay["state"] == "done")
        })
        .await;
        all_is_done(&host, 30).await;
        has(&says(&host, &["replay", "show", id]).await?, &[id, "done"])?;
        let lines = crate::delivered(&host);
        let of_it = lines.iter().filter(|line| line["attributes"]["sandbar.replay"] == id).count();
        ensure!(of_it == handled, "{of_it} deliveries of {arguments:?}");
    }
    ensure!(host.get("/v1/status").await?["store"]["dead_letters"] == 0);
    Ok(())
}

async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) -> Result<String> {
    let found = async {
        loop {
            let line = lines.next_line().await?.context("it has ended")?;
            if line.contains(part) {
                return Ok(line);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found)
        .await
        .with_context(|| format!("no line with {part}"))?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_shown_as_far_as_they_are_kept_and_then_as_they_come() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    let first = send(&host, "log before").await?;
    let mut command = host.cli(&["logs", "m", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let before = line_with(&mut lines, "before").await?;
    ensure!(before.contains(&first) && before.contains("warn"), "{before}");
    for payload in ["log meanwhile", "log after"] {
        let id = send(&host, payload).await?;
        let line = line_with(&mut lines, payload.trim_start_matches("log ")).await?;
        ensure!(line.contains(&id), "{line}");
    }
    child.kill().await?;
    let of_one = says(&host, &["logs", "m", "--reading", &first]).await?;
    ensure!(of_one.lines().count() == 1 && of_one.contains("before"), "{of_one}");
    Ok(())
}
