use std::time::Duration;

use sandbar_reading::{Clock, Refused, SystemClock};
use serde_json::json;

use super::bench;
use super::client::{Client, Hello, text};

/// Its publisher does not know of the subscription yet, and those who ask find only the one before.
#[tokio::test]
async fn who_subscribes_while_a_message_is_stored_gets_it_when_it_is_there() {
    let bench = bench(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    from.publish_with(3, 1, "r/1", &[], b"first").await;
    assert_eq!(from.hear().await.0, 0x40);
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    for (offered, payload) in [(2, "second"), (3, "not taken")] {
        bench.host.hold();
        if payload == "not taken" {
            bench.host.doubt(Refused::Storage { cause: "scripted".into() });
        }
        from.publish_with(3, 2, "r/1", &[], payload.as_bytes()).await;
        bench.host.wait_offered(offered).await;
        assert_eq!(to.subscribe("r/#", 1).await, 1);
        to.expect_nothing().await;
        bench.host.release();
        assert_eq!(from.hear().await.0, 0x40);
        let got = to.message().await;
        assert_eq!((&*got.payload, got.retain), ("second", true));
        to.ack(0x40, &got.id.to_be_bytes()).await;
        to.expect_nothing().await;
        to.say(0xA2, &[&[0, 3, 0][..], &text("r/#")].concat()).await;
        assert_eq!(to.hear().await.0, 0xB0);
    }
}

/// Its window is full when the retained message is found.
#[tokio::test]
async fn an_older_message_that_is_retained_does_not_come_after_a_newer_one() {
    let bench = bench(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    let mut to = Client::connect(bench.address, Hello { properties: &[33, 0, 1], ..Hello::five("to") }).await;
    to.subscribe("first", 1).await;
    for (flags, topic, payload) in [(3, "r/1", "old"), (2, "first", "x"), (3, "r/1", "new")] {
        if payload == "new" {
            to.subscribe("r/#", 1).await;
        }
        from.publish_with(flags, 1, topic, &[], payload.as_bytes()).await;
        assert_eq!(from.hear().await.0, 0x40);
        if payload == "x" {
            assert_eq!(to.message().await.topic, "first");
        }
    }
    let mut acknowledged = 1_u16;
    for (payload, retain) in [("old", true), ("new", false)] {
        to.ack(0x40, &acknowledged.to_be_bytes()).await;
        let got = to.message().await;
        assert_eq!((&*got.payload, got.retain), (payload, retain));
        acknowledged = got.id;
    }
}

/// A box without a clock of its own is told the time after its start.
#[tokio::test]
async fn a_clock_that_is_set_forward_ends_no_message() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::five("to").kept()).await;
    to.subscribe("r/1", 1).await;
    to.leave().await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    from.publish_with(3, 1, "r/1", &[2, 0, 0, 0, 60], b"x").await;
    assert_eq!(from.hear().await.0, 0x40);
    bench.host.set_now(SystemClock.now().after(Duration::from_secs(86_400)));
    let mut to = Client::connect(bench.address, Hello::five("to").kept()).await;
    let mut late = Client::connect(bench.address, Hello::five("late")).await;
    late.subscribe("r/#", 0).await;
    for got in [to.message().await, late.message().await] {
        assert_eq!((&*got.topic, &got.properties[..4]), ("r/1", &[2, 0, 0, 0][..]));
        assert!((50..=60).contains(&got.properties[4]), "the time that is left: {:?}", got.properties);
    }
}
