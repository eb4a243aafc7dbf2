//! Devices that nobody here wrote the protocols of: Python's `websockets` (the guide's own robot) and paho.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use sandbar_tests::tool;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::{ask, host_with, until, until_presence};

const GUIDE: &str = include_str!("../../docs/guides/devices.md");

/// What the guide has between the first fence of this language and the next one.
fn of_guide(language: &str) -> Result<&'static str> {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).context("no such fence")?;
    Ok(rest.split_once("```").context("no end")?.0)
}

fn python(script: &str, arguments: &[&str]) -> Result<Child> {
    let mut python = Command::new(tool::python_peer("python3"));
    python.arg("-c").arg(script).args(arguments);
    Ok(python.stdin(Stdio::piped()).kill_on_drop(true).spawn()?)
}

#[tokio::test]
async fn the_guides_robot_does_as_the_guide_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = of_guide("toml")?.replace("127.0.0.1:8081", "127.0.0.1:0");
    let host = host_with(folder.path(), &format!("[api]\nlisten = \"127.0.0.1:0\"\n{settings}")).await?;
    let address = host.ingress("robots").await?.replace("http://", "");
    let robot = of_guide("python")?.replace("127.0.0.1:8081", &address);
    let mut running = python(&robot, &["robbie"])?;
    let known = until_presence(&host, "robbie", "online").await?;
    assert_eq!(known["reached_by"], "robots");
    until(&host, "robbie", |device| device["resources"]["battery"]["value"] == 71.5).await?;
    let command = json!({ "name": "speed", "payload": 3 });
    let (status, _) = ask(&host, Method::POST, "/v1/devices/robbie/commands", &command).await?;
    assert_eq!(status, 202);
    until(&host, "robbie", |device| device["resources"]["speed"]["value"] == 3).await?;
    let query = json!({ "name": "state", "mode": "query", "answer": "id" });
    let (status, answer) = ask(&host, Method::POST, "/v1/devices/robbie/commands", &query).await?;
    assert_eq!((status, &answer["answer"]["payload_json"]["speed"]), (200, &json!(3)));
    assert_eq!(answer["answer"]["payload_json"]["id"], answer["id"], "it echoes the id");
    let desired = json!({ "value": 1 });
    ask(&host, Method::PUT, "/v1/devices/robbie/desired/led", &desired).await?;
    let reached = until(&host, "robbie", |device| device["desired"]["led"]["reached"] == true).await?;
    assert!(reached["resources"].get("id").is_none(), "{reached}");
    running.kill().await?;
    until_presence(&host, "robbie", "lost").await?;
    Ok(())
}

const PAHO: &str = r#"
import json, sys
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

def told(client, _, message):
    if message.topic.endswith("/response"):
        return
    if hasattr(message.properties, "ResponseTopic"):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.CorrelationData = message.properties.CorrelationData
        client.publish("sensors/lamp", json.dumps({"noise": 1}), qos=1)
        client.publish(message.properties.ResponseTopic, json.dumps({"power": 8}), qos=1, properties=properties)
    else:
        client.publish("sensors/lamp", json.dumps({"led": json.loads(message.payload)}), qos=1)

def connected(client, *_):
    client.subscribe("devices/lamp/commands/#", qos=1)

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="lamp", protocol=mqtt.MQTTv5)
client.on_message = told
client.on_connect = connected
client.on_subscribe = lambda *_: client.publish("sensors/lamp", json.dumps({"led": 0}), qos=1)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
sys.stdin.readline()
client.disconnect()
client.loop_stop()
"#;

#[tokio::test]
async fn a_client_of_mqtt_5_is_commanded_and_answers_with_its_correlation_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = r#"
[api]
listen = "127.0.0.1:0"
[ingress.broker]
driver = "mqtt"
listen = "127.0.0.1:0"
device_topics = ["sensors/{device}/#"]
command_topic = "devices/{device}/commands/{command}"
"#;
    let host = host_with(folder.path(), config).await?;
    let address = host.ingress("broker").await?;
    let port = address.rsplit(':').next().context("a port")?;
    let mut lamp = python(PAHO, &[port])?;
    until(&host, "lamp", |device| device["resources"]["led"]["value"] == 0).await?;
    let (_, device) = ask(&host, Method::PUT, "/v1/devices/lamp/desired/led", &json!({ "value": 1 })).await?;
    assert_eq!(device["reached_by"], "broker");
    until(&host, "lamp", |device| device["desired"]["led"]["reached"] == true).await?;
    let query = json!({ "name": "state", "mode": "query", "answer": "id" });
    let (status, answer) = ask(&host, Method::POST, "/v1/devices/lamp/commands", &query).await?;
    assert_eq!((status, &answer["answer"]["payload_json"]), (200, &json!({ "power": 8 })), "{answer}");
    let mut stdin = lamp.stdin.take().context("stdin")?;
    stdin.write_all(b"bye\n").await?;
    ensure!(lamp.wait().await?.success());
    until_presence(&host, "lamp", "offline").await?;
    let mut again = python(PAHO, &[port])?;
    until_presence(&host, "lamp", "online").await?;
    again.kill().await?;
    until_presence(&host, "lamp", "lost").await?;
    Ok(())
}
