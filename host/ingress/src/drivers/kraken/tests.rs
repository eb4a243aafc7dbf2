//! With real sockets, on the loopback address; grpcio, which nobody here wrote, is in `tests/data`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sandbar_reading::{Attributes, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::Kraken;
use super::proto::kraken_service_client::KrakenServiceClient;
use super::proto::{KrakenRequest, KrakenResponse};
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::{Answer, Supervised};

struct Collector {
    client: Option<KrakenServiceClient<Channel>>,
    address: Option<SocketAddr>,
}

fn client(channel: Channel) -> KrakenServiceClient<Channel> {
    KrakenServiceClient::new(channel).max_encoding_message_size(usize::MAX)
}

fn request(payload: impl Into<Bytes>) -> KrakenRequest {
    KrakenRequest {
        collector_name: "serial".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        metadata: r#"{"device_name":"press"}"#.to_owned(),
        payload: payload.into(),
    }
}

impl Collector {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address.unwrap()).await.unwrap()
    }
}

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4), and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

impl Peer for Collector {
    type Driver = Kraken;

    async fn prepare() -> (Self, Value) {
        (Self { client: None, address: None }, json!({ "listen": "127.0.0.1:0" }))
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.address = address;
        let endpoint = Endpoint::from_shared(format!("http://{}", address.unwrap())).unwrap();
        self.client = Some(client(endpoint.connect_lazy()));
    }

    async fn send(&self, payload: Bytes) -> Told {
        match self.client.clone().unwrap().process_kraken_request(request(payload)).await {
            Ok(_) => Told::Acknowledged,
            Err(status) => Told::Refused(format!("{:?}", status.code())),
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        let code = match refused {
            Refused::TooLarge { .. } => Code::InvalidArgument,
            Refused::DiskFull => Code::ResourceExhausted,
            Refused::Busy { .. } | Refused::Storage { .. } | Refused::Stopping => Code::Unavailable,
        };
        Told::Refused(format!("{code:?}"))
    }

    async fn send_garbage(&self, bytes: Bytes) {
        // The driver may hang up before all of it was written.
        let _ = self.connect().await.write_all(&bytes).await;
        let mut second = self.connect().await;
        let _ = second.write_all(PREFACE).await;
        let _ = second.write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        Box::new(half(self.address.unwrap()).await)
    }

    async fn idle(&self) -> Box<dyn Send> {
        let mut stream = self.connect().await;
        stream.write_all(PREFACE).await.unwrap();
        Box::new(stream)
    }
}

/// A call whose message never ends, until it is dropped.
struct Half {
    _body: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    answer: JoinHandle<hyper::Result<http::Response<Incoming>>>,
    connection: AbortHandle,
}

async fn half(address: SocketAddr) -> Half {
    let (sender, receiver) = mpsc::channel(1);
    // A message that says it has 9 bytes.
    sender.send(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x09half")))).await.unwrap();
    let frames = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let request = http::Request::post("http://localhost/kraken.KrakenService/ProcessKrakenRequest")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(Box::pin(frames)))
        .unwrap();
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection).abort_handle();
    let answer = tokio::spawn(client.send_request(request));
    tokio::task::yield_now().await;
    Half { _body: sender, answer, connection }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.connection.abort();
        self.answer.abort();
    }
}

mod contract {
    crate::driver_contract!(super::Collector);
}

/// A driver that runs, and a client of it.
struct Broker {
    host: Arc<StandIn>,
    _ingress: Supervised,
    client: KrakenServiceClient<Channel>,
}

impl Broker {
    async fn start(more: Value) -> Self {
        let mut settings = json!({ "listen": "127.0.0.1:0" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let host = StandIn::with_reading_max(100_000);
        let ingress = supervise::<Kraken>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self { host, _ingress: ingress, client: client(endpoint.connect_lazy()) }
    }

    async fn call(&self, request: KrakenRequest) -> Result<KrakenResponse, Status> {
        let answer = in_time(self.client.clone().process_kraken_request(request)).await?;
        assert_eq!(
            answer.metadata().get("sandbar-reading").unwrap(),
            self.host.taken().last().unwrap().id.to_string().as_str()
        );
        Ok(answer.into_inner())
    }
}

fn reply(payload: &'static str) -> Answer {
    Answer::Reply(Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: Bytes::from(payload),
    })
}

#[tokio::test]
async fn keeps_what_a_collector_says_and_answers_what_no_collector_takes_for_a_reply() {
    let broker = Broker::start(json!({})).await;
    let answer = broker.call(request(&b"\0\xff"[..])).await.unwrap();
    assert_eq!(answer, KrakenResponse { metadata: "{}".to_owned(), ..KrakenResponse::default() });
    let taken = &broker.host.taken()[0].inbound;
    assert_eq!((taken.topic.as_str(), taken.device.as_deref()), ("kraken/serial", Some("press")));
    assert_eq!(
        (&taken.payload[..], taken.content_type.as_str()),
        (&b"\0\xff"[..], "application/octet-stream")
    );
    assert!(taken.attributes.get("peer").unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn a_handlers_reply_is_the_answer() {
    let broker = Broker::start(json!({ "reply_timeout_ms": 100 })).await;
    broker.host.answer(vec![Answer::Retrying("no".into()), reply("hello")], Ending::Open);
    let answer = broker.call(request("x")).await.unwrap();
    assert_eq!((answer.collector_name.as_str(), &answer.payload[..]), ("serial", &b"hello"[..]));
    assert_eq!(answer.metadata, r#"{"response_type":"serial"}"#);

    broker.host.answer(vec![Answer::Rejected("no such unit".into())], Ending::Ended);
    let status = broker.call(request("x")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "no such unit"));

    broker.host.answer(vec![], Ending::Ended);
    assert_eq!(broker.call(request("x")).await.unwrap().collector_name, "");
    broker.host.answer(vec![], Ending::Open);
    assert_eq!(broker.call(request("x")).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(broker.host.taken().len(), 4, "each of them was taken");
}

#[tokio::test]
async fn what_makes_no_reading_is_refused_for_good_and_the_connection_goes_on() {
    let broker = Broker::start(json!({ "message_max": 50_000 })).await;
    for bad in [
        KrakenRequest { collector_name: "a/#".to_owned(), ..request("x") },
        KrakenRequest { content_type: "json".to_owned(), ..request("x") },
        KrakenRequest { metadata: "x".repeat(20_000), ..request("x") },
    ] {
        assert_eq!(broker.call(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let large = broker.call(request(vec![7; 60_000])).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange);
    broker.call(request("x")).await.unwrap();
    assert_eq!(broker.host.taken().len(), 1);
}

#[tokio::test]
async fn messages_that_do_not_fit_into_memory_together_are_refused_for_now() {
    let broker = Broker::start(json!({ "messages_max": 1000 })).await;
    assert_eq!(broker.call(request(vec![7; 5000])).await.unwrap_err().code(), Code::Unavailable);
    for _ in 0..10 {
        broker.call(request(vec![7; 500])).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_does_not_arrive_is_given_up() {
    let (mut peer, mut settings) = Collector::prepare().await;
    settings["idle_timeout_ms"] = json!(50);
    let host = StandIn::new();
    let ingress = supervise::<Kraken>(settings, &host);
    peer.reach(running(&ingress).await.address).await;
    let mut half = half(peer.address.unwrap()).await;
    let answer = in_time(&mut half.answer).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert_eq!(peer.send(Bytes::from_static(b"x")).await, Told::Acknowledged);
}

#[tokio::test]
async fn a_trace_in_the_metadata_goes_on() {
    let broker = Broker::start(json!({})).await;
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut call = tonic::Request::new(request("x"));
    call.metadata_mut().insert("traceparent", given.parse().unwrap());
    let mut client = broker.client.clone();
    in_time(client.process_kraken_request(call)).await.unwrap();
    assert_eq!(broker.host.taken()[0].inbound.attributes.get("traceparent"), Some(given));
}

#[tokio::test]
async fn calls_of_one_connection_do_not_wait_for_each_other() {
    let broker = Broker::start(json!({})).await;
    broker.host.hold();
    let calls = (0..50).map(|n: u8| {
        let mut client = broker.client.clone();
        async move { client.process_kraken_request(request(vec![n])).await }
    });
    let calls = tokio::spawn(futures::future::join_all(calls));
    in_time(broker.host.wait_offered(50)).await;
    broker.host.release();
    assert!(in_time(calls).await.unwrap().iter().all(Result::is_ok));
}

#[tokio::test]
async fn tls_is_spoken_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let tls = crate::tls::testing::self_signed(folder.path());
    let settings = json!({
        "listen": "127.0.0.1:0",
        "tls": { "certificate_file": tls.certificate_file, "key_file": tls.key_file },
    });
    let host = StandIn::new();
    let ingress = supervise::<Kraken>(settings, &host);
    let port = running(&ingress).await.address.unwrap().port();
    let ca = Certificate::from_pem(std::fs::read(&tls.certificate_file).unwrap());
    let connect = |name: &str| {
        let tls = ClientTlsConfig::new().ca_certificate(ca.clone()).domain_name(name.to_owned());
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        client(endpoint.tls_config(tls).unwrap().connect_lazy())
    };
    in_time(connect("localhost").process_kraken_request(request("x"))).await.unwrap();
    assert!(in_time(connect("example.com").process_kraken_request(request("x"))).await.is_err());
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "topic": "a/#" }), "topic"),
        (json!({ "topic": "a/{device}" }), "topic"),
        (json!({ "message_max": 0 }), "message_max"),
        (json!({ "calls_max": 0 }), "calls_max"),
        (json!({ "listen": "50051" }), "listen"),
        (
            json!({ "tls": { "certificate_file": "/nowhere", "key_file": "/nowhere" } }),
            "tls.certificate_file",
        ),
    ] {
        assert_eq!(crate::build("kraken", more.clone()).err().unwrap().setting, at, "{more}");
    }
}
