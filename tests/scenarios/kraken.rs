//! Kraken Collectors: gRPC calls, over HTTP/2.

use anyhow::Result;
use sandbar_tests::kraken::{Collector, Message, PATH};
use tonic::Code;

use crate::http2::{self, PREFACE};
use crate::protocol::{Client, Protocol, Told};

struct Kraken;

const CONTENT_TYPE: &str = "application/grpc";

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

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        http2::check(answer)
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = framed(&encoded("serial", "text/plain", marker.as_bytes()));
        let half = &whole[..whole.len() - 1];
        Some([PREFACE, &http2::headers(1, PATH, CONTENT_TYPE), &http2::frame(0, 0, 1, half)].concat())
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

fn encoded(collector: &str, content_type: &str, payload: &[u8]) -> Vec<u8> {
    Message::new(collector, content_type, payload).encoded()
}

/// As gRPC writes a message: not compressed, its length, itself.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn call(stream: u32, message: &[u8]) -> Vec<u8> {
    http2::call(stream, PATH, CONTENT_TYPE, message)
}

crate::scenarios!(Kraken);
