//! With real sockets, on the loopback address; independent peers are in `tests/coap`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::Coap;
use crate::coap::blocks::Block;
use crate::coap::call::{self, Body};
use crate::coap::dtls::{Identities, Keys, Secure, Sockets};
use crate::coap::endpoint::{Peer as At, Request};
use crate::coap::layer::Parameters;
use crate::coap::packet::{self, MessageType, Parsed, parse, response};
use crate::coap::{Caller, Code, Endpoint, Method, Opt, Packet, Service};
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::{Answer, CommandError, Supervised};

/// Of an ingress as tests have it.
fn settings() -> Value {
    json!({ "listen": "127.0.0.1:0", "ack_timeout_ms": 200 })
}

struct Node {
    address: Option<SocketAddr>,
}

async fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

fn request(method: Method, path: &str, id: u16) -> Packet {
    let mut request = packet::request(method, path, &[]);
    request.header.set_type(MessageType::Confirmable);
    request.header.message_id = id;
    request.set_token(id.to_be_bytes().to_vec());
    request
}

/// The next response, however it comes.
async fn answer(socket: &UdpSocket) -> Packet {
    let mut buffer = [0; 2000];
    loop {
        let size = socket.recv(&mut buffer).await.unwrap();
        let Parsed::Message(packet) = parse(&buffer[..size]) else { panic!("no message") };
        if packet.header.get_type() == MessageType::Confirmable {
            let id = packet.header.message_id;
            let ack = packet::empty(MessageType::Acknowledgement, id);
            socket.send(&packet::bytes(&ack)).await.unwrap();
        }
        if packet::class(&packet) > 0 {
            return packet;
        }
    }
}

async fn ask(socket: &UdpSocket, request: &Packet) -> Packet {
    socket.send(&packet::bytes(request)).await.unwrap();
    in_time(answer(socket)).await
}

fn said(answer: &Packet) -> String {
    format!("{} {}", answer.header.code, String::from_utf8_lossy(&answer.payload)).trim_end().to_owned()
}

impl Peer for Node {
    type Driver = Coap;

    async fn prepare() -> (Self, Value) {
        (Self { address: None }, settings())
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let socket = socket(self.address.unwrap()).await;
        let mut request = request(Method::Post, "/a", 1);
        request.payload = payload.to_vec();
        socket.send(&packet::bytes(&request)).await.unwrap();
        match said(&answer(&socket).await).as_str() {
            "2.04" => Told::Acknowledged,
            other => Told::Refused(other.to_owned()),
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(said(&crate::coap::answers::refused(refused)))
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let socket = socket(self.address.unwrap()).await;
        socket.send(&bytes).await.unwrap();
        socket.send(&[b"\x40\x02\0\x01", &bytes[..]].concat()).await.unwrap();
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let socket = socket(self.address.unwrap()).await;
        let mut request = request(Method::Post, "/a", 1);
        Block { number: 0, more: true, exponent: 0 }.set(&mut request, Opt::Block1);
        request.payload = vec![b'x'; 16];
        ask(&socket, &request).await;
        Box::new(socket)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(socket(self.address.unwrap()).await)
    }
}

mod contract {
    crate::driver_contract!(super::Node);
}

struct Running {
    host: Arc<StandIn>,
    _ingress: Supervised,
    socket: UdpSocket,
}

impl Running {
    async fn start(more: Value) -> Self {
        let host = StandIn::with_reading_max(100_000);
        let mut settings = settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Coap>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, _ingress: ingress, socket: socket(address).await }
    }

    async fn ask(&self, request: &Packet) -> String {
        said(&ask(&self.socket, request).await)
    }
}

fn message(topic: &str, payload: impl Into<Bytes>) -> Message {
    Message {
        topic: topic.parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: payload.into(),
    }
}

fn command(device: &str, name: &str) -> Command {
    Command { device: device.into(), name: name.into(), content_type: ContentType::TEXT, payload: "1".into() }
}

#[tokio::test]
async fn a_repeated_request_is_one_reading() {
    let running = Running::start(json!({})).await;
    for _ in 0..3 {
        assert_eq!(running.ask(&request(Method::Put, "/a/b", 7)).await, "2.04");
    }
    let taken = running.host.taken();
    assert_eq!((taken.len(), taken[0].inbound.topic.as_str()), (1, "a/b"));
    assert_eq!(taken[0].inbound.device.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_reply_that_takes_its_time_comes_by_itself() {
    let running = Running::start(json!({})).await;
    running.host.answer(vec![Answer::Reply(message("r", "hello"))], Ending::Ended);
    assert_eq!(running.ask(&request(Method::Post, "/a", 1)).await, "2.04 hello");
    running.host.answer(vec![Answer::Rejected("no such press".to_owned())], Ending::Open);
    assert_eq!(running.ask(&request(Method::Post, "/a", 2)).await, "4.22 no such press");
    running.host.hold();
    running.socket.send(&packet::bytes(&request(Method::Post, "/a", 3))).await.unwrap();
    let mut buffer = [0; 100];
    let size = in_time(running.socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(buffer[..size], *b"\x60\0\0\x03", "an empty acknowledgement");
    running.host.release();
    let late = in_time(answer(&running.socket)).await;
    assert_eq!((said(&late).as_str(), late.get_token()), ("4.22 no such press", &b"\0\x03"[..]));
    let repeated = tokio::time::timeout(Duration::from_millis(700), answer(&running.socket)).await;
    assert!(repeated.is_err(), "it was acknowledged: {repeated:?}");
}

#[tokio::test]
async fn long_bodies_come_and_go_in_blocks() {
    let running = Running::start(json!({ "block_size": 64 })).await;
    let body: Vec<u8> = (0..100_000).map(|n| n as u8).collect();
    let (sockets, caller) = far_end(100_000).await;
    let (quiet, stop) = (Arc::new(Quiet), Arc::new(Notify::new()));
    let (orders, asked) = call::orders();
    let caller = Caller { orders, ..caller };
    let endpoint = Endpoint::new(sockets, Parameters::default(), quiet, asked);
    let stopped = Arc::clone(&stop);
    let serving = tokio::spawn(endpoint.run(async move { stopped.notified().await }));
    let at = At { address: running.socket.peer_addr().unwrap(), is_secure: false };
    let sent = Body { format: Some(42), bytes: body.clone().into() };
    in_time(caller.send(at, Method::Put, "/a", &sent)).await.unwrap();
    assert_eq!(running.host.taken()[0].inbound.payload, body);
    let longer = Body { format: None, bytes: vec![0; 100_001].into() };
    let error = in_time(caller.send(at, Method::Put, "/a", &longer)).await.unwrap_err().to_string();
    assert_eq!(error, "4.13 more than a reading may have");
    in_time(running.host.publish(message("latest/a", body.clone()))).await.unwrap().unwrap();
    assert_eq!(in_time(caller.get(at, "/latest/a")).await.unwrap().payload, body);
    running.host.echo();
    let answer = in_time(caller.send(at, Method::Post, "/a", &sent)).await.unwrap();
    assert_eq!(answer.payload, body);
    stop.notify_one();
    in_time(serving).await.unwrap().unwrap();
}

async fn far_end(body_max: usize) -> (Sockets, Caller) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let caller =
        Caller { orders: call::orders().0, patience: Duration::from_secs(10), body_max, exponent: 6 };
    (Sockets::new(socket, None), caller)
}

struct Quiet;

impl Service for Quiet {
    fn serve(self: Arc<Self>, _request: Request) -> BoxFuture<'static, Packet> {
        async { response(Code::NotFound) }.boxed()
    }
}

#[tokio::test]
async fn the_latest_of_a_topic_is_read_and_observed() {
    let running = Running::start(json!({})).await;
    assert_eq!(
        running.ask(&request(Method::Get, "/out/1", 1)).await,
        "4.04 nothing was sent out on this topic"
    );
    in_time(running.host.publish(message("out/1", "21.5"))).await.unwrap().unwrap();
    let core = running.ask(&request(Method::Get, "/.well-known/core", 2)).await;
    assert_eq!(core, "2.05 </.well-known/core>;ct=40,</out/1>;obs;ct=0");
    let mut observe = request(Method::Get, "/out/1", 3);
    packet::set_uint(&mut observe, Opt::Observe, 0);
    assert_eq!(running.ask(&observe).await, "2.05 21.5");
    in_time(running.host.publish(message("out/1", "22"))).await.unwrap().unwrap();
    let notification = in_time(answer(&running.socket)).await;
    assert_eq!((said(&notification).as_str(), notification.get_token()), ("2.05 22", &b"\0\x03"[..]));
    packet::set_uint(&mut observe, Opt::Observe, 1);
    observe.header.message_id = 4;
    assert_eq!(running.ask(&observe).await, "2.05 22");
    in_time(running.host.publish(message("out/1", "23"))).await.unwrap().unwrap();
    assert_eq!(running.ask(&request(Method::Get, "/out/1", 5)).await, "2.05 23");
    let mut wants_json = request(Method::Get, "/out/1", 6);
    packet::set_uint(&mut wants_json, Opt::Accept, 50);
    assert_eq!(running.ask(&wants_json).await, "4.06 it is not there in this format");
}

/// It was taken, offered once more since nobody had heard of it, and taken again.
#[tokio::test]
async fn a_publication_that_nobody_waits_for_any_more_is_passed_over() {
    let running = Running::start(json!({})).await;
    let nothing = "4.04 nothing was sent out on this topic";
    assert_eq!(running.ask(&request(Method::Get, "/out/1", 1)).await, nothing);
    assert!(running.host.publish(message("out/1", "old")).now_or_never().is_none());
    in_time(running.host.publish(message("out/2", "next"))).await.unwrap().unwrap();
    assert_eq!(running.ask(&request(Method::Get, "/out/1", 2)).await, nothing);
}

#[tokio::test]
async fn a_long_notification_comes_in_blocks() {
    let running = Running::start(json!({ "block_size": 64 })).await;
    in_time(running.host.publish(message("out/1", "short"))).await.unwrap().unwrap();
    let mut observe = request(Method::Get, "/out/1", 1);
    packet::set_uint(&mut observe, Opt::Observe, 0);
    assert_eq!(running.ask(&observe).await, "2.05 short");
    let body: Vec<u8> = (0..100).collect();
    in_time(running.host.publish(message("out/1", body.clone()))).await.unwrap().unwrap();
    let first = in_time(answer(&running.socket)).await;
    let block = Block { number: 0, more: true, exponent: 2 };
    assert_eq!(Block::of(&first, Opt::Block2), Ok(Some(block)));
    assert_eq!(packet::uint(&first, Opt::Observe), Some(2));
    let mut next = request(Method::Get, "/out/1", 2);
    Block { number: 1, more: false, exponent: 2 }.set(&mut next, Opt::Block2);
    let rest = ask(&running.socket, &next).await;
    assert_eq!(rest.get_first_option(Opt::ETag), first.get_first_option(Opt::ETag));
    assert_eq!([first.payload, rest.payload].concat(), body);
}

#[tokio::test]
async fn a_device_gets_its_commands_where_it_sent_from() {
    let running = Running::start(json!({ "resources": [{ "path": "/{device}/{quantity}" }] })).await;
    assert_eq!(running.ask(&request(Method::Post, "/d1/t", 1)).await, "2.04");
    let told = async {
        let mut buffer = [0; 100];
        let size = running.socket.recv(&mut buffer).await.unwrap();
        let Parsed::Message(put) = parse(&buffer[..size]) else { panic!("no message") };
        let mut answer = response(Code::NotFound);
        answer.header.set_type(MessageType::Acknowledgement);
        answer.header.message_id = put.header.message_id;
        answer.set_token(put.get_token().to_vec());
        running.socket.send(&packet::bytes(&answer)).await.unwrap();
        format!("{} {}", put.header.code, packet::path(&put).unwrap())
    };
    let (carried_out, got) =
        in_time(async { tokio::join!(running.host.command(command("d1", "led")), told) }).await;
    assert_eq!(got, "0.03 /led");
    assert_eq!(carried_out, Some(Err(CommandError::Reject("4.04".to_owned()))));
}

#[tokio::test]
async fn a_command_by_an_interface_that_is_not_there_waits_and_says_so() {
    let node = json!({ "device": "d1", "address": "fe80::1%none0" });
    let running = Running::start(json!({ "nodes": [node] })).await;
    in_time(running.host.wait_attached(1)).await;
    let problem = "its setting `address` names a network interface that is not there: `none0`";
    let told = in_time(running.host.command(command("d1", "led"))).await;
    assert_eq!(told, Some(Err(CommandError::Retry(problem.to_owned()))));
}

type Observer = (At, ([u8; 8], u8));

/// A node with a lamp that can be observed and switched.
#[derive(Default)]
struct Lamp {
    state: Mutex<String>,
    observers: Mutex<Vec<Observer>>,
    identity: Mutex<Option<Arc<str>>>,
}

impl Service for Lamp {
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Packet> {
        let Request { peer, identity, token, packet } = request;
        *self.identity.lock() = identity;
        let mut answer = response(Code::Content);
        match (packet::path(&packet).unwrap().as_str(), u8::from(packet.header.code)) {
            ("/.well-known/core", 1) => answer.payload = b"</lamp>;obs".to_vec(),
            ("/lamp", 1) => {
                if packet::uint(&packet, Opt::Observe) == Some(0) {
                    self.observers.lock().push((peer, token));
                    packet::set_uint(&mut answer, Opt::Observe, 5);
                }
                answer.payload = self.state.lock().clone().into_bytes();
            }
            ("/lamp", 3) => {
                *self.state.lock() = String::from_utf8(packet.payload).unwrap();
                answer = response(Code::Changed);
            }
            _ => answer = response(Code::NotFound),
        }
        async { answer }.boxed()
    }
}

async fn follows_and_switches_a_lamp(secure: bool) {
    let lamp = Arc::new(Lamp::default());
    *lamp.state.lock() = "off".to_owned();
    let (plain, tunnel) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = if secure { tunnel.local_addr() } else { plain.local_addr() }.unwrap();
    let keys = Keys(Arc::new([("gate".into(), b"secret".to_vec())].into()));
    let sockets = Sockets::new(plain, Some(Secure::new(tunnel, keys, Identities::default())));
    let (orders, asked) = call::orders();
    let caller = Caller { orders, patience: Duration::from_secs(10), body_max: 1000, exponent: 6 };
    let endpoint = Endpoint::new(sockets, Parameters::default(), Arc::clone(&lamp), asked);
    let _serving = tokio::spawn(endpoint.run(std::future::pending()));
    let mut node =
        json!({ "device": "lamp-1", "address": address.to_string(), "discover": true, "again_ms": 50 });
    let mut settings = json!({});
    if secure {
        node["identity"] = "gate".into();
        settings["secure"] =
            json!({ "listen": "127.0.0.1:0", "keys": [{ "identity": "gate", "key": "hex:736563726574" }] });
    }
    settings["nodes"] = json!([node]);
    let running = Running::start(settings).await;
    let taken = in_time(running.host.wait_taken(1)).await;
    assert_eq!(
        (taken[0].inbound.topic.as_str(), &taken[0].inbound.payload[..]),
        ("lamp-1/lamp", &b"off"[..])
    );
    assert_eq!(in_time(running.host.command(command("lamp-1", "lamp"))).await, Some(Ok(())));
    assert_eq!(*lamp.state.lock(), "1");
    assert_eq!(lamp.identity.lock().as_deref(), secure.then_some("gate"));
    let (peer, token) = lamp.observers.lock()[0];
    for (sequence, state) in [(6, "on"), (5, "older"), (7, "off")] {
        let mut note = response(Code::Content);
        packet::set_uint(&mut note, Opt::Observe, sequence);
        note.payload = state.as_bytes().to_vec();
        in_time(caller.notify(peer, token, note)).await.unwrap();
    }
    let taken = in_time(running.host.wait_taken(3)).await;
    let states: Vec<_> = taken.iter().map(|taken| taken.inbound.payload.clone()).collect();
    assert_eq!(states, ["off", "on", "off"]);
    // A notification that says that it is over: the resource is registered for again.
    in_time(caller.notify(peer, token, response(Code::NotFound))).await.unwrap();
    in_time(running.host.wait_taken(4)).await;
    let observers = lamp.observers.lock().clone();
    assert_eq!(observers.len(), 2);
    assert_eq!(observers[0], observers[1], "under the same token: it has one observer, not two");
}

#[tokio::test]
async fn a_node_is_observed_and_switched() {
    follows_and_switches_a_lamp(false).await;
}

#[tokio::test]
async fn a_node_is_observed_and_switched_over_dtls() {
    follows_and_switches_a_lamp(true).await;
}

#[tokio::test]
async fn who_is_not_on_the_list_is_not_heard_and_who_has_no_key_is_told() {
    let running = Running::start(json!({ "allow": ["127.0.0.2"] })).await;
    running.socket.send(&packet::bytes(&request(Method::Post, "/a", 1))).await.unwrap();
    let allowed = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    allowed.connect(running.socket.peer_addr().unwrap()).await.unwrap();
    assert_eq!(said(&ask(&allowed, &request(Method::Post, "/a", 1)).await), "2.04");
    assert_eq!(running.host.taken().len(), 1);
    let keys = json!({ "listen": "127.0.0.1:0", "keys": [{ "identity": "a", "key": "b" }] });
    let running = Running::start(json!({ "plain": false, "secure": keys })).await;
    let told = running.ask(&request(Method::Post, "/a", 1)).await;
    assert_eq!(told, "4.01 only requests over DTLS are taken here");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |setting: &str, value: Value| {
        let mut table = json!({ "listen": "127.0.0.1:0" });
        table[setting] = value;
        crate::build("coap", table).err().unwrap().setting
    };
    assert_eq!(setting("allow", json!(["10"])), "allow[0]");
    assert_eq!(setting("block_size", json!(100)), "block_size");
    assert_eq!(setting("plain", json!(false)), "plain");
    assert_eq!(setting("command_path", json!("/{name}")), "command_path");
    assert_eq!(setting("resources", json!([{ "path": "a" }])), "resources[0].path");
    let node = json!({ "device": "a", "address": "10.0.0.1" });
    assert_eq!(setting("nodes", json!([node, node])), "nodes[1].device");
    assert_eq!(setting("nodes", json!([{ "device": "a", "address": "fe80::1" }])), "nodes[0].address");
    assert_eq!(
        setting("nodes", json!([{ "device": "a", "address": "10.0.0.1", "identity": "x" }])),
        "nodes[0].identity"
    );
    let secure = |key: &str| json!({ "listen": "127.0.0.1:0", "keys": [{ "identity": "a", "key": key }] });
    assert_eq!(setting("secure", secure("hex:0")), "secure.keys[0].key");
}
