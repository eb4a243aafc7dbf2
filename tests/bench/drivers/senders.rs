//! Peers that connect to a driver: one connection each, one reading on its way at a time, while the load goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use sandbar_reading::relay::{Down, Relayed, SUB_PROTOCOL, Up};
use sandbar_reading::{Attributes, ContentType, DeliveryId, Message as Reading, Timestamp};
use sandbar_tests::kraken::{self, Collector};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{Load, PAYLOAD, Place};

pub(super) async fn webhook(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let head = format!("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", PAYLOAD.len());
    let request = [head.as_bytes(), PAYLOAD.as_bytes()].concat();
    let mut answer = vec![0; 4096];
    loop {
        stream.write_all(&request).await?;
        let mut read = 0;
        // Its body is an id, in an object: it ends with a brace.
        while read == 0 || answer[read - 1] != b'}' {
            let more = stream.read(&mut answer[read..]).await?;
            anyhow::ensure!(more > 0, "the connection ended");
            read += more;
        }
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..read]));
        if !load.goes_on() {
            return Ok(());
        }
    }
}

pub(super) async fn collect(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut collector = Collector::connect(&address.to_string()).await?;
    loop {
        collector.call(kraken::Message::new("serial", "application/json", PAYLOAD.as_bytes())).await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

pub(super) async fn tcp(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let line = format!("{PAYLOAD}\n");
    loop {
        stream.write_all(line.as_bytes()).await?;
        stream.read_u8().await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

pub(super) async fn udp(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let mut answer = [0; 16];
    loop {
        socket.send(PAYLOAD.as_bytes()).await?;
        // The loopback loses none but when a buffer is full.
        if tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await.is_ok()
            && !load.goes_on()
        {
            return Ok(());
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Confirmable POSTs, each with a message id of its own.
pub(super) async fn coap(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let (mut id, mut answer) = (0u16, [0; 64]);
    loop {
        id = id.wrapping_add(1);
        let [high, low] = id.to_be_bytes();
        let head = [0x42, 0x02, high, low, high, low, 0xB1, b'a', 0xFF];
        socket.send(&[&head, PAYLOAD.as_bytes()].concat()).await?;
        // The loopback loses none but when a buffer is full.
        if tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await.is_ok()
            && answer[1] != 0x44
        {
            anyhow::bail!("answered {:#04x}, not 2.04", answer[1]);
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

pub(super) async fn websocket(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(format!("ws://{address}/a"), stream).await?;
    loop {
        socket.send(Message::text(PAYLOAD)).await?;
        socket.next().await.context("the connection ended")??;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

pub(super) async fn email(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let envelope = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n";
    let message = format!("Subject: a\r\n\r\n{PAYLOAD}\r\n.\r\n");
    says(&mut stream, "HELO a\r\n", "250 localhost").await?;
    loop {
        says(&mut stream, envelope, "354").await?;
        says(&mut stream, &message, "250").await?;
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Messages of quality of service 1.
pub(super) async fn mqtt(place: Place, load: Arc<Load>) -> Result<()> {
    let mut stream = TcpStream::connect(place.address()?).await?;
    stream.set_nodelay(true)?;
    let client = format!("b{:03}", place.number);
    let connect = [b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04", client.as_bytes()].concat();
    stream.write_all(&connect).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    anyhow::ensure!(answer == *b"\x20\x02\0\0", "not taken: {answer:?}");
    let publish = [b"\x32\xcd\x01\0\x01a\0\x01", PAYLOAD.as_bytes()].concat();
    loop {
        stream.write_all(&publish).await?;
        stream.read_exact(&mut answer).await?;
        anyhow::ensure!(answer == *b"\x40\x02\0\x01", "no PUBACK: {answer:?}");
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// A node. It is told nothing; but it is not heard again, not even its ping, before what it said is on disk.
pub(super) async fn pyaiot(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut node, _) = client_async(format!("ws://{address}/node"), stream).await?;
    let update = json!({ "type": "update", "data": { "a": PAYLOAD } }).to_string();
    loop {
        node.send(Message::text(update.as_str())).await?;
        node.send(Message::Ping(<_>::default())).await?;
        while !node.next().await.context("the connection ended")??.is_pong() {}
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Another host.
pub(super) async fn sandbar(place: Place, load: Arc<Load>) -> Result<()> {
    let address = place.address()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}/").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer token-{}", place.number).parse()?);
    headers.insert("sec-websocket-protocol", SUB_PROTOCOL.parse()?);
    let (mut host, _) = client_async(request, stream).await?;
    for number in 1.. {
        let id = DeliveryId::from_u128(number);
        let message = Reading {
            topic: "a".parse()?,
            device: None,
            content_type: ContentType::JSON,
            attributes: Attributes::new(),
            payload: PAYLOAD.into(),
        };
        let relayed = Relayed { id, time: Timestamp::from_millis(1_700_000_000_000), message };
        host.send(Message::Binary(Up::Reading(relayed).encode())).await?;
        loop {
            if let Message::Binary(said) = host.next().await.context("the connection ended")?? {
                anyhow::ensure!(Down::decode(&said)? == Down::Taken { id }, "it was not taken");
                break;
            }
        }
        if !load.goes_on() {
            break;
        }
    }
    Ok(())
}

/// A file that is gone was taken.
pub(super) async fn files(place: Place, load: Arc<Load>) -> Result<()> {
    let (part, file) = (format!(".{}", place.number), format!("{}.json", place.number));
    let (part, file) = (place.folder.join(part), place.folder.join(file));
    loop {
        std::fs::write(&part, PAYLOAD)?;
        std::fs::rename(&part, &file)?;
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if !load.goes_on() {
            return Ok(());
        }
    }
}

/// Where the far end speaks by itself.
pub(super) async fn nothing(load: Arc<Load>) -> Result<()> {
    while load.goes_on() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Reads replies until one begins so.
async fn says(stream: &mut BufReader<TcpStream>, text: &str, until: &str) -> Result<()> {
    stream.get_mut().write_all(text.as_bytes()).await?;
    let mut line = String::new();
    while !line.starts_with(until) {
        line.clear();
        anyhow::ensure!(stream.read_line(&mut line).await? > 0 && !line.starts_with(['4', '5']), "{line}");
    }
    Ok(())
}
