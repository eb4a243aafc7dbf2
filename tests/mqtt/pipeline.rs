//! Publish → handler → subscriber, and replies to the response topic.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::host::{Host, guest};
use sandbar_tests::tool;
use serde_json::Value;

use crate::mosquitto::{Subscriber, client, publish};

async fn host(folder: &Path) -> Result<(Host, u16)> {
    let port = sandbar_tests::free_port()?;
    let configuration = format!(
        r#"
[ingress.mqtt]
driver = "mqtt"
listen = "127.0.0.1:{port}"
device_topics = ["sensors/{{device}}/#"]
content_type = "application/json"
[module.celsius]
file = "{}"
[sink.out]
kind = "local-mqtt"
ingress = "mqtt"
[route.celsius]
topic = ["sensors/+/temperature", "ask/temperature"]
module = "celsius"
sinks = ["out"]
reply = true
"#,
        guest("fahrenheit-to-celsius").display()
    );
    Ok((crate::host(folder, &configuration).await?, port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_handled_and_published_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, port) = host(folder.path()).await?;
    for (version, expected_qos) in [("311", "1"), ("5", "1")] {
        let mut reader =
            Subscriber::start(port, version, &["-t", "celsius/#", "-t", "#", "-q", "1", "-F", "%t %q %p"])
                .await?;
        let reading = r#"{"temperature":71.6,"unit":"F"}"#;
        publish(port, version, &["-t", "sensors/k1/temperature", "-q", "1", "-m", reading]).await?;
        let mut seen = Vec::new();
        while !seen.iter().any(|line: &String| line.contains("22")) {
            seen.push(reader.next().await?);
            ensure!(seen.len() < 5, "{seen:?}");
        }
        let line = seen.last().cloned().unwrap_or_default();
        ensure!(line.contains(&format!(" {expected_qos} ")), "{line}");
        let body: Value = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap_or_default())?;
        ensure!(body["temperature"] == 22.0 && body["unit"] == "C", "{body}");
    }
    let readings = host.all("/v1/readings?ingress=mqtt&topic=sensors/k1/temperature").await?;
    ensure!(readings.len() == 2 && readings[0]["device"] == "k1", "{readings:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_with_a_response_topic_is_answered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_host, port) = host(folder.path()).await?;
    let reading = r#"{"temperature":71.6,"unit":"F"}"#;
    let arguments = ["-t", "ask/temperature", "-e", "answers/7", "-q", "1", "-m", reading, "-W", "10"];
    let said = tool::succeeds(client("mosquitto_rr", port, "5", &arguments), 20).await?;
    let answer: Value = serde_json::from_str(said.trim())?;
    ensure!(answer["temperature"] == 22.0, "{answer}");
    Ok(())
}
