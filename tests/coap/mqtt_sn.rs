//! mqtt-sn-12, a client for MQTT-SN 1.2 from PyPI.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::{eventually, tool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{check_log, has_reading, host};

fn peer(program: &str, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool::python_peer(program));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_at_every_quality_of_service_and_subscribes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let text = format!(
        "[ingress.it]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:0\"\n\
         [ingress.it.mqtt_sn]\nlisten = \"127.0.0.1:{port}\"\ntopics = [{{ id = 7, topic = \"fixed/7\" }}]\n"
    );
    let host = host(folder.path(), &text).await?;
    for qos in ["0", "1", "2"] {
        let arguments = ["-i", "node-1", "-t", "nodes/node-1/t", "-m", &format!("at {qos}"), "-q", qos];
        tool::succeeds(peer("mqtt_sn_pub", port, &arguments), 30).await?;
        eventually("it is a reading", 10, || async {
            has_reading(&host, "it", "nodes/node-1/t", &format!("at {qos}")).await
        })
        .await;
    }
    tool::succeeds(peer("mqtt_sn_pub", port, &["-T", "7", "-m", "without", "-q", "-1"]), 30).await?;
    eventually("it is a reading", 10, || async { has_reading(&host, "it", "fixed/7", "without").await })
        .await;
    let mut waits = peer("mqtt_sn_sub", port, &["-i", "node-2", "-t", "led/#", "-q", "1"]);
    waits.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut waits = waits.spawn()?;
    let mut lines = BufReader::new(waits.stdout.take().context("its output")?).lines();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let arguments = ["-i", "node-1", "-t", "led/node-2", "-m", "on", "-q", "1"];
    tool::succeeds(peer("mqtt_sn_pub", port, &arguments), 30).await?;
    let said = tokio::time::timeout(Duration::from_secs(20), lines.next_line());
    let said = said.await.context("nothing came to the subscriber")??.unwrap_or_default();
    ensure!(said.contains("on"), "{said}");
    check_log(&host)
}
