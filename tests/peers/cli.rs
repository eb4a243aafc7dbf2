//! The command line as people use it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::{Host, binary, guest};
use sandbar_tests::sender::all_is_done;
use sandbar_tests::tool::{self, Said, succeeds};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

async fn host(folder: &Path) -> Result<Host> {
    let hostile = guest("hostile");
    let configuration = r#"
[sink.out]
kind = "file"
path = "sandbar-data/out.jsonl"
"#;
    let host = crate::host(folder, configuration).await?;
    let module = hostile.display().to_string();
    let deploy = ["deploy", "fix-me", module.as_str(), "--topic", "work/#", "--sink", "out"];
    succeeds(host.cli(&deploy), 60).await?;
    Ok(host)
}

async fn json(host: &Host, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&succeeds(host.cli(arguments), 30).await?)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_on_is_tried_again_once_it_is_mended() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let id = succeeds(host.cli(&["send", "work/a", "reject", "--device", "a"]), 30).await?.trim().to_owned();
    succeeds(host.cli(&["send", "work/b", "reject"]), 30).await?;
    all_is_done(&host, 30).await;

    let letters = json(&host, &["dead-letters", "--json"]).await?;
    let letters = letters["items"].as_array().context("no items")?;
    ensure!(letters.len() == 2, "{letters:?}");
    let letter = letters.iter().find(|letter| letter["reading"]["id"] == *id).context("it is not there")?;
    ensure!(letter["cause"].as_str().unwrap_or_default().contains("rejected as told"), "{letter}");
    let letter = letter["id"].as_str().context("no id")?;
    let shown = json(&host, &["dead-letters", "show", letter]).await?;
    ensure!(shown["reading"]["payload"] == "reject", "{shown}");

    let counter = guest("counter").display().to_string();
    succeeds(host.cli(&["deploy", "fix-me", &counter]), 60).await?;
    succeeds(host.cli(&["dead-letters", "redrive", letter]), 30).await?;
    let said = succeeds(host.cli(&["dead-letters", "redrive", "--all"]), 30).await?;
    ensure!(said.trim() == "tried again: 1", "{said}");
    all_is_done(&host, 30).await;
    let letters = json(&host, &["dead-letters", "--json"]).await?;
    ensure!(letters["items"] == serde_json::json!([]), "{letters}");
    let lines = std::fs::read_to_string(host.data("out.jsonl"))?;
    ensure!(lines.lines().count() == 2 && lines.contains(&id), "{lines}");
    Ok(())
}

async fn send_without_end(host: &Host) -> anyhow::Error {
    loop {
        for device in ["d2", "d1"] {
            if let Err(error) = succeeds(host.cli(&["send", "work/x", "ok", "--device", device]), 30).await {
                return error;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_what_is_sent_and_what_comes_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let mut tail = host.cli(&["tail", "--json", "--device", "d1"]);
    let mut tail = tail.stdout(std::process::Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().context("no stdout")?).lines();
    // Nobody says when the tail has begun: readings are sent until it shows one.
    let shown = tokio::time::timeout(Duration::from_secs(30), lines.next_line());
    let first = tokio::select! {
        line = shown => line.context("tail shows nothing")??.context("tail has ended")?,
        error = send_without_end(&host) => return Err(error),
    };
    let first: Value = serde_json::from_str(&first)?;
    ensure!(first["event"] == "reading" && first["topic"] == "work/x" && first["device"] == "d1", "{first}");
    tail.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_listings_are_for_people_and_for_programs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let id = succeeds(host.cli(&["send", "work/a", "ok"]), 30).await?.trim().to_owned();
    all_is_done(&host, 30).await;
    let status = json(&host, &["status", "--json"]).await?;
    ensure!(status["ready"] == true && status["store"]["journal_readings"] == 1, "{status}");
    ensure!(status["routes"][0]["name"] == "fix-me" && status["routes"][0]["handled"] == 1, "{status}");
    let text = succeeds(host.cli(&["status"]), 30).await?;
    ensure!(text.contains("ready") && text.contains("fix-me"), "{text}");
    for listing in ["modules", "routes", "ingresses", "sinks", "readings", "outbox", "dead-letters"] {
        let items = json(&host, &[listing, "--json"]).await?;
        ensure!(items["items"].is_array(), "{listing}: {items}");
        succeeds(host.cli(&[listing]), 30).await?;
    }
    let reading = json(&host, &["readings", "show", &id]).await?;
    ensure!(reading["payload"] == "ok" && reading["ingress"] == "api", "{reading}");
    let said = tool::run(host.cli(&["readings", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]), 30).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("not-found"), "{said:?}");
    let said = tool::run(host.cli(&["status", "--token", "wrong"]), 30).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("does not accept this token"), "{said:?}");
    Ok(())
}

async fn check(folder: &Path, configuration: &str) -> Result<Said> {
    std::fs::write(folder.join("checked.toml"), configuration)?;
    let mut command = tokio::process::Command::new(binary());
    command.args(["check", "checked.toml"]).current_dir(folder);
    tool::run(command, 30).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_checked_without_a_host_and_the_wrong_line_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let module = format!("[module.m]\nfile = \"{}\"\n", guest("counter").display());
    let good = format!("{module}[route.a]\nmodule = \"m\"\ntopic = \"a/#\"\n");
    let said = check(folder.path(), &good).await?;
    ensure!(said.code == Some(0) && said.stdout.contains("checked.toml is sound"), "{said:?}");
    for (bad, line, what) in [
        ("[route.a]\ntopic = \"a/#/b\"\n", 2, "topic"),
        ("[host]\n\njournal_mb = 1\n", 3, "journal_mb"),
        ("[sink.a]\nkind = \"carrier-pigeon\"\n", 2, "carrier-pigeon"),
        ("[ingress.a]\ndriver = \"webhook\"\nlisten = \"nowhere\"\npaths = []\n", 3, "listen"),
        ("[module.m]\nfile = \"missing.wasm\"\n", 2, "missing.wasm"),
        ("[route.a]\nmodule = \"n\"\n", 2, "there is no module `n`"),
        ("[route.a\n", 1, ""),
    ] {
        let said = check(folder.path(), bad).await?;
        let place = format!("checked.toml:{line}: ");
        ensure!(
            said.code == Some(1) && said.stderr.contains(&place) && said.stderr.contains(what),
            "{bad}{said:?}"
        );
    }
    ensure!(!folder.path().join("sandbar-data").exists(), "a check has left something behind");
    Ok(())
}
