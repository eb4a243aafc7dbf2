use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};

use super::far_end::Server;
use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

fn sink(server: &Server, more: &Json) -> Redis {
    let mut settings = server.settings();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    contract::sink::<Server>(settings)
}

#[tokio::test]
async fn keeps_the_contract_of_sinks() {
    contract::check(&Server::start().await).await;
}

async fn check(more: Json, count: u64, expected: &Expect) {
    let server = Server::start().await;
    sink(&server, &more).deliver(&deliveries(1..1 + count), &Progress::default()).await.unwrap();
    let line = |command: &Vec<Vec<u8>>| {
        command.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join(" ")
    };
    expected.assert_eq(&server.commands().iter().map(line).collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn a_message_becomes_the_command_that_was_chosen() {
    check(json!({ "max_length": 1000 }), 1, &expect![[r#"XADD readings:sensors/kitchen MAXLEN ~ 1000 * id 01HF7YAT000000000000000001 time 2023-11-14T22:13:20.001000Z topic sensors/kitchen device k1 content_type application/json attributes {"mqtt.qos":"1"} route kitchen reading 01H5XXK1000000000000000001 payload {"count":1}"#]]).await;
    check(json!({ "as": "publish", "key": "live", "value": "json" }), 1, &expect![[r#"PUBLISH live {"time":"2023-11-14T22:13:20.001000Z","topic":"sensors/kitchen","device":"k1","content_type":"application/json","attributes":{"mqtt.qos":"1"},"payload":{"count":1},"route":"kitchen","reading":"01H5XXK1000000000000000001","id":"01HF7YAT000000000000000001"}"#]]).await;
    check(
        json!({ "as": "list", "max_length": 5 }),
        2,
        &expect![[r#"
        RPUSH readings:sensors/kitchen {"count":1}
        RPUSH readings:sensors/kitchen {"count":2}
        LTRIM readings:sensors/kitchen -5 -1"#]],
    )
    .await;
    check(
        json!({ "as": "set", "key": "last:{{ device }}", "expire_s": 60 }),
        1,
        &expect![[r#"SET last:k1 {"count":1} EX 60"#]],
    )
    .await;
}

#[tokio::test]
async fn what_was_taken_behind_a_refused_one_is_not_sent_again() {
    let server = Server::start().await;
    let sink = sink(&server, &json!({}));
    let batch = deliveries(0..5);
    server.behave(Behaviour::Refuse(batch[1].id));
    let refused = sink.deliver(&batch, &Progress::default()).await;
    assert!(matches!(refused, Err(DeliveryError::Reject { rejected: 1, .. })), "{refused:?}");
    sink.deliver(&batch[2..], &Progress::default()).await.unwrap();
    assert_eq!(server.taken(), [0, 2, 3, 4].map(|number| delivery(number).id));
}

#[tokio::test]
async fn a_renewed_url_is_connected_to() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("url");
    let renew = |password: &str| {
        contract::renew(&url, &format!("redis://:{password}@127.0.0.1:{}", server.port));
    };
    renew("one");
    let sink = sink(&server, &json!({ "url": { "file": url } }));
    let deliver = async |number| {
        sink.deliver(&[delivery(number)], &Progress::default()).await.unwrap();
        server.passwords()
    };
    assert_eq!((deliver(0).await, deliver(1).await), (vec!["one".to_owned()], vec!["one".to_owned()]));
    renew("two");
    assert_eq!(deliver(2).await, ["one", "two"]);
    // What is no URL leaves what was, and the connection.
    contract::renew(&url, "two");
    assert_eq!(deliver(3).await, ["one", "two"]);
    assert_eq!(server.taken().len(), 4);
}

#[tokio::test]
async fn a_key_that_is_wrong_for_every_message_delays_and_buries_nothing() {
    let server = Server::start().await;
    server.behave(Behaviour::Refuse(delivery(0).id));
    match sink(&server, &json!({ "key": "readings" }))
        .deliver(&deliveries(0..2), &Progress::default())
        .await
        .unwrap_err()
    {
        DeliveryError::Retry { delivered: 0, cause, .. } => {
            let cause = cause.to_string();
            assert!(cause.contains("WRONGTYPE") && !cause.contains("hunter2"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (more, at) in [
        (json!({ "url": "http://127.0.0.1" }), "url"),
        (json!({ "url": "rediss://127.0.0.1/#insecure" }), "url"),
        (json!({ "key": "" }), "key"),
        (json!({ "key": "{{ topic" }), "key"),
        (json!({ "as": "set", "max_length": 5 }), "max_length"),
        (json!({ "expire_s": 5 }), "expire_s"),
        (json!({ "as": "queue" }), "as"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
        (json!({ "timeout_ms": 0 }), "timeout_ms"),
    ] {
        let mut settings = json!({ "url": "redis://127.0.0.1", "key": "a" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(crate::build("redis", settings).err().unwrap().setting, at, "{more}");
    }
}
