//! No space is left.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::sender::{Answer, Sender};
use sandbar_tests::tool;
use serde_json::{Value, json};

use crate::{check_all, configure, is_ready, reasons};

/// The host in a mount namespace of its own, in which its data directory is a disk of 24 MiB. Needs root, or
/// a kernel that gives every user namespaces.
pub(crate) fn on_a_small_disk(folder: &Path) -> Result<Command> {
    let data = folder.join("sandbar-data");
    std::fs::create_dir(&data)?;
    let mut command = Command::new(tool::path("unshare"));
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
    command.args(["sh", "-c", r#"mount -t tmpfs -o size=24m,mode=700 none "$0" && exec "$@""#]);
    command.arg(data).arg(binary());
    Ok(command)
}

/// Takes what is left of the disk.
pub(crate) fn fill(ballast: &Path) -> Result<()> {
    let mut file = std::fs::File::create(ballast)?;
    for size in [1 << 20, 4096, 1] {
        loop {
            match file.write_all(&vec![7; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_refused_while_it_lasts_and_nothing_acknowledged_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let mut host = Host::start_with(folder.path(), on_a_small_disk(folder.path())?).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/before", 50).await?;

    for round in 0..2 {
        fill(&host.data("ballast"))?;
        // What the file has room for inside is still taken.
        let (status, problem) = refusal(&mut sender).await?;
        ensure!(status == 507 && problem["code"] == "disk_full", "{status} {problem}");
        let reasons = reasons(&host).await?;
        ensure!(reasons.contains("the disk is full"), "{reasons}");
        for _ in 0..10 {
            let answer = sender.offer("/d/during", b"{}".to_vec()).await?;
            ensure!(!answer.is_taken(), "taken while the disk is full");
        }
        let reading = json!({ "topic": "sensors/api", "payload": "x" });
        let answer = host.request(Method::POST, "/v1/readings").json(&reading).send().await?;
        let status = answer.status();
        let problem: Value = serde_json::from_str(&answer.text().await?)?;
        ensure!(status == 507 && problem["code"] == "disk-full", "{status} {problem}");

        std::fs::remove_file(host.data("ballast"))?;
        eventually("the host is ready again", 30, || async { is_ready(&host).await }).await;
        sender.send_many(&format!("/d/after{round}"), 20).await?;
    }
    check_all(&host, &sender).await?;
    ensure!(host.is_running());
    ensure!(host.terminate().await? == Some(0));
    Ok(())
}

/// The committer logged that the storage fails, where that could not be written, and was gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_ends_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let on_a_small_disk = on_a_small_disk(folder.path())?;
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 2>/dev/full"#]);
    command.arg(on_a_small_disk.get_program()).args(on_a_small_disk.get_args());
    let host = Host::start_with(folder.path(), command).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/before", 5).await?;
    fill(&host.data("ballast"))?;
    let (status, problem) = refusal(&mut sender).await?;
    ensure!(status == 507 && problem["code"] == "disk_full", "{status} {problem}");
    std::fs::remove_file(host.data("ballast"))?;
    eventually("the host is ready again", 30, || async { is_ready(&host).await }).await;
    sender.send_many("/d/after", 5).await?;
    check_all(&host, &sender).await?;
    ensure!(host.terminate().await? == Some(0));
    Ok(())
}

/// Sends 64 KiB at a time until that is refused.
async fn refusal(sender: &mut Sender) -> Result<(u16, Value)> {
    for _ in 0..500 {
        if let Answer::Refused { status, problem } = sender.offer("/plain/big", vec![b'x'; 64 << 10]).await? {
            return Ok((status, problem));
        }
    }
    None.context("never refused, though the disk is full")
}
