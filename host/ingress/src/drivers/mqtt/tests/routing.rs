use futures::FutureExt;
use sandbar_reading::{Attributes, ContentType, Message};
use serde_json::json;

use super::bench;
use super::client::{Client, Hello, text};
use crate::contract::in_time;

#[tokio::test]
async fn every_quality_of_service_both_ways() {
    let bench = bench(json!({})).await;
    for five in [false, true] {
        let hello = |id| if five { Hello::five(id) } else { Hello::three(id) };
        let mut to = Client::connect(bench.address, hello("to")).await;
        assert_eq!(to.subscribe("a/#", 2).await, 2);
        let mut from = Client::connect(bench.address, hello("from")).await;
        for qos in 0..3 {
            from.publish(qos, 5, "a/b", b"x").await;
            match qos {
                1 => assert_eq!(from.hear().await, (0x40, vec![0, 5])),
                2 => {
                    assert_eq!(from.hear().await, (0x50, vec![0, 5]));
                    from.ack(0x62, &[0, 5]).await;
                    assert_eq!(from.hear().await, (0x70, vec![0, 5]));
                }
                _ => {}
            }
            let got = to.message().await;
            assert_eq!((got.qos, &*got.topic, &*got.payload), (qos, "a/b", "x"));
            let id = got.id.to_be_bytes();
            match qos {
                1 => to.ack(0x40, &id).await,
                2 => {
                    to.ack(0x50, &id).await;
                    assert_eq!(to.hear().await, (0x62, id.to_vec()));
                    to.ack(0x70, &id).await;
                }
                _ => {}
            }
        }
        to.expect_nothing().await;
    }
    assert_eq!(bench.host.taken().len(), 6);
}

#[tokio::test]
async fn a_qos_2_message_that_is_sent_again_is_taken_once() {
    let bench = bench(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::three("c").kept()).await;
    for flags in [4, 12] {
        client.publish_with(flags, 9, "t", &[], b"once").await;
        assert_eq!(client.hear().await, (0x50, vec![0, 9]));
    }
    assert_eq!(bench.host.taken().len(), 1);
    client.ack(0x62, &[0, 9]).await;
    assert_eq!(client.hear().await, (0x70, vec![0, 9]));
    client.publish(2, 9, "t", b"again").await;
    assert_eq!(client.hear().await, (0x50, vec![0, 9]));
    assert_eq!(bench.host.taken().len(), 2);
}

#[tokio::test]
async fn listens_where_a_configuration_of_rumqttd_says() {
    let file = std::env::temp_dir().join(format!("sandbar-rumqttd-{}.toml", std::process::id()));
    std::fs::write(&file, "id = 0\n[v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let bench = super::start(json!({ "rumqttd_config": file }), crate::contract::StandIn::new()).await;
    std::fs::remove_file(file).unwrap();
    for hello in [Hello::three("c"), Hello::five("c")] {
        let mut client = Client::connect(bench.address, hello).await;
        client.publish(1, 1, "t", b"x").await;
        assert_eq!(client.hear().await.0, 0x40);
    }
}

#[tokio::test]
async fn quality_of_service_0_need_not_be_journaled() {
    let bench = bench(json!({ "journal_qos0": false })).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    client.subscribe("t/#", 1).await;
    client.publish_with(1, 0, "t/kept", &[], b"0").await;
    assert_eq!(client.message().await.payload, "0");
    client.publish(1, 1, "t", b"1").await;
    let _ = (client.hear().await, client.hear().await);
    let taken = bench.host.taken();
    assert_eq!((taken.len(), &taken[0].inbound.payload[..]), (1, &b"1"[..]));
    let mut later = Client::connect(bench.address, Hello::five("later")).await;
    later.subscribe("t/kept", 0).await;
    assert_eq!(later.message().await.payload, "0", "it is retained all the same");
}

#[tokio::test]
async fn a_full_window_shares_its_commit_and_is_acknowledged_in_order() {
    let bench = bench(json!({})).await;
    bench.host.hold();
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    for id in 1..=20 {
        client.publish(1, id, "t", b"x").await;
    }
    bench.host.wait_offered(20).await;
    bench.host.release();
    for id in 1..=20 {
        assert_eq!(client.hear().await, (0x40, vec![0, id]));
    }
}

#[tokio::test]
async fn keeps_the_last_message_of_a_topic_for_those_who_come_later() {
    let bench = bench(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    for (topic, payload) in [("r/1", "old"), ("r/1", "new"), ("r/2", "two"), ("r/2", "")] {
        from.publish_with(3, 1, topic, &[], payload.as_bytes()).await;
        from.hear().await;
    }
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    to.subscribe("r/+", 1).await;
    let got = to.message().await;
    assert_eq!((&*got.topic, &*got.payload, got.retain, got.qos), ("r/1", "new", true, 1));
    to.ack(0x40, &got.id.to_be_bytes()).await;
    // Retain handling: only for a new subscription, or never.
    for options in [0x11, 0x21] {
        to.subscribe("r/+", options).await;
    }
    to.expect_nothing().await;
    // What is published now is not called retained, unless the subscriber wants to know.
    from.publish_with(1, 0, "r/1", &[], b"live").await;
    assert!(!to.message().await.retain);
    to.subscribe("r/+", 0x28).await;
    from.publish_with(1, 0, "r/1", &[], b"live").await;
    assert!(to.message().await.retain);
}

#[tokio::test]
async fn properties_go_to_subscribers_as_they_came() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    to.say(0x82, &[&[0, 1, 2, 11, 5][..], &text("t"), &[0]].concat()).await;
    to.hear().await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    let said = [1, 1, 2, 0, 0, 0, 60, 3, 0, 1, b'c', 8, 0, 1, b'r', 9, 0, 1, 0, 38, 0, 1, b'a', 0, 1, b'b'];
    from.publish_with(0, 0, "t", &said, b"x").await;
    let got = to.message().await;
    let wanted =
        [2, 0, 0, 0, 60, 11, 5, 1, 1, 3, 0, 1, b'c', 8, 0, 1, b'r', 9, 0, 1, 0, 38, 0, 1, b'a', 0, 1, b'b'];
    assert_eq!(got.properties, wanted);
}

#[tokio::test]
async fn topic_aliases_both_ways() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello { properties: &[34, 0, 1], ..Hello::five("to") }).await;
    to.subscribe("#", 0).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    from.publish_with(0, 0, "long/topic", &[35, 0, 3], b"1").await;
    from.publish_with(0, 0, "", &[35, 0, 3], b"2").await;
    from.publish_with(0, 0, "other", &[], b"3").await;
    let got = [to.message().await, to.message().await, to.message().await];
    let shown: Vec<_> = got.iter().map(|got| (&*got.topic, &*got.payload, &got.properties[..])).collect();
    let alias = &[35, 0, 1][..];
    assert_eq!(shown, [("long/topic", "1", alias), ("", "2", alias), ("other", "3", &[])]);
    from.publish_with(0, 0, "", &[35, 0, 9], b"?").await;
    let (first, body) = from.hear().await;
    assert_eq!((first, body[0]), (0xE0, 0x82));
}

#[tokio::test]
async fn a_group_shares_and_dollar_topics_hide_from_wildcards() {
    let bench = bench(json!({})).await;
    let mut members = [
        Client::connect(bench.address, Hello::five("a")).await,
        Client::connect(bench.address, Hello::five("b")).await,
    ];
    for member in &mut members {
        member.subscribe("$share/g/t/#", 0).await;
        member.subscribe("+/hidden", 0).await;
    }
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    for n in 0..4 {
        from.publish(0, 0, &format!("t/{n}"), b"x").await;
    }
    from.publish(0, 0, "$mine/hidden", b"x").await;
    from.publish(1, 1, "end", b"x").await;
    from.hear().await;
    for member in &mut members {
        member.message().await;
        member.message().await;
        member.expect_nothing().await;
    }
}

#[tokio::test]
async fn unsubscribing_ends_it() {
    let bench = bench(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    client.subscribe("t", 0).await;
    client.say(0xA2, &[&[0, 3, 0][..], &text("t"), &text("other")].concat()).await;
    assert_eq!(client.hear().await, (0xB0, vec![0, 3, 0, 0, 0x11]));
    client.publish(1, 1, "t", b"x").await;
    assert_eq!(client.hear().await.0, 0x40);
    client.expect_nothing().await;
}

#[tokio::test]
async fn what_its_sink_waits_for_no_longer_is_not_published() {
    let bench = bench(json!({})).await;
    let mut reader = Client::connect(bench.address, Hello::three("reader")).await;
    reader.subscribe("out", 0).await;
    let publish = |payload: &'static str| {
        bench.host.publish(Message {
            topic: "out".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: payload.into(),
        })
    };
    assert_eq!(in_time(publish("first")).await, Some(Ok(())));
    assert_eq!(publish("comes again").now_or_never(), None);
    assert_eq!(in_time(publish("last")).await, Some(Ok(())));
    assert_eq!(
        (reader.message().await.payload, reader.message().await.payload),
        ("first".into(), "last".into())
    );
}
