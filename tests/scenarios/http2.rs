//! HTTP/2 connections byte for byte (RFC 9113).

use anyhow::{Result, ensure};

/// What a connection begins with, and settings without any.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers (RFC 7541) without compression: POST, http, path, authority, content type, `te: trailers`.
pub(crate) fn headers(stream: u32, path: &str, content_type: &str) -> Vec<u8> {
    const END_HEADERS: u8 = 0x04;
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    let block = [
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("x"),
        vec![0x0f, 0x10],
        text(content_type),
        vec![0x00],
        text("te"),
        text("trailers"),
    ];
    frame(1, END_HEADERS, stream, &block.concat())
}

/// Headers, then the body in frames of 16 KiB at most, the last of which ends the stream.
pub(crate) fn call(stream: u32, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    const END_STREAM: u8 = 0x01;
    let mut bytes = headers(stream, path, content_type);
    let mut chunks = body.chunks(16 << 10).peekable();
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_some() { 0 } else { END_STREAM };
        bytes.extend(frame(0, flags, stream, chunk));
    }
    bytes
}

/// Whole frames (section 4.1), the last of which may be cut off.
pub(crate) fn check(answer: &[u8]) -> Result<()> {
    let mut rest = answer;
    while let [a, b, c, kind, _, stream @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        ensure!(*kind <= 0x0a && length <= 1 << 20, "no frame of HTTP/2: {rest:?}");
        rest = stream.get(4 + length..).unwrap_or_default();
    }
    Ok(())
}
