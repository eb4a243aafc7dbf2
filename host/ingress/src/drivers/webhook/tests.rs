//! With real sockets, on the loopback address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, ClientBuilder, Method, Response};
use sandbar_reading::{Attributes, ContentType, Message, Refused, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Webhook;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::{Answer, Supervised};

/// The client wants a provider of cryptography also where it needs none.
fn client() -> ClientBuilder {
    // Another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
}

struct HttpPeer {
    client: Client,
    address: Option<SocketAddr>,
}

impl HttpPeer {
    fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }
}

impl Peer for HttpPeer {
    type Driver = Webhook;

    async fn prepare() -> (Self, Value) {
        let settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/hooks/{device}" }] });
        (Self { client: client().build().unwrap(), address: None }, settings)
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let url = format!("http://{}/hooks/d1", self.address());
        match self.client.post(url).body(payload).send().await {
            Ok(response) if response.status() == 202 => Told::Acknowledged,
            Ok(response) => Told::Refused(response.status().as_str().to_owned()),
            Err(_) => Told::Nothing,
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        let status = match refused {
            Refused::TooLarge { .. } => "413",
            Refused::DiskFull => "507",
            Refused::Busy { .. } | Refused::Storage { .. } | Refused::Stopping => "503",
        };
        Told::Refused(status.to_owned())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        // The driver may hang up before all of it was written.
        let _ = stream.write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream
            .write_all(b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf")
            .await
            .unwrap();
        Box::new(stream)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(TcpStream::connect(self.address()).await.unwrap())
    }
}

mod contract {
    crate::driver_contract!(super::HttpPeer);
}

/// A webhook that runs.
struct Hook {
    host: Arc<StandIn>,
    ingress: Supervised,
    address: SocketAddr,
    client: Client,
}

impl Hook {
    async fn start(more: Value) -> Self {
        Self::start_with(more, StandIn::with_reading_max(100_000)).await
    }

    async fn start_with(more: Value, host: Arc<StandIn>) -> Self {
        let mut settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/hooks/{device}" }] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Webhook>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, ingress, address, client: client().build().unwrap() }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, path)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` and reads until the driver hangs up.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn send(request: reqwest::RequestBuilder) -> Response {
    in_time(request.send()).await.unwrap()
}

/// Status and `code` of a problem.
async fn problem(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = send(request).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

async fn id(request: reqwest::RequestBuilder) -> Value {
    let response = send(request).await;
    assert_eq!(response.status(), 202);
    response.json::<Value>().await.unwrap()["id"].clone()
}

fn message(attributes: Attributes, payload: &'static str) -> Message {
    Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes,
        payload: Bytes::from(payload),
    }
}

#[tokio::test]
async fn keeps_bodies_byte_for_byte_and_answers_with_the_id() {
    let hook = Hook::start(json!({})).await;
    let body = "{ \"t\" :  71.30,\r\n\"t\":1e400 }";
    let request = hook.post("/hooks/d1").header("content-type", "application/json").body(body);
    let response = send(request).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.unwrap();
    let taken = &hook.host.taken()[0];
    assert_eq!(answer["id"], taken.id.to_string());
    assert_eq!(
        (&*taken.inbound.payload, taken.inbound.content_type.as_str()),
        (body.as_bytes(), "application/json")
    );
    assert_eq!((taken.inbound.topic.as_str(), taken.inbound.device.as_deref()), ("hooks/d1", Some("d1")));
    let big = vec![7; 100_000];
    assert!(id(hook.post("/hooks/d1").body(big.clone())).await.is_string());
    assert_eq!(hook.host.taken()[1].inbound.payload, big);
}

#[tokio::test]
async fn answers_what_it_does_not_take_with_problems() {
    let hook = Hook::start(json!({ "body_max": 10 })).await;
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(problem(hook.request(Method::GET, "/other")).await, code(404, "no_such_path"));
    assert_eq!(problem(hook.request(Method::GET, "/hooks/d1")).await, code(405, "method_not_allowed"));
    assert_eq!(problem(hook.post("/hooks/d1").body("x".repeat(11))).await, code(413, "too_large"));
    assert_eq!(problem(hook.post("/hooks/a%23b")).await, code(400, "bad_topic"));
    assert_eq!(send(hook.request(Method::HEAD, "/other")).await.status(), 404);
    let chunked =
        b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n";
    assert!(hook.raw(chunked).await.starts_with("HTTP/1.1 413"));
    assert!(hook.host.taken().is_empty());
}

#[tokio::test]
async fn a_length_that_is_too_much_is_refused_before_the_body() {
    let hook = Hook::start(json!({})).await;
    let head =
        b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100001\r\n\r\n";
    let answer = hook.raw(head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_refusal_before_the_body_has_come_keeps_the_connection() {
    let hook = Hook::start(json!({})).await;
    let mut stream = hook.connect().await;
    stream.write_all(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(b"{}").await.unwrap();
    let mut answer = vec![0; 4096];
    let read = in_time(stream.read(&mut answer)).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 404"));
    let next = b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(next).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("HTTP/1.1 202"), "{answer}");
}

#[tokio::test]
async fn a_refusal_that_does_not_wait_for_the_body_says_that_it_closes() {
    let hook = Hook::start(json!({})).await;
    let large = b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n";
    let asks = b"POST /nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    for head in [&large[..], asks] {
        let answer = hook.raw(head).await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn says_when_to_come_back() {
    let hook = Hook::start(json!({})).await;
    hook.host.refuse(Refused::Busy { retry_after: Duration::from_millis(1500) });
    let response = send(hook.post("/hooks/d1")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    let first = Hook::start(json!({ "bodies_max": 5 })).await;
    assert_eq!(problem(first.post("/hooks/d1").body("123456")).await, (503, "busy".to_owned()));
    assert!(id(first.post("/hooks/d1").body("12345")).await.is_string());
}

#[tokio::test]
async fn asks_for_the_token_and_the_signature() {
    let hook = Hook::start(json!({
        "token": "s3cret", "signature": { "header": "x-sign", "secret": "key" },
    }))
    .await;
    let response = send(hook.post("/hooks/d1")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"sandbar\"");
    let signed =
        |value: &str| hook.post("/hooks/d1").bearer_auth("s3cret").header("x-sign", value).body("Hi There");
    assert_eq!(problem(signed("00")).await, (401, "bad_signature".to_owned()));
    assert_eq!(hook.host.taken().len(), 0);
    // printf 'Hi There' | openssl dgst -sha256 -hmac key
    let right = "e75865ac3fe73a8074997001fcdf339dbb878200ace6efa70f0ee1b2df3a3cf6";
    assert!(id(signed(right)).await.is_string());
}

#[tokio::test]
async fn a_handler_answers_the_request() {
    let hook = Hook::start(json!({})).await;
    let attributes = Attributes::new().with("http.status", "418").with("http.header.x-tea", "green");
    let answers =
        vec![Answer::Retrying("again".to_owned()), Answer::Reply(message(attributes, "short and stout"))];
    hook.host.answer(answers, Ending::Open);
    let response = send(hook.post("/hooks/d1")).await;
    assert_eq!((response.status().as_u16(), &response.headers()["x-tea"]), (418, &"green".parse().unwrap()));
    assert_eq!(response.text().await.unwrap(), "short and stout");

    hook.host.answer(vec![Answer::Rejected("no such shop".to_owned())], Ending::Open);
    let body: Value = send(hook.post("/hooks/d1")).await.json().await.unwrap();
    assert_eq!((&body["status"], &body["detail"]), (&json!(422), &json!("no such shop")));
    assert_eq!(body["id"], hook.host.taken()[1].id.to_string());

    hook.host.answer(vec![Answer::Retrying("again".to_owned())], Ending::Ended);
    assert_eq!(id(hook.post("/hooks/d1")).await, hook.host.taken()[2].id.to_string());
}

#[tokio::test]
async fn a_reply_that_does_not_come_is_504_with_the_id() {
    let hook = Hook::start(json!({ "reply_timeout_ms": 20 })).await;
    hook.host.answer(vec![Answer::Retrying("again".to_owned())], Ending::Open);
    let response = send(hook.post("/hooks/d1")).await;
    assert_eq!(response.status(), 504);
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        (&body["code"], &body["id"]),
        (&json!("no_reply"), &json!(hook.host.taken()[0].id.to_string()))
    );
}

#[tokio::test]
async fn a_stop_answers_who_waits_for_a_commit_or_a_reply() {
    let hook = Hook::start(json!({})).await;
    hook.host.answer(Vec::new(), Ending::Open);
    hook.host.hold();
    let request = tokio::spawn(hook.post("/hooks/d1").send());
    in_time(hook.host.wait_offered(1)).await;
    let stop = hook.ingress.stop(Duration::from_secs(10));
    let release = async {
        tokio::task::yield_now().await;
        hook.host.release();
    };
    in_time(async { tokio::join!(stop, release) }).await;
    let response = in_time(request).await.unwrap().unwrap();
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_key_is_taken_once() {
    let host = StandIn::new();
    host.set_now(Timestamp::from_millis(1_000_000));
    let hook = Hook::start_with(json!({ "idempotency_header": "Idempotency-Key" }), host).await;
    let keyed = |path: &str, key: &str| hook.post(path).header("idempotency-key", key).body("1");
    hook.host.hold();
    let both = [keyed("/hooks/d1", "k1"), keyed("/hooks/d1", "k1")].map(|r| tokio::spawn(id(r)));
    in_time(hook.host.wait_offered(1)).await;
    hook.host.release();
    let [first, second] = in_time(futures::future::join_all(both)).await.try_into().unwrap();
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(hook.host.taken().len(), 1);
    let first = json!(hook.host.taken()[0].id.to_string());
    assert_eq!(id(keyed("/hooks/d1", "k1")).await, first);
    assert_ne!(id(keyed("/hooks/d2", "k1")).await, first);
    assert_ne!(id(keyed("/hooks/d1", "k2")).await, first);
    assert_ne!(id(hook.post("/hooks/d1")).await, first);
    hook.host.set_now(Timestamp::from_millis(1_000_000 + 24 * 3_600_000));
    assert_ne!(id(keyed("/hooks/d1", "k1")).await, first);
    assert_eq!(problem(keyed("/hooks/d1", "")).await, (400, "bad_idempotency_key".to_owned()));
}

/// What a key's first request was refused of is no answer to the second one.
#[tokio::test]
async fn a_refused_key_may_come_again() {
    let hook = Hook::start(json!({ "idempotency_header": "Idempotency-Key" })).await;
    hook.host.refuse(Refused::DiskFull);
    let keyed = || hook.post("/hooks/d1").header("idempotency-key", "k");
    assert_eq!(problem(keyed()).await, (507, "disk_full".to_owned()));
    assert!(id(keyed()).await.is_string());
}

/// A sender that hung up does not know whether its reading was taken, and sends it again.
#[tokio::test]
async fn a_key_of_a_sender_that_hung_up_is_taken_once() {
    let hook = Hook::start(json!({ "idempotency_header": "Idempotency-Key" })).await;
    hook.host.hold();
    let mut stream = hook.connect().await;
    stream
        .write_all(b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    in_time(hook.host.wait_offered(1)).await;
    drop(stream);
    let again = tokio::spawn(id(hook.post("/hooks/d1").header("idempotency-key", "k")));
    hook.host.release();
    let again = in_time(again).await.unwrap();
    assert_eq!(hook.host.taken().len(), 1);
    assert_eq!(again, hook.host.taken()[0].id.to_string());
}

#[tokio::test]
async fn who_sends_slowly_is_cut_off() {
    let hook = Hook::start(json!({ "timeout_ms": 80 })).await;
    let body = hook.raw(b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("connection: close"), "{body}");
    for begun in [&b""[..], b"P", b"POST /hooks/d1 HTTP/1.1\r\nhost:", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = hook.raw(begun).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert!(hook.host.taken().is_empty());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let hook = Hook::start(json!({ "head_max": 8192 })).await;
    let mut head = b"POST /hooks/d1 HTTP/1.1\r\nx: ".to_vec();
    head.resize(20_000, b'a');
    let mut stream = hook.connect().await;
    // It may hang up before it has read all of it.
    let _ = stream.write_all(&head).await;
    let mut answer = Vec::new();
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert!(id(hook.post("/hooks/d1")).await.is_string());
}

#[tokio::test]
async fn further_connections_wait() {
    let hook = Hook::start(json!({ "connections_max": 1 })).await;
    let mut first = hook.connect().await;
    first.write_all(b"POST /hooks/d1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
    in_time(hook.host.wait_taken(1)).await;
    let mut second = tokio::spawn(id(hook.post("/hooks/d2")));
    // It would be answered by then.
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err());
    drop(first);
    assert!(in_time(second).await.unwrap().is_string());
}

#[tokio::test]
async fn speaks_http_2_without_tls() {
    let hook = Hook::start(json!({})).await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let posts = (0..20).map(|n| {
        let url = format!("http://{}/hooks/d{n}", hook.address);
        id(client.post(url).body("1"))
    });
    let ids = in_time(futures::future::join_all(posts)).await;
    assert_eq!(ids.len(), hook.host.taken().len());
}

#[tokio::test]
async fn a_port_that_is_taken_is_the_last_error() {
    let hook = Hook::start(json!({})).await;
    let settings = json!({ "listen": hook.address, "paths": [{ "path": "/" , "topic": "t" }] });
    let second = supervise::<Webhook>(settings, &StandIn::new());
    let status = in_time(second.wait_for(|status| status.last_error.is_some())).await;
    let text = status.last_error.unwrap().text;
    assert!(text.starts_with(&format!("listening on {}: ", hook.address)), "{text}");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let table = [
        (json!({ "paths": [] }), "paths"),
        (json!({ "paths": [{ "path": "x" }] }), "paths[0].path"),
        (json!({ "paths": [{ "path": "/", }] }), "paths[0].topic"),
        (json!({ "paths": [{ "path": "/a", "topic": "a/#" }] }), "paths[0].topic"),
        (json!({ "paths": [{ "path": "/a", "topic": "{b}" }] }), "paths[0].topic"),
        (json!({ "paths": [{ "path": "/a", "device": "{b}" }] }), "paths[0].device"),
        (json!({ "paths": [{ "path": "/a", "methods": ["post"] }] }), "paths[0].methods[0]"),
        (json!({ "paths": [{ "path": "/a", "content_types": ["json"] }] }), "paths[0].content_types[0]"),
        (json!({ "paths": [{ "path": "/a", "headers": ["Authorization"] }] }), "paths[0].headers[0]"),
        (json!({ "paths": [{ "path": "/a" }], "listen": "here" }), "listen"),
        (json!({ "paths": [{ "path": "/a" }], "timeout_ms": 0 }), "timeout_ms"),
        (json!({ "paths": [{ "path": "/a" }], "token": { "env": "SANDBAR_NOT_SET" } }), "token"),
        (
            json!({ "paths": [{ "path": "/a" }], "signature": { "header": "x", "secret": "" } }),
            "signature.secret",
        ),
    ];
    for (settings, setting) in table {
        let error = crate::build("webhook", settings.clone()).err().unwrap();
        assert_eq!(error.setting, setting, "{settings}: {error}");
    }
}
