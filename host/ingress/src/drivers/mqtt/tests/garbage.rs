use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::bench;
use super::client::{Client, Hello, text};

/// A thousand mutated conversations: the broker stays up, and others feel nothing.
#[tokio::test]
async fn others_feel_nothing_of_garbage() {
    let bench = bench(json!({})).await;
    let mut other = Client::connect(bench.address, Hello::five("other")).await;
    other.subscribe("other", 1).await;
    let connect = |five: bool| {
        let level = if five { &[5, 2, 0, 0, 0][..] } else { &[4, 2, 0, 0] };
        Client::packet(0x10, &[&text("MQTT"), level, &text("noise")].concat())
    };
    let body = |five: bool, rest: &[u8]| [&[0, 1][..], if five { &[0] } else { &[] }, rest].concat();
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    for round in 0..1000 {
        let five = round % 2 == 0;
        let conversation = [
            Client::packet(0x82, &body(five, &[&text("#")[..], &[1]].concat())),
            Client::packet(0x32, &[&text("noise")[..], &body(five, b"x")].concat()),
            Client::packet(0x34, &[&text("noise")[..], &body(five, b"x")].concat()),
            Client::packet(0x62, &[0, 1]),
            Client::packet(0xA2, &body(five, &text("#"))),
            Client::packet(0xC0, &[]),
        ];
        let mut bytes = conversation.concat();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        let mut link = Client::link(bench.address).await;
        let _ = link.write_all(&connect(five)).await;
        let _ = link.write_all(&bytes).await;
        if round % 100 == 0 {
            other.publish(1, 1, "other", b"x").await;
            let mut heard = [other.hear().await, other.hear().await];
            heard.sort();
            assert_eq!((heard[0].0, heard[1].0), (0x32, 0x40));
            let id = &heard[0].1[7..9];
            other.ack(0x40, id).await;
        }
    }
    other.expect_nothing().await;
    assert_eq!(bench.ingress.status().sessions, 1);
}
