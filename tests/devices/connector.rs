//! The face of IoT Cloud Connector.

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Robot, host_with, until, until_presence};

async fn start(folder: &std::path::Path, more: &str) -> Result<(Host, String)> {
    // Free a moment ago, which is as good as it gets: the host says its port in its log only.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[compat.cloud_connector]\nlisten = \"{free}\"\nquery_timeout_ms = 700\n{more}"
    );
    Ok((host_with(folder, &config).await?, free.to_string()))
}

async fn connect(
    address: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<WebSocketStream<TcpStream>> {
    let mut request = format!("ws://{address}/connect").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse()?);
    }
    Ok(client_async(request, TcpStream::connect(address).await?).await?.0)
}

async fn get(host: &Host, address: &str, path: &str) -> Result<(u16, String)> {
    let answer = host.http.get(format!("http://{address}{path}")).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

async fn post(host: &Host, address: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let answer = host
        .http
        .request(Method::POST, format!("http://{address}{path}"))
        .body(body.to_owned())
        .send()
        .await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn a_device_of_the_connector_is_listed_commanded_and_queried() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, address) = start(folder.path(), "").await?;
    let headers = [("device_id", "r1"), ("device_type", "robot"), ("user-agent", "bot/1.0")];
    let mut robot = connect(&address, &headers).await?;
    let second = connect(&address, &headers).await?;
    robot.send(Message::text(r#"{"speed":3}"#)).await?;
    let known = until(&host, "r1", |device| device["resources"]["speed"]["value"] == 3).await?;
    assert_eq!((&known["type"], &known["presence"]), (&json!("robot"), &json!("online")));
    let parse = |text: &str| serde_json::from_str::<Value>(text);
    assert_eq!(parse(&get(&host, &address, "/devices").await?.1)?, json!({ "devices": ["r1"] }));
    let shown = parse(&get(&host, &address, "/devices/r1/show").await?.1)?;
    assert_eq!(shown["connections"].as_array().map(Vec::len), Some(2));
    let first = &shown["connections"][0];
    assert_eq!((&first["device_type"], &first["user_agent"]), (&json!("robot"), &json!("bot/1.0")));
    assert_eq!((&first["received"], &first["sent"]), (&json!(1), &json!(0)));

    // Closing one of two does not unlist the device.
    drop(second);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(get(&host, &address, "/devices/status/r1").await?.0, 200);

    let answering = async {
        let asked = loop {
            if let Message::Text(text) = robot.next().await.context("the end")?? {
                break serde_json::from_str::<Value>(&text)?;
            }
        };
        robot.send(Message::text("telemetry in between")).await?;
        let answer = json!({ "id": asked["id"], "payload": { "battery": 80 } });
        robot.send(Message::text(answer.to_string())).await?;
        Ok::<_, anyhow::Error>(asked)
    };
    let (asked, answer) =
        tokio::join!(answering, post(&host, &address, "/devices/query/r1", r#"{"what":"battery"}"#));
    let asked = asked?;
    assert_eq!(asked["payload"], json!({ "what": "battery" }));
    assert!(asked["timestamp"].is_string());
    let (status, answer) = answer?;
    assert_eq!((status, parse(&answer)?), (200, json!({ "response": { "battery": 80 }, "errors": [] })));

    assert_eq!(post(&host, &address, "/devices/command/r1", "{}").await?.0, 408, "it says nothing");
    for path in ["/devices/status/nobody", "/devices/nobody/show"] {
        assert_eq!(get(&host, &address, path).await?, (404, "Device not found".to_owned()), "{path}");
    }
    assert_eq!(post(&host, &address, "/devices/query/nobody", "{}").await?.0, 404);
    let status = parse(&get(&host, &address, "/cloud-connector/status").await?.1)?;
    assert_eq!((&status["server_current_state"], &status["connections"]), (&json!("running"), &json!(1)));
    assert_eq!((&status["incoming_messages"], &status["outgoing_messages"]), (&json!(3), &json!(2)));
    assert!(status["allocated_memory"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    let mut stream = host.http.get(format!("http://{address}/cloud-connector/status/stream")).send().await?;
    let event = stream.chunk().await?.context("no event")?;
    assert!(event.starts_with(b"data: {\"server_current_state\":\"running\""), "{event:?}");
    drop(stream);

    robot.close(None).await?;
    until_presence(&host, "r1", "offline").await?;
    assert_eq!(get(&host, &address, "/devices/status/r1").await?.0, 404);
    assert_eq!(host.terminate().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn who_has_no_token_or_no_id_does_not_get_in() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, address) = start(folder.path(), "token = \"s3cret\"\nconnections_max = 1\n").await?;
    assert_eq!(get(&host, &address, "/devices").await?.0, 401);
    assert!(connect(&address, &[("device_id", "r1")]).await.is_err());
    assert!(connect(&address, &[("authentication", "s3cret")]).await.is_err(), "without an id");
    let _robot = connect(&address, &[("device-id", "r1"), ("authentication", "s3cret")]).await?;
    let bearer = ("authorization", "Bearer s3cret");
    let full = connect(&address, &[("device-id", "r2"), bearer]).await.unwrap_err();
    assert!(full.to_string().contains("503"), "{full}");
    Ok(())
}

#[tokio::test]
async fn it_follows_the_configuration_while_the_host_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, first) = start(folder.path(), "").await?;
    let second = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let configure = |more: &str| {
        // In one step, as an editor does it.
        std::fs::write(folder.path().join("new.toml"), format!("[api]\nlisten = \"127.0.0.1:0\"\n{more}"))?;
        std::fs::rename(folder.path().join("new.toml"), folder.path().join("sandbar.toml"))
    };
    let says = |address: String, wanted: Option<u16>| {
        let host = &host;
        async move { get(host, &address, "/devices").await.ok().map(|(status, _)| status) == wanted }
    };
    let mut robot = connect(&first, &[("device_id", "r1")]).await?;
    for (config, at_first, at_second) in [
        (format!("[compat.cloud_connector]\nlisten = \"{second}\"\n"), None, Some(200)),
        (format!("[compat.cloud_connector]\nlisten = \"{second}\"\ntoken = \"s3cret\"\n"), None, Some(401)),
        (format!("[compat.cloud_connector]\nlisten = \"{first}\"\n"), Some(200), None),
        (String::new(), None, None),
    ] {
        configure(&config)?;
        eventually(&config, 20, || async {
            says(first.clone(), at_first).await && says(second.clone(), at_second).await
        })
        .await;
        let log = host.stderr();
        ensure!(!log.contains("at the next start"), "{log}");
    }
    let said = tokio::time::timeout(std::time::Duration::from_secs(10), robot.next()).await?;
    let Some(Ok(Message::Close(Some(frame)))) = said else { anyhow::bail!("{said:?}") };
    assert_eq!(u16::from(frame.code), 1001, "who was there is told to go");
    assert_eq!(host.terminate().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_device_is_told_that_the_host_stops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, address) = start(folder.path(), "").await?;
    let mut robot = Robot(connect(&address, &[("device_id", "r1")]).await?);
    until_presence(&host, "r1", "online").await?;
    let (code, said) = tokio::join!(host.terminate(), robot.0.next());
    let Some(Ok(Message::Close(Some(frame)))) = said else { anyhow::bail!("{said:?}") };
    assert_eq!((code?, u16::from(frame.code)), (Some(0), 1001));
    Ok(())
}
