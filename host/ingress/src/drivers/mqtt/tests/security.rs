use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use serde_json::json;

use super::bench;
use super::client::{Client, Hello};

#[tokio::test]
async fn credentials_topics_and_methods_are_refused_by_name() {
    let quick = argon2::Params::new(8, 1, 1, None).unwrap();
    let hash = Argon2::from(quick).hash_password(b"secret").unwrap().to_string();
    let bench = bench(json!({
        "anonymous": false,
        "users": [{ "name": "ann", "password_hash": hash }],
        "allow": [{ "publish": ["own/%u/#"], "subscribe": ["own/%c"] }],
    }))
    .await;
    let ann = |id, password| Hello { user: Some(("ann", password)), ..Hello::five(id) };
    let three = |hello| Hello { five: false, ..hello };
    for (hello, reason) in [
        (ann("c", "wrong"), 0x86),
        (three(ann("c", "wrong")), 4),
        (Hello::five("c"), 0x87),
        (Hello::three("c"), 5),
        (Hello { properties: &[21, 0, 1, b'm'], ..ann("c", "secret") }, 0x8C),
        (Hello { clean: false, ..three(ann("", "secret")) }, 2),
        (Hello { will: Some(("not/own", "x")), ..ann("c", "secret") }, 0x87),
        (ann("c", "secret"), 0),
    ] {
        let shown = format!("{hello:?}");
        let (_, connack) = Client::hello(bench.address, hello).await;
        assert_eq!(connack[1], reason, "{shown}");
    }
    let mut client = Client::connect(bench.address, ann("c", "secret")).await;
    client.publish(1, 1, "own/ann/x", b"x").await;
    assert_eq!(client.hear().await, (0x40, vec![0, 1]));
    client.publish(1, 2, "own/bob/x", b"x").await;
    assert_eq!(client.hear().await, (0x40, vec![0, 2, 0x87]));
    assert_eq!(client.subscribe("own/c", 0).await, 0);
    assert_eq!(client.subscribe("own/#", 0).await, 0x87);
    let mut old = Client::connect(bench.address, three(ann("old", "secret"))).await;
    assert_eq!((old.subscribe("own/old", 1).await, old.subscribe("own/#", 1).await), (1, 0x80));
    let taken = bench.host.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].inbound.attributes.get("mqtt.user"), Some("ann"));
}

#[tokio::test]
async fn nobody_speaks_for_the_broker_not_even_when_lost() {
    let bench = bench(json!({})).await;
    for topic in ["$SYS/broker/uptime", "$share/g/t"] {
        let will = Hello { will: Some((topic, "x")), ..Hello::five("c") };
        assert_eq!(Client::hello(bench.address, will).await.1[1], 0x87, "{topic}");
        let mut client = Client::connect(bench.address, Hello::five("c")).await;
        client.publish(1, 1, topic, b"x").await;
        assert_eq!(client.hear().await, (0x40, vec![0, 1, 0x87]), "{topic}");
    }
}

#[tokio::test]
async fn another_user_does_not_get_a_session() {
    let quick = || argon2::Params::new(8, 1, 1, None).unwrap();
    let hash = |password: &str| Argon2::from(quick()).hash_password(password.as_bytes()).unwrap().to_string();
    let users = json!([
        { "name": "ann", "password_hash": hash("a") }, { "name": "bob", "password_hash": hash("b") },
    ]);
    let bench = bench(json!({ "users": users })).await;
    let ann = Hello { user: Some(("ann", "a")), ..Hello::five("c").kept() };
    let mut first = Client::connect(bench.address, ann).await;
    let bob = Hello { user: Some(("bob", "b")), ..Hello::five("c") };
    assert_eq!(Client::hello(bench.address, bob).await.1[1], 0x87);
    first.expect_nothing().await;
}

/// Users were configured later than the session was made.
#[tokio::test]
async fn a_session_of_nobody_gives_way_to_a_user_while_it_has_no_connection() {
    let quick = argon2::Params::new(8, 1, 1, None).unwrap();
    let hash = Argon2::from(quick).hash_password(b"a").unwrap().to_string();
    let bench = bench(json!({ "users": [{ "name": "ann", "password_hash": hash }] })).await;
    let nobody = || Client::hello(bench.address, Hello::five("c").kept());
    let ann = || Client::hello(bench.address, Hello { user: Some(("ann", "a")), ..Hello::five("c").kept() });
    let (first, _) = nobody().await;
    assert_eq!(ann().await.1[1], 0x87, "it has one");
    first.leave().await;
    let (second, connack) = ann().await;
    assert_eq!(connack[..2], [0, 0], "it is not given it");
    second.leave().await;
    assert_eq!(nobody().await.1[1], 0x87);
}

#[tokio::test]
async fn a_client_without_a_name_gets_one() {
    let bench = bench(json!({})).await;
    let (_, connack) = Client::hello(bench.address, Hello::five("")).await;
    assert_eq!(connack[1], 0);
    assert!(String::from_utf8_lossy(&connack).contains("auto-"));
}
