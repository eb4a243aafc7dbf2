use std::sync::Arc;

use parking_lot::Mutex as Lock;
use sandbar_reading::DeliveryId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::contract::{self, Behaviour, FarEnd, delivery};

/// A server that behaves as it is told, answers lines with a byte, and notes what it took.
#[derive(Clone)]
struct Server {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Lock<Behaviour>,
    taken: Lock<Vec<DeliveryId>>,
    reached: Notify,
    connections: Lock<usize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            behaviour: Lock::new(Behaviour::Take),
            taken: Lock::default(),
            reached: Notify::new(),
            connections: Lock::default(),
        });
        let server = Self { address, shared };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.shared.connections.lock() += 1;
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    async fn serve(self, stream: TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let object: Value = serde_json::from_str(&line).unwrap();
            let id: DeliveryId = object["id"].as_str().unwrap().parse().unwrap();
            let behaviour = *self.shared.behaviour.lock();
            let answer = match behaviour {
                Behaviour::Stall => {
                    self.shared.reached.notify_one();
                    std::future::pending::<&[u8]>().await
                }
                Behaviour::FailAfter(0) => return,
                Behaviour::FailAfter(more) => {
                    *self.shared.behaviour.lock() = Behaviour::FailAfter(more - 1);
                    b"OK\n"
                }
                Behaviour::Refuse(refused) if refused == id => b"NO\n",
                Behaviour::Take | Behaviour::Refuse(_) => &b"OK\n"[..],
            };
            if answer == b"OK\n" {
                self.shared.taken.lock().push(id);
            }
            lines.get_mut().write_all(answer).await.unwrap();
        }
    }
}

impl FarEnd for Server {
    type Sink = Tcp;
    const ONE_BY_ONE: bool = true;

    fn settings(&self) -> Value {
        json!({ "address": self.address, "body": "json", "acknowledgement": "OK\n", "refusal": "NO\n" })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.shared.taken.lock().clone()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    contract::check(&Server::start().await).await;
}

#[tokio::test]
async fn one_connection_is_kept() {
    let server = Server::start().await;
    let sink = contract::sink::<Server>(server.settings());
    for number in 0..3 {
        sink.deliver(&[delivery(number)], &Progress::default()).await.unwrap();
    }
    assert_eq!(*server.shared.connections.lock(), 1);
}

#[tokio::test]
async fn what_makes_no_frame_is_refused_and_a_strange_answer_is_an_error() {
    let server = Server::start().await;
    let fixed = json!({ "address": server.address, "framing": { "kind": "fixed", "bytes": 3 } });
    let told = contract::sink::<Server>(fixed).deliver(&[delivery(1)], &Progress::default()).await;
    assert!(matches!(told, Err(DeliveryError::Reject { rejected: 0, .. })), "{told:?}");
    let strange = json!({ "address": server.address, "body": "json", "acknowledgement": "OKAY" });
    match contract::sink::<Server>(strange).deliver(&[delivery(1)], &Progress::default()).await {
        Err(DeliveryError::Retry { delivered: 0, cause, .. }) => {
            assert_eq!(cause.to_string(), format!("{} answered \"OK\\n\"", server.address));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings| crate::build("tcp", settings).err().unwrap().setting;
    assert_eq!(setting(json!({ "address": "a" })), "address");
    assert_eq!(
        setting(json!({ "address": "a:1", "framing": { "kind": "delimiter", "end": "" } })),
        "framing.end"
    );
    assert_eq!(setting(json!({ "address": "a:1", "acknowledgement": "" })), "acknowledgement");
    assert_eq!(setting(json!({ "address": "a:1", "refusal": "NO" })), "refusal");
    assert_eq!(setting(json!({ "address": "a:1", "tls": { "key_file": "k" } })), "tls.certificate_file");
}
