//! The `mqtt-client` ingress and a broker that is not ours.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use serde_json::Value;

use crate::mosquitto::{Mosquitto, client, publish};

fn configuration(port: u16, version: &str, more: &str) -> String {
    format!(
        r#"
[ingress.field]
driver = "mqtt-client"
broker = {{ url = "mqtt://127.0.0.1:{port}", version = "{version}", client_id = "sandbar" }}
filters = ["sensors/#"]
qos = 2
device = ["sensors/{{device}}/#"]
command_topic = "to/{{device}}/{{command}}"
content_type = "application/json"
{more}
[module.celsius]
file = "{}"
[route.celsius]
topic = "sensors/+/temperature"
module = "celsius"
reply = true
"#,
        guest("fahrenheit-to-celsius").display()
    )
}

/// Not those that say which devices came and went.
const READINGS: &str = "/v1/readings?ingress=field";

async fn host(folder: &Path, broker: &Mosquitto, version: &str, more: &str) -> Result<Host> {
    let host = crate::host(folder, &configuration(broker.port, version, more)).await?;
    is_running(&host).await;
    Ok(host)
}

async fn is_running(host: &Host) {
    eventually("the ingress runs", 15, || async {
        let ingress = host.get("/v1/ingresses/field").await.unwrap_or_default();
        ingress["status"]["state"] == "running"
    })
    .await;
}

async fn journaled(host: &Host, count: usize) -> Result<Vec<Value>> {
    eventually("everything is journaled", 20, || async {
        host.all(READINGS).await.is_ok_and(|readings| readings.len() >= count)
    })
    .await;
    host.all(READINGS).await
}

/// So many lines, each a message of its own: `mosquitto_pub -l`.
async fn publish_lines(port: u16, qos: &str, numbers: std::ops::Range<usize>) -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut command = client("mosquitto_pub", port, "5", &["-t", "sensors/k1/count", "-q", qos, "-l"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    stdin.write_all(lines.as_bytes()).await?;
    drop(stdin);
    ensure!(child.wait().await?.success(), "mosquitto_pub failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_there_becomes_readings_here() -> Result<()> {
    for (version, publisher) in [("5", "5"), ("3.1.1", "311")] {
        let folder = tempfile::tempdir()?;
        let broker = Mosquitto::start(folder.path(), "").await?;
        publish(broker.port, "5", &["-t", "sensors/k0/kept", "-q", "1", "-r", "-m", "{\"kept\":1}"]).await?;
        let host = host(folder.path(), &broker, version, "").await?;
        for qos in ["0", "1", "2"] {
            publish(broker.port, publisher, &["-t", "sensors/k1/a", "-q", qos, "-m", "{\"a\":1}"]).await?;
        }
        let readings = journaled(&host, 4).await?;
        ensure!(readings.len() == 4, "{readings:?}");
        let kept = readings.iter().find(|reading| reading["device"] == "k0");
        ensure!(kept.is_some_and(|kept| kept["attributes"]["mqtt.retain"] == "true"), "{readings:?}");
        let others: Vec<_> = readings.iter().filter(|reading| reading["device"] == "k1").collect();
        ensure!(others.len() == 3 && others.iter().all(|reading| reading["topic"] == "sensors/k1/a"));

        // Its session goes on: what it had is not sent again, also not what is retained.
        host.terminate().await?;
        let host = Host::start(folder.path()).await?;
        is_running(&host).await;
        publish(broker.port, publisher, &["-t", "sensors/k1/a", "-q", "1", "-m", "{\"a\":2}"]).await?;
        ensure!(journaled(&host, 5).await?.len() == 5);
    }
    Ok(())
}

/// The broker has acknowledged them to their publisher; the host is killed again and again while it takes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_loses_nothing_and_takes_qos_2_once() -> Result<()> {
    const COUNT: usize = 4000;
    for qos in ["1", "2"] {
        let folder = tempfile::tempdir()?;
        let broker = Mosquitto::start(folder.path(), "").await?;
        let mut host = host(folder.path(), &broker, "5", "").await?;
        let publishing = tokio::spawn(publish_lines(broker.port, qos, 0..COUNT));
        for wait in [60, 150, 90, 200] {
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            host.kill();
            host = Host::start(folder.path()).await?;
        }
        publishing.await??;
        eventually("everything is journaled", 60, || async {
            let Ok(readings) = host.all(READINGS).await else { return false };
            let mut numbers: Vec<_> = readings.iter().filter_map(number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len() == COUNT
        })
        .await;
        let readings = host.all(READINGS).await?;
        ensure!(qos == "1" || readings.len() == COUNT, "{} readings of {COUNT} messages", readings.len());
    }
    Ok(())
}

fn number(reading: &Value) -> Option<u64> {
    let topic = reading["topic"].as_str()?;
    let payload = &reading["payload_json"];
    (topic == "sensors/k1/count").then(|| payload["n"].as_u64())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_go_out_through_the_broker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Mosquitto::start(folder.path(), "").await?;
    let _host = host(folder.path(), &broker, "5", "").await?;
    let reading = r#"{"temperature":71.6,"unit":"F"}"#;
    let ask = ["-t", "sensors/k1/temperature", "-e", "answers/7", "-q", "1", "-m", reading, "-W", "10"];
    let said = sandbar_tests::tool::succeeds(client("mosquitto_rr", broker.port, "5", &ask), 20).await?;
    let answer: Value = serde_json::from_str(said.trim())?;
    ensure!(answer["temperature"] == 22.0, "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_shares_what_is_published() -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let broker = Mosquitto::start(folders[0].path(), "").await?;
    let mut hosts = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let text = configuration(broker.port, "5", "")
            .replace("\"sensors/#\"", "\"$share/hosts/sensors/#\"")
            .replace("client_id = \"sandbar\"", &format!("client_id = \"host-{number}\""));
        let host = crate::host(folder.path(), &text).await?;
        is_running(&host).await;
        hosts.push(host);
    }
    publish_lines(broker.port, "1", 0..200).await?;
    eventually("both have taken their share", 20, || async {
        let mut counts = Vec::new();
        for host in &hosts {
            counts.push(host.all(READINGS).await.map_or(0, |readings| readings.len()));
        }
        counts.iter().sum::<usize>() == 200 && counts.iter().all(|count| *count > 0)
    })
    .await;
    Ok(())
}
