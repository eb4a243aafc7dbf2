//! Devices that come, go, are commanded and queried, through the real host: what the registry says of them.

mod commands;
mod connector;
mod peers;
mod presence;
mod shutdown;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use sandbar_tests::host::Host;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const CONFIG: &str = r#"
[api]
listen = "127.0.0.1:0"

[devices]
silence_s_by_type = { mayfly = 1 }

[ingress.robots]
driver = "websocket"
listen = "127.0.0.1:0"
connections_max = 2048
paths = [{ path = "/robots/{device}" }]

[ingress.meters]
driver = "webhook"
listen = "127.0.0.1:0"
silence_s = 2
paths = [{ path = "/meters/{device}" }]
"#;

async fn host(folder: &Path) -> Result<Host> {
    host_with(folder, CONFIG).await
}

async fn host_with(folder: &Path, config: &str) -> Result<Host> {
    std::fs::write(folder.join("sandbar.toml"), config)?;
    Host::start(folder).await
}

/// A robot: a device with a WebSocket.
struct Robot(WebSocketStream<TcpStream>);

impl Robot {
    async fn connect(host: &Host, id: &str) -> Result<Self> {
        let address = host.ingress("robots").await?.replace("http://", "");
        Self::connect_to(&address, id).await
    }

    async fn connect_to(address: &str, id: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self(client_async(format!("ws://{address}/robots/{id}"), stream).await?.0))
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// The next text message.
    async fn hear(&mut self) -> Result<String> {
        let hearing = async {
            loop {
                match self.0.next().await.context("the connection ended")?? {
                    Message::Text(text) => return Ok(text.to_string()),
                    Message::Ping(_) => {}
                    other => bail!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), hearing).await.context("nothing was said")?
    }

    /// Nothing comes for a while.
    async fn hears_nothing(&mut self) -> Result<()> {
        match tokio::time::timeout(Duration::from_millis(700), self.0.next()).await {
            Err(_) => Ok(()),
            Ok(said) => bail!("{said:?}"),
        }
    }

    async fn close(mut self) -> Result<()> {
        self.0.close(None).await?;
        while let Some(Ok(_)) = self.0.next().await {}
        Ok(())
    }

    /// As if a cable was cut: a reset, no farewell.
    fn cut(self) -> Result<()> {
        let stream = self.0.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }
}

async fn device(host: &Host, id: &str) -> Result<Value> {
    host.get(&format!("/v1/devices/{id}")).await
}

/// Waits until the device is as wanted; returns it.
async fn until(host: &Host, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    for _ in 0..300 {
        if let Ok(device) = device(host, id).await {
            if wanted(&device) {
                return Ok(device);
            }
            last = device;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{id} did not become as wanted: {last}")
}

async fn until_presence(host: &Host, id: &str, presence: &str) -> Result<Value> {
    until(host, id, |device| device["presence"] == presence).await
}

/// A request with a JSON body; its status and answer.
async fn ask(host: &Host, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
    let answer = host.request(method, path).json(body).send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// The presence readings of a device, oldest first: was and is.
async fn changes(host: &Host, id: &str) -> Result<Vec<(String, String)>> {
    let mut readings = host.all(&format!("/v1/readings?ingress=devices&device={id}")).await?;
    readings.reverse();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let change =
        |reading: &Value| (text(&reading["payload_json"]["was"]), text(&reading["payload_json"]["presence"]));
    Ok(readings.iter().map(change).collect())
}
