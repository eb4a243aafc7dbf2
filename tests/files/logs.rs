//! Logs that logrotate rotates, and a host that is killed meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_tests::tool;
use tokio::process::Command;

use crate::{check_log, host, sh, wait};

const SETTINGS: &str = "mode = \"tail\"\npath = \"logs\"\npatterns = [\"*.log\"]";

async fn logrotate(folder: &std::path::Path, how: &str) -> Result<()> {
    let rules = format!("{}/logs/app.log {{\n rotate 10\n {how}\n}}\n", folder.display());
    std::fs::write(folder.join("rules"), rules)?;
    let mut command = Command::new(tool::path("logrotate"));
    command.args(["--force", "--state", "state", "rules"]).current_dir(folder);
    tool::succeeds(command, 60).await?;
    Ok(())
}

/// Lines `from` to `to`, by a program that keeps the log open.
async fn append(folder: &std::path::Path, from: usize, to: usize) -> Result<String> {
    sh(folder, &format!("seq {from} {to} >>logs/app.log")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_read_once_through_rotations_and_kills() -> Result<()> {
    for how in [
        "create\n su root root",
        "copytruncate\n su root root",
        "create\n dateext\n dateformat -%s\n extension .log\n su root root",
    ] {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        sh(path, "mkdir logs; chmod 755 logs").await?;
        let mut running = Some(host(path, SETTINGS).await?);
        let mut written = 0;
        for round in 0..6 {
            append(path, written + 1, written + 50).await?;
            written += 50;
            // Sometimes the host is not there when it is rotated, sometimes it has not read all yet.
            if round % 3 == 1
                && let Some(host) = running.take()
            {
                host.kill();
            }
            if round % 2 == 0
                && let Some(host) = &running
            {
                wait(host, written).await?;
            }
            logrotate(path, how).await?;
            if running.is_none() {
                append(path, written + 1, written + 50).await?;
                written += 50;
                running = Some(host(path, SETTINGS).await?);
            }
            // dateformat %s tells seconds.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let Some(host) = running else { anyhow::bail!("no host runs") };
        let read = wait(&host, written).await?;
        let lines: Vec<usize> = read.iter().map(|read| read.payload.parse().unwrap_or_default()).collect();
        let expected: Vec<usize> = (1..=written).collect();
        ensure!(lines == expected, "{how}: {lines:?}");
        ensure!(!host.stderr().contains("lines may be missing"), "{}", host.stderr());
        check_log(&host)?;
    }
    Ok(())
}
