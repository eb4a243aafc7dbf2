//! Against a central host of the tests' own; `tests/joined` joins two real ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use sandbar_reading::relay::{Down, SUB_PROTOCOL, Told, Up};
use sandbar_reading::{Command, ContentType, DeliveryId};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, broadcast};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::Sandbar;
use crate::contract::{self, Behaviour, FarEnd, OwnFarEnd, delivery};
use crate::{DeliveryError, Progress, Sink};

struct Central {
    address: SocketAddr,
    memory: Arc<Memory>,
}

struct Memory {
    behaviour: Mutex<Behaviour>,
    taken: Mutex<Vec<DeliveryId>>,
    told: Mutex<Vec<(DeliveryId, Told)>>,
    reached: Notify,
    heard: Notify,
    down: broadcast::Sender<Down>,
}

impl Central {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Memory {
            behaviour: Mutex::new(Behaviour::Take),
            taken: Mutex::default(),
            told: Mutex::default(),
            reached: Notify::new(),
            heard: Notify::new(),
            down: broadcast::channel(16).0,
        });
        let serving = Arc::clone(&memory);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, memory }
    }
}

/// It forgets nothing of what it took: what comes again is acknowledged, and not taken again.
async fn serve(stream: TcpStream, memory: Arc<Memory>) {
    #[allow(clippy::result_large_err, reason = "the library's own signature")]
    let opening = |request: &Request, mut response: Response| {
        if request.headers()["authorization"] != "Bearer right" {
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = http::StatusCode::UNAUTHORIZED;
            return Err(refused);
        }
        let spoken = http::HeaderValue::from_static(SUB_PROTOCOL);
        response.headers_mut().insert("sec-websocket-protocol", spoken);
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, opening).await else { return };
    let mut down = memory.down.subscribe();
    loop {
        let answer = tokio::select! {
            Ok(down) = down.recv() => Some(down),
            frame = socket.next() => match frame {
                Some(Ok(Frame::Binary(bytes))) => match Up::decode(&bytes).unwrap() {
                    Up::Reading(relayed) => {
                        let Ok(answer) = take(&memory, relayed.id).await else { return };
                        Some(answer)
                    }
                    Up::Told { id, told } => {
                        memory.told.lock().push((id, told));
                        memory.heard.notify_one();
                        None
                    }
                },
                Some(Ok(_)) => None,
                _ => return,
            },
        };
        if let Some(answer) = answer
            && socket.send(Frame::Binary(answer.encode())).await.is_err()
        {
            return;
        }
    }
}

async fn take(memory: &Memory, id: DeliveryId) -> Result<Down, ()> {
    let behaviour = *memory.behaviour.lock();
    match behaviour {
        Behaviour::Stall => {
            memory.reached.notify_one();
            std::future::pending::<()>().await;
        }
        Behaviour::FailAfter(0) => return Err(()),
        Behaviour::FailAfter(more) => *memory.behaviour.lock() = Behaviour::FailAfter(more - 1),
        Behaviour::Refuse(refused) if refused == id => {
            return Ok(Down::Refused { id, cause: "too large".to_owned() });
        }
        Behaviour::Refuse(_) | Behaviour::Take => {}
    }
    let mut taken = memory.taken.lock();
    if !taken.contains(&id) {
        taken.push(id);
    }
    Ok(Down::Taken { id })
}

impl FarEnd for Central {
    type Sink = Sandbar;

    fn settings(&self) -> Value {
        json!({ "url": format!("ws://{}", self.address), "token": "right", "timeout_ms": 500, "window": 2 })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.memory.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.memory.taken.lock().clone()
    }

    async fn reached(&self) {
        self.memory.reached.notified().await;
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    contract::check(&Central::start().await).await;
}

#[tokio::test]
async fn commands_are_carried_out_while_nothing_is_sent() {
    let (central, own) = (Central::start().await, OwnFarEnd::new());
    let sink = contract::sink::<Central>(central.settings());
    Sink::connect(&sink, &(Arc::clone(&own) as _));
    let id = DeliveryId::from_u128(7);
    let command = Command {
        device: "d1".into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: "true".into(),
    };
    let down = Down::Command { id, command };
    for (behaviour, expected) in [
        (Behaviour::Take, Told::Done),
        (Behaviour::Refuse(id), Told::Reject("no such thing".to_owned())),
        (Behaviour::FailAfter(0), Told::Retry("not reachable now".to_owned())),
    ] {
        own.behave(behaviour);
        let heard = async {
            // Until it is connected.
            while central.memory.down.send(down.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            central.memory.heard.notified().await;
        };
        tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
        assert_eq!(central.memory.told.lock().pop(), Some((id, expected)));
    }
    assert_eq!(own.taken(), [id]);
}

#[tokio::test]
async fn a_wrong_token_says_so() {
    let central = Central::start().await;
    let mut settings = central.settings();
    settings["token"] = "wrong".into();
    let sink = contract::sink::<Central>(settings);
    match sink.deliver(&[delivery(1)], &Progress::default()).await {
        Err(DeliveryError::Retry { delivered: 0, cause, .. }) => {
            assert!(cause.to_string().contains("401 Unauthorized: check the credentials"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_renewed_token_is_shown_with_the_next_connection() {
    let central = Central::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    contract::renew(&token, "wrong\n");
    let mut settings = central.settings();
    settings["token"] = json!({ "file": token });
    let sink = contract::sink::<Central>(settings);
    sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap_err();
    contract::renew(&token, "right\n");
    sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
    assert_eq!(central.taken(), [delivery(1).id]);
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings: Value| crate::build("sandbar", settings).err().unwrap().setting;
    assert_eq!(setting(json!({ "url": "wss://a" })), "");
    assert_eq!(setting(json!({ "url": "http://a", "token": "t" })), "url");
    assert_eq!(setting(json!({ "url": "ws://central.example", "token": "t" })), "url");
    assert_eq!(setting(json!({ "url": "wss://a", "token": "t\n" })), "token");
    assert_eq!(setting(json!({ "url": "wss://a", "token": "t", "window": 1025 })), "window");
    assert_eq!(setting(json!({ "url": "ws://[::1]:7", "token": "t", "tls": {} })), "tls");
    let trusted = json!({ "url": "ws://central.example", "token": "t", "plaintext": true });
    assert!(crate::build("sandbar", trusted).is_ok());
}
