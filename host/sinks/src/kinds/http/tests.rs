use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sandbar_reading::DeliveryId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

/// A server that behaves as it is told, and notes what it is sent.
#[derive(Clone)]
struct Server {
    address: String,
    body: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<(HeaderMap, Vec<u8>)>>,
    /// Methods and paths, of the same.
    targets: Mutex<Vec<String>>,
    taken: Mutex<Vec<DeliveryId>>,
    reached: Notify,
}

impl Server {
    async fn start(body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Take),
            requests: Mutex::default(),
            targets: Mutex::default(),
            taken: Mutex::default(),
            reached: Notify::new(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, body, shared }
    }

    fn sink(&self, more: &Value) -> Http {
        let mut settings = self.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Self>(settings)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Response {
    match uri.path() {
        "/moved" => return (StatusCode::TEMPORARY_REDIRECT, [("location", "/here")]).into_response(),
        "/gone-get" => return (StatusCode::SEE_OTHER, [("location", "/here")]).into_response(),
        "/away" => {
            let elsewhere = [("location", "http://127.0.0.2:9/here")];
            return (StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response();
        }
        _ => {}
    }
    let ids = ids(&headers, &body);
    shared.targets.lock().push(format!("{method} {uri}"));
    shared.requests.lock().push((headers, body.to_vec()));
    let behaviour = *shared.behaviour.lock();
    match behaviour {
        Behaviour::Stall => {
            shared.reached.notify_one();
            std::future::pending::<()>().await;
        }
        Behaviour::FailAfter(0) => {
            return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3")], "later, please")
                .into_response();
        }
        Behaviour::FailAfter(more) => {
            *shared.behaviour.lock() = Behaviour::FailAfter(more.saturating_sub(ids.len()));
            if more < ids.len() {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
        }
        Behaviour::Refuse(id) if ids.contains(&id) => {
            return (StatusCode::UNPROCESSABLE_ENTITY, "no such unit").into_response();
        }
        Behaviour::Refuse(_) | Behaviour::Take => {}
    }
    shared.taken.lock().extend(ids);
    StatusCode::ACCEPTED.into_response()
}

fn ids(headers: &HeaderMap, body: &[u8]) -> Vec<DeliveryId> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(items)) => {
            items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect()
        }
        // One of several lines has no id of its own.
        _ => headers["idempotency-key"].to_str().unwrap().parse().into_iter().collect(),
    }
}

impl FarEnd for Server {
    type Sink = Http;

    fn settings(&self) -> Value {
        json!({ "url": format!("{}/in?key=hunter2", self.address), "body": self.body })
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
async fn keeps_the_contract_of_sinks_with_every_body() {
    for body in ["payload", "json", "batch"] {
        contract::check(&Server::start(body).await).await;
    }
}

#[tokio::test]
async fn a_payload_travels_as_it_is() {
    let server = Server::start("payload").await;
    let sink = server.sink(&json!({ "headers": { "Authorization": "Bearer abc" }, "method": "PUT" }));
    sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
    let (headers, body) = server.shared.requests.lock()[0].clone();
    assert_eq!(body, b"{\"count\":1}");
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("idempotency-key", delivery(1).id.to_string()),
        ("sandbar-reading", delivery(1).reading.to_string()),
        ("sandbar-topic", "sensors/kitchen".to_owned()),
        ("sandbar-device", "k1".to_owned()),
        ("authorization", "Bearer abc".to_owned()),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_failure_names_the_host_and_the_answer_and_no_secret() {
    let server = Server::start("json").await;
    server.behave(Behaviour::FailAfter(0));
    match server.sink(&json!({})).deliver(&[delivery(1)], &Progress::default()).await.unwrap_err() {
        DeliveryError::Retry { delivered: 0, after, cause } => {
            assert_eq!(after, Some(std::time::Duration::from_secs(3)));
            let expected = format!("POST to {}: 503 Service Unavailable: later, please", server.address);
            assert_eq!(cause.to_string(), expected);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_connection_and_a_slow_answer_are_tried_again_and_betray_no_secret() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server::start("json").await;
    server.behave(Behaviour::Stall);
    for settings in [json!({ "url": format!("http://{unused}/hunter2") }), json!({ "timeout_ms": 50 })] {
        match server.sink(&settings).deliver(&[delivery(1)], &Progress::default()).await.unwrap_err() {
            DeliveryError::Retry { delivered: 0, after: None, cause } => {
                assert!(!cause.to_string().contains("hunter2"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_bad_message_of_a_batch_is_found_in_few_requests() {
    let server = Server::start("batch").await;
    let batch = deliveries(0..64);
    server.behave(Behaviour::Refuse(batch[41].id));
    match server.sink(&json!({})).deliver(&batch, &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 41, cause } => {
            assert!(cause.to_string().ends_with("422 Unprocessable Entity: no such unit"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    assert!(server.shared.requests.lock().len() < 20);
}

/// The last request's headers and body.
async fn sent(server: &Server, more: &Value) -> (HeaderMap, String) {
    let mut settings = json!({ "url": server.address });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    contract::sink::<Server>(settings).deliver(&[delivery(7)], &Progress::default()).await.unwrap();
    let (headers, body) = server.shared.requests.lock().pop().unwrap();
    (headers, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn a_request_may_be_made_of_templates() {
    let server = Server::start("payload").await;
    let (headers, body) = sent(
        &server,
        &json!({
            "url": format!("{}/{{{{ device }}}}?n={{{{ topic }}}}", server.address),
            "method": "{% if payload.count > 5 %}PUT{% else %}POST{% endif %}",
            "headers": { "X-Count": "{{ payload.count }}" },
            "template": "{\"value\": {{ payload.count | tojson }}, \"at\": {{ time | tojson }}}",
        }),
    )
    .await;
    assert_eq!(body, r#"{"value": 7, "at": "2023-11-14T22:13:20.007000Z"}"#);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-count"], "7");
    assert_eq!(headers["idempotency-key"], delivery(7).id.to_string());
    assert_eq!(server.shared.targets.lock().pop().unwrap(), "PUT /k1?n=sensors%2Fkitchen");

    let url = format!("{}/relay?turn={{{{ payload.count }}}}", server.address);
    let (headers, body) = sent(&server, &json!({ "url": url, "method": "GET", "body": "none" })).await;
    assert_eq!((body.as_str(), headers.get("content-type")), ("", None));
    assert_eq!(server.shared.targets.lock().pop().unwrap(), "GET /relay?turn=7");
}

#[tokio::test]
async fn a_template_that_cannot_be_filled_buries_one_message() {
    let server = Server::start("payload").await;
    for (settings, problem) in [
        (json!({ "template": "{{ payload.gone }}" }), "template: undefined value"),
        (json!({ "template": "{ {{ topic }} }" }), "template: it made no JSON"),
        (json!({ "headers": { "X-A": "a{{ '\n' }}" } }), "headers.x-a: "),
        (json!({ "method": "{{ topic }}" }), "method: `sensors/kitchen` is none of"),
        (json!({ "url": "{{ topic }}", "template": "1" }), "url: "),
        (
            json!({ "url": format!("{}/a/{{{{ '..' }}}}/b", server.address), "template": "1" }),
            "url: a part of",
        ),
    ] {
        match server
            .sink(&settings_of(&settings))
            .deliver(&[delivery(1)], &Progress::default())
            .await
            .unwrap_err()
        {
            DeliveryError::Reject { rejected: 0, cause } => {
                assert!(cause.to_string().starts_with(problem), "{cause}");
            }
            other => panic!("{settings}: {other:?}"),
        }
    }
    assert!(server.shared.requests.lock().is_empty());
}

/// Without the server's own choice of a body.
fn settings_of(more: &Value) -> Value {
    let mut settings = json!({ "body": null });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[tokio::test]
async fn presets_say_what_each_service_expects() {
    let server = Server::start("payload").await;
    let parsed = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let text = json!("<!here> {{ '<b>&' }} {{ payload.count }}");
    let (_, body) = sent(&server, &json!({ "preset": "slack", "text": text })).await;
    assert_eq!(parsed(&body), json!({ "text": "<!here> &lt;b&gt;&amp; 7" }));
    let (_, body) = sent(&server, &json!({ "preset": "discord", "text": "{{ 'äöü@everyone' }}" })).await;
    assert_eq!(parsed(&body)["allowed_mentions"], json!({ "parse": [] }));
    let (headers, body) = sent(&server, &json!({ "preset": "teams" })).await;
    let card = &parsed(&body)["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(card["content"]["body"][0]["text"], "sensors/kitchen (k1): {\"count\":7}");
    assert_eq!(headers["content-type"], "application/json");
    let long = format!("{{% for i in range(300) %}}{}{{% endfor %}}", "0123456789");
    let (_, body) = sent(&server, &json!({ "preset": "discord", "text": long })).await;
    assert_eq!(parsed(&body)["content"].as_str().unwrap().chars().count(), 2000);
}

#[tokio::test]
async fn influxdb_gets_all_that_waits_but_what_has_no_field() {
    let server = Server::start("payload").await;
    let sink = contract::sink::<Server>(json!({ "url": server.address, "preset": "influxdb" }));
    let mut batch = deliveries(0..5);
    batch[3].message.payload = "{}".into();
    match sink.deliver(&batch, &Progress::default()).await.unwrap_err() {
        DeliveryError::Reject { rejected: 3, cause } => {
            assert!(cause.to_string().contains("field"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    let (headers, body) = server.shared.requests.lock().pop().unwrap();
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "sensors/kitchen,device=k1 count=0 1700000000000000000\nsensors/kitchen,device=k1 count=1 1700000000001000000\nsensors/kitchen,device=k1 count=2 1700000000002000000\n"
    );
    sink.deliver(&batch[4..], &Progress::default()).await.unwrap();
}

#[tokio::test]
async fn only_a_redirect_that_repeats_the_request_on_the_same_host_is_followed() {
    let server = Server::start("payload").await;
    let to = |path: &str| server.sink(&json!({ "url": format!("{}{path}", server.address) }));
    to("/moved").deliver(&[delivery(1)], &Progress::default()).await.unwrap();
    assert_eq!(server.shared.requests.lock().pop().unwrap().1, b"{\"count\":1}");
    for path in ["/gone-get", "/away"] {
        match to(path).deliver(&[delivery(2)], &Progress::default()).await.unwrap_err() {
            DeliveryError::Retry { delivered: 0, cause, .. } => {
                assert!(cause.to_string().ends_with("not followed, set the address it names"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(server.shared.requests.lock().is_empty(), "nothing was sent on");
}

/// A certificate that signs itself, and what accepts connections with it.
fn self_signed() -> (String, TlsAcceptor) {
    tls::install_provider();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    (issued.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// `https://localhost:…`, answering 202 to anything and closing; its certificate, and what it accepts the next
/// connection with.
async fn tls_server() -> (String, String, Arc<Mutex<TlsAcceptor>>) {
    let (pem, acceptor) = self_signed();
    let acceptor = Arc::new(Mutex::new(acceptor));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = Arc::clone(&acceptor);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = accepting.lock().clone();
            tokio::spawn(async move { answer_once(acceptor.accept(socket).await?).await });
        }
    });
    (format!("https://localhost:{port}/"), pem, acceptor)
}

async fn answer_once(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut seen = Vec::new();
    while !seen.ends_with(b"{\"count\":1}") {
        stream.read_buf(&mut seen).await?;
    }
    stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    stream.shutdown().await
}

#[tokio::test]
async fn a_certificate_is_trusted_only_if_it_was_configured() {
    let (url, pem, _) = tls_server().await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), pem).unwrap();

    let stranger = contract::sink::<Server>(json!({ "url": url }));
    let error = stranger.deliver(&[delivery(1)], &Progress::default()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { delivered: 0, .. }));
    assert!(error.to_string().contains("certificate"), "{error}");

    let friend = contract::sink::<Server>(json!({ "url": url, "ca_file": ca.path() }));
    friend.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
}

#[tokio::test]
async fn a_renewed_ca_file_is_trusted_and_a_broken_one_leaves_what_was() {
    let (url, pem, acceptor) = tls_server().await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    contract::renew(&ca, &pem);
    let sink = contract::sink::<Server>(json!({ "url": url, "ca_file": ca }));
    let deliver = async || sink.deliver(&[delivery(1)], &Progress::default()).await;
    deliver().await.unwrap();

    let (pem, renewed) = self_signed();
    *acceptor.lock() = renewed;
    let error = deliver().await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { delivered: 0, .. }), "{error}");
    contract::renew(&ca, &pem);
    deliver().await.unwrap();

    contract::renew(&ca, "half a certificate");
    deliver().await.unwrap();
    std::fs::remove_file(&ca).unwrap();
    deliver().await.unwrap();
}

#[tokio::test]
async fn a_renewed_secret_is_sent_and_one_that_is_gone_leaves_what_was() {
    let server = Server::start("payload").await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    contract::renew(&token, "Bearer one\n");
    let sink = server.sink(&json!({ "headers": { "Authorization": { "file": token } } }));
    let sent = async || {
        sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
        let (headers, _) = server.shared.requests.lock().pop().unwrap();
        headers["authorization"].clone()
    };
    assert_eq!(sent().await, "Bearer one");
    contract::renew(&token, "Bearer two\n");
    assert_eq!(sent().await, "Bearer two");
    contract::renew(&token, "");
    assert_eq!(sent().await, "Bearer two");
    std::fs::remove_file(&token).unwrap();
    assert_eq!(sent().await, "Bearer two");
}

#[tokio::test]
async fn an_address_that_is_a_secret_may_lead_elsewhere_later() {
    let (first, second) = (Server::start("payload").await, Server::start("payload").await);
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("address");
    contract::renew(&address, &first.address);
    let settings = json!({ "url": null, "secret_url": { "file": address } });
    let sink = first.sink(&settings);
    sink.deliver(&[delivery(1)], &Progress::default()).await.unwrap();
    contract::renew(&address, &second.address);
    sink.deliver(&[delivery(2)], &Progress::default()).await.unwrap();
    assert_eq!((first.taken(), second.taken()), (vec![delivery(1).id], vec![delivery(2).id]));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (more, at) in [
        (json!({ "url": "ftp://example.com" }), "url"),
        (json!({ "url": "example.com" }), "url"),
        (json!({ "url": "https://user:password@example.com" }), "url"),
        (json!({ "url": null }), "url"),
        (json!({ "secret_url": "https://example.com" }), "url"),
        (json!({ "url": null, "secret_url": { "env": "SANDBAR_NOT_SET" } }), "secret_url"),
        (json!({ "url": null, "secret_url": "gopher://x" }), "secret_url"),
        (json!({ "method": "GET" }), "method"),
        (json!({ "timeout_ms": 0 }), "timeout_ms"),
        (json!({ "body": "xml" }), "body"),
        (json!({ "body": "json", "template": "x" }), "template"),
        (json!({ "body": "json", "preset": "slack" }), "preset"),
        (json!({ "template": "{{" }), "template"),
        (json!({ "template": "x", "content_type": "text" }), "content_type"),
        (json!({ "content_type": "text/plain" }), "content_type"),
        (json!({ "text": "x" }), "text"),
        (json!({ "preset": "slack", "influxdb": {} }), "influxdb"),
        (json!({ "preset": "influxdb", "headers": { "X-A": "{{ topic }}" } }), "headers"),
        (json!({ "url": "http://h/{{ topic }}", "body": "batch" }), "url"),
        (json!({ "headers": { "X-A": "{{" } }), "headers.X-A"),
        (json!({ "reject": [400, 200] }), "reject[1]"),
        (json!({ "headers": { "X-Token": { "file": "/nowhere/token" } } }), "headers.X-Token"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
        (json!({ "ca_file": empty.path() }), "ca_file"),
    ] {
        let mut settings = json!({ "url": "https://example.com/" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("http", settings).err().unwrap().setting, at, "{more}");
    }
}
