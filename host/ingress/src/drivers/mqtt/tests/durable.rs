use std::time::Duration;

use sandbar_reading::{Clock, Command, ContentType, Refused, SystemClock};
use serde_json::json;

use super::super::rows::{self, MessageRow, SessionRow, SubscriptionRow};
use super::client::{Client, Hello};
use super::{bench, start};
use crate::contract::{Ending, StandIn, in_time};
use crate::{Answer, CommandError, Intake};

#[tokio::test]
async fn an_absent_client_finds_its_messages_after_a_restart() {
    let mut bench = bench(json!({})).await;
    for (five, id) in [(false, "three"), (true, "five")] {
        let hello = || if five { Hello::five(id) } else { Hello::three(id) };
        let mut to = Client::connect(bench.address, hello().kept()).await;
        to.subscribe("t/#", 2).await;
        to.leave().await;
    }
    let mut from = Client::connect(bench.address, Hello::three("from")).await;
    for (qos, id) in [(1, 1), (0, 2), (2, 3)] {
        from.publish(qos, id, &format!("t/{qos}"), b"x").await;
        if qos > 0 {
            from.hear().await;
        }
    }
    bench = bench.restart(json!({})).await;
    for (five, id) in [(false, "three"), (true, "five")] {
        let hello = if five { Hello::five(id) } else { Hello::three(id) };
        let (mut to, connack) = Client::hello(bench.address, hello.kept()).await;
        assert_eq!(connack[0], 1, "the session was there");
        let got = [to.message().await, to.message().await];
        assert_eq!((&*got[0].topic, got[0].qos, got[0].again), ("t/1", 1, false));
        assert_eq!((&*got[1].topic, got[1].qos, got[1].again), ("t/2", 2, false));
        to.expect_nothing().await;
    }
    // Not acknowledged: again, under the same identifiers.
    bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("three").kept()).await;
    let got = [to.message().await, to.message().await];
    assert!(got[0].again && got[1].again);
    to.ack(0x40, &got[0].id.to_be_bytes()).await;
    to.ack(0x50, &got[1].id.to_be_bytes()).await;
    assert_eq!(to.hear().await.0, 0x62);
    to.leave().await;
    bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("three").kept()).await;
    assert_eq!(to.hear().await, (0x62, got[1].id.to_be_bytes().to_vec()), "released, and not completed");
    to.ack(0x70, &got[1].id.to_be_bytes()).await;
    to.expect_nothing().await;
    to.leave().await;
    let bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("three").kept()).await;
    to.expect_nothing().await;
}

#[tokio::test]
async fn what_an_absent_client_may_not_have_any_more_it_does_not_find() {
    for forbidden in
        [json!({ "deny": [{ "subscribe": ["b/#"] }] }), json!({ "allow": [{ "subscribe": ["a/+"] }] })]
    {
        let bench = bench(json!({})).await;
        let mut to = Client::connect(bench.address, Hello::five("to").kept()).await;
        for filter in ["a/+", "#"] {
            to.subscribe(filter, 1).await;
        }
        to.leave().await;
        let mut from = Client::connect(bench.address, Hello::three("from")).await;
        for (id, topic) in [(1, "b/secret"), (2, "a/open")] {
            from.publish(1, id, topic, b"x").await;
            assert_eq!(from.hear().await.0, 0x40);
        }
        let bench = bench.restart(forbidden).await;
        let mut to = Client::connect(bench.address, Hello::five("to").kept()).await;
        assert_eq!(to.message().await.topic, "a/open");
        to.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_qos_2_identifier_outlives_the_broker() {
    let bench = bench(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::five("c").kept()).await;
    client.publish(2, 9, "t", b"x").await;
    assert_eq!(client.hear().await, (0x50, vec![0, 9]));
    let bench = bench.restart(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::five("c").kept()).await;
    client.publish_with(12, 9, "t", &[], b"x").await;
    assert_eq!(client.hear().await, (0x50, vec![0, 9]));
    assert_eq!(bench.host.taken().len(), 1);
}

/// The commit failed too late: the message is in the journal, and comes again.
#[tokio::test]
async fn a_qos_2_message_that_a_failing_storage_took_all_the_same_is_not_taken_again() {
    let bench = bench(json!({})).await;
    for (five, id) in [(false, "three"), (true, "five")] {
        let hello = || if five { Hello::five(id).kept() } else { Hello::three(id).kept() };
        let mut to = Client::connect(bench.address, Hello::five(&format!("to-{id}")).kept()).await;
        to.subscribe(&format!("t/{id}"), 2).await;
        to.leave().await;
        let before = bench.host.taken().len();
        let mut from = Client::connect(bench.address, hello()).await;
        bench.host.doubt(Refused::Storage { cause: "scripted".into() });
        from.publish(2, 9, &format!("t/{id}"), b"x").await;
        from.expect_end().await;
        let mut from = Client::connect(bench.address, hello()).await;
        from.publish_with(12, 9, &format!("t/{id}"), &[], b"x").await;
        assert_eq!(from.hear().await, (0x50, vec![0, 9]));
        assert_eq!(bench.host.taken().len(), before + 1);
        from.ack(0x62, &[0, 9]).await;
        assert_eq!(from.hear().await.0, 0x70);
        // The next one under that identifier is another.
        from.publish(2, 9, &format!("t/{id}"), b"y").await;
        assert_eq!(from.hear().await, (0x50, vec![0, 9]));
        assert_eq!(bench.host.taken().len(), before + 2);

        // Its subscribers have each once, also after a restart.
        let mut to = Client::connect(bench.address, Hello::five(&format!("to-{id}")).kept()).await;
        assert_eq!(
            (to.message().await.payload, to.message().await.payload),
            ("x".to_owned(), "y".to_owned())
        );
        to.expect_nothing().await;
    }
    let bench = bench.restart(json!({})).await;
    for id in ["three", "five"] {
        let mut to = Client::connect(bench.address, Hello::five(&format!("to-{id}")).kept()).await;
        let got = [to.message().await, to.message().await];
        assert!(got.iter().all(|message| message.again), "not acknowledged: again");
        to.expect_nothing().await;
    }
}

/// Its subscribers' rows are as doubtful as itself.
#[tokio::test]
async fn a_qos_2_message_in_doubt_reaches_its_subscribers_also_after_a_restart() {
    let bench = bench(json!({})).await;
    for id in ["a", "b"] {
        let mut to = Client::connect(bench.address, Hello::five(id).kept()).await;
        to.subscribe("t", 2).await;
        to.leave().await;
    }
    let mut from = Client::connect(bench.address, Hello::five("from").kept()).await;
    bench.host.doubt(Refused::Storage { cause: "scripted".into() });
    from.publish(2, 9, "t", b"x").await;
    from.expect_end().await;
    let bench = bench.restart(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from").kept()).await;
    from.publish_with(12, 9, "t", &[], b"x").await;
    assert_eq!(from.hear().await, (0x50, vec![0, 9]));
    assert_eq!(bench.host.taken().len(), 1);
    for id in ["a", "b"] {
        let mut to = Client::connect(bench.address, Hello::five(id).kept()).await;
        assert_eq!(to.message().await.payload, "x");
        to.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_retained_qos_2_message_in_doubt_is_retained_when_it_comes_again() {
    let mut bench = bench(json!({})).await;
    let mut from = Client::connect(bench.address, Hello::five("from").kept()).await;
    bench.host.doubt(Refused::Storage { cause: "scripted".into() });
    from.publish_with(5, 9, "t", &[], b"x").await;
    from.expect_end().await;
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    to.subscribe("t", 0).await;
    to.expect_nothing().await;
    let mut from = Client::connect(bench.address, Hello::five("from").kept()).await;
    from.publish_with(13, 9, "t", &[], b"x").await;
    assert_eq!(from.hear().await, (0x50, vec![0, 9]));
    assert_eq!(to.message().await.payload, "x");
    for _ in 0..2 {
        let mut late = Client::connect(bench.address, Hello::five("late")).await;
        late.subscribe("t", 0).await;
        assert_eq!(late.message().await.payload, "x");
        bench = bench.restart(json!({})).await;
    }
}

/// And one that it did not take is taken then.
#[tokio::test]
async fn a_qos_2_message_that_a_failing_storage_did_not_take_is_taken_when_it_comes_again() {
    let bench = bench(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::five("c").kept()).await;
    bench.host.refuse(Refused::Storage { cause: "scripted".into() });
    client.publish(2, 9, "t", b"x").await;
    client.expect_end().await;
    let mut client = Client::connect(bench.address, Hello::five("c").kept()).await;
    client.publish_with(12, 9, "t", &[], b"x").await;
    assert_eq!(client.hear().await, (0x50, vec![0, 9]));
    assert_eq!(bench.host.taken().len(), 1);
}

#[tokio::test]
async fn nothing_is_left_of_an_ended_session() {
    let bench = bench(json!({})).await;
    let mut client = Client::connect(bench.address, Hello::three("c").kept()).await;
    client.subscribe("t", 1).await;
    client.subscribe("$share/g/t", 1).await;
    client.publish(2, 1, "t", b"x").await;
    assert_eq!(client.hear().await.0, 0x50);
    let _ = (client.message().await, client.message().await);
    client.leave().await;
    let (client, connack) = Client::hello(bench.address, Hello::three("c")).await;
    assert_eq!(connack, [0, 0], "a clean start");
    client.leave().await;
    let host = std::sync::Arc::clone(&bench.host);
    bench.ingress.stop(Duration::from_secs(5)).await;
    let session = crate::Session::new("tested".parse().unwrap(), host as _, Default::default());
    assert_eq!(session.kept_names("").unwrap(), []);
}

#[tokio::test]
async fn retained_messages_outlive_the_broker_until_their_time_is_over() {
    let bench = bench(json!({})).await;
    bench.host.set_now(SystemClock.now());
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    from.publish_with(3, 1, "r/1", &[2, 0, 0, 0, 60], b"a").await;
    from.publish_with(3, 1, "r/2", &[], b"b").await;
    let _ = (from.hear().await, from.hear().await);
    bench.host.set_now(SystemClock.now().after(Duration::from_secs(20)));
    let bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    to.subscribe("r/#", 0).await;
    let got = to.message().await;
    assert_eq!((&*got.topic, &got.properties[..4]), ("r/1", &[2, 0, 0, 0][..]));
    assert!((39..=41).contains(&got.properties[4]), "the time that is left: {:?}", got.properties);
    assert_eq!(to.message().await.topic, "r/2");
    bench.host.set_now(SystemClock.now().after(Duration::from_secs(90)));
    let bench = bench.restart(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::five("to")).await;
    to.subscribe("r/#", 0).await;
    assert_eq!(to.message().await.topic, "r/2");
    to.expect_nothing().await;
}

#[tokio::test]
async fn a_lost_client_s_will_is_published_and_journaled() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("to")).await;
    to.subscribe("gone/#", 1).await;
    let will = |id| Hello { will: Some(("gone/c", "lost")), ..Hello::three(id) };
    Client::connect(bench.address, will("polite")).await.leave().await;
    drop(Client::connect(bench.address, will("rude")).await);
    let got = to.message().await;
    assert_eq!((&*got.topic, &*got.payload), ("gone/c", "lost"));
    to.expect_nothing().await;
    let taken = bench.host.wait_taken(1).await;
    assert_eq!(taken[0].inbound.device.as_deref(), Some("rude"));
}

/// MQTT 5.0, section 3.1.2.5: it takes its will back only by leaving in good order.
#[tokio::test]
async fn a_client_that_gives_up_leaves_its_will() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("to")).await;
    to.subscribe("gone/#", 1).await;
    for (code, is_told) in [(0x00, false), (0x04, true), (0x80, true), (0x98, true)] {
        let topic = format!("gone/{code}");
        let hello = Hello { will: Some((&*topic, "lost")), ..Hello::five("c") };
        let mut client = Client::connect(bench.address, hello).await;
        client.say(0xE0, &[code]).await;
        assert_eq!(client.next().await, None);
        if is_told {
            assert_eq!(to.message().await.topic, topic);
        }
    }
    to.expect_nothing().await;
}

/// MQTT 5.0, section 3.1.4: the older connection ends without a DISCONNECT of its client.
#[tokio::test]
async fn a_will_without_a_delay_is_told_though_its_client_is_back_at_once() {
    let bench = bench(json!({})).await;
    let mut to = Client::connect(bench.address, Hello::three("to")).await;
    to.subscribe("gone/#", 1).await;
    for five in [false, true] {
        let hello = || if five { Hello::five("c").kept() } else { Hello::three("c").kept() };
        let will = Hello { will: Some(("gone/c", "lost")), ..hello() };
        let _first = Client::connect(bench.address, will.clone()).await;
        let second = Client::connect(bench.address, will).await;
        let got = to.message().await;
        assert_eq!((&*got.topic, &*got.payload), ("gone/c", "lost"));
        second.leave().await;
        to.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_session_whose_time_is_over_is_not_found_after_a_restart() {
    let mut bench = bench(json!({})).await;
    let begun = SystemClock.now();
    bench.host.set_now(begun);
    // Until it ends, 256 seconds.
    let kept = || Hello::five("c").kept();
    let mut client = Client::connect(bench.address, kept()).await;
    client.subscribe("t", 1).await;
    client.leave().await;
    bench.host.set_now(begun.after(Duration::from_secs(200)));
    bench = bench.restart(json!({})).await;
    let (client, connack) = Client::hello(bench.address, kept()).await;
    assert_eq!(connack[0], 1, "it waits");
    client.leave().await;
    bench.host.set_now(begun.after(Duration::from_secs(500)));
    bench = bench.restart(json!({})).await;
    let (mut client, connack) = Client::hello(bench.address, kept()).await;
    assert_eq!(connack[0], 0, "its time is over");
    client.publish(1, 1, "t", b"x").await;
    assert_eq!(client.hear().await.0, 0x40, "nor is its subscription");
}

#[tokio::test]
async fn what_waits_for_an_absent_client_has_an_end_and_what_goes_is_counted() {
    for limit in [json!({ "queue_max": 2 }), json!({ "queue_bytes": 1300 })] {
        let bench = bench(limit.clone()).await;
        let mut to = Client::connect(bench.address, Hello::three("to").kept()).await;
        to.subscribe("t", 1).await;
        to.leave().await;
        let mut from = Client::connect(bench.address, Hello::three("from")).await;
        for id in 1..=5 {
            from.publish(1, id, "t", &[b'0' + id as u8; 400]).await;
            assert_eq!(from.hear().await.0, 0x40);
        }
        assert_eq!((bench.figure("queued"), bench.figure("dropped")), (2, 3), "{limit}");
        let bench = bench.restart(limit).await;
        assert_eq!((bench.figure("sessions"), bench.figure("queued")), (1, 2));
        let mut to = Client::connect(bench.address, Hello::three("to").kept()).await;
        assert_eq!((&to.message().await.payload[..1], &to.message().await.payload[..1]), ("4", "5"));
        to.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let bench = bench(json!({})).await;
    let mut first = Client::connect(bench.address, Hello::five("c").kept()).await;
    first.subscribe("t", 1).await;
    let (mut second, connack) = Client::hello(bench.address, Hello::five("c").kept()).await;
    assert_eq!(connack[0], 1);
    assert_eq!(first.hear().await.1[0], 0x8E);
    second.publish(1, 1, "t", b"x").await;
    let mut heard = [second.hear().await.0 & 0xf0, second.hear().await.0 & 0xf0];
    heard.sort_unstable();
    assert_eq!(heard, [0x30, 0x40]);
}

#[tokio::test]
async fn a_handler_s_reply_goes_to_the_response_topic() {
    let bench = bench(json!({ "reply_topic": "replies/{client}" })).await;
    let reply = sandbar_reading::Message {
        topic: "ignored".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: sandbar_reading::Attributes::new(),
        payload: "hi".into(),
    };
    bench.host.answer(vec![Answer::Reply(reply)], Ending::Ended);
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    client.subscribe("replies/#", 0).await;
    client
        .publish_with(
            0,
            0,
            "ask",
            &[8, 0, 9, b'r', b'e', b'p', b'l', b'i', b'e', b's', b'/', b'1', 9, 0, 1, 7],
            b"?",
        )
        .await;
    let got = client.message().await;
    assert_eq!((&*got.topic, &*got.payload), ("replies/1", "hi"));
    assert!(got.properties.windows(4).any(|part| part == [9, 0, 1, 7]), "{:?}", got.properties);
    client.publish(0, 0, "ask", b"?").await;
    assert_eq!(client.message().await.topic, "replies/c");
}

#[tokio::test]
async fn a_command_goes_to_the_device_and_is_done_when_it_says_so() {
    let bench = bench(json!({ "command_topic": "d/{device}/{command}" })).await;
    let mut client = Client::connect(bench.address, Hello::three("lamp")).await;
    let command = || Command {
        device: "lamp".into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: "on".into(),
    };
    let error = in_time(bench.host.command(command())).await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("has not subscribed to d/lamp/set") && !bench.host.is_sent(),
        "{error}"
    );
    client.subscribe("d/lamp/+", 1).await;
    let carried_out = tokio::spawn({
        let (host, command) = (std::sync::Arc::clone(&bench.host), command());
        async move { host.command(command).await }
    });
    let got = client.message().await;
    assert_eq!((&*got.topic, &*got.payload, got.qos), ("d/lamp/set", "on", 1));
    assert!(bench.host.is_sent() && !carried_out.is_finished());
    client.ack(0x40, &got.id.to_be_bytes()).await;
    assert_eq!(in_time(carried_out).await.unwrap(), Some(Ok(())));
}

#[tokio::test]
async fn a_gateway_gets_the_commands_of_those_that_it_spoke_for_last() {
    let bench =
        bench(json!({ "device_topics": ["s/{device}/#"], "command_topic": "d/{device}/{command}" })).await;
    let mut gateways = [
        Client::connect(bench.address, Hello::three("one")).await,
        Client::connect(bench.address, Hello::three("two")).await,
    ];
    for gateway in &mut gateways {
        gateway.subscribe("d/#", 1).await;
    }
    for (which, device) in [(0, "lamp"), (0, "door"), (1, "door"), (0, "lamp"), (0, "door"), (1, "lamp")] {
        let gateway = &mut gateways[which];
        gateway.publish(1, 1, &format!("s/{device}/state"), b"on").await;
        assert_eq!(gateway.hear().await.0, 0x40);
        let command = Command {
            device: device.into(),
            name: "set".into(),
            content_type: ContentType::JSON,
            payload: "off".into(),
        };
        let host = std::sync::Arc::clone(&bench.host);
        let carried_out = tokio::spawn(async move { host.command(command).await });
        let got = gateway.message().await;
        assert_eq!(got.topic, format!("d/{device}/set"));
        gateway.ack(0x40, &got.id.to_be_bytes()).await;
        assert_eq!(in_time(carried_out).await.unwrap(), Some(Ok(())));
    }
}

#[tokio::test]
async fn a_command_that_its_device_refuses_or_cannot_be_sent_is_not_carried_out() {
    let bench = bench(json!({ "command_topic": "d/{device}/{command}" })).await;
    let carry_out = |device: &str| {
        let (device, name) = (device.into(), "set".into());
        let command = Command { device, name, content_type: ContentType::JSON, payload: "on".into() };
        let host = std::sync::Arc::clone(&bench.host);
        tokio::spawn(async move { host.command(command).await })
    };
    let mut client = Client::connect(bench.address, Hello::five("lamp")).await;
    client.subscribe("d/lamp/+", 1).await;
    let text = |code| format!("the client refused it: reason {code}");
    for (code, told) in [
        (0x10, Ok(())),
        (0x83, Err(CommandError::Retry(text("0x83")))),
        (0x97, Err(CommandError::Retry(text("0x97")))),
        (0x99, Err(CommandError::Reject(text("0x99")))),
    ] {
        let carried_out = carry_out("lamp");
        let [high, low] = client.message().await.id.to_be_bytes();
        client.say(0x40, &[high, low, code]).await;
        assert_eq!(in_time(carried_out).await.unwrap(), Some(told), "{code:#x}");
    }
    for qos in [0, 1] {
        let hello = Hello { properties: &[39, 0, 0, 0, 40], ..Hello::five("small") };
        let mut small = Client::connect(bench.address, hello).await;
        small.subscribe("d/small/+", qos).await;
        let told = in_time(carry_out("small")).await.unwrap();
        assert!(matches!(told, Some(Err(CommandError::Reject(_)))), "{told:?}");
        small.leave().await;
    }
}

/// The host waits so long, and then offers it anew.
#[tokio::test]
async fn a_command_that_is_offered_again_while_it_waits_goes_out_once() {
    let bench = bench(json!({ "command_topic": "d/{device}/{command}" })).await;
    let hello = Hello { properties: &[33, 0, 1], ..Hello::five("lamp") };
    let mut client = Client::connect(bench.address, hello).await;
    for filter in ["d/lamp/+", "t"] {
        client.subscribe(filter, 1).await;
    }
    client.publish(1, 1, "t", b"x").await;
    let first = loop {
        let (first, body) = client.hear().await;
        if first & 0xf0 == 0x30 {
            break client.published(first, &body);
        }
    };
    let command = || {
        let (device, name) = ("lamp".into(), "set".into());
        let command = Command { device, name, content_type: ContentType::TEXT, payload: "on".into() };
        let host = std::sync::Arc::clone(&bench.host);
        async move { host.command(command).await }
    };
    let give_up = async || {
        assert!(tokio::time::timeout(Duration::from_millis(50), command()).await.is_err());
    };
    // Its window is full.
    give_up().await;
    give_up().await;
    assert_eq!(bench.figure("queued"), 2);
    let carried_out = tokio::spawn(command());
    client.ack(0x40, &first.id.to_be_bytes()).await;
    let got = client.message().await;
    assert_eq!((&*got.payload, &*got.topic), ("on", "d/lamp/set"));
    client.ack(0x40, &got.id.to_be_bytes()).await;
    assert_eq!(in_time(carried_out).await.unwrap(), Some(Ok(())));
    client.expect_nothing().await;
    // It has it, and says nothing.
    let (got, ()) = tokio::join!(client.message(), give_up());
    let carried_out = tokio::spawn(command());
    tokio::task::yield_now().await;
    in_time(async {
        while !bench.host.is_sent() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    client.expect_nothing().await;
    client.ack(0x40, &got.id.to_be_bytes()).await;
    assert_eq!(in_time(carried_out).await.unwrap(), Some(Ok(())));
}

/// It is written again and again until the disk takes it, but not what was taken back.
#[tokio::test]
async fn a_subscription_that_was_refused_does_not_come_back() {
    let bench = bench(json!({})).await;
    let kept = || Hello::five("c").kept();
    let mut client = Client::connect(bench.address, kept()).await;
    assert_eq!(client.subscribe("old", 0).await, 0);
    bench.host.refuse_to_keep(Some(Refused::DiskFull));
    assert_eq!((client.subscribe("new", 1).await, client.subscribe("old", 1).await), (0x97, 0x97));
    // Nor is it brought back by another that was on its way, and refused after it.
    for filter in ["new", "old", "new", "old"] {
        client.ask_for(filter, 1).await;
    }
    for _ in 0..4 {
        assert_eq!(client.suback().await, 0x97);
    }
    bench.host.refuse_to_keep(None);
    assert_eq!(client.subscribe("other", 1).await, 1);
    client.leave().await;
    let bench = bench.restart(json!({})).await;
    let mut client = Client::connect(bench.address, kept()).await;
    for (id, topic) in [(1, "new"), (2, "old")] {
        client.publish(1, id, topic, b"x").await;
    }
    let mut heard = [client.hear().await, client.hear().await, client.hear().await];
    heard.sort();
    assert_eq!(
        [heard[0].0, heard[1].0, heard[2].0],
        [0x30, 0x40, 0x40],
        "at the quality of service of before"
    );
    assert_eq!(client.published(0x30, &heard[0].1).topic, "old");
    client.expect_nothing().await;
}

/// An earlier version of the host took them.
#[tokio::test]
async fn rows_of_topics_with_too_many_levels_are_passed_over() {
    let host = StandIn::new();
    let deep = "a/".repeat(30_000);
    let row = MessageRow {
        topic: &deep,
        payload: b"x",
        properties: b"",
        qos: 0,
        retain: true,
        expires: None,
        publisher: 0,
    };
    let session =
        SessionRow { number: 1, expiry_s: 600, absent_since: None, next_place: 0, sent_below: 0, user: None };
    let subscription = SubscriptionRow { qos: 1, no_local: false, retain_as_published: false, id: None };
    let kept = vec![
        rows::write(rows::session("kept"), &session),
        rows::write(rows::retained(&deep), &row),
        rows::write(rows::message(1), &row),
        rows::write(rows::subscription(1, &deep), &subscription),
    ];
    Intake::keep(&*host, "tested".parse().unwrap(), kept).await.unwrap();
    let bench = start(json!({ "listen": "127.0.0.1:0" }), host).await;
    assert_eq!((bench.figure("sessions"), bench.figure("retained")), (1, 0));
    // Nor are new ones taken.
    let mut client = Client::connect(bench.address, Hello::five("c")).await;
    assert_eq!(client.subscribe(&"+/".repeat(30_000), 0).await, 0x8F);
    client.publish_with(3, 1, &deep, &[], b"x").await;
    let (first, body) = client.hear().await;
    assert_eq!((first, body[0]), (0xE0, 0x90));
}

/// They are deleted while clients are there already.
#[tokio::test]
async fn what_is_new_gets_no_name_of_a_row_that_is_to_be_deleted() {
    let host = StandIn::new();
    let absent_since = Some(SystemClock.now().nanos());
    let session =
        SessionRow { number: 1, expiry_s: 600, absent_since, next_place: 5, sent_below: 0, user: None };
    let subscription = SubscriptionRow { qos: 1, no_local: false, retain_as_published: false, id: None };
    let kept = vec![
        rows::write(rows::session("kept"), &session),
        rows::write(rows::subscription(1, "t"), &subscription),
        // Its message has expired; and of a session that has ended.
        rows::mark(rows::queued(1, 7)),
        rows::mark(rows::queued(20, 9)),
        rows::mark(rows::packet(21, 3)),
        rows::mark(rows::subscription(22, "t")),
    ];
    let name: sandbar_reading::Name = "tested".parse().unwrap();
    Intake::keep(&*host, name.clone(), kept).await.unwrap();
    let bench = start(json!({ "listen": "127.0.0.1:0" }), host).await;
    let mut from = Client::connect(bench.address, Hello::five("from").kept()).await;
    from.publish(1, 1, "t", b"x").await;
    assert_eq!(from.hear().await.0, 0x40);
    let names = |prefix| Intake::kept_names(&*bench.host, &name, prefix).unwrap();
    in_time(async {
        while names("q").len() > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(names("q"), [rows::queued(1, 8)]);
    let row = Intake::kept(&*bench.host, &name, &rows::session("from")).unwrap().unwrap();
    assert_eq!(rows::read::<SessionRow>(&row).unwrap().number, 23);
}

#[tokio::test]
async fn what_waits_for_several_sessions_is_forgotten_by_the_store_with_its_message() {
    let bench = bench(json!({})).await;
    for id in ["a", "b"] {
        let mut to = Client::connect(bench.address, Hello::five(id).kept()).await;
        to.subscribe("t", 1).await;
        to.leave().await;
    }
    let mut from = Client::connect(bench.address, Hello::five("from")).await;
    from.publish_with(2, 1, "t", &[2, 0, 0, 0, 60], b"x").await;
    assert_eq!(from.hear().await.0, 0x40);
    let taken = bench.host.taken();
    let expire: Vec<_> =
        taken[0].keep.iter().map(|write| (&write.name[..1], write.expires.is_some())).collect();
    assert_eq!(expire, [("m", true), ("q", true), ("q", true)]);
}

/// MQTT 5.0, section 4.8.2. With sessions of both kinds, and after a restart.
#[tokio::test]
async fn what_a_leaving_member_has_not_acknowledged_goes_to_another_of_its_group() {
    for kept in [false, true] {
        let mut bench = bench(json!({})).await;
        let hello = |id| if kept { Hello::five(id).kept() } else { Hello::five(id) };
        let mut leaves = Client::connect(bench.address, hello("leaves")).await;
        leaves.subscribe("$share/g/t/#", 2).await;
        leaves.subscribe("own", 1).await;
        let mut from = Client::connect(bench.address, Hello::three("from")).await;
        for (qos, id, topic) in [(1, 1, "t/1"), (2, 2, "t/2"), (1, 3, "own"), (1, 4, "t/3")] {
            from.publish(qos, id, topic, b"x").await;
            from.hear().await;
        }
        let got = [leaves.message().await, leaves.message().await, leaves.message().await];
        leaves.message().await;
        leaves.ack(0x40, &got[0].id.to_be_bytes()).await;
        leaves.expect_nothing().await;
        if kept {
            leaves.leave().await;
            bench = bench.restart(json!({})).await;
            let mut stays = Client::connect(bench.address, hello("stays")).await;
            stays.subscribe("$share/g/t/#", 1).await;
            // A session that waits for its client is not robbed; this one comes back only to end.
            stays.expect_nothing().await;
            Client::connect(bench.address, Hello::five("leaves")).await.leave().await;
            is_handed_over(&mut stays).await;
            stays.leave().await;
            let bench = bench.restart(json!({})).await;
            let mut stays = Client::connect(bench.address, hello("stays")).await;
            assert_eq!(stays.message().await.topic, "t/3");
            stays.expect_nothing().await;
        } else {
            let mut stays = Client::connect(bench.address, hello("stays")).await;
            stays.subscribe("$share/g/t/#", 1).await;
            leaves.leave().await;
            is_handed_over(&mut stays).await;
        }
    }
}

/// Not what was acknowledged, nor what was the other's own, nor the QoS 2 message that it may have taken.
async fn is_handed_over(stays: &mut Client) {
    let got = stays.message().await;
    assert_eq!((&*got.topic, got.qos, got.again), ("t/3", 1, false));
    stays.expect_nothing().await;
}
