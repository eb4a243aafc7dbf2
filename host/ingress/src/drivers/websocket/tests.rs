//! With real sockets, on the loopback address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::WebSocket;
use crate::complaints::Complaints;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::devices::Devices;
use crate::{Answer, Driver, Session, Supervised};

type Client = WebSocketStream<TcpStream>;

async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(client_async(request, stream).await?.0)
}

async fn next(client: &mut Client) -> Frame {
    loop {
        match in_time(client.next()).await {
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
            Some(Ok(frame)) => return frame,
            other => panic!("{other:?}"),
        }
    }
}

async fn text(client: &mut Client) -> String {
    next(client).await.into_text().unwrap().to_string()
}

/// Why the other side closed.
async fn closed(client: &mut Client) -> CloseCode {
    match next(client).await {
        Frame::Close(Some(frame)) => frame.code,
        other => panic!("{other:?}"),
    }
}

struct Messages {
    address: Option<SocketAddr>,
}

impl Messages {
    async fn connect(&self) -> Client {
        open(self.address.unwrap(), "/ws/d1", &[]).await.unwrap()
    }
}

impl Peer for Messages {
    type Driver = WebSocket;

    async fn prepare() -> (Self, Value) {
        let settings = json!({
            "listen": "127.0.0.1:0", "paths": [{ "path": "/ws/{device}" }], "acknowledge": "ok", "refuse": "{reason}",
        });
        (Self { address: None }, settings)
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let mut client = self.connect().await;
        client.send(Frame::Binary(payload)).await.unwrap();
        match client.next().await {
            Some(Ok(Frame::Text(text))) if text.as_str() == "ok" => Told::Acknowledged,
            Some(Ok(Frame::Text(text))) => Told::Refused(text.to_string()),
            _ => Told::Nothing,
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(refused.to_string())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let mut raw = TcpStream::connect(self.address.unwrap()).await.unwrap();
        let _ = raw.write_all(&bytes).await;
        let mut client = self.connect().await;
        let _ = client.get_mut().write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut client = self.connect().await;
        // A text of ten bytes, masked, of which four come.
        client.get_mut().write_all(b"\x81\x8a\0\0\0\0half").await.unwrap();
        Box::new(client)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(self.connect().await)
    }
}

mod contract {
    crate::driver_contract!(super::Messages);
}

struct Running {
    host: Arc<StandIn>,
    ingress: Supervised,
    address: SocketAddr,
}

impl Running {
    async fn start(more: Value) -> Self {
        let host = StandIn::with_reading_max(1000);
        let mut settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/ws/{device}" }] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<WebSocket>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, ingress, address }
    }

    async fn open(&self, path: &str) -> Client {
        open(self.address, path, &[]).await.unwrap()
    }

    /// The status and code of a refusal.
    async fn refusal(&self, path: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
        match open(self.address, path, headers).await {
            Err(Error::Http(response)) => {
                let status = response.status().as_u16();
                let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
                (status, body["code"].as_str().unwrap().to_owned())
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

fn message(content_type: ContentType, payload: &'static [u8]) -> Message {
    Message {
        topic: "a/b".parse().unwrap(),
        device: None,
        content_type,
        attributes: Attributes::new(),
        payload: payload.into(),
    }
}

#[tokio::test]
async fn text_is_json_or_text_and_the_connection_is_told_of() {
    let running = Running::start(json!({
        "paths": [{ "path": "/ws/{device}/{room}", "topic": "r/{room}/{device}", "headers": ["X-Site"] }],
        "sub_protocols": ["kraken.v2", "kraken"], "greeting": r#"{"kraken":"hello"}"#, "acknowledge": "{id}",
    }))
    .await;
    let headers = [("sec-websocket-protocol", "other, kraken"), ("x-site", "north")];
    let mut client = open(running.address, "/ws/d1/cellar", &headers).await.unwrap();
    assert_eq!(text(&mut client).await, r#"{"kraken":"hello"}"#);
    for frame in [Frame::text(r#"{"t":21.5}"#), Frame::text("21.5 C"), Frame::binary(vec![0, 255])] {
        client.send(frame).await.unwrap();
        let id = text(&mut client).await;
        assert_eq!(id, running.host.taken().last().unwrap().id.to_string());
    }
    let taken = running.host.taken();
    let types: Vec<_> = taken.iter().map(|taken| taken.inbound.content_type.clone()).collect();
    assert_eq!(types, [ContentType::JSON, ContentType::TEXT, ContentType::OCTETS]);
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("r/cellar/d1", Some("d1")));
    for (name, value) in [
        ("http.path", "/ws/d1/cellar"),
        ("http.path.room", "cellar"),
        ("http.header.x-site", "north"),
        ("websocket.sub_protocol", "kraken"),
        ("peer", &client.get_ref().local_addr().unwrap().to_string()),
    ] {
        assert_eq!(inbound.attributes.get(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn the_device_is_named_by_message_header_query_or_path() {
    let running = Running::start(json!({ "acknowledge": "ok", "paths": [{
        "path": "/ws/{device}", "topic": "x/{device}", "device_header": "X-Device", "device_query": "dev",
        "device_pointer": "/id" }] }))
    .await;
    for (path, headers, sent, device) in [
        ("/ws/a", &[][..], "1", "a"),
        ("/ws/a?dev=b%20c", &[], "1", "b c"),
        ("/ws/a?dev=b", &[("x-device", "c")], "1", "c"),
        ("/ws/a?dev=b", &[("x-device", "c")], r#"{"id":"d"}"#, "d"),
    ] {
        let mut client = open(running.address, path, headers).await.unwrap();
        client.send(Frame::text(sent)).await.unwrap();
        assert_eq!(text(&mut client).await, "ok");
        assert_eq!(running.host.taken().last().unwrap().inbound.device.as_deref(), Some(device));
    }
}

#[tokio::test]
async fn a_connection_that_is_not_welcome_is_told_why() {
    let running = Running::start(json!({
        "token": "s3cret", "sub_protocols": ["kraken"], "origins": ["https://example.com"],
        "paths": [{ "path": "/ws" }, { "path": "/live", "subscribe": true }],
    }))
    .await;
    let token = ("authorization", "Bearer s3cret");
    let spoken = ("sec-websocket-protocol", "kraken");
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(running.refusal("/ws", &[spoken]).await, code(401, "unauthorized"));
    assert_eq!(
        running.refusal("/ws", &[spoken, ("authorization", "Bearer s3cre")]).await,
        code(401, "unauthorized")
    );
    assert_eq!(running.refusal("/other", &[token, spoken]).await, code(404, "no_such_path"));
    assert_eq!(running.refusal("/ws", &[token]).await, code(400, "no_sub_protocol"));
    assert_eq!(
        running.refusal("/ws", &[token, ("sec-websocket-protocol", "Kraken")]).await,
        code(400, "no_sub_protocol")
    );
    assert_eq!(
        running.refusal("/ws", &[token, spoken, ("origin", "https://evil.example")]).await,
        code(403, "origin")
    );
    assert_eq!(running.refusal("/live?topic=a%23", &[token, spoken]).await, code(400, "bad_topic_filter"));
    assert!(
        open(running.address, "/ws?access_token=s3cret", &[spoken, ("origin", "https://example.com")])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_is_no_handshake_is_answered_in_http() {
    let running = Running::start(json!({})).await;
    for (request, answer) in [
        ("GET /ws/a HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 426 "),
        ("POST /ws/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "HTTP/1.1 405 "),
        (
            "GET /ws/a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
        ("hello\r\n\r\n", "HTTP/1.1 400 "),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let _ = in_time(stream.read_to_end(&mut said)).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with(answer), "{request}: {said}");
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let running = Running::start(json!({ "message_max": 100 })).await;
    let mut long = running.open("/ws/a").await;
    long.send(Frame::text("x".repeat(101))).await.unwrap();
    assert_eq!(closed(&mut long).await, CloseCode::Size);
    for (frame, code) in [
        (&b"\x81\x82\0\0\0\0\xc3\x28"[..], CloseCode::Invalid),
        (b"\x83\x80\0\0\0\0", CloseCode::Protocol),
        (b"\x81\x01a", CloseCode::Protocol),
        (b"\x80\x80\0\0\0\0", CloseCode::Protocol),
    ] {
        let mut client = running.open("/ws/a").await;
        client.get_mut().write_all(frame).await.unwrap();
        assert_eq!(closed(&mut client).await, code, "{frame:?}");
    }
    assert!(running.host.taken().is_empty());
}

#[tokio::test]
async fn replies_and_commands_come_over_the_connections() {
    let running = Running::start(json!({})).await;
    let replies =
        [(ContentType::JSON, &b"{}"[..]), (ContentType::TEXT, b"\xff"), (ContentType::OCTETS, b"\0")];
    let replies =
        replies.into_iter().map(|(content_type, payload)| Answer::Reply(message(content_type, payload)));
    running.host.answer(replies.collect(), Ending::Ended);
    let mut first = running.open("/ws/d1").await;
    first.send(Frame::text("1")).await.unwrap();
    for reply in [Frame::text("{}"), Frame::binary(vec![255]), Frame::binary(vec![0])] {
        assert_eq!(next(&mut first).await, reply);
    }
    let mut second = running.open("/ws/d1").await;
    let mut other = running.open("/ws/d2").await;
    let command = |device: &str, payload: &'static str| Command {
        device: device.into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: payload.into(),
    };
    // The second one has joined once a reading of it was answered.
    second.send(Frame::text("2")).await.unwrap();
    for _ in 0..3 {
        next(&mut second).await;
    }
    assert_eq!(in_time(running.host.command(command("d1", "{\"on\":1}"))).await, Some(Ok(())));
    assert_eq!(text(&mut first).await, "{\"on\":1}");
    assert_eq!(text(&mut second).await, "{\"on\":1}");
    other.close(None).await.unwrap();
    while let Some(Ok(_)) = in_time(other.next()).await {}
    assert_eq!(running.host.devices(), ["d1".into()]);
}

#[tokio::test]
async fn subscribers_get_what_sinks_publish() {
    let running = Running::start(json!({ "paths": [
        { "path": "/live", "subscribe": true, "readings": false }, { "path": "/ws" }] }))
    .await;
    let mut all = running.open("/live").await;
    let mut some = running.open("/live?topic=a/%2B").await;
    let mut none = running.open("/live?topic=c/%23").await;
    let publish = |content_type, payload| running.host.publish(message(content_type, payload));
    assert_eq!(in_time(publish(ContentType::JSON, b"{\"t\":1}")).await, Some(Ok(())));
    let said = r#"{"topic":"a/b","device":null,"id":"00000000000000000000000001","content_type":"application/json","payload":{"t":1}}"#;
    assert_eq!((text(&mut all).await.as_str(), text(&mut some).await.as_str()), (said, said));
    none.send(Frame::text("a reading")).await.unwrap();
    assert_eq!(closed(&mut none).await, CloseCode::Unsupported);
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_cut_off_and_who_answers_pings_is_not() {
    let running = Running::start(json!({ "ping_interval_ms": 20, "idle_timeout_ms": 100 })).await;
    let mut silent = running.open("/ws/a").await;
    let mut alive = running.open("/ws/b").await;
    let answering = tokio::spawn(async move {
        let mut pings = 0;
        while pings < 15 {
            match in_time(alive.next()).await {
                Some(Ok(Frame::Ping(_))) => pings += 1,
                other => panic!("{other:?}"),
            }
        }
    });
    // Nothing is read of it, so no ping is answered.
    let raw = silent.get_mut();
    let mut all = Vec::new();
    let _ = in_time(raw.read_to_end(&mut all)).await;
    assert!(all.ends_with(b"no sign of life"), "{all:?}");
    in_time(answering).await.unwrap();
}

#[tokio::test]
async fn a_stop_says_farewell_after_the_acknowledgements() {
    let running = Running::start(json!({ "acknowledge": "ok" })).await;
    let mut client = running.open("/ws/a").await;
    running.host.hold();
    client.send(Frame::text("1")).await.unwrap();
    in_time(running.host.wait_offered(1)).await;
    let stop = running.ingress.stop(Duration::from_secs(10));
    let rest = async {
        tokio::task::yield_now().await;
        running.host.release();
        assert_eq!(text(&mut client).await, "ok");
        assert_eq!(closed(&mut client).await, CloseCode::Away);
    };
    in_time(async { tokio::join!(stop, rest) }).await;
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |more: Value| {
        let mut settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/ws" }] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        crate::build("websocket", settings).err().unwrap().setting
    };
    assert_eq!(setting(json!({ "paths": [] })), "paths");
    assert_eq!(setting(json!({ "paths": [{ "path": "/" }] })), "paths[0].topic");
    assert_eq!(setting(json!({ "paths": [{ "path": "/a", "topic": "a/#" }] })), "paths[0].topic");
    assert_eq!(
        setting(json!({ "paths": [{ "path": "/a", "device_header": "a b" }] })),
        "paths[0].device_header"
    );
    assert_eq!(
        setting(json!({ "paths": [{ "path": "/a", "device_pointer": "id" }] })),
        "paths[0].device_pointer"
    );
    assert_eq!(setting(json!({ "idle_timeout_ms": 30_000 })), "idle_timeout_ms");
    assert_eq!(setting(json!({ "token": { "env": "SANDBAR_NOT_SET" } })), "token");
}

#[tokio::test]
async fn the_task_of_an_idle_connection_is_small() {
    let host = StandIn::new();
    let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
    let settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/ws/{device}" }] });
    let driver = WebSocket::new(sandbar_reading::settings(settings).unwrap()).unwrap();
    let shared = super::Shared {
        settings: driver.settings,
        devices: Devices::new(session.clone()),
        subscribers: <_>::default(),
        complaints: Complaints::new(session.ingress().clone()),
        session,
    };
    let request = "ws://127.0.0.1/ws/d1".into_client_request().unwrap();
    let (opened, _) = shared.settings.door.open(&request.into_parts().0, ("127.0.0.1:9000", None)).unwrap();
    let (near, _far) = tokio::io::duplex(64);
    let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    let listed = shared.session.connected(<_>::default());
    let serving = super::connection::serve(&shared, super::Shaken { socket, opened, listed });
    assert!(size_of_val(&serving) <= 4096, "{} bytes", size_of_val(&serving));
}
