//! Kraken Collectors: gRPC calls, over HTTP/2.

use anyhow::{Result, ensure};
use sandbar_tests::kraken::{Collector, Message, PATH};
use tonic::Code;

use crate::protocol::{Client, Protocol, Told};

struct Kraken;

impl Protocol for Kraken {
    const DRIVER: &'static str = "kraken";
    type Client = Collector;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\nmessage_max = 65536\nidle_timeout_ms = 2000\n".to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Collector> {
        Collector::connect(address).await
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let reading = encoded("serial", "text/plain", b"21.5");
        let mut two = PREFACE.to_vec();
        for stream in [1, 3] {
            two.extend(call(stream, &framed(&reading)));
        }
        vec![[PREFACE, &call(1, &framed(&reading))].concat(), two]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let message = |bytes: &[u8]| [PREFACE, &call(1, &framed(bytes))].concat();
        let good = message(&encoded("serial", "text/plain", b"21.5"));
        vec![
            good[..good.len() - 3].to_vec(),
            message(&encoded("camera", "image/jpeg", &vec![b'x'; 100_000])),
            message(b"\x0a\x04\xff\xfe\xc3\x28"),
            message(&encoded("a/#", "text/plain", b"x")),
            message(&encoded("tcp", "no type", b"x")),
            // A message that says it has 4 GiB.
            [PREFACE, &call(1, b"\0\xff\xff\xff\xffx")].concat(),
            // Compressed, it says.
            [PREFACE, &call(1, b"\x01\0\0\0\x01x")].concat(),
            b"POST / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            PREFACE,
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
            b"\xff\xff\xff",
            b"\x82\x84",
            b"\0\0\0\0\x04",
        ]
    }

    /// Whole frames of HTTP/2 (RFC 9113, section 4.1), the last of which may be cut off.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let mut rest = answer;
        while let [a, b, c, kind, _, stream @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            ensure!(*kind <= 0x0a && length <= 1 << 20, "no frame of HTTP/2: {rest:?}");
            rest = stream.get(4 + length..).unwrap_or_default();
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = framed(&encoded("serial", "text/plain", marker.as_bytes()));
        let half = &whole[..whole.len() - 1];
        Some([PREFACE, &headers(1), &frame(0, 0, 1, half)].concat())
    }
}

impl Client for Collector {
    async fn send(&mut self, text: &str) -> Result<Told> {
        match self.call(Message::new("serial", "text/plain", text.as_bytes())).await {
            Ok(_) => Ok(Told::Acknowledged),
            // What a connection that is lost looks like; the host's own refusals of this kind say why.
            Err(status) if matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) => {
                Err(status.into())
            }
            Err(status) if status.code() == Code::Unavailable && !status.message().contains("busy") => {
                Err(status.into())
            }
            Err(status) => Ok(Told::Refused(status.to_string())),
        }
    }
}

/// What a connection begins with, and settings without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn encoded(collector: &str, content_type: &str, payload: &[u8]) -> Vec<u8> {
    Message::new(collector, content_type, payload).encoded()
}

/// As gRPC writes a message: not compressed, its length, itself.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers (RFC 7541) without compression: POST, http, path, authority, content type, `te: trailers`.
fn headers(stream: u32) -> Vec<u8> {
    const END_HEADERS: u8 = 0x04;
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    let block = [
        vec![0x83, 0x86, 0x04],
        text(PATH),
        vec![0x01],
        text("x"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("te"),
        text("trailers"),
    ];
    frame(1, END_HEADERS, stream, &block.concat())
}

/// Headers, then the message in frames of 16 KiB at most, the last of which ends the stream.
fn call(stream: u32, message: &[u8]) -> Vec<u8> {
    const END_STREAM: u8 = 0x01;
    let mut bytes = headers(stream);
    let mut chunks = message.chunks(16 << 10).peekable();
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_some() { 0 } else { END_STREAM };
        bytes.extend(frame(0, flags, stream, chunk));
    }
    bytes
}

crate::scenarios!(Kraken);
