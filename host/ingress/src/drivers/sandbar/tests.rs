//! With real sockets, on the loopback address; `tests/joined` joins two real hosts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sandbar_reading::relay::{Down, Relayed, SUB_PROTOCOL, Told, Up};
use sandbar_reading::{
    Attributes, Command, ContentType, Delivery, DeliveryId, Message, ReadingId, Refused, Timestamp,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Sandbar;
use crate::contract::{Peer, StandIn, Told as Answer, in_time, running, supervise};
use crate::{CommandError, Supervised};

type Socket = WebSocketStream<TcpStream>;

async fn connect(address: SocketAddr, token: &str) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}/").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers.insert("sec-websocket-protocol", SUB_PROTOCOL.parse().unwrap());
    let stream = TcpStream::connect(address).await?;
    Ok(client_async(request, stream).await?.0)
}

fn reading(id: u128, payload: impl Into<Bytes>) -> Up {
    let delivery = Delivery {
        id: DeliveryId::from_u128(id),
        reading: ReadingId::from_u128(id),
        route: "all".parse().unwrap(),
        time: Timestamp::from_millis(1_700_000_000_000),
        message: Message {
            topic: "a/b".parse().unwrap(),
            device: Some("d1".into()),
            content_type: ContentType::OCTETS,
            attributes: Attributes::new().with("k", "v"),
            payload: payload.into(),
        },
    };
    Up::Reading(Relayed::of(&delivery))
}

async fn send(socket: &mut Socket, up: &Up) {
    socket.send(Frame::Binary(up.encode())).await.unwrap();
}

/// The next that is no ping; `None` once it is closed.
async fn next(socket: &mut Socket) -> Option<Down> {
    loop {
        match in_time(socket.next()).await {
            Some(Ok(Frame::Binary(bytes))) => return Some(Down::decode(&bytes).unwrap()),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
            _ => return None,
        }
    }
}

/// Hosts of a name each: one that is there twice would end the other's connection.
struct Hosts {
    address: Option<SocketAddr>,
    used: std::sync::atomic::AtomicUsize,
}

const HOSTS: usize = 32;

impl Hosts {
    async fn connect(&self) -> Socket {
        let number = self.used.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % HOSTS;
        connect(self.address.unwrap(), &format!("token-{number}")).await.unwrap()
    }
}

impl Peer for Hosts {
    type Driver = Sandbar;
    const HOLDS_BACK: bool = true;

    async fn prepare() -> (Self, Value) {
        let hosts: serde_json::Map<_, _> = (0..HOSTS)
            .map(|number| (format!("host-{number}"), json!({ "token": format!("token-{number}") })))
            .collect();
        let hosts_of = json!({ "listen": "127.0.0.1:0", "hosts": hosts });
        (Self { address: None, used: Default::default() }, hosts_of)
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Answer {
        let mut socket = self.connect().await;
        send(&mut socket, &reading(1, payload)).await;
        match next(&mut socket).await {
            Some(Down::Taken { .. }) => Answer::Acknowledged,
            Some(Down::Refused { cause, .. }) => Answer::Refused(cause),
            _ => Answer::Nothing,
        }
    }

    fn told_for(&self, refused: &Refused) -> Answer {
        Answer::Refused(refused.to_string())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let _ = TcpStream::connect(self.address.unwrap()).await.unwrap().write_all(&bytes).await;
        let _ = self.connect().await.send(Frame::Binary(bytes)).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut socket = self.connect().await;
        let whole = reading(9, "half").encode();
        let head = [0x82, 0x80 | 126, 0, whole.len() as u8, 0, 0, 0, 0];
        let half = [&head, &whole[..whole.len() - 1]].concat();
        socket.get_mut().write_all(&half).await.unwrap();
        Box::new(socket)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(self.connect().await)
    }
}

mod contract {
    crate::driver_contract!(super::Hosts);
}

struct Running {
    host: Arc<StandIn>,
    ingress: Supervised,
    address: SocketAddr,
}

impl Running {
    async fn start(host: Arc<StandIn>) -> Self {
        let settings = json!({
            "listen": "127.0.0.1:0", "hosts": { "a": { "token": "token-a" }, "b": { "token": "token-b" } },
            "topic": "{host}/{topic}", "device": "{host}.{device}",
        });
        let ingress = supervise::<Sandbar>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, ingress, address }
    }
}

#[tokio::test]
async fn what_comes_again_is_acknowledged_and_not_taken_again() {
    let running = Running::start(StandIn::new()).await;
    let mut first = connect(running.address, "token-a").await.unwrap();
    for id in [1, 2, 1] {
        send(&mut first, &reading(id, vec![0, 255])).await;
        assert_eq!(next(&mut first).await, Some(Down::Taken { id: DeliveryId::from_u128(id) }));
    }
    let taken = running.host.taken();
    assert_eq!(taken.len(), 2);
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("a/a/b", Some("a.d1")));
    assert_eq!(inbound.payload, &[0, 255][..]);
    assert_eq!(inbound.time, Some(Timestamp::from_millis(1_700_000_000_000)));
    let origin = ["k", "origin.reading", "origin.time", "origin.host"].map(|key| inbound.attributes.get(key));
    assert_eq!((origin[0], origin[3]), (Some("v"), Some("a")));
    assert_eq!(origin[1], Some(&*ReadingId::from_u128(1).to_string()));
    // After a restart, and from another connection of the host, while the old one is still there.
    running.ingress.stop(Duration::from_secs(5)).await;
    let running = Running::start(running.host).await;
    let mut second = connect(running.address, "token-a").await.unwrap();
    send(&mut second, &reading(2, "x")).await;
    assert!(matches!(next(&mut second).await, Some(Down::Taken { .. })));
    let mut third = connect(running.address, "token-a").await.unwrap();
    send(&mut third, &reading(2, "x")).await;
    assert!(matches!(next(&mut third).await, Some(Down::Taken { .. })));
    assert_eq!(next(&mut second).await, None, "a host has one connection");
    // Ids are of one host.
    let mut other = connect(running.address, "token-b").await.unwrap();
    send(&mut other, &reading(2, "x")).await;
    assert!(matches!(next(&mut other).await, Some(Down::Taken { .. })));
    assert_eq!(running.host.taken().len(), 3);
}

#[tokio::test]
async fn what_is_refused_for_a_time_waits_in_order_and_for_good_is_told() {
    let running = Running::start(StandIn::with_reading_max(10)).await;
    let mut socket = connect(running.address, "token-a").await.unwrap();
    running.host.refuse(Refused::Busy { retry_after: Duration::from_millis(30) });
    for id in 1..4 {
        send(&mut socket, &reading(id, id.to_string())).await;
    }
    for id in 1..4 {
        assert_eq!(next(&mut socket).await, Some(Down::Taken { id: DeliveryId::from_u128(id) }));
    }
    let payloads: Vec<_> = running.host.taken().into_iter().map(|taken| taken.inbound.payload).collect();
    assert_eq!(payloads, ["1", "2", "3"]);
    send(&mut socket, &reading(4, "more than ten bytes")).await;
    let cause = "19 bytes are more than the 10 that a reading may have".to_owned();
    assert_eq!(next(&mut socket).await, Some(Down::Refused { id: DeliveryId::from_u128(4), cause }));
}

#[tokio::test]
async fn commands_go_down_and_what_became_of_them_comes_up() {
    let running = Running::start(StandIn::new()).await;
    let command = || Command {
        device: "a.d1".into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: "true".into(),
    };
    assert_eq!(in_time(running.host.command(command())).await, None, "nobody knows it yet");
    let mut socket = connect(running.address, "token-a").await.unwrap();
    send(&mut socket, &reading(1, "x")).await;
    next(&mut socket).await.unwrap();
    drop(socket);
    // It is known when the host comes back, too.
    let mut socket = connect(running.address, "token-a").await.unwrap();
    for (told, expected) in [
        (Told::Done, Ok(())),
        (Told::Retry("later".to_owned()), Err(CommandError::Retry("later".to_owned()))),
        (Told::Reject("never".to_owned()), Err(CommandError::Reject("never".to_owned()))),
    ] {
        let carry_out = async {
            let Some(Down::Command { id, command }) = next(&mut socket).await else { panic!("no command") };
            assert_eq!((&*command.device, &*command.name, &command.payload[..]), ("d1", "set", &b"true"[..]));
            send(&mut socket, &Up::Told { id, told }).await;
        };
        let asked = async {
            loop {
                if let Some(told) = running.host.command(command()).await {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (got, ()) = in_time(async { tokio::join!(asked, carry_out) }).await;
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn who_has_no_token_or_speaks_otherwise_is_not_let_in() {
    let running = Running::start(StandIn::new()).await;
    let status = |error: Error| match error {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    };
    assert_eq!(status(connect(running.address, "token-c").await.unwrap_err()), 401);
    let stream = TcpStream::connect(running.address).await.unwrap();
    let plain = client_async(format!("ws://{}/", running.address), stream).await;
    assert_eq!(status(plain.unwrap_err()), 400);
    assert!(running.host.taken().is_empty());
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |more: Value| {
        let mut settings = json!({ "listen": "0.0.0.0:0", "hosts": { "a": { "token": "t" } } });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        crate::build("sandbar", settings).err().unwrap().setting
    };
    assert_eq!(setting(json!({ "hosts": {} })), "hosts");
    assert_eq!(setting(json!({ "hosts": { "a b": { "token": "t" } } })), "hosts.a b");
    assert_eq!(setting(json!({ "hosts": { "a": { "token": { "file": "/none" } } } })), "hosts.a.token");
    assert_eq!(setting(json!({ "topic": "{host}/#" })), "topic");
    assert_eq!(setting(json!({ "device": "{topic}" })), "device");
}
