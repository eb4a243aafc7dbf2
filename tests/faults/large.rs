//! Payloads that have files of their own, on disks that are full, fail and are damaged.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::sender::{Answer, Sender, all_is_done};
use sandbar_tests::tool;
use serde_json::Value;

use crate::disk_full::{fill, on_a_small_disk};
use crate::{check_all, configure, is_ready};

fn picture(of: u8) -> Vec<u8> {
    vec![of; 3 << 20]
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder.join("sandbar-data/store.payloads"))?;
    Ok(files.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>()?)
}

/// What is journaled under the last acknowledged id.
async fn last(host: &Host, sender: &Sender) -> Result<Value> {
    let id = sender.acknowledged.last().context("nothing was acknowledged")?;
    host.get(&format!("/v1/readings/{id}")).await
}

async fn is_whole(host: &Host, sender: &Sender, of: u8) -> Result<()> {
    let reading = last(host, sender).await?;
    let expected = String::from_utf8(picture(of))?;
    ensure!(reading["payload"] == expected.as_str(), "a picture is not as it was sent");
    Ok(())
}

async fn refused(sender: &mut Sender, path: &str) -> Result<String> {
    match sender.offer(path, picture(b'x')).await? {
        Answer::Taken => anyhow::bail!("taken, though its payload cannot be written"),
        Answer::Refused { status, problem } => Ok(format!("{status} {problem}")),
    }
}

/// There is room for small readings, but not for a picture: it alone is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_has_no_room_is_refused_and_small_readings_are_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start_with(folder.path(), on_a_small_disk(folder.path())?).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/before", 20).await?;
    ensure!(sender.offer("/plain/picture", picture(b'a')).await?.is_taken());
    is_whole(&host, &sender, b'a').await?;

    fill(&host.data("ballast"))?;
    {
        let ballast = std::fs::OpenOptions::new().write(true).open(host.data("ballast"))?;
        ballast.set_len(ballast.metadata()?.len() - (2 << 20))?;
    }
    for _ in 0..3 {
        let said = refused(&mut sender, "/plain/picture").await?;
        ensure!(said.starts_with("507") && said.contains(r#""code":"disk_full""#), "{said}");
        sender.send_many("/d/during", 10).await?;
        ensure!(is_ready(&host).await, "the host takes readings, and says that it does not");
    }
    std::fs::remove_file(host.data("ballast"))?;
    ensure!(sender.offer("/plain/picture", picture(b'b')).await?.is_taken());
    is_whole(&host, &sender, b'b').await?;
    check_all(&host, &sender).await?;
    ensure!(host.get("/v1/status").await?["store"]["payload_files"] == 2);
    ensure!(host.terminate().await? == Some(0));
    Ok(())
}

/// The folder's flush says EIO, at first: what it was for is refused, whatever is there of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_whose_flush_fails_is_refused_and_small_readings_are_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let payloads = folder.path().join("sandbar-data/store.payloads");
    let mut command = Command::new(tool::path("strace"));
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-P"]).arg(payloads);
    // Counted for each thread.
    command.arg("-e").arg("inject=fsync:error=EIO:when=1..2").arg(binary());
    let host = Host::start_with(folder.path(), command).await?;
    let mut sender = Sender::new(&host).await?;
    let said = refused(&mut sender, "/plain/picture").await?;
    ensure!(said.starts_with("503") && said.contains(r#""code":"storage""#), "{said}");
    ensure!(is_ready(&host).await, "one payload's fault is not the store's");
    sender.send_many("/d/a", 10).await?;
    let mut tries = 1;
    while !sender.offer("/plain/picture", picture(b'p')).await?.is_taken() {
        tries += 1;
        ensure!(tries < 10, "never taken again");
    }
    is_whole(&host, &sender, b'p').await?;
    eventually("only what is needed is there", 30, || async {
        files(folder.path()).is_ok_and(|f| f.len() == 1)
    })
    .await;
    host.kill();
    let host = Host::start(folder.path()).await?;
    is_whole(&host, &sender, b'p').await?;
    check_all(&host, &sender).await
}

/// A payload that the disk has changed is not handed on as if it were what was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_payload_is_a_dead_letter_that_says_so_and_what_comes_behind_it_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    let mut sender = Sender::new(&host).await?;
    let put = async |path: &str, table: &'static str| {
        let request = host.request(Method::PUT, path).header("content-type", "application/json");
        let answer = request.body(table).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    };
    // Nobody listens there.
    put("/v1/sinks/none", r#"{"kind": "http", "url": "http://127.0.0.1:9/"}"#).await?;
    put("/v1/routes/pictures", r#"{"topic": "plain/#", "sinks": ["none"]}"#).await?;
    ensure!(sender.offer("/plain/picture", picture(b'p')).await?.is_taken());
    eventually("it waits for the sink", 30, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["outbox"] == 1)
    })
    .await;
    host.kill();
    let [file] = &files(folder.path())?[..] else { anyhow::bail!("not one file") };
    let mut bytes = std::fs::read(file)?;
    bytes[1 << 20] ^= 1;
    std::fs::write(file, bytes)?;

    let host = Host::start(folder.path()).await?;
    eventually("it is given up on", 30, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["dead_letters"] == 1)
    })
    .await;
    let letters = host.all("/v1/dead-letters").await?;
    ensure!(
        letters[0]["cause"].as_str().is_some_and(|cause| cause.ends_with("is damaged on disk")),
        "{letters:?}"
    );
    sender.follow(&host).await?;
    sender.send_many("/d/a", 5).await?;
    all_is_done(&host, 60).await;
    Ok(())
}
