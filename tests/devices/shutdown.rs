//! How a host that is told to stop takes leave: of each peer in its protocol's way, within its time.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt;
use sandbar_tests::host::{Host, binary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{CONFIG, Robot, host_with};

const MORE: &str = r#"
[ingress.broker]
driver = "mqtt"
listen = "127.0.0.1:0"

[ingress.mail]
driver = "email"
listen = "127.0.0.1:0"
"#;

/// CONNECT of MQTT 5 with the client id `c`.
const CONNECT: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c";

#[tokio::test]
async fn every_peer_is_told_in_its_own_protocol() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host_with(folder.path(), &format!("{CONFIG}{MORE}")).await?;
    let at = |address: String| address.replace("http://", "");
    let mut robot = Robot::connect(&host, "r1").await?;
    let mut mqtt = TcpStream::connect(at(host.ingress("broker").await?)).await?;
    mqtt.write_all(CONNECT).await?;
    let mut connack = [0; 64];
    ensure!(mqtt.read(&mut connack).await? > 4 && connack[0] == 0x20);
    let mut smtp = TcpStream::connect(at(host.ingress("mail").await?)).await?;
    let mut greeting = [0; 256];
    let size = smtp.read(&mut greeting).await?;
    ensure!(greeting[..size].starts_with(b"220"));
    let web = at(host.ingress("meters").await?);
    let mut http = TcpStream::connect(web).await?;
    let request = "POST /meters/m1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    http.write_all(request.as_bytes()).await?;
    let mut answer = [0; 1024];
    let size = http.read(&mut answer).await?;
    ensure!(answer[..size].starts_with(b"HTTP/1.1 20"));

    let begun = Instant::now();
    let (mut farewell, mut goodbye, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let (code, websocket, _, _, _) = tokio::join!(
        host.terminate(),
        robot.0.next(),
        mqtt.read_to_end(&mut farewell),
        smtp.read_to_end(&mut goodbye),
        http.read_to_end(&mut rest),
    );
    assert_eq!(code?, Some(0));
    ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    let Some(Ok(Message::Close(Some(frame)))) = websocket else { anyhow::bail!("{websocket:?}") };
    assert_eq!(u16::from(frame.code), 1001);
    ensure!(farewell.starts_with(b"\xe0") && farewell.get(2) == Some(&0x8b), "{farewell:?}");
    ensure!(goodbye.starts_with(b"421"), "{}", String::from_utf8_lossy(&goodbye));
    ensure!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    Ok(())
}

#[tokio::test]
async fn what_does_not_end_in_its_time_is_forced_and_the_exit_code_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), CONFIG)?;
    let mut command = Command::new(binary());
    command.env("SANDBAR_GRACE_S", "0");
    let host = Host::start_with(folder.path(), command).await?;
    let _robot = Robot::connect(&host, "r1").await?;
    assert_eq!(host.terminate().await?, Some(2));
    Ok(())
}
