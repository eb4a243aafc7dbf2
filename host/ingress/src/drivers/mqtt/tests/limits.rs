use serde_json::json;

use super::bench;
use super::client::{Client, Hello, text};
use crate::Intake;
use crate::contract::{StandIn, in_time};

#[tokio::test]
async fn a_client_that_sends_more_than_it_may_is_told() {
    let bench = bench(json!({ "receive_maximum": 2 })).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    for id in 1..=3 {
        client.publish(2, id, "t", b"x").await;
    }
    let (mut last, mut heard) = (0, Vec::new());
    while let Some((first, body)) = client.next().await {
        (last, heard) = (first, body);
    }
    assert_eq!((last, heard[0]), (0xE0, 0x93));
    let mut client = Client::connect(bench.address, Hello::three("d")).await;
    for id in 1..=9 {
        client.publish(2, id, "t", b"x").await;
    }
    for id in 1..=9 {
        assert_eq!(client.hear().await, (0x50, vec![0, id]), "3.1.1 knows no such limit");
    }
}

#[tokio::test]
async fn a_subscriber_gets_no_more_at_once_than_it_asked_for() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello { properties: &[33, 0, 2], ..Hello::five("to") }).await;
    to.subscribe("t", 1).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    for id in 1..=4 {
        from.publish(1, id, "t", &[b'0' + id as u8]).await;
        from.hear().await;
    }
    let (one, two) = (to.message().await, to.message().await);
    to.expect_nothing().await;
    to.ack(0x40, &one.id.to_be_bytes()).await;
    assert_eq!(to.message().await.payload, "3");
    to.ack(0x40, &two.id.to_be_bytes()).await;
    assert_eq!(to.message().await.payload, "4");
}

#[tokio::test]
async fn what_waits_for_a_slow_subscriber_is_shown() {
    let bench = bench(json!({})).await;
    let mut slow =
        Client::connect(bench.address, Hello { properties: &[33, 0, 1], ..Hello::five("slow") }).await;
    slow.subscribe("t", 1).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    let queued = || {
        let listed = Intake::connections(&*bench.host).list(0, 10);
        listed.iter().find(|one| one.peer.client.as_deref() == Some("slow")).unwrap().queued
    };
    for id in 1..=4 {
        from.publish(1, id, "t", b"x").await;
        assert_eq!(from.hear().await.0, 0x40);
    }
    let shown = async |count| {
        while queued() != count {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    // One of them is sent.
    in_time(shown(4)).await;
    for left in (0..4).rev() {
        let got = slow.message().await;
        slow.ack(0x40, &got.id.to_be_bytes()).await;
        in_time(shown(left)).await;
    }
}

#[tokio::test]
async fn a_slow_subscriber_loses_its_oldest_and_nobody_else_waits() {
    let bench = bench(json!({ "queue_max": 5 })).await;
    let mut slow =
        Client::connect(bench.address, Hello { properties: &[33, 0, 1], ..Hello::five("slow") }).await;
    let mut quick = Client::connect(bench.address, Hello::five("quick")).await;
    for client in [&mut slow, &mut quick] {
        client.subscribe("t", 1).await;
    }
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    let mut sent = Vec::new();
    for id in 1..=10 {
        from.publish(1, id, "t", id.to_string().as_bytes()).await;
        assert_eq!(from.hear().await.0, 0x40);
        let got = quick.message().await;
        quick.ack(0x40, &got.id.to_be_bytes()).await;
        if id == 1 {
            sent.push(slow.message().await);
        }
    }
    assert_eq!(bench.figure("dropped"), 4);
    for _ in 6..=10 {
        slow.ack(0x40, &sent.last().unwrap().id.to_be_bytes()).await;
        sent.push(slow.message().await);
    }
    let sent: Vec<_> = sent.iter().map(|sent| &*sent.payload).collect();
    assert_eq!(sent, ["1", "6", "7", "8", "9", "10"]);
}

#[tokio::test]
async fn packets_that_are_too_large_end_the_connection_or_are_not_sent() {
    let bench = bench(json!({ "packet_max": 1024 })).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    client.publish(0, 0, "t", &[0; 2000]).await;
    let (first, body) = client.hear().await;
    assert_eq!((first, body[0]), (0xE0, 0x95));
    let mut small =
        Client::connect(bench.address, Hello { properties: &[39, 0, 0, 0, 40], ..Hello::five("s") }).await;
    small.subscribe("t", 0).await;
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    from.publish(1, 1, "t", &[b'x'; 100]).await;
    from.publish(1, 2, "t", b"short").await;
    assert_eq!(small.message().await.payload, "short");
}

/// It would else be sent again on every connection.
#[tokio::test]
async fn a_message_that_is_no_reading_for_its_size_is_refused_and_the_connection_stays() {
    let bench = super::start(json!({ "listen": "127.0.0.1:0" }), StandIn::with_reading_max(10)).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        client.publish(qos, 1, "t", &[b'x'; 11]).await;
        assert_eq!(client.hear().await, (first, vec![0, 1, 0x97]));
        client.publish(qos, 1, "t", b"x").await;
        assert_eq!(client.hear().await, (first, vec![0, 1]));
    }
}

#[tokio::test]
async fn the_longest_silence_is_told_and_kept_to() {
    let bench = bench(json!({ "keep_alive_max_s": 1 })).await;
    let (mut client, connack) = Client::hello(bench.address, Hello::five("c")).await;
    assert!(connack.windows(3).any(|part| part == [19, 0, 1]), "{connack:?}");
    let (first, body) = client.hear().await;
    assert_eq!((first, body[0]), (0xE0, 0x8D));
}

#[tokio::test]
async fn a_client_over_its_rate_is_read_more_slowly_and_loses_nothing() {
    let bench = bench(json!({ "rate_max": 50 })).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    let begun = std::time::Instant::now();
    for id in 1..=75 {
        client.publish(1, id, "t", b"x").await;
    }
    for id in 1..=75 {
        assert_eq!(client.hear().await, (0x40, vec![0, id]));
    }
    assert!(begun.elapsed().as_millis() >= 400, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn there_are_no_more_connections_subscriptions_and_retained_messages_than_configured() {
    let limits = json!({ "connections_max": 2, "subscriptions_max": 1, "retained_max": 1 });
    let bench = bench(limits).await;
    let kept = |id| Client::hello(bench.address, Hello::three(id).kept());
    kept("a").await.0.leave().await;
    let (mut client, _) = kept("b").await;
    assert_eq!((client.subscribe("r/1", 0).await, client.subscribe("r/2", 0).await), (0, 0x80));
    assert_eq!(client.subscribe("r/1", 1).await, 1, "the one that it has");
    for topic in ["r/1", "r/2"] {
        client.publish_with(1, 0, topic, &[], b"kept").await;
    }
    assert_eq!(client.message().await.topic, "r/1");
    client.expect_nothing().await;
    let (mut other, _) = kept("a").await;
    other.subscribe("r/#", 0).await;
    assert_eq!(other.message().await.topic, "r/1");
    other.expect_nothing().await;
    assert_eq!((bench.figure("retained"), bench.figure("unretained")), (1, 1));

    let waiting = tokio::spawn(Client::connect(bench.address, Hello::three("a").kept()));
    client.expect_nothing().await;
    assert!(!waiting.is_finished(), "a connection too many");
    assert_eq!(bench.figure("connected"), 2);
    client.leave().await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn the_filters_of_a_session_have_an_end_in_bytes() {
    let bench = bench(json!({ "subscriptions_bytes": 10 })).await;
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    for (filter, reason) in [("12345678", 0), ("a/b", 0x97), ("a", 0), ("12345678", 0)] {
        assert_eq!(client.subscribe(filter, 0).await, reason, "{filter}");
    }
    client.say(0xA2, &[&[0, 3, 0][..], &text("12345678")].concat()).await;
    assert_eq!(client.hear().await, (0xB0, vec![0, 3, 0, 0]));
    assert_eq!(client.subscribe("a/b", 0).await, 0);
}

#[tokio::test]
async fn what_waits_for_all_absent_clients_has_an_end() {
    let limits = json!({ "absent_bytes": 3000 });
    let bench = bench(limits.clone()).await;
    for id in ["a", "b"] {
        let mut to = Client::connect(bench.address, Hello::three(id).kept()).await;
        to.subscribe(id, 1).await;
        to.leave().await;
    }
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    for (id, topic) in (1..).zip(["a"; 10].into_iter().chain(["b"; 2])) {
        assert_eq!(bench.figure("dropped"), 0);
        from.publish(1, id, topic, &[b'0' + id as u8; 100]).await;
        assert_eq!(from.hear().await.0, 0x40);
    }
    assert_eq!((bench.figure("dropped"), bench.figure("queued")), (5, 7), "half of what waits for a");
    let bench = bench.restart(limits).await;
    assert_eq!(bench.figure("queued"), 7);
    let mut to = Client::connect(bench.address, Hello::three("a").kept()).await;
    assert_eq!(&to.message().await.payload[..1], "6");
}

#[tokio::test]
async fn a_message_that_several_absent_clients_wait_for_counts_once() {
    let limits = json!({ "absent_bytes": 6000 });
    let bench = bench(limits.clone()).await;
    for id in ["a", "b", "c", "d"] {
        let mut to = Client::connect(bench.address, Hello::three(id).kept()).await;
        to.subscribe("t", 1).await;
        to.leave().await;
    }
    let publish = async |bench: &super::Bench, times| {
        let mut from = Client::connect(bench.address, Hello::three("from")).await;
        for id in 1..=times {
            from.publish(1, id, "t", &[b'x'; 1000]).await;
            assert_eq!(from.hear().await.0, 0x40);
        }
        (bench.figure("dropped"), bench.figure("queued"))
    };
    assert_eq!(publish(&bench, 3).await, (0, 12));
    let bench = bench.restart(limits).await;
    assert_eq!(publish(&bench, 0).await, (0, 12));
    let (dropped, queued) = publish(&bench, 2).await;
    assert!(dropped > 0 && dropped + queued == 20, "{dropped} {queued}");
}

#[tokio::test]
async fn a_session_too_many_takes_the_place_of_the_one_longest_without_a_connection() {
    let bench = bench(json!({ "sessions_max": 2 })).await;
    let kept = |id| Client::hello(bench.address, Hello::three(id).kept());
    for id in ["a", "b"] {
        kept(id).await.0.leave().await;
    }
    let _c = kept("c").await;
    let (b, connack) = kept("b").await;
    assert_eq!(connack, [1, 0], "its session is there");
    assert_eq!(Client::hello(bench.address, Hello::five("d")).await.1[1], 0x97, "all have their connections");
    b.leave().await;
    assert_eq!(kept("a").await.1, [0, 0], "its session has ended");
    assert_eq!(bench.figure("sessions"), 2);
}

#[tokio::test]
async fn what_is_retained_has_an_end_in_bytes_and_nothing_older_is_passed_off_as_the_last() {
    let bench = bench(json!({ "retained_bytes": 4000 })).await;
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    let figures = |bench: &super::Bench| (bench.figure("retained"), bench.figure("unretained"));
    for (topic, size, figure) in [
        ("r/1", 1000, (1, 0)),
        ("r/2", 1000, (2, 0)),
        ("r/3", 1000, (2, 1)),
        ("r/1", 3000, (1, 2)),
        ("r/2", 0, (0, 2)),
        ("r/3", 2000, (1, 2)),
    ] {
        from.publish_with(3, 1, topic, &[], &vec![b'x'; size]).await;
        assert_eq!(from.hear().await.0, 0x40);
        assert_eq!(figures(&bench), figure, "{topic} {size}");
    }
    let taken = bench.figure("retained_bytes");
    assert!((2000..4000).contains(&taken), "{taken}");
    let bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("to")).await;
    to.subscribe("#", 0).await;
    assert_eq!(to.message().await.topic, "r/3");
    to.expect_nothing().await;
    assert_eq!(bench.figure("retained_bytes"), taken);
}

#[tokio::test]
async fn who_asks_for_what_is_retained_again_and_again_has_it_wait_once() {
    const RETAINED: usize = 200;
    let bench = bench(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    for number in 0..RETAINED {
        from.publish_with(3, 1, &format!("r/{number:03}"), &[], b"x").await;
        assert_eq!(from.hear().await.0, 0x40);
    }
    let mut to = Client::connect(bench.address, Hello { properties: &[33, 0, 1], ..Hello::five("to") }).await;
    to.subscribe("r/#", 1).await;
    let mut got = vec![to.message().await];
    for filter in ["r/#", "#", "r/+", "#"].repeat(5) {
        to.subscribe(filter, 1).await;
    }
    to.say(0xA2, &[&[0, 3, 0][..], &text("r/+")].concat()).await;
    assert_eq!(to.hear().await.0, 0xB0);
    assert!(bench.figure("queued") < 100, "{}", bench.figure("queued"));
    // What was found for the first one, and all of it for each of those that there are.
    while got.len() < 64 + 2 * RETAINED {
        to.ack(0x40, &got.last().unwrap().id.to_be_bytes()).await;
        got.push(to.message().await);
    }
    to.ack(0x40, &got.last().unwrap().id.to_be_bytes()).await;
    to.expect_nothing().await;
    to.expect_nothing().await;
    let mut topics: Vec<_> = got.iter().map(|got| &*got.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), RETAINED);
}

/// Quality of service 0 goes first, and is counted; the rest waits.
#[tokio::test]
async fn what_may_be_lost_is_shed_when_there_is_no_room_and_nothing_else() {
    const ROOM: u16 = 8192;
    let bench = bench(json!({ "receive_maximum": 10_000 })).await;
    bench.host.hold();
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    for id in 1..=ROOM {
        from.publish(1, id, "t", b"taken").await;
    }
    bench.host.wait_offered(ROOM.into()).await;
    let mut other = Client::connect(bench.address, Hello::three("other")).await;
    other.publish(0, 0, "t", b"shed").await;
    other.publish(1, 1, "t", b"taken").await;
    bench.wait_figure("shed", 1).await;
    bench.host.release();
    assert_eq!(other.hear().await, (0x40, vec![0, 1]));
    for id in 1..=ROOM {
        assert_eq!(from.hear().await, (0x40, id.to_be_bytes().to_vec()));
    }
    // The host itself may have no room.
    bench.host.refuse(sandbar_reading::Refused::Busy { retry_after: std::time::Duration::from_secs(1) });
    other.publish(0, 0, "t", b"shed").await;
    bench.wait_figure("shed", 2).await;
    other.publish(0, 0, "t", b"taken").await;
    let taken = bench.host.wait_taken(usize::from(ROOM) + 2).await;
    assert!(taken.iter().all(|taken| taken.inbound.payload == "taken"));
}

/// MQTT 5.0, section 3.3.2.3.4.
#[tokio::test]
async fn what_is_shed_gave_its_topic_an_alias_all_the_same() {
    const ROOM: u16 = 8192;
    let bench = bench(json!({ "receive_maximum": 10_000 })).await;
    bench.host.hold();
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    for id in 1..=ROOM {
        from.publish(1, id, "t", b"x").await;
    }
    bench.host.wait_offered(ROOM.into()).await;
    let mut other = Client::connect(bench.address, Hello::five("other")).await;
    other.publish_with(0, 0, "named", &[35, 0, 1], b"shed").await;
    bench.wait_figure("shed", 1).await;
    bench.host.release();
    other.publish_with(2, 1, "", &[35, 0, 1], b"taken").await;
    assert_eq!(other.hear().await, (0x40, vec![0, 1]));
    let taken = bench.host.taken();
    let by_alias = taken.iter().find(|taken| taken.inbound.payload == "taken").unwrap();
    assert_eq!(by_alias.inbound.topic.as_str(), "named");
}

#[tokio::test]
async fn who_says_nothing_is_shown_out() {
    use tokio::io::AsyncReadExt;
    let bench = bench(json!({ "connect_timeout_ms": 50 })).await;
    let mut link = Client::link(bench.address).await;
    assert_eq!(in_time(link.read(&mut [0; 9])).await.unwrap(), 0);
}
