//! Requests over HTTP/1.1 and HTTP/2, each of which is answered with 202 once its body is on disk.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::head;
use crate::http2::{self, PREFACE};
use crate::protocol::{Client, Protocol, Told};

struct Webhook;

struct Sender(TcpStream);

fn with(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"Host: localhost\r\n\r\n", body].concat()
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    with(&format!("{line} HTTP/1.1\r\nContent-Length: {}\r\n{headers}", body.len()), body)
}

/// All of it but the last chunk, which is empty (RFC 9112, section 7.1).
fn chunked(chunks: &[&str]) -> Vec<u8> {
    let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    with("POST /hooks/d1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", body.as_bytes())
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

struct Answer<'a> {
    status: u16,
    content_type: &'a str,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The first one (RFC 9112, section 4), and what follows it; `None` if it is not whole.
    fn cut(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>> {
        let Some(at) = head(bytes) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..at])?;
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).context("no status")?;
        let header = |name: &str| {
            let mut fields = text.split("\r\n").filter_map(|line| line.split_once(": "));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let length = header("content-length").map_or(Ok(0), str::parse::<usize>)?;
        let Some((body, after)) = bytes[at..].split_at_checked(length) else { return Ok(None) };
        let content_type = header("content-type").unwrap_or_default();
        Ok(Some((Self { status: status.parse()?, content_type, body }, after)))
    }

    fn check(&self) -> Result<()> {
        match (self.status, self.content_type) {
            // To who asks whether to go on, and to what is no HTTP.
            (100 | 400 | 414 | 431, "") => ensure!(self.body.is_empty(), "{:?}", self.body),
            (202, "application/json") => {
                let taken: Value = serde_json::from_slice(self.body)?;
                ensure!(taken["id"].is_string(), "{taken}");
            }
            (400 | 404 | 405 | 408 | 413 | 415 | 422 | 503, "application/problem+json") => {
                let problem: Value = serde_json::from_slice(self.body)?;
                ensure!(problem["status"] == self.status && problem["code"].is_string(), "{problem}");
            }
            (status, content_type) => bail!("{status} {content_type}"),
        }
        Ok(())
    }
}

impl Protocol for Webhook {
    const DRIVER: &'static str = "webhook";
    type Client = Sender;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\nbody_max = 65536\npaths = [\n\
         { path = \"/hooks/{device}\", headers = [\"X-Any\"], query = [\"unit\"] },\n\
         { path = \"/json/{*rest}\", methods = [\"PUT\"], content_types = [\"application/json\"], \
         device_pointer = \"/id\" },\n]\n"
            .to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Sender> {
        Ok(Sender(TcpStream::connect(address).await?))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let json = "Content-Type: application/json; charset=utf-8\r\n";
        vec![
            [
                request("POST /hooks/d1?unit=%C2%B0C+x&n", "Content-Type: text/plain\r\n", b"21.5"),
                request(
                    "PUT /hooks/boiler%201",
                    "X-Any: a\r\nX-Any: \u{e9}\r\nConnection: close\r\n",
                    b"\0\xff",
                ),
            ]
            .concat(),
            request("PUT /json/a/b%20c", json, b"{\"id\":\"d1\",\"temperature\":71.5}"),
            request("POST /hooks/d1", "Expect: 100-continue\r\n", b"22.5"),
            [&chunked(&["{\"temperature\":", "71.5}"])[..], LAST_CHUNK].concat(),
            [
                PREFACE,
                &http2::call(1, "/hooks/d1", "text/plain", b"21.5"),
                &http2::call(3, "/hooks/d2", "application/json", b"{}"),
            ]
            .concat(),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let json = "Content-Type: application/json\r\n";
        let lengths =
            |headers: &str| with(&format!("POST /hooks/d1 HTTP/1.1\r\n{headers}"), b"5\r\n21.5\r\n");
        let whole = request("POST /hooks/d1", "", b"21.5");
        vec![
            whole[..30].to_vec(),
            whole[..whole.len() - 1].to_vec(),
            request("GET /hooks/d1", "", b""),
            request("POST /nowhere", "", b"21.5"),
            request("POST /hooks/d1", "", &[b'x'; 70_000]),
            request("POST /hooks/a%2Fb", "", b"21.5"),
            request("POST /hooks/%ff", "", b"21.5"),
            request("POST /hooks/%23", "", b"21.5"),
            request("POST /hooks/d1?unit=%c3%28", "", b"21.5"),
            request("POST /hooks/d1", "Content-Type: text\r\n", b"21.5"),
            request("PUT /json/a", "Content-Type: text/plain\r\n", b"{\"id\":1}"),
            request("PUT /json/a", json, b"\xff\xfe{\0\"\0"),
            request("PUT /json/a", json, "[".repeat(50_000).as_bytes()),
            [&chunked(&["x".repeat(5000).as_str(); 14])[..], LAST_CHUNK].concat(),
            lengths("Content-Length: 9\r\nContent-Length: 3\r\n"),
            lengths("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n"),
            lengths("Content-Length: -1\r\n"),
            lengths("Content-Length: 99999999999999999999\r\n"),
            lengths("Transfer-Encoding: chunked, gzip\r\n"),
            with("POST /hooks/d1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nx"),
            [&b"POST /"[..], &[b'x'; 100_000]].concat(),
            with(&format!("POST /hooks/d1 HTTP/1.1\r\nX-Any: {}\r\n", "x".repeat(100_000)), b""),
            with(&format!("POST /hooks/d1 HTTP/1.1\r\n{}", "a: b\r\n".repeat(1000)), b""),
            PREFACE[..20].to_vec(),
            // A body of no request, and headers that end nowhere.
            [PREFACE, &http2::frame(0, 1, 1, b"21.5")].concat(),
            [PREFACE, &http2::frame(1, 0, 1, b"\x83\x86"), &http2::frame(9, 0, 3, b"\xff\xff\xff")].concat(),
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            PREFACE,
            b"\r\n",
            b"\n",
            b"\0",
            b"%",
            b"%2F",
            b"%ff",
            b" HTTP/1.0\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 1\r\n",
            b"ffffffffffffffff\r\n",
            b"\xff\xff\xff",
        ]
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        if !answer.starts_with(b"HTTP/1.") {
            return http2::check(answer);
        }
        let mut rest = answer;
        while !rest.is_empty() {
            let (first, after) = Answer::cut(rest)?.context("half an answer")?;
            first.check()?;
            rest = after;
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        Some(chunked(&[marker, ", and more"]))
    }
}

impl Client for Sender {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.0.write_all(&request("POST /hooks/d1", "", text.as_bytes())).await?;
        let mut bytes = Vec::new();
        loop {
            ensure!(self.0.read_buf(&mut bytes).await? > 0, "the connection was lost");
            if let Some((answer, _)) = Answer::cut(&bytes)? {
                return Ok(match answer.status {
                    202 => Told::Acknowledged,
                    status => Told::Refused(format!("{status} {}", String::from_utf8_lossy(answer.body))),
                });
            }
        }
    }
}

crate::scenarios!(Webhook);
