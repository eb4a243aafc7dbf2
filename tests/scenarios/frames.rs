//! WebSocket connections byte for byte (RFC 6455).

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::protocol::{ANSWER_WITHIN, rest};

/// A frame as a client sends it (section 5.2), masked with nothing.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        size @ 0..=125 => frame.push(0x80 | size as u8),
        size => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A request that opens a connection, with further headers.
pub(crate) fn handshake(path: &str, headers: &str) -> Vec<u8> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    text.into()
}

/// Sends the request that bytes begin with, and the rest once it is answered: clients have to wait (section 4.1).
async fn open(address: &str, bytes: &[u8]) -> Result<(TcpStream, Vec<u8>)> {
    let (request, frames) = bytes.split_at(head(bytes).unwrap_or(bytes.len()));
    let mut stream = TcpStream::connect(address).await.context("the host does not listen any more")?;
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    while head(request).is_some() && head(&answer).is_none() {
        match tokio::time::timeout(ANSWER_WITHIN, stream.read_buf(&mut answer)).await {
            Ok(Ok(1..)) => {}
            _ => break,
        }
    }
    drop(stream.write_all(frames).await);
    Ok((stream, answer))
}

/// All that is answered.
pub(crate) async fn throw(address: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let (stream, answer) = open(address, bytes).await?;
    Ok([answer, rest(stream).await].concat())
}

/// The connection is lost then.
pub(crate) async fn lose(address: &str, bytes: &[u8]) -> Result<()> {
    let (stream, _) = open(address, bytes).await?;
    Ok(stream.set_zero_linger()?)
}

/// How long the head is of what begins with one.
pub(crate) fn head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The frames of an answer, by their first bytes: HTTP until the connection is open, then frames that are whole and
/// not masked. None of one that was not opened, for a reason that HTTP has.
pub(crate) fn answered(answer: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    let mut frames = Vec::new();
    let Some(head) = head(answer) else {
        ensure!(answer.is_empty(), "half a head");
        return Ok(frames);
    };
    let text = std::str::from_utf8(&answer[..head])?;
    // Who asks in the older version is answered in it.
    let rest = ["HTTP/1.1 ", "HTTP/1.0 "].iter().find_map(|version| text.strip_prefix(version));
    let status = rest.and_then(|rest| rest.get(..3)).context("no status")?;
    if status != "101" {
        ensure!(["400", "401", "404", "405", "414", "426", "431"].contains(&status), "{text}");
        return Ok(frames);
    }
    let mut rest = &answer[head..];
    while !rest.is_empty() {
        let (first, payload, after) = cut(rest).context("half a frame, or one that is masked")?;
        frames.push((first, payload));
        rest = after;
    }
    Ok(frames)
}

fn cut(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, size], rest) = bytes.split_first_chunk::<2>()?;
    let (size, rest) = match size {
        0..=125 => (usize::from(size), rest),
        126 => {
            let (size, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*size)), rest)
        }
        _ => return None,
    };
    let (payload, after) = rest.split_at_checked(size)?;
    Some((first, payload, after))
}

/// Whether it is a whole text, a farewell, or a sign of life.
pub(crate) fn is_usual(first: u8) -> bool {
    [0x81, 0x88, 0x89, 0x8a].contains(&first)
}
