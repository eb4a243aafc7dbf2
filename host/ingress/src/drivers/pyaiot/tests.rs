//! With real sockets, on the loopback address; message flows of Pyaiot's own programs are in `tests/coap`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use parking_lot::Mutex;
use sandbar_reading::{Command, ContentType, Refused};
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async};

use super::Pyaiot;
use super::fernet::tests::{FILE, token};
use crate::coap::blocks::Block;
use crate::coap::call;
use crate::coap::dtls::Sockets;
use crate::coap::endpoint::Request;
use crate::coap::layer::Parameters;
use crate::coap::packet::{self, MessageType, Parsed, parse, response};
use crate::coap::{Code, Endpoint, Method, Opt, Packet, Service};
use crate::contract::{Peer, StandIn, Told, in_time, running, supervise};
use crate::{CommandError, Supervised};

struct Node {
    coap: SocketAddr,
}

async fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn post(to: SocketAddr, path: &str, payload: &[u8]) -> Packet {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    let mut request = packet::request(Method::Post, path, &[]);
    request.header.set_type(MessageType::NonConfirmable);
    request.payload = payload.to_vec();
    socket.send(&packet::bytes(&request)).await.unwrap();
    let mut buffer = [0; 2000];
    let size = socket.recv(&mut buffer).await.unwrap();
    let Parsed::Message(packet) = parse(&buffer[..size]) else { panic!("no message") };
    packet
}

fn said(answer: &Packet) -> String {
    format!("{} {}", answer.header.code, String::from_utf8_lossy(&answer.payload))
}

impl Peer for Node {
    type Driver = Pyaiot;

    async fn prepare() -> (Self, Value) {
        let coap = free_port().await;
        let settings =
            json!({ "listen": "127.0.0.1:0", "coap": { "listen": coap.to_string(), "node_port": 9 } });
        (Self { coap }, settings)
    }

    async fn reach(&mut self, _address: Option<SocketAddr>) {
        assert_eq!(said(&in_time(post(self.coap, "/alive", b"alive:n1")).await), "2.04 Received 'alive:n1'");
    }

    async fn send(&self, payload: Bytes) -> Told {
        let answer = post(self.coap, "/server", &[b"t:", &payload[..]].concat()).await;
        match said(&answer) {
            said if said.starts_with("2.04 ") => Told::Acknowledged,
            said => Told::Refused(said),
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(said(&crate::coap::answers::refused(refused)))
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&bytes, self.coap).await.unwrap();
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut request = packet::request(Method::Post, "/server", &[]);
        Block { number: 0, more: true, exponent: 0 }.set(&mut request, Opt::Block1);
        request.payload = b"t:01234567890123".to_vec();
        socket.send_to(&packet::bytes(&request), self.coap).await.unwrap();
        Box::new(socket)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }
}

mod contract {
    crate::driver_contract!(super::Node);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Running {
    host: Arc<StandIn>,
    _ingress: Supervised,
    address: SocketAddr,
    keys: tempfile::NamedTempFile,
}

impl Running {
    async fn start(more: Value) -> Self {
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), FILE).unwrap();
        let host = StandIn::with_reading_max(100_000);
        let mut settings = json!({ "listen": "127.0.0.1:0", "keys_file": keys.path() });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Pyaiot>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, _ingress: ingress, address, keys }
    }

    async fn connect(&self, path: &str, sub_protocol: Option<String>) -> Result<Socket, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if let Some(text) = sub_protocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", text.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        Ok(client_async(request, MaybeTlsStream::Plain(stream)).await?.0)
    }

    async fn client(&self) -> Socket {
        let mut client = self.connect("/ws", None).await.unwrap();
        say(&mut client, &json!({ "type": "new", "data": "" })).await;
        client
    }

    async fn gateway(&self) -> Socket {
        let mut gateway = self.connect("/gw", Some(format!("token,{}", token(b"a secret")))).await.unwrap();
        let ask = heard(&mut gateway).await;
        assert_eq!((&ask["type"], &ask["data"]), (&json!("new"), &json!("")));
        gateway
    }
}

async fn say(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The next text, or the code with which the connection was closed.
async fn heard(socket: &mut Socket) -> Value {
    loop {
        match in_time(socket.next()).await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Close(Some(frame)))) => return json!(u16::from(frame.code)),
            Some(Ok(_)) => {}
            other => return json!(format!("{other:?}")),
        }
    }
}

fn command(device: &str) -> Command {
    Command {
        device: device.into(),
        name: "led".into(),
        content_type: ContentType::TEXT,
        payload: "1".into(),
    }
}

#[tokio::test]
async fn a_gateway_brings_its_nodes_and_takes_them_with_it() {
    let running = Running::start(json!({})).await;
    let mut client = running.client().await;
    let mut gateway = running.gateway().await;
    say(&mut gateway, &json!({ "type": "update", "uid": "alive" })).await;
    say(&mut gateway, &json!({ "type": "new", "uid": "n1", "dst": "all" })).await;
    assert_eq!(heard(&mut client).await, json!({ "type": "new", "uid": "n1", "dst": "all" }));
    let update = json!({ "type": "update", "uid": "n1", "endpoint": "led", "data": "0", "dst": "all" });
    say(&mut gateway, &update).await;
    assert_eq!(heard(&mut client).await, update);
    assert_eq!(running.host.taken()[0].inbound.topic.as_str(), "pyaiot/n1/led");
    // A new client: the gateway is asked, and answers that one alone.
    let mut second = running.client().await;
    let ask = heard(&mut gateway).await;
    let src = ask["src"].clone();
    assert_eq!((&ask["type"], src.is_string()), (&json!("new"), true));
    let cached = json!({ "type": "new", "uid": "n1", "dst": src });
    say(&mut gateway, &cached).await;
    assert_eq!(heard(&mut second).await, cached);
    let cached = json!({ "type": "update", "uid": "n1", "endpoint": "led", "data": "0", "dst": src });
    say(&mut gateway, &cached).await;
    assert_eq!(heard(&mut second).await, cached);
    assert_eq!(running.host.taken().len(), 1, "what is said again is no reading");
    let data = json!({ "uid": "n1", "endpoint": "led", "payload": "1" });
    say(&mut second, &json!({ "type": "update", "data": data })).await;
    assert_eq!(heard(&mut gateway).await, json!({ "type": "update", "data": data, "src": src }));
    let (told, message) =
        in_time(async { tokio::join!(running.host.command(command("n1")), heard(&mut gateway)) }).await;
    assert_eq!((told, &message["data"]), (Some(Ok(())), &data));
    drop(gateway);
    assert_eq!(heard(&mut client).await, json!({ "type": "out", "uid": "n1" }));
    assert!(running.host.devices().is_empty());
}

#[tokio::test]
async fn who_says_nonsense_is_closed_and_nobody_else() {
    let running = Running::start(json!({})).await;
    let (mut good, mut bad) = (running.client().await, running.client().await);
    say(&mut bad, &json!({ "type": "shutdown" })).await;
    assert_eq!(heard(&mut bad).await, json!(1003));
    drop(running.client().await);
    let mut gateway = running.gateway().await;
    say(&mut gateway, &json!({ "type": "new", "uid": "n1", "dst": "all" })).await;
    assert_eq!(heard(&mut good).await["uid"], json!("n1"));
    say(&mut gateway, &json!({ "type": "update", "uid": "n1" })).await;
    assert_eq!(heard(&mut gateway).await, json!(1003));
    assert_eq!(heard(&mut good).await, json!({ "type": "out", "uid": "n1" }));
}

#[tokio::test]
async fn who_may_not_is_kept_out() {
    let running = Running::start(json!({ "control_token": "s3cret", "node_token": "n0de" })).await;
    for (path, sub_protocol, status) in [
        ("/gw", None, 401),
        ("/gw", Some(format!("token,{}", token(b"guess"))), 401),
        ("/node", None, 401),
        ("/other", None, 404),
    ] {
        let Err(Error::Http(response)) = running.connect(path, sub_protocol).await else { panic!("{path}") };
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let mut node = running.connect("/node?id=n1&access_token=n0de", None).await.unwrap();
    assert_eq!(heard(&mut node).await, json!({ "request": "discover" }));
    let write = json!({ "type": "update", "data": { "uid": "n1", "endpoint": "led", "payload": 1 } });
    let mut watcher = running.client().await;
    assert_eq!(heard(&mut watcher).await["type"], "new");
    say(&mut watcher, &write).await;
    while heard(&mut watcher).await != json!(1008) {}
    let mut controller = running.connect("/ws?access_token=s3cret", None).await.unwrap();
    say(&mut controller, &write).await;
    assert_eq!(heard(&mut node).await, json!({ "endpoint": "led", "payload": 1 }));
    drop(running.keys);
}

#[tokio::test]
async fn a_websocket_node_is_there_while_its_connection_is() {
    let running = Running::start(json!({})).await;
    let mut client = running.client().await;
    let mut node = running.connect("/node", None).await.unwrap();
    assert_eq!(heard(&mut node).await, json!({ "request": "discover" }));
    let uid = heard(&mut client).await["uid"].as_str().unwrap().to_owned();
    say(&mut node, &json!({ "type": "update", "data": { "led": "0", "position": { "lat": 1 } } })).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = heard(&mut client).await;
        seen.push(format!("{}={}", message["endpoint"].as_str().unwrap(), message["data"]));
    }
    assert_eq!(seen, ["protocol=\"WebSocket\"", "ip=\"127.0.0.1\"", "led=\"0\"", "position={\"lat\":1}"]);
    let mut late = running.client().await;
    assert_eq!(heard(&mut late).await["type"], "new");
    for _ in 0..4 {
        assert_eq!(heard(&mut late).await["type"], "update");
    }
    assert_eq!(in_time(running.host.command(command(&uid))).await, Some(Ok(())));
    assert_eq!(heard(&mut node).await, json!({ "endpoint": "led", "payload": "1" }));
    drop(node);
    assert_eq!(heard(&mut client).await, json!({ "type": "out", "uid": uid }));
    assert_eq!(running.host.taken().len(), 2);
}

#[tokio::test]
async fn a_node_keeps_its_connection_whoever_else_has_its_name() {
    let running = Running::start(json!({})).await;
    let mut node = running.connect("/node?id=n1", None).await.unwrap();
    assert_eq!(heard(&mut node).await, json!({ "request": "discover" }));
    let mut other = running.connect("/node?id=n1", None).await.unwrap();
    assert_eq!(heard(&mut other).await, json!(1008));
    let mut gateway = running.gateway().await;
    let update = json!({ "type": "update", "uid": "n1", "endpoint": "led", "data": "0", "dst": "all" });
    say(&mut gateway, &json!({ "type": "out", "uid": "n1" })).await;
    say(&mut gateway, &update).await;
    in_time(running.host.wait_taken(1)).await;
    assert_eq!(in_time(running.host.command(command("n1"))).await, Some(Ok(())));
    assert_eq!(heard(&mut node).await, json!({ "endpoint": "led", "payload": "1" }));
    // A node that is behind the gateway is not one that connects by itself.
    say(&mut gateway, &json!({ "type": "new", "uid": "n2", "dst": "all" })).await;
    say(&mut gateway, &json!({ "type": "update", "uid": "n2", "endpoint": "led", "data": "0" })).await;
    in_time(running.host.wait_taken(2)).await;
    let mut other = running.connect("/node?id=n2", None).await.unwrap();
    assert_eq!(heard(&mut other).await, json!(1008));
    assert_eq!(in_time(running.host.command(command("n2"))).await, Some(Ok(())));
    assert_eq!(heard(&mut gateway).await["data"]["uid"], "n2");
}

/// A RIOT node's resources.
#[derive(Default)]
struct Board {
    led: Mutex<String>,
    /// Once, it has no answer yet.
    is_starting: Mutex<bool>,
}

impl Board {
    /// At the port that it returns.
    async fn start(self: &Arc<Self>) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (sockets, parameters) = (Sockets::new(socket, None), Parameters::default());
        let endpoint = Endpoint::new(sockets, parameters, Arc::clone(self), call::orders().1);
        tokio::spawn(endpoint.run(std::future::pending()));
        port
    }
}

impl Service for Board {
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Packet> {
        let packet = request.packet;
        let mut answer = response(Code::Content);
        match (packet::path(&packet).unwrap().as_str(), u8::from(packet.header.code)) {
            ("/.well-known/core", 1) if std::mem::take(&mut *self.is_starting.lock()) => {
                answer = response(Code::ServiceUnavailable);
            }
            ("/.well-known/core", 1) => answer.payload = b"</board>,</led>".to_vec(),
            ("/board", 1) => answer.payload = b"samr21-xpro".to_vec(),
            ("/led", 1) => answer.payload = self.led.lock().clone().into_bytes(),
            ("/led", 3) => {
                *self.led.lock() = String::from_utf8(packet.payload).unwrap();
                answer = response(Code::Changed);
            }
            _ => answer = response(Code::NotFound),
        }
        async { answer }.boxed()
    }
}

#[tokio::test]
async fn a_coap_node_is_looked_at_written_to_and_lost_in_time() {
    let board = Arc::new(Board::default());
    *board.led.lock() = "0".to_owned();
    let (node_port, coap) = (board.start().await, free_port().await);
    let coap_settings = json!({ "listen": coap.to_string(), "node_port": node_port, "lost_after_s": 2 });
    let running = Running::start(json!({ "coap": coap_settings })).await;
    let mut client = running.client().await;
    let beacon = async |text: &str| said(&in_time(post(coap, "/alive", text.as_bytes())).await);
    assert_eq!(said(&in_time(post(coap, "/server", b"t:1")).await), "4.04 no beacon of yours was heard");
    assert_eq!(beacon("Alive:n1").await, "2.04 Received 'Alive:n1'");
    assert_eq!(heard(&mut client).await, json!({ "type": "new", "uid": "n1", "dst": "all" }));
    let updates = async |client: &mut Socket, count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            let message = heard(client).await;
            seen.push(format!("{} {}", message["endpoint"].as_str().unwrap_or("-"), message["data"]));
        }
        seen
    };
    let all = ["ip \"127.0.0.1\"", "protocol \"CoAP\"", "board \"samr21-xpro\"", "led \"0\""];
    assert_eq!(updates(&mut client, 4).await, all);
    // It is known: nothing is said of it.
    beacon("alive:n1").await;
    assert_eq!(said(&in_time(post(coap, "/server", b"time:12:30")).await), "2.04 Received 'time:12:30'");
    assert_eq!(updates(&mut client, 1).await, ["time \"12:30\""]);
    say(
        &mut client,
        &json!({ "type": "update", "data": { "uid": "n1", "endpoint": "led", "payload": "1" } }),
    )
    .await;
    assert_eq!(updates(&mut client, 1).await, ["led \"1\""]);
    assert_eq!(*board.led.lock(), "1");
    let told = in_time(running.host.command(Command { name: "lamp".into(), ..command("n1") })).await;
    assert_eq!(told, Some(Err(CommandError::Reject("4.04".to_owned()))));
    beacon("reset:n1").await;
    assert_eq!(heard(&mut client).await, json!({ "type": "reset", "uid": "n1" }));
    assert_eq!(updates(&mut client, 4).await[3], "led \"1\"");
    assert_eq!(beacon("hello").await, "4.00 a beacon is alive:UID or reset:UID");
    let began = std::time::Instant::now();
    assert_eq!(heard(&mut client).await, json!({ "type": "out", "uid": "n1" }));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_coap_node_that_had_no_answer_is_looked_at_after_a_later_beacon() {
    let board = Arc::new(Board { led: Mutex::new("0".to_owned()), is_starting: Mutex::new(true) });
    let (node_port, coap) = (board.start().await, free_port().await);
    let coap_settings = json!({ "listen": coap.to_string(), "node_port": node_port });
    let running = Running::start(json!({ "coap": coap_settings })).await;
    let mut client = running.client().await;
    let beacons = tokio::spawn(async move {
        loop {
            post(coap, "/alive", b"alive:n1").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    while heard(&mut client).await["endpoint"] != "led" {}
    beacons.abort();
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |setting: &str, value: Value| {
        let mut table = json!({ "listen": "127.0.0.1:0" });
        table[setting] = value;
        crate::build("pyaiot", table).err().unwrap().setting
    };
    assert_eq!(setting("keys_file", json!("/nowhere")), "keys_file");
    assert_eq!(setting("topic", json!("{uid}")), "topic");
    assert_eq!(setting("control_token", json!("")), "control_token");
    assert_eq!(setting("coap", json!({ "listen": "127.0.0.1:0", "lost_after_s": 0 })), "coap.lost_after_s");
    let broker = json!({ "url": "http://x", "client_id": "a" });
    assert_eq!(setting("mqtt", json!({ "broker": broker })), "mqtt.broker.url");
}
