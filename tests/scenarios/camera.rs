//! Cameras in the network. `it` shows a text, in a comment of its pictures, until it is given another one. From the
//! others comes what is thrown: of some to whatever they are asked, of some only once they were found to be there. They
//! are many: each is asked the later the more of its answers were none.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::protocol::{Client, Protocol, Told, rest};

struct Cameras {
    address: SocketAddr,
    scene: Arc<Scene>,
    /// That are asked, and have not answered.
    others: tokio::sync::Mutex<mpsc::Receiver<TcpStream>>,
}

#[derive(Default)]
struct Scene {
    /// What `it` shows.
    text: Mutex<String>,
    /// What it answers once instead; it is lost of that.
    half: Mutex<Option<(Vec<u8>, oneshot::Sender<()>)>>,
    /// How often each of the others was asked.
    asked: Mutex<HashMap<Vec<u8>, u64>>,
}

struct Shown(Arc<Scene>);

const OTHERS: usize = 100;

/// With a camera that is not asked for long, or a host that is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than until the next request, where there is one.
const QUIET: Duration = Duration::from_millis(100);

const PASSWORD: &str = "nobody-reads-this";

/// The smallest thing that passes for one.
fn picture(comment: &str) -> Vec<u8> {
    let size = u16::try_from(comment.len() + 2).expect("a short comment").to_be_bytes();
    let comment = [b"\xff\xfe", &size[..], comment.as_bytes()].concat();
    let tables = b"\xff\xc4\0\x03\0";
    let frame = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0";
    let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0";
    [b"\xff\xd8", &comment[..], tables, frame, scan, b"\xff\xd9"].concat()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn jpeg(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "Content-Type: image/jpeg\r\n", body)
}

/// Parts as they come, in a stream without an end.
fn stream(parts: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cam\r\n\r\n--cam\r\n";
    [head.as_bytes(), parts].concat()
}

impl Scene {
    /// Every other answer of those that throw pictures is one: else none would be asked for one.
    fn is_there(&self, request: &[u8]) -> bool {
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut asked = self.asked.lock();
        let count = asked.entry(line.to_vec()).or_default();
        *count += 1;
        line.starts_with(b"GET /picture-") && *count % 2 == 1
    }
}

async fn serve(mut stream: TcpStream, scene: Arc<Scene>, others: mpsc::Sender<TcpStream>) -> Result<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut request).await? > 0, "nobody asks any more");
        }
        let is_it = request.starts_with(b"GET /it ");
        if !is_it && !scene.is_there(&request) {
            return Ok(others.send(stream).await?);
        }
        let half = scene.half.lock().take_if(|_| is_it);
        if let Some((half, _said)) = half {
            stream.write_all(&half).await?;
            return Ok(stream.set_zero_linger()?);
        }
        let shown = jpeg(&picture(&scene.text.lock()));
        stream.write_all(&shown).await?;
    }
}

impl Protocol for Cameras {
    const DRIVER: &'static str = "camera";
    type Client = Shown;

    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (other, others) = mpsc::channel(OTHERS);
        let scene = Arc::<Scene>::default();
        let shown = Arc::clone(&scene);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shown), other.clone()));
            }
        });
        Ok(Self { address, scene, others: tokio::sync::Mutex::new(others) })
    }

    fn settings(&self) -> String {
        let camera = |name: &str| {
            format!(
                "url = \"http://{}/{name}\"\nuser = \"user\"\npassword = \"{PASSWORD}\"\n\
                 interval_ms = 20\ntimeout_ms = 60000\n",
                self.address
            )
        };
        let other = |number| {
            let name = format!("{}-{number}", ["there", "picture"][number % 2]);
            format!("[ingress.{name}]\ndriver = \"camera\"\n{}", camera(&name))
        };
        camera("it") + &(0..OTHERS).map(other).collect::<String>()
    }

    async fn connect(&self, _address: &str) -> Result<Shown> {
        Ok(Shown(Arc::clone(&self.scene)))
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        let picture = picture("a comment");
        let digest = "WWW-Authenticate: Digest realm=\"a \\\"b\\\"\", qop=\"auth\", algorithm=SHA-256, nonce=\"7yp/xl\"\r\n";
        let lengths = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
        let chunks =
            format!("Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", picture.len());
        vec![
            jpeg(&picture),
            [&b"HTTP/1.1 200 OK\r\n"[..], chunks.as_bytes(), &picture, b"\r\n0\r\n\r\n"].concat(),
            // It ends with the connection, and leaves its tables out.
            [&b"HTTP/1.0 200 OK\r\n\r\n\xff\xd8"[..], &picture[picture.len() - 25..]].concat(),
            stream(
                &[lengths.as_bytes(), &picture, b"\r\n--cam\r\n\r\n", &picture, b"\r\n--cam\r\n"].concat(),
            ),
            stream(&[lengths.as_bytes(), &picture, b"\r\n--cam--\r\n"].concat()),
            answer("401 Unauthorized", &format!("{digest}WWW-Authenticate: Basic realm=\"x\"\r\n"), b"who?"),
        ]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        let picture = picture("a comment");
        let whole = jpeg(&picture);
        vec![
            Vec::new(),
            whole[..30].to_vec(),
            whole[..whole.len() - 5].to_vec(),
            jpeg(&picture[..picture.len() - 2]),
            jpeg(&picture[..10]),
            jpeg(b""),
            jpeg(b"GIF89a"),
            jpeg(b"\xff\xd8\xff\xd9"),
            jpeg(b"\xff\xd8\xff\xe0\xff\xff\xff\xd9"),
            jpeg(b"\xff\xd8\xff\xc0\0\x02\xff\xda\0\0\xff\xd9"),
            jpeg(&[&b"\xff\xd8"[..], &[0xff; 100_000]].concat()),
            jpeg(&"<html>\u{fc}</html>".encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()),
            answer("500 Internal Server Error", "", &picture),
            answer("204 No Content", "", b""),
            answer("302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
            answer("401 Unauthorized", "", b""),
            answer("401 Unauthorized", "WWW-Authenticate: Digest realm=\"x\r\n", b""),
            answer("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b""),
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n\xff\xd8".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n\xff\xd8".to_vec(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\xff\xd8".to_vec(),
            [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 1_000_000]].concat(),
            stream(b"Content-Length: 99999999999\r\n\r\n\xff\xd8"),
            stream(b"Content-Length: -1\r\n\r\n\xff\xd8"),
            stream(&[b'x'; 100_000]),
            stream(&[&b"\r\n"[..], &[b'x'; 100_000]].concat()),
            answer("200 OK", "Content-Type: multipart/x-mixed-replace\r\n", &picture),
            answer("200 OK", "Content-Type: multipart/x-mixed-replace; boundary=cam\r\n", &[b'x'; 100_000]),
            answer(
                "200 OK",
                "Content-Type: multipart/x-mixed-replace; boundary=\"\"\r\n",
                b"--\r\n\r\n--\r\n",
            ),
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n".to_vec(),
            b"\x15\x03\x01\0\x02\x02\x46".to_vec(),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\xff\xd8",
            b"\xff\xd9",
            b"\xff\xda\0\x02",
            b"\xff\xff\xff\xff",
            b"\xff\xc0\0\x08\x08\0\0\0\0",
            b"--cam\r\n",
            b"--cam--",
            b"\r\n\r\n",
            b"\r\n",
            b"\0",
            b"Content-Length: 0\r\n",
            b"ffffffff\r\n",
        ]
    }

    /// Twice: a stream goes on.
    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let other = async { self.others.lock().await.recv().await };
        let mut stream = timeout(PATIENCE, other).await.context("none is asked")?.context("no cameras")?;
        let mut asked = Vec::new();
        drop(stream.write_all(&bytes).await);
        drop(timeout(QUIET, stream.read_buf(&mut asked)).await);
        drop(stream.write_all(&bytes).await);
        Ok([asked, rest(stream).await].concat())
    }

    async fn lose(&self, _address: &str, half: Vec<u8>) -> Result<()> {
        let (said, is_lost) = oneshot::channel();
        *self.scene.half.lock() = Some((half, said));
        // Dropped, it says that it was said.
        drop(timeout(PATIENCE, is_lost).await.context("it is not asked any more")?);
        Ok(())
    }

    /// It asks for what it is to ask for, and tells nobody the password who only asks for it.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        for request in std::str::from_utf8(answer)?.split_inclusive("\r\n\r\n") {
            let (line, headers) = request.split_once("\r\n").context("half a line")?;
            let is_known = line.starts_with("GET /there-") || line.starts_with("GET /picture-");
            ensure!(is_known && line.ends_with(" HTTP/1.1"), "{line}");
            ensure!(headers.ends_with("\r\n\r\n") && !headers.contains(PASSWORD), "{headers}");
        }
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        let whole = jpeg(&picture(&format!("{marker}, and more")));
        Some(whole[..whole.len() - 5].to_vec())
    }
}

impl Client for Shown {
    async fn send(&mut self, text: &str) -> Result<Told> {
        text.clone_into(&mut self.0.text.lock());
        Ok(Told::Nothing)
    }
}

crate::scenarios!(Cameras);
