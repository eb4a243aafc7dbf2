//! With cameras in the network that a test plays; `tests/radio` has ffmpeg's, `tests/lab` one of the kernel's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Command, ContentType, Inbound, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::Camera;
use super::auth::{Challenge, Login};
use super::jpeg::tests::jpeg;
use crate::contract::silent::SilentPeer;
use crate::contract::{StandIn, in_time, running, supervise};
use crate::{CommandError, Supervised};

/// A stream for one client at a time.
struct Streaming {
    url: String,
    /// Bytes for the client that is connected; dropped, the connection ends.
    client: Arc<tokio::sync::Mutex<Option<mpsc::Sender<Bytes>>>>,
    connected: watch::Receiver<usize>,
    seen: usize,
    /// What it shows all the time, if anything.
    scene: watch::Sender<Option<Bytes>>,
}

impl Streaming {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/cam.mjpg", listener.local_addr().unwrap());
        let client = Arc::new(tokio::sync::Mutex::new(None::<mpsc::Sender<Bytes>>));
        let (count, connected) = watch::channel(0);
        let (current, shown) = (Arc::clone(&client), Arc::clone(&client));
        let (scene, now) = watch::channel(None::<Bytes>);
        tokio::spawn(async move {
            while now.has_changed().is_ok() {
                let client = shown.lock().await.clone();
                let scene = now.borrow().clone();
                if let (Some(picture), Some(client)) = (scene, client) {
                    // Who is gone will be back.
                    drop(client.send(part(&picture)).await);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *current.lock().await = Some(stream(socket).await);
                count.send_modify(|count| *count += 1);
            }
        });
        Self { url, client, connected, seen: 0, scene }
    }

    async fn send(&self, bytes: impl Into<Bytes>) {
        let client = self.client.lock().await.clone();
        // Who is gone will be back.
        drop(client.expect("a client is connected").send(bytes.into()).await);
    }

    /// Resolves once there is a client that was not there before.
    async fn wait(&mut self) {
        let seen = self.seen;
        self.seen = *in_time(self.connected.wait_for(|count| *count > seen)).await.unwrap();
    }
}

fn part(picture: &[u8]) -> Bytes {
    let head = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
    [head.as_bytes(), picture, b"\r\n"].concat().into()
}

async fn stream(mut socket: TcpStream) -> mpsc::Sender<Bytes> {
    let (sender, mut bytes) = mpsc::channel::<Bytes>(100);
    request(&mut socket).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cam\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    tokio::spawn(async move {
        while let Some(bytes) = bytes.recv().await {
            if socket.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    sender
}

async fn request(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

impl SilentPeer for Streaming {
    type Driver = Camera;

    async fn prepare() -> (Self, Value) {
        let streaming = Self::start().await;
        let settings = json!({ "url": streaming.url, "interval_ms": 1, "device": "gate" });
        (streaming, settings)
    }

    async fn tell(&mut self, number: u8) {
        self.wait_if_first().await;
        self.scene.send_replace(Some(jpeg(number.into(), 1, b"x")));
    }

    fn tells(inbound: &Inbound, number: u8) -> bool {
        inbound.attributes.get("width") == Some(&number.to_string())
    }

    async fn tell_garbage(&mut self, bytes: Bytes) {
        self.wait_if_first().await;
        self.scene.send_replace(None);
        self.send(part(&bytes)).await;
    }

    async fn tell_half(&mut self) {
        self.wait_if_first().await;
        self.scene.send_replace(None);
        self.send("--cam\r\nContent-Length: 1000\r\n\r\nhalf").await;
    }

    async fn vanish(&mut self) {
        drop(self.client.lock().await.take());
    }

    async fn come_back(&mut self) {
        self.wait().await;
    }
}

impl Streaming {
    async fn wait_if_first(&mut self) {
        if self.seen == 0 {
            self.wait().await;
        }
    }
}

mod contract {
    crate::silent_driver_contract!(super::Streaming);
}

/// Answers each request with the next of `answers`, and tells what it was asked.
async fn answering(answers: Vec<Vec<u8>>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/snap.jpg?secret=hunter2", listener.local_addr().unwrap());
    let (asked, requests) = mpsc::channel(100);
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            asked.send(request(&mut socket).await).await.unwrap();
            socket.write_all(&answer).await.unwrap();
        }
        // Then it does not answer any more.
        let mut silent = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            silent.push(socket);
        }
    });
    (url, requests)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn picture(width: u16) -> Vec<u8> {
    answer("200 OK\r\nContent-Type: image/jpeg", &jpeg(width, 480, b"x"))
}

fn start(url: &str, more: &Value) -> (Arc<StandIn>, Supervised) {
    let host = StandIn::with_reading_max(1000);
    let mut settings = json!({ "url": url, "device": "gate" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let ingress = supervise::<Camera>(settings, &host);
    (host, ingress)
}

fn command(name: &str) -> Command {
    Command {
        device: "gate".into(),
        name: name.into(),
        content_type: ContentType::JSON,
        payload: "{}".into(),
    }
}

async fn fails_with(ingress: &Supervised, expected: &str) {
    let status = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    let error = status.last_error.unwrap().text;
    assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_command_takes_a_picture_and_counts_once_that_is_on_disk() {
    let (url, _requests) =
        answering(vec![picture(1), picture(640), picture(641), picture(642), picture(643)]).await;
    let (host, ingress) = start(&url, &json!({ "topic": "yard/{device}" }));
    running(&ingress).await;
    assert_eq!(in_time(host.command(command("capture"))).await, Some(Ok(())));
    let inbound = host.taken().remove(0).inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("yard/gate", Some("gate")));
    assert_eq!((inbound.content_type, inbound.payload), (ContentType::JPEG, jpeg(640, 480, b"x")));
    let attributes: Vec<_> = inbound.attributes.iter().collect();
    assert_eq!(attributes, [("camera", "gate"), ("width", "640"), ("height", "480"), ("trigger", "command")]);
    host.refuse(Refused::DiskFull);
    let told = in_time(host.command(command("capture"))).await;
    assert_eq!(told, Some(Err(CommandError::Retry("the disk is full".to_owned()))));
    host.refuse(Refused::TooLarge { size: 5, limit: 4 });
    let told = in_time(host.command(command("capture"))).await;
    assert!(matches!(told, Some(Err(CommandError::Reject(_)))), "{told:?}");
    let told = in_time(host.command(command("zoom"))).await;
    let expected = "a camera knows the command `capture`, not `zoom`";
    assert_eq!(told, Some(Err(CommandError::Reject(expected.to_owned()))));
    assert_eq!((host.taken().len(), ingress.status().sessions), (1, 1));
}

#[tokio::test]
async fn a_picture_comes_every_so_often() {
    let answers = (0..10).map(picture).skip(1).collect();
    let (url, _requests) = answering(answers).await;
    let (host, _ingress) = start(&url, &json!({ "interval_ms": 20 }));
    let taken = in_time(host.wait_taken(5)).await;
    let widths: Vec<_> =
        taken.iter().take(5).map(|taken| taken.inbound.attributes.get("width").unwrap()).collect();
    assert_eq!(widths, ["2", "3", "4", "5", "6"], "the first one was to see what it is");
    assert_eq!(taken[0].inbound.attributes.get("trigger"), Some("interval"));
}

#[tokio::test]
async fn a_camera_that_falls_silent_is_lost() {
    let (url, _requests) = answering(vec![picture(1)]).await;
    let (_host, ingress) = start(&url, &json!({ "interval_ms": 1, "timeout_ms": 100 }));
    fails_with(&ingress, "/snap.jpg gave no picture within 100 ms").await;
    let mut streaming = Streaming::start().await;
    let (host, ingress) = start(&streaming.url, &json!({ "timeout_ms": 100 }));
    streaming.wait().await;
    running(&ingress).await;
    // Also when nobody wants a picture.
    streaming.send("--cam\r\nContent-Length: 1000\r\n\r\nhalf").await;
    fails_with(&ingress, "/cam.mjpg gave no picture within 100 ms").await;
    assert!(host.taken().is_empty());
}

#[tokio::test]
async fn what_a_camera_does_wrong_is_named() {
    for (sent, expected) in [
        (answer("404 Not Found", b""), "/snap.jpg answers 404 Not Found"),
        (answer("302 Found\r\nLocation: http://127.0.0.1:1/", b""), "/snap.jpg answers 302 Found"),
        (
            answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", b""),
            "asks for user and password",
        ),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "the camera at http://127.0.0.1:"),
    ] {
        let (url, _requests) = answering(vec![sent]).await;
        let (_host, ingress) = start(&url, &json!({ "interval_ms": 1 }));
        fails_with(&ingress, expected).await;
    }
    for (sent, expected) in [
        (answer("200 OK", b"<html>"), "/snap.jpg sent no JPEG: it does not begin as a JPEG"),
        (answer("200 OK", &[0; 1001]), "sends more than the 1000 bytes that a reading may have"),
    ] {
        let (url, _requests) = answering(vec![picture(1), sent]).await;
        let (_host, ingress) = start(&url, &json!({ "interval_ms": 1 }));
        fails_with(&ingress, expected).await;
    }
    let mut streaming = Streaming::start().await;
    let (_host, ingress) = start(&streaming.url, &json!({}));
    streaming.wait().await;
    streaming.send("--cam\r\nContent-Length: 1001\r\n\r\n").await;
    fails_with(&ingress, "the picture has more than the 1000 bytes").await;
    let (_host, ingress) = start("http://127.0.0.1:1/", &json!({}));
    fails_with(&ingress, "the camera at http://127.0.0.1:1/: ").await;
}

#[tokio::test]
async fn a_password_is_sent_once_it_is_asked_for() {
    let digest = r#"Digest realm="cam", nonce="n1", qop="auth", algorithm=SHA-256"#;
    let asks = answer(&format!("401 Unauthorized\r\nWWW-Authenticate: {digest}"), b"");
    let stale = answer(r#"401 Unauthorized\r\nWWW-Authenticate: Basic realm="cam""#, b"");
    let stale = String::from_utf8(stale).unwrap().replace(r"\r\n", "\r\n").into_bytes();
    let (url, mut requests) =
        answering(vec![asks, picture(1), picture(2), stale.clone(), picture(3), stale.clone(), stale]).await;
    let (host, ingress) = start(&url, &json!({ "user": "u", "password": "p:w" }));
    running(&ingress).await;
    let first = requests.recv().await.unwrap();
    assert!(
        !first.to_lowercase().contains("authorization") && first.contains("GET /snap.jpg?secret=hunter2")
    );
    let answered = async |requests: &mut mpsc::Receiver<String>| {
        let request = requests.recv().await.unwrap();
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{request}"))
    };
    let login = Login { user: "u".to_owned(), password: "p:w".to_owned() };
    let challenge = Challenge::best([digest].into_iter()).unwrap();
    let expected = |line: &str, count| {
        let cnonce = line.split("cnonce=\"").nth(1).unwrap().trim_end_matches('"');
        challenge.answer(&login, "/snap.jpg?secret=hunter2", count, cnonce)
    };
    let second = answered(&mut requests).await;
    assert_eq!(second, expected(&second, 1));
    assert_eq!(in_time(host.command(command("capture"))).await, Some(Ok(())));
    let third = answered(&mut requests).await;
    assert_eq!(third, expected(&third, 2), "with the nonce that is known, counted");
    assert_eq!(in_time(host.command(command("capture"))).await, Some(Ok(())));
    drop(answered(&mut requests).await);
    assert_eq!(answered(&mut requests).await, "Basic dTpwOnc=");
    let told = in_time(host.command(command("capture"))).await;
    assert!(matches!(told, Some(Err(CommandError::Retry(_)))), "{told:?}");
    fails_with(&ingress, "refuses user and password").await;
}

#[tokio::test]
async fn a_renewed_password_is_shown_with_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "one\n").unwrap();
    let refuses = answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"", b"");
    let (url, mut requests) = answering(vec![refuses; 100]).await;
    let (_host, _ingress) = start(&url, &json!({ "user": "u", "password": { "file": password } }));
    let mut shown = async |expected: &str| loop {
        let request = in_time(requests.recv()).await.unwrap();
        if request.contains(expected) {
            break;
        }
    };
    shown("authorization: Basic dTpvbmU=\r\n").await;
    std::fs::write(&password, "another\n").unwrap();
    shown("authorization: Basic dTphbm90aGVy\r\n").await;
}

#[tokio::test]
async fn a_path_without_a_camera_is_named() {
    for (path, expected) in [
        ("/dev/no-such-camera", "the camera /dev/no-such-camera: No such file"),
        ("/dev/null", "the camera /dev/null is no camera: "),
    ] {
        let host = StandIn::new();
        let ingress = supervise::<Camera>(json!({ "path": path }), &host);
        fails_with(&ingress, expected).await;
    }
}
