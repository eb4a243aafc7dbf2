use sandbar_reading::Refused;
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
