//! With real sockets, on the loopback address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Tcp;
use crate::complaints::Complaints;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::devices::Devices;
use crate::tls::testing::self_signed;
use crate::{Answer, Driver, Session, Supervised};

/// Frames with a length before them, one connection for each.
struct Framed {
    address: Option<SocketAddr>,
}

impl Framed {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address.unwrap()).await.unwrap()
    }
}

impl Peer for Framed {
    type Driver = Tcp;

    async fn prepare() -> (Self, Value) {
        let settings = json!({
            "listen": "127.0.0.1:0", "framing": { "kind": "length", "size": "u32", "order": "little" },
            "device": "{ip}", "acknowledge": { "hex": "06" }, "refuse": "\u{15}{reason}\n",
        });
        (Self { address: None }, settings)
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let mut stream = self.connect().await;
        stream.write_u32_le(payload.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&payload).await.unwrap();
        match stream.read_u8().await {
            Ok(6) => Told::Acknowledged,
            Ok(_) => {
                let mut reason = Vec::new();
                while let Ok(byte @ 32..) = stream.read_u8().await {
                    reason.push(byte);
                }
                Told::Refused(String::from_utf8(reason).unwrap())
            }
            Err(_) => Told::Nothing,
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(refused.to_string())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let _ = self.connect().await.write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut stream = self.connect().await;
        stream.write_all(b"\x09\0\0\0half").await.unwrap();
        Box::new(stream)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(self.connect().await)
    }
}

mod contract {
    crate::driver_contract!(super::Framed);
}

struct Running {
    host: Arc<StandIn>,
    _ingress: Supervised,
    address: SocketAddr,
}

impl Running {
    async fn start(more: Value) -> Self {
        let host = StandIn::with_reading_max(1000);
        let mut settings = json!({ "listen": "127.0.0.1:0" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Tcp>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, _ingress: ingress, address }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn payloads(&self) -> Vec<Bytes> {
        self.host.taken().into_iter().map(|taken| taken.inbound.payload).collect()
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), size: usize) -> String {
    let mut read = vec![0; size];
    in_time(stream.read_exact(&mut read)).await.unwrap();
    String::from_utf8(read).unwrap()
}

fn message(payload: &'static str) -> Message {
    Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: payload.into(),
    }
}

#[tokio::test]
async fn lines_in_pieces_become_readings_with_name_and_address() {
    let running = Running::start(json!({ "topic": "press/{device}", "device_pointer": "/id" })).await;
    let mut stream = running.connect().await;
    for piece in ["{\"id\":\"a", "\",\"n\":1}\r\n{\"id\":\"b\"}\n{\"id\":", "3}\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let taken = in_time(running.host.wait_taken(3)).await;
    let named: Vec<_> =
        taken.iter().map(|taken| (taken.inbound.topic.as_str(), taken.inbound.device.as_deref())).collect();
    assert_eq!(named, [("press/a", Some("a")), ("press/b", Some("b")), ("press/3", Some("3"))]);
    assert_eq!(taken[0].inbound.payload, "{\"id\":\"a\",\"n\":1}");
    assert_eq!(taken[0].inbound.content_type, ContentType::TEXT);
    assert_eq!(taken[0].inbound.attributes.get("peer"), Some(&*stream.local_addr().unwrap().to_string()));
}

#[tokio::test]
async fn acknowledgements_come_in_order_and_name_the_reading() {
    let running = Running::start(json!({ "acknowledge": "OK {id}\n" })).await;
    let mut stream = running.connect().await;
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    stream.write_all(lines.as_bytes()).await.unwrap();
    let said = read(&mut stream, 500 * 30).await;
    let ids: Vec<_> = running.host.taken().iter().map(|taken| format!("OK {}", taken.id)).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_connection_or_is_answered() {
    let closing = Running::start(json!({ "frame_max": 10 })).await;
    let mut stream = closing.connect().await;
    stream.write_all(b"1\n0123456789x\n2\n").await.unwrap();
    let mut rest = Vec::new();
    // What it did not read makes it a reset.
    let _ = in_time(stream.read_to_end(&mut rest)).await;
    assert_eq!((rest.len(), closing.payloads()), (0, vec![Bytes::from("1")]));
    let telling =
        Running::start(json!({ "frame_max": 10, "acknowledge": "+", "refuse": "-{reason}\n" })).await;
    let mut stream = telling.connect().await;
    stream.write_all(b"0123456789x\n").await.unwrap();
    let told = "-a frame of 11 bytes or more; 10 are the most\n";
    assert_eq!(read(&mut stream, told.len()).await, told);
    stream.write_all(b"2\n").await.unwrap();
    in_time(telling.host.wait_taken(1)).await;
    assert_eq!(telling.payloads(), ["2"]);
}

#[tokio::test]
async fn who_is_not_told_of_a_refusal_feels_it_and_loses_nothing() {
    let running = Running::start(json!({})).await;
    running.host.refuse(Refused::Busy { retry_after: Duration::from_millis(30) });
    let mut stream = running.connect().await;
    stream.write_all(b"1\n2\n3\n").await.unwrap();
    drop(stream);
    in_time(running.host.wait_taken(3)).await;
    assert_eq!(running.payloads(), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_slow_frame_and_an_idle_connection_are_cut_off() {
    let running = Running::start(json!({ "frame_timeout_ms": 40, "idle_timeout_ms": 80 })).await;
    let mut slow = running.connect().await;
    slow.write_all(b"1\n2").await.unwrap();
    let mut idle = running.connect().await;
    for stream in [&mut slow, &mut idle] {
        assert_eq!(in_time(stream.read(&mut [0])).await.unwrap(), 0);
    }
    assert_eq!(running.payloads(), ["1"]);
}

#[tokio::test]
async fn replies_and_commands_are_framed() {
    let running = Running::start(
        json!({ "framing": { "kind": "length", "size": "u8" }, "device": "d1", "commands": "json" }),
    )
    .await;
    running.host.answer(vec![Answer::Reply(message("hello"))], Ending::Ended);
    let mut stream = running.connect().await;
    stream.write_all(b"\x011").await.unwrap();
    assert_eq!(read(&mut stream, 6).await, "\x05hello");
    let command = Command {
        device: "d1".into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: "{\"on\":true}".into(),
    };
    assert_eq!(in_time(running.host.command(command.clone())).await, Some(Ok(())));
    let size = in_time(stream.read_u8()).await.unwrap();
    let written: Value = serde_json::from_str(&read(&mut stream, size.into()).await).unwrap();
    assert_eq!((&written["command"], &written["payload"]), (&json!("set"), &json!({ "on": true })));
    let long = Command { payload: vec![b'x'; 300].into(), content_type: ContentType::TEXT, ..command };
    let told = in_time(running.host.command(long)).await;
    assert!(matches!(told, Some(Err(crate::CommandError::Reject(_)))), "{told:?}");
}

#[tokio::test]
async fn a_sender_that_half_closed_gets_its_reply() {
    let running = Running::start(json!({})).await;
    running.host.answer(vec![Answer::Reply(message("hello"))], Ending::Ended);
    let mut stream = running.connect().await;
    stream.write_all(b"1\n2").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    in_time(stream.read_to_string(&mut said)).await.unwrap();
    assert_eq!((said.as_str(), running.payloads()), ("hello\n", vec![Bytes::from("1")]));
}

#[tokio::test]
async fn it_connects_and_connects_again_also_with_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = self_signed(folder.path());
    let acceptor =
        crate::tls::Acceptor::new(files.clone()).unwrap().at(sandbar_reading::Timestamp::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = StandIn::new();
    let settings = json!({
        "connect": format!("localhost:{}", address.port()), "acknowledge": "+",
        "connect_tls": { "ca_file": files.certificate_file },
    });
    let _ingress = supervise::<Tcp>(settings, &host);
    for count in 1..3 {
        let (stream, _) = in_time(listener.accept()).await.unwrap();
        let mut stream = in_time(acceptor.accept(stream)).await.unwrap();
        stream.write_all(b"21.5\n").await.unwrap();
        assert_eq!(read(&mut stream, 1).await, "+");
        assert_eq!(host.taken().len(), count);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_not_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    let files = self_signed(folder.path());
    let secure = Running::start(json!({ "acknowledge": "+", "tls": {
        "certificate_file": files.certificate_file, "key_file": files.key_file } }))
    .await;
    let trusting = |trusted: &std::path::Path| json!({ "connect": format!("localhost:{}", secure.address.port()), "connect_tls": { "ca_file": trusted } });
    let other = tempfile::tempdir().unwrap();
    let other = self_signed(other.path());
    let host = StandIn::new();
    let refusing = supervise::<Tcp>(trusting(&other.certificate_file), &host);
    let status = in_time(refusing.wait_for(|status| status.last_error.is_some())).await;
    let error = status.last_error.unwrap().text;
    assert!(error.contains("certificate"), "{error}");
    let _trusts = supervise::<Tcp>(trusting(&files.certificate_file), &host);
    running(&_trusts).await;
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings: Value| crate::build("tcp", settings).err().unwrap().setting;
    assert_eq!(setting(json!({})), "listen");
    assert_eq!(setting(json!({ "listen": "0.0.0.0:0", "connect": "a:1" })), "listen");
    assert_eq!(setting(json!({ "connect": "a" })), "connect");
    assert_eq!(
        setting(json!({ "connect": "a:1", "tls": { "certificate_file": "c", "key_file": "k" } })),
        "tls"
    );
    let with = |setting: &str, value: Value| json!({ "listen": "0.0.0.0:0", setting: value });
    assert_eq!(setting(with("framing", json!({ "kind": "fixed", "bytes": 0 }))), "framing.bytes");
    assert_eq!(setting(with("content_type", json!("json"))), "content_type");
    assert_eq!(setting(with("device", json!("{certificate}"))), "device");
    assert_eq!(setting(with("frame_timeout_ms", json!(0))), "frame_timeout_ms");
    assert_eq!(
        setting(with("tls", json!({ "certificate_file": "/none", "key_file": "k" }))),
        "tls.certificate_file"
    );
    assert_eq!(setting(with("acknowledge", json!({ "hex": "0" }))), "acknowledge");
}

#[tokio::test]
async fn the_task_of_an_idle_connection_is_small() {
    let host = StandIn::new();
    let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
    let settings = json!({ "listen": "127.0.0.1:0", "framing": { "kind": "lines" } });
    let driver = Tcp::new(sandbar_reading::settings(settings).unwrap()).unwrap();
    let shared = super::Shared {
        settings: driver.settings,
        devices: Devices::new(session.clone()),
        complaints: Complaints::new(session.ingress().clone()),
        session,
    };
    let (near, _far) = tokio::io::duplex(64);
    let serving = super::serve(&shared, near, super::Far::at(([127, 0, 0, 1], 9000).into()));
    assert!(size_of_val(&serving) <= 4096, "{} bytes", size_of_val(&serving));
}
