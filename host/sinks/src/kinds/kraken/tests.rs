use std::sync::Mutex as StdMutex;

use bytes::Bytes;
use expect_test::expect;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_reading::{Attributes, Command, DeliveryId, Message, Name};
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response};

use super::proto::kraken_service_server::{KrakenService, KrakenServiceServer};
use super::proto::{KrakenRequest, KrakenResponse};
use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};
use crate::sink::{Order, Unsent};

/// A broker that behaves as it is told.
#[derive(Clone)]
struct Broker {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    taken: Mutex<Vec<(DeliveryId, KrakenRequest)>>,
    answer: Mutex<KrakenResponse>,
    reached: Notify,
}

#[tonic::async_trait]
impl KrakenService for Broker {
    async fn process_kraken_request(
        &self,
        request: Request<KrakenRequest>,
    ) -> Result<Response<KrakenResponse>, Status> {
        let id: DeliveryId =
            request.metadata().get("idempotency-key").unwrap().to_str().unwrap().parse().unwrap();
        let behaviour = *self.shared.behaviour.lock();
        match behaviour {
            Behaviour::Stall => {
                self.shared.reached.notify_one();
                std::future::pending::<()>().await;
            }
            Behaviour::FailAfter(0) => return Err(Status::internal("no handler")),
            Behaviour::FailAfter(more) => *self.shared.behaviour.lock() = Behaviour::FailAfter(more - 1),
            Behaviour::Refuse(refused) if refused == id => {
                return Err(Status::invalid_argument("no such unit"));
            }
            Behaviour::Refuse(_) | Behaviour::Take => {}
        }
        self.shared.taken.lock().push((id, request.into_inner()));
        Ok(Response::new(self.shared.answer.lock().clone()))
    }
}

impl Broker {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None).0
    }

    /// With TLS, if there is a certificate; and what ends it, but for the connections that it has.
    fn on(listener: TcpListener, identity: Option<Identity>) -> (Self, AbortHandle) {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Take),
            taken: Mutex::default(),
            answer: Mutex::default(),
            reached: Notify::new(),
        });
        let broker = Self { address: format!("http://{}", listener.local_addr().unwrap()), shared };
        let incoming = futures::stream::unfold(listener, |listener| async {
            let stream: std::io::Result<TcpStream> = listener.accept().await.map(|(stream, _)| stream);
            Some((stream, listener))
        });
        let service = KrakenServiceServer::new(broker.clone()).max_decoding_message_size(MESSAGE_MAX);
        let mut server = tonic::transport::Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let serving = tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
        (broker, serving.abort_handle())
    }

    fn sink(&self, more: &Json) -> Kraken {
        let mut settings = self.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Self>(settings)
    }
}

impl FarEnd for Broker {
    type Sink = Kraken;
    const ONE_BY_ONE: bool = true;

    fn settings(&self) -> Json {
        json!({ "url": self.address })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.shared.taken.lock().iter().map(|(id, _)| *id).collect()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}

#[tokio::test]
async fn keeps_the_contract_of_sinks() {
    contract::check(&Broker::start().await).await;
}

#[tokio::test]
async fn a_call_is_what_a_collector_would_have_sent() {
    let broker = Broker::start().await;
    let sink = broker.sink(&json!({ "metadata": { "qos": "{{ attributes['mqtt.qos'] }}", "n": "2" } }));
    let mut sent = delivery(1);
    sent.message.attributes.add("kraken.metadata", r#"{"camera_name":"gate","n":1}"#);
    sink.deliver(&[sent], &Progress::default()).await.unwrap();
    let (_, request) = broker.shared.taken.lock()[0].clone();
    expect![[r#"KrakenRequest { collector_name: "kitchen", content_type: "application/json", metadata: "{\"camera_name\":\"gate\",\"n\":\"2\",\"qos\":\"1\"}", payload: b"{\"count\":1}" }"#]].assert_eq(&format!("{request:?}"));
}

/// What was replied.
#[derive(Default)]
struct Own(StdMutex<Vec<(DeliveryId, Message)>>);

impl OwnHost for Own {
    fn publish<'a>(
        &'a self,
        _: &'a Name,
        _: &'a [Delivery],
        _: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async { Err(Unsent::Unreachable.at(0)) })
    }

    fn command(&self, _: Command, _: DeliveryId) -> BoxFuture<'_, Result<(), Unsent>> {
        Box::pin(async { Err(Unsent::Unreachable) })
    }

    fn order<'a>(&'a self, _: Vec<Order<'a>>, _: usize) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async { Err(Unsent::Unreachable.at(0)) })
    }

    fn reply(&self, delivery: &Delivery, message: Message) {
        self.0.lock().unwrap().push((delivery.id, message));
    }
}

async fn replies(reply: &str, collector_name: &str, metadata: &str, payload: &'static str) -> usize {
    let broker = Broker::start().await;
    *broker.shared.answer.lock() = KrakenResponse {
        collector_name: collector_name.to_owned(),
        content_type: "text/plain".to_owned(),
        metadata: metadata.to_owned(),
        payload: Bytes::from(payload),
    };
    let own = Arc::new(Own::default());
    let sink = broker.sink(&json!({ "collector": "tcp", "reply": reply }));
    Sink::connect(&sink, &(Arc::clone(&own) as Arc<dyn OwnHost>));
    sink.deliver(&deliveries(0..2), &Progress::default()).await.unwrap();
    let replies = own.0.lock().unwrap();
    if let Some((id, message)) = replies.first() {
        assert_eq!((*id, &message.payload[..]), (delivery(0).id, payload.as_bytes()));
        assert_eq!(message.attributes.get("kraken.collector"), Some(collector_name));
    }
    replies.len()
}

#[tokio::test]
async fn an_answer_that_is_meant_for_the_sender_goes_there() {
    let named = r#"{"response_type":"tcp"}"#;
    for (reply, collector, metadata, payload, count) in [
        ("collector", "tcp", "{}", "hello", 2),
        ("collector", "websocket", named, "hello", 0),
        ("collector", "tcp", "{}", "", 0),
        ("response_type", "anybody", named, "hello", 2),
        ("response_type", "tcp", "{}", "hello", 0),
        ("response_type", "tcp", "no JSON", "hello", 0),
        ("always", "anybody", "", "hello", 2),
        ("always", "tcp", named, "", 0),
        ("never", "tcp", named, "hello", 0),
    ] {
        assert_eq!(
            replies(reply, collector, metadata, payload).await,
            count,
            "{reply} {collector} {metadata}"
        );
    }
}

#[tokio::test]
async fn a_broker_that_is_down_delays_and_one_that_is_strange_does_too() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broker = Broker::start().await;
    let down = broker.sink(&json!({ "url": format!("http://{unused}") }));
    match down.deliver(&deliveries(0..1), &Progress::default()).await.unwrap_err() {
        DeliveryError::Retry { delivered: 0, cause, .. } => {
            assert!(cause.to_string().contains("refused"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    broker.behave(Behaviour::FailAfter(0));
    let patient = broker.sink(&json!({})).deliver(&deliveries(0..1), &Progress::default()).await;
    assert!(matches!(patient, Err(DeliveryError::Retry { .. })), "{patient:?}");
    let strict = broker
        .sink(&json!({ "reject": ["INTERNAL"] }))
        .deliver(&deliveries(0..1), &Progress::default())
        .await;
    assert!(matches!(strict, Err(DeliveryError::Reject { rejected: 0, .. })), "{strict:?}");
}

/// A certificate that signs itself, and the same with its key.
fn self_signed() -> (String, Identity) {
    tls::install_provider();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = issued.cert.pem();
    (pem.clone(), Identity::from_pem(pem, issued.signing_key.serialize_pem()))
}

#[tokio::test]
async fn a_renewed_ca_file_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (pem, identity) = self_signed();
    let (first, serving) = Broker::on(listener, Some(identity));
    contract::renew(&ca, &pem);
    let url = format!("https://localhost:{}", address.port());
    let sink = first.sink(&json!({ "url": url, "ca_file": ca }));
    sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();

    // The first one's connection stands; only a sink that read the file again looks for another.
    serving.abort();
    while !serving.is_finished() {
        tokio::task::yield_now().await;
    }
    let (pem, identity) = self_signed();
    let (second, _) = Broker::on(TcpListener::bind(address).await.unwrap(), Some(identity));
    contract::renew(&ca, &pem);
    sink.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    assert_eq!((first.taken(), second.taken()), (vec![delivery(0).id], vec![delivery(1).id]));
}

#[tokio::test]
async fn what_no_broker_takes_is_refused() {
    let broker = Broker::start().await;
    let mut batch = deliveries(0..2);
    batch[1].message.payload = vec![0; MESSAGE_MAX].into();
    batch[1].message.attributes = Attributes::new();
    let refused = broker.sink(&json!({})).deliver(&batch, &Progress::default()).await;
    assert!(matches!(refused, Err(DeliveryError::Reject { rejected: 1, .. })), "{refused:?}");
    assert_eq!(broker.taken(), [batch[0].id]);
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "url": "broker:50051" }), "url"),
        (json!({ "url": "" }), "url"),
        (json!({ "collector": "{{" }), "collector"),
        (json!({ "metadata": { "a": "{{" } }), "metadata.a"),
        (json!({ "reject": ["INTERNAL", "OK"] }), "reject[1]"),
        (json!({ "reply": "sometimes" }), "reply"),
        (json!({ "concurrency": 0 }), "concurrency"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
        (json!({ "url": "https://x", "ca_file": "/nowhere/ca.pem" }), "ca_file"),
    ] {
        let mut settings = json!({ "url": "http://127.0.0.1:50051" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("kraken", settings).err().unwrap().setting, at, "{more}");
    }
}
