//! With real sockets, on the loopback address.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::Udp;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::{Answer, CommandError, Supervised};

struct Datagrams {
    address: Option<SocketAddr>,
}

async fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2000];
    let size = in_time(socket.recv(&mut buffer)).await.unwrap();
    String::from_utf8(buffer[..size].to_vec()).unwrap()
}

impl Peer for Datagrams {
    type Driver = Udp;

    async fn prepare() -> (Self, Value) {
        let settings =
            json!({ "listen": "127.0.0.1:0", "device": "{ip}", "acknowledge": "OK", "refuse": "{reason}" });
        (Self { address: None }, settings)
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let socket = socket(self.address.unwrap()).await;
        socket.send(&payload).await.unwrap();
        let mut buffer = [0; 2000];
        let size = socket.recv(&mut buffer).await.unwrap();
        match &buffer[..size] {
            b"OK" => Told::Acknowledged,
            reason => Told::Refused(String::from_utf8(reason.to_vec()).unwrap()),
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(refused.to_string())
    }

    /// More than one may have: any other bytes are a reading.
    async fn send_garbage(&self, bytes: Bytes) {
        socket(self.address.unwrap()).await.send(&bytes.repeat(15)).await.unwrap();
    }

    /// A datagram comes whole or not at all.
    async fn send_half(&self) -> Box<dyn Send> {
        Box::new(socket(self.address.unwrap()).await)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(socket(self.address.unwrap()).await)
    }
}

mod contract {
    crate::driver_contract!(super::Datagrams);
}

struct Running {
    host: Arc<StandIn>,
    _ingress: Supervised,
    socket: UdpSocket,
}

impl Running {
    async fn start(more: Value) -> Self {
        let host = StandIn::with_reading_max(1000);
        let mut settings = json!({ "listen": "127.0.0.1:0" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Udp>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, _ingress: ingress, socket: socket(address).await }
    }
}

#[tokio::test]
async fn a_datagram_is_a_reading_and_is_answered_where_it_came_from() {
    let running = Running::start(
        json!({ "topic": "probes/{device}", "device_pointer": "/id", "acknowledge": "{id}", "refuse": "no: {reason}" }),
    )
    .await;
    running.socket.send(b"{\"id\":\"p1\"}").await.unwrap();
    let id = receive(&running.socket).await;
    let taken = &running.host.taken()[0];
    assert_eq!((taken.id.to_string(), taken.inbound.topic.as_str()), (id, "probes/p1"));
    assert_eq!(taken.inbound.content_type, ContentType::OCTETS);
    running.socket.send(b"{}").await.unwrap();
    assert_eq!(receive(&running.socket).await, "no: the payload names no device at /id");
    running.socket.send(&[b'x'; 1001]).await.unwrap();
    assert_eq!(
        receive(&running.socket).await,
        "no: 1001 bytes are more than the 1000 that a reading may have"
    );
}

#[tokio::test]
async fn replies_and_commands_go_to_where_the_device_sent_from_last() {
    let running = Running::start(json!({ "device": "d1" })).await;
    let message = Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "hello".into(),
    };
    running.host.answer(vec![Answer::Reply(message)], Ending::Ended);
    let other = socket(running.socket.peer_addr().unwrap()).await;
    for socket in [&other, &running.socket] {
        socket.send(b"1").await.unwrap();
        assert_eq!(receive(socket).await, "hello");
    }
    let command = Command {
        device: "d1".into(),
        name: "set".into(),
        content_type: ContentType::TEXT,
        payload: "on".into(),
    };
    assert_eq!(in_time(running.host.command(command.clone())).await, Some(Ok(())));
    assert_eq!(receive(&running.socket).await, "on");
    let long = Command { payload: vec![0; 70_000].into(), ..command };
    let told = in_time(running.host.command(long)).await;
    assert!(matches!(told, Some(Err(CommandError::Reject(_)))), "{told:?}");
}

#[tokio::test]
async fn who_is_not_on_the_list_is_not_heard() {
    let running = Running::start(json!({ "allow": ["10.0.0.0/8", "127.0.0.2"], "acknowledge": "OK" })).await;
    running.socket.send(b"1").await.unwrap();
    let allowed = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    allowed.connect(running.socket.peer_addr().unwrap()).await.unwrap();
    allowed.send(b"2").await.unwrap();
    assert_eq!(receive(&allowed).await, "OK");
    assert_eq!(running.host.taken().len(), 1);
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |setting: &str, value: Value| {
        let table = json!({ "listen": "127.0.0.1:0", setting: value });
        crate::build("udp", table).err().unwrap().setting
    };
    assert_eq!(setting("allow", json!(["10.0.0.0/8", "10"])), "allow[1]");
    assert_eq!(setting("datagram_max", json!(0)), "datagram_max");
    assert_eq!(setting("content_type", json!("x")), "content_type");
}
