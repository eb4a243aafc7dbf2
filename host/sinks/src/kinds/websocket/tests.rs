use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use futures::{SinkExt, StreamExt};
use sandbar_reading::DeliveryId;
use serde_json::{Value, json};

use super::*;
use crate::contract::{self, Behaviour, FarEnd, OwnFarEnd, delivery};

/// A server that behaves as it is told, and notes what it is sent.
#[derive(Clone)]
struct Feed {
    url: String,
    await_answer: bool,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Lock<Behaviour>,
    taken: Lock<Vec<DeliveryId>>,
    requests: Lock<Vec<HeaderMap>>,
    reached: Notify,
}

impl Feed {
    async fn start(await_answer: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/feed", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behaviour: Lock::new(Behaviour::Take),
            taken: Lock::default(),
            requests: Lock::default(),
            reached: Notify::new(),
        });
        let feed = Self { url, await_answer, shared };
        let serving = feed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        feed
    }

    #[allow(clippy::result_large_err, reason = "the library's own signature")]
    async fn serve(self, stream: TcpStream) {
        let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            self.shared.requests.lock().push(request.headers().clone());
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, note).await.unwrap();
        while let Some(Ok(frame)) = socket.next().await {
            let Frame::Text(text) = frame else { continue };
            let object: Value = serde_json::from_str(&text).unwrap();
            let behaviour = *self.shared.behaviour.lock();
            match behaviour {
                Behaviour::Stall => {
                    self.shared.reached.notify_one();
                    std::future::pending::<()>().await;
                }
                Behaviour::FailAfter(0) => return,
                Behaviour::FailAfter(more) => *self.shared.behaviour.lock() = Behaviour::FailAfter(more - 1),
                Behaviour::Take | Behaviour::Refuse(_) => {}
            }
            self.shared.taken.lock().push(object["id"].as_str().unwrap().parse().unwrap());
            if self.await_answer {
                socket.send(Frame::text("thanks")).await.unwrap();
            }
        }
    }
}

impl FarEnd for Feed {
    type Sink = WebSocket;
    const ONE_BY_ONE: bool = true;
    const REFUSES: bool = false;

    fn settings(&self) -> Value {
        json!({ "url": self.url, "body": "json", "await_answer": self.await_answer })
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

struct Subscribers(Arc<OwnFarEnd>);

impl FarEnd for Subscribers {
    type Sink = WebSocket;
    const ONE_BY_ONE: bool = true;

    fn settings(&self) -> Value {
        json!({ "ingress": "live" })
    }

    fn own(&self) -> Option<Arc<dyn OwnHost>> {
        Some(Arc::clone(&self.0) as _)
    }

    fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour);
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.0.taken()
    }

    async fn reached(&self) {
        self.0.reached().await;
    }
}

#[tokio::test]
async fn keeps_the_contract_with_a_server() {
    contract::check(&Feed::start(false).await).await;
    contract::check(&Feed::start(true).await).await;
}

#[tokio::test]
async fn keeps_the_contract_with_its_own_host() {
    contract::check(&Subscribers(OwnFarEnd::new())).await;
}

#[tokio::test]
async fn one_connection_is_kept_and_asked_for_with_what_is_configured() {
    let feed = Feed::start(false).await;
    let settings = json!({ "url": feed.url, "body": "json", "headers": { "Authorization": "Bearer t" } });
    let sink = contract::sink::<Feed>(settings);
    for number in 0..3 {
        sink.deliver(&[delivery(number)], &Progress::default()).await.unwrap();
    }
    let requests = feed.shared.requests.lock();
    assert_eq!(
        (requests.len(), &requests[0]["authorization"]),
        (1, &"Bearer t".parse::<HeaderValue>().unwrap())
    );
}

#[tokio::test]
async fn a_renewed_secret_is_shown_with_the_next_connection() {
    let feed = Feed::start(false).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    contract::renew(&token, "Bearer one\n");
    let headers = json!({ "Authorization": { "file": token } });
    let settings = json!({ "url": feed.url, "body": "json", "headers": headers });
    let sink = contract::sink::<Feed>(settings);
    sink.deliver(&[delivery(0)], &Progress::default()).await.unwrap();
    contract::renew(&token, "Bearer two\n");
    feed.behave(Behaviour::FailAfter(0));
    assert!(sink.deliver(&[delivery(1)], &Progress::default()).await.is_err(), "the connection is lost");
    feed.behave(Behaviour::Take);
    sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
    let requests = feed.shared.requests.lock();
    let shown: Vec<_> = requests.iter().map(|headers| &headers["authorization"]).collect();
    assert_eq!(shown, ["Bearer one", "Bearer two"]);
}

#[tokio::test]
async fn a_server_that_does_not_speak_the_sub_protocol_or_is_not_there_is_an_error() {
    let feed = Feed::start(false).await;
    let cause = async |settings: Value| match contract::sink::<Feed>(settings)
        .deliver(&[delivery(1)], &Progress::default())
        .await
    {
        Err(DeliveryError::Retry { delivered: 0, cause, .. }) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    let said = cause(json!({ "url": feed.url, "sub_protocol": "kraken" })).await;
    assert!(said.contains("SubProtocol") || said.contains("protocol"), "{said}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = cause(json!({ "url": format!("ws://{closed}/secret?token=1") })).await;
    assert!(said.starts_with(&format!("connecting to {closed}: ")) && !said.contains("token"), "{said}");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings| crate::build("websocket", settings).err().unwrap().setting;
    assert_eq!(setting(json!({})), "url");
    assert_eq!(setting(json!({ "url": "http://a/" })), "url");
    assert_eq!(setting(json!({ "url": "ws://a/", "ingress": "b" })), "url");
    assert_eq!(setting(json!({ "ingress": "B" })), "ingress");
    assert_eq!(setting(json!({ "url": "ws://a/", "tls": {} })), "tls");
    assert_eq!(setting(json!({ "url": "wss://a/", "tls": { "ca_file": "/none" } })), "tls.ca_file");
    assert_eq!(setting(json!({ "url": "ws://a/", "headers": { "a b": "c" } })), "headers.a b");
}
