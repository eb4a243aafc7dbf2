//! An MQTT 3.1.1 client that costs next to nothing: packets made before, acknowledgements counted by their size.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Reads ahead, and writes as it is told.
pub(crate) type Socket = BufReader<TcpStream>;

/// A connection that the broker has taken.
pub(crate) async fn connect(port: u16, client_id: &str, clean: bool) -> Result<Socket> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let mut socket = BufReader::with_capacity(4096, socket);
    let mut packet = vec![0x10, u8::try_from(12 + client_id.len())?];
    packet.extend_from_slice(b"\0\x04MQTT\x04");
    // Keep-alive 60, as rumqttd refuses 0.
    packet.extend_from_slice(&[if clean { 2 } else { 0 }, 0, 60]);
    packet.extend_from_slice(&u16::try_from(client_id.len())?.to_be_bytes());
    packet.extend_from_slice(client_id.as_bytes());
    socket.write_all(&packet).await?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await?;
    ensure!(answer[0] == 0x20 && answer[3] == 0, "not taken: {answer:?}");
    Ok(socket)
}

pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool, packet_id: u16) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let mut packet = vec![0x30 | qos << 1 | u8::from(retain)];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.append(&mut body);
    packet
}

/// Subscribes to all of them at once, and waits for the answer.
pub(crate) async fn subscribe(socket: &mut Socket, filters: &[String], qos: u8) -> Result<()> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend_from_slice(&u16::try_from(filter.len())?.to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
        body.push(qos);
    }
    let mut packet = vec![0x82];
    let mut length = body.len();
    while length > 0x7f {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.append(&mut body);
    socket.write_all(&packet).await?;
    let (first, _) = read_packet(socket).await?;
    ensure!(first == 0x90, "no SUBACK but {first:#x}");
    Ok(())
}

/// The first byte of a packet, and its body.
pub(crate) async fn read_packet(socket: &mut Socket) -> Result<(u8, Vec<u8>)> {
    let first = socket.read_u8().await?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = socket.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok((first, body))
}

/// Publishes with QoS 1 and so many on their way for `time`; how many were acknowledged.
pub(crate) async fn load(port: u16, client_id: String, window: usize, time: Duration) -> Result<u64> {
    let mut socket = connect(port, &client_id, true).await?;
    let topic = format!("bench/{client_id}");
    let packets: Vec<_> =
        (1..=u16::try_from(window)?).map(|id| publish(&topic, &[b'x'; 200], 1, false, id)).collect();
    socket.write_all(&packets.concat()).await?;
    let (mut acknowledged, mut buffer, mut pending) = (0_u64, vec![0; 64 << 10], Vec::new());
    let end = Instant::now() + time;
    loop {
        let count = socket.read(&mut buffer).await?;
        ensure!(count > 0, "the broker ended the connection");
        pending.extend_from_slice(&buffer[..count]);
        let whole = pending.len() / 4 * 4;
        let mut again = Vec::new();
        for ack in pending[..whole].chunks_exact(4) {
            ensure!(ack[..2] == [0x40, 2], "not a PUBACK: {ack:?}");
            let id = usize::from(u16::from_be_bytes([ack[2], ack[3]]));
            again.extend_from_slice(packets.get(id - 1).context("a PUBACK for nothing")?);
            acknowledged += 1;
        }
        pending.drain(..whole);
        if Instant::now() >= end {
            return Ok(acknowledged);
        }
        socket.write_all(&again).await?;
    }
}

/// Takes and acknowledges whatever comes, until the connection ends; counts messages.
pub(crate) async fn drain(mut socket: Socket, mut seen: impl FnMut(&[u8])) -> Result<()> {
    loop {
        let (first, body) = read_packet(&mut socket).await?;
        if first >> 4 != 3 {
            continue;
        }
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        if first & 0x06 != 0 {
            socket.write_all(&[0x40, 2, body[2 + topic], body[3 + topic]]).await?;
            seen(&body[4 + topic..]);
        } else {
            seen(&body[2 + topic..]);
        }
    }
}
