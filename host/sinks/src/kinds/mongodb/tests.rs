use expect_test::expect;
use sandbar_reading::ContentType;
use serde_json::{Value as Json, json};

use super::far_end::Server;
use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

fn sink(server: &Server, more: &Json) -> MongoDb {
    let mut settings = server.settings();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    contract::sink::<Server>(settings)
}

#[tokio::test]
async fn keeps_the_contract_of_sinks_whichever_way_it_writes() {
    for mode in ["insert", "upsert"] {
        let server = Server::start().await;
        let table = json!({ "mode": mode });
        contract::check(&Mode { server, table }).await;
    }
}

/// The same far end with other settings.
struct Mode {
    server: Server,
    table: Json,
}

impl FarEnd for Mode {
    type Sink = MongoDb;

    fn settings(&self) -> Json {
        let mut settings = self.server.settings();
        settings.as_object_mut().unwrap().extend(self.table.as_object().unwrap().clone());
        settings
    }

    fn behave(&self, behaviour: Behaviour) {
        self.server.behave(behaviour);
    }

    fn taken(&self) -> Vec<sandbar_reading::DeliveryId> {
        self.server.taken()
    }

    async fn reached(&self) {
        self.server.reached().await;
    }
}

#[tokio::test]
async fn a_document_has_all_of_a_message() {
    let server = Server::start().await;
    let mut batch = deliveries(1..4);
    batch[0].message.payload = r#"{"a":{"b":[1,2.5,"c",null,true,5000000000,18446744073709551615]}}"#.into();
    batch[1].message.content_type = ContentType::TEXT;
    batch[1].message.device = None;
    batch[2].message.content_type = ContentType::OCTETS;
    sink(&server, &json!({})).deliver(&batch, &Progress::default()).await.unwrap();
    let seen: Vec<_> = server.documents().iter().map(ToString::to_string).collect();
    expect![[r#"
        { "_id": "01HF7YAT000000000000000001", "time": DateTime("2023-11-14 22:13:20.001 +00:00:00"), "topic": "sensors/kitchen", "device": "k1", "content_type": "application/json", "attributes": [{ "k": "mqtt.qos", "v": "1" }], "payload": { "a": { "b": [1, 2.5, "c", null, true, 5000000000, 18446744073709552000] } }, "route": "kitchen", "reading": "01H5XXK1000000000000000001" }
        { "_id": "01HF7YAT000000000000000002", "time": DateTime("2023-11-14 22:13:20.002 +00:00:00"), "topic": "sensors/kitchen", "device": null, "content_type": "text/plain", "attributes": [{ "k": "mqtt.qos", "v": "1" }], "payload": "{"count":2}", "route": "kitchen", "reading": "01H5XXK1000000000000000002" }
        { "_id": "01HF7YAT000000000000000003", "time": DateTime("2023-11-14 22:13:20.003 +00:00:00"), "topic": "sensors/kitchen", "device": "k1", "content_type": "application/octet-stream", "attributes": [{ "k": "mqtt.qos", "v": "1" }], "payload": Binary(0x0, eyJjb3VudCI6M30=), "route": "kitchen", "reading": "01H5XXK1000000000000000003" }"#]].assert_eq(&seen.join("\n"));
}

#[tokio::test]
async fn an_upsert_keeps_the_last_of_each() {
    let server = Server::start().await;
    let table = json!({ "mode": "upsert", "id": "{{ device }}" });
    sink(&server, &table).deliver(&deliveries(1..4), &Progress::default()).await.unwrap();
    let documents = server.documents();
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0].get_str("reading").unwrap(), delivery(3).reading.to_string());
}

#[tokio::test]
async fn a_renewed_url_is_connected_to() {
    let (first, second) = (Server::start().await, Server::start().await);
    let address = |server: &Server| server.settings()["url"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("url");
    contract::renew(&url, &address(&first));
    let sink = sink(&first, &json!({ "url": { "file": url } }));
    sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();
    contract::renew(&url, &address(&second));
    sink.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    // What is no URL leaves what was.
    contract::renew(&url, "hunter2");
    sink.deliver(&deliveries(2..3), &Progress::default()).await.unwrap();
    assert_eq!(first.taken(), [delivery(0).id]);
    assert_eq!(second.taken(), [1, 2].map(|number| delivery(number).id));
}

#[test]
fn what_a_server_says_decides_what_is_done() {
    let error = |code: i32, text: &str| {
        outcome(&doc! { "ok": 1.0, "writeErrors": [{ "index": 3, "code": code, "errmsg": text }] })
    };
    assert_eq!(error(11_000, "E11000 … index: _id_ dup key"), Outcome::ThereAlready { at: 3 });
    assert!(matches!(error(11_000, "E11000 … index: serial_1 dup key"), Outcome::Refused { at: 3, .. }));
    assert!(matches!(error(121, "Document failed validation"), Outcome::Refused { at: 3, .. }));
    assert!(matches!(error(13, "not authorized"), Outcome::Failed { at: 3, .. }));
    assert!(matches!(error(10_107, "not primary"), Outcome::Failed { at: 3, .. }));
    assert_eq!(outcome(&doc! { "ok": 1.0, "n": 5 }), Outcome::Written);
    let doubtful = doc! { "ok": 1.0, "writeConcernError": { "code": 64, "errmsg": "timed out" } };
    assert!(matches!(outcome(&doubtful), Outcome::Doubtful { .. }));
    let mut there =
        doc! { "writeErrors": [{ "index": 3, "code": 11_000, "errmsg": "… index: _id_ dup key" }] };
    assert_eq!(outcome(&there), Outcome::ThereAlready { at: 3 });
    there.extend(doubtful);
    assert!(matches!(outcome(&there), Outcome::Doubtful { .. }), "also what is there may be undone");
}

#[test]
fn the_write_concern_is_the_urls() {
    let concern = |url| write_concern(&read(url).unwrap()).map(|concern| concern.to_string());
    assert_eq!(concern("mongodb://h").unwrap(), r#"{ "w": "majority" }"#);
    assert_eq!(concern("mongodb://h/?w=2&wtimeoutMS=500").unwrap(), r#"{ "w": 2, "wtimeout": 500 }"#);
    assert_eq!(concern("mongodb://h/?w=0").unwrap_err().setting, "url");
}

#[tokio::test]
async fn what_is_too_much_for_one_command_is_written_with_several() {
    let server = Server::start().await;
    let mut batch = deliveries(0..3);
    for delivery in &mut batch {
        delivery.message.payload = "x".repeat(6 << 20).into();
    }
    sink(&server, &json!({})).deliver(&batch, &Progress::default()).await.unwrap();
    assert_eq!(server.documents().len(), 3);
    assert_eq!(fitting([COMMAND_MAX + 1, 1].into_iter()), 1);
    assert_eq!(fitting([1, COMMAND_MAX - 1, 1].into_iter()), 2);
}

#[tokio::test]
async fn a_payload_that_no_document_can_hold_is_refused() {
    let server = Server::start().await;
    for payload in
        ["[".repeat(120) + &"]".repeat(120), r#"{"a\u0000b":1}"#.to_owned(), "x".repeat((16 << 20) - 65_536)]
    {
        let mut batch = deliveries(0..2);
        batch[1].message.attributes.add("note", "y".repeat(70_000));
        batch[1].message.payload = payload.into();
        match sink(&server, &json!({})).deliver(&batch, &Progress::default()).await.unwrap_err() {
            DeliveryError::Reject { rejected: 1, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again_later_and_no_secret_is_told() {
    let server = Server::start().await;
    let sink = sink(&server, &json!({ "url": "mongodb://u:hunter2@127.0.0.1:1", "timeout_ms": 100 }));
    match sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap_err() {
        DeliveryError::Retry { delivered: 0, cause, .. } => {
            assert!(!cause.to_string().contains("hunter2"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_cannot_work_are_named_and_no_secret_is_told() {
    for (more, at) in [
        (json!({ "url": "http://u:hunter2@127.0.0.1" }), "url"),
        (json!({ "url": "mongodb+srv://u:hunter2@example.com" }), "url"),
        (json!({ "url": "mongodb://u:hunter2@h/?tls=true&tlsInsecure=true" }), "url"),
        (json!({ "url": "mongodb://u:hunter2@h/?tls=maybe" }), "url"),
        (json!({ "url": "mongodb://u:hunter2@h/?tls=true&tlsCertificateKeyFile=/nowhere.pem" }), "url"),
        (json!({ "database": "" }), "database"),
        (json!({ "collection": "a$b" }), "collection"),
        (json!({ "id": "{{" }), "id"),
        (json!({ "mode": "replace" }), "mode"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
    ] {
        let mut settings = json!({ "url": "mongodb://127.0.0.1", "database": "a", "collection": "b" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = crate::build("mongodb", settings).err().unwrap();
        assert_eq!(error.setting, at, "{more}");
        assert!(!error.problem.contains("hunter2"), "{error}");
    }
}

#[test]
fn connections_that_leave_the_machine_are_verified_unless_told_otherwise() {
    for (url, wanted, encrypted) in [
        ("mongodb://127.0.0.1", None, false),
        ("mongodb://localhost,[::1]:5", None, false),
        ("mongodb://localhost,db.example.com", None, true),
        ("mongodb://db.example.com/?tls=false", None, false),
        ("mongodb://db.example.com", Some(false), false),
        ("mongodb://127.0.0.1/?tls=true", None, true),
    ] {
        let tls = encryption(&read(url).unwrap(), wanted, None).unwrap();
        assert_eq!(tls.is_some(), encrypted, "{url} {wanted:?}");
    }
}
