//! The device does not take what it is given: fdatasync says EIO.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::sender::{Answer, Sender};
use sandbar_tests::tool;

use crate::{check_all, configure, is_ready, reasons};

/// The host, in each of whose threads the calls `when` to fdatasync and fsync fail.
fn where_syncs_fail(when: &str) -> Command {
    let mut command = Command::new(tool::path("strace"));
    // Daemonized, so that the host is our child, and not strace.
    command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]);
    command.arg("-e").arg(format!("inject=fdatasync,fsync:error=EIO:when={when}")).arg(binary());
    command
}

/// Sends until that is refused; says what was answered.
async fn refusal(sender: &mut Sender) -> Result<String> {
    for n in 0..500 {
        if let Answer::Refused { status, problem } =
            sender.offer(&format!("/d/{}", n % 3), b"{}".to_vec()).await?
        {
            return Ok(format!("{status} {problem}"));
        }
    }
    None.context("500 readings were taken, though the disk fails")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_refused_by_name_until_the_disk_is_well_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start_with(folder.path(), where_syncs_fail("60..63")).await?;
    let mut sender = Sender::new(&host).await?;
    let refused = refusal(&mut sender).await?;
    ensure!(refused.starts_with("503") && refused.contains(r#""code":"storage""#), "{refused}");
    let reasons = reasons(&host).await?;
    ensure!(reasons.contains("storage fails"), "{reasons}");
    ensure!(sender.acknowledged.len() > 10, "refused from the beginning: {refused}");

    eventually("the host is ready again", 60, || async { is_ready(&host).await }).await;
    sender.send_many("/d/after", 20).await?;
    check_all(&host, &sender).await?;
    host.kill();
    check_all(&Host::start(folder.path()).await?, &sender).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_while_its_disk_fails_has_what_it_acknowledged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start_with(folder.path(), where_syncs_fail("40+")).await?;
    let mut sender = Sender::new(&host).await?;
    refusal(&mut sender).await?;
    reasons(&host).await?;
    host.kill();

    let host = Host::start(folder.path()).await?;
    sender.follow(&host).await?;
    sender.send_many("/d/after", 10).await?;
    check_all(&host, &sender).await
}
