use bytes::Bytes;

use super::super::message::Expiry;
use super::*;

const ROOM: Room = Room { count: 3, bytes: 1 << 20 };

pub(in super::super) fn entry(place: u64, qos: Qos) -> Entry {
    let message = Message {
        topic: "t".parse().unwrap(),
        payload: Bytes::new(),
        properties: Bytes::new(),
        qos,
        retain: false,
        expires: None,
        publisher: 0,
        row: None,
    };
    Entry {
        message: Arc::new(message),
        qos,
        retain: false,
        subscription_ids: Box::new([]),
        place,
        stored: qos != Qos::AtMostOnce,
        again: false,
        command: None,
        group: None,
    }
}

fn send(outgoing: &mut Outgoing, window: usize) -> Option<u64> {
    match outgoing.next(window, Timestamp::default(), || 99)? {
        Next::Publish(entry) => {
            let place = entry.place;
            if entry.qos != Qos::AtMostOnce {
                outgoing.sent(entry);
            }
            Some(place)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn sheds_what_may_be_lost_first_then_the_oldest_and_ends_who_takes_nothing() {
    let mut outgoing = Outgoing::default();
    for (place, qos) in [(0, Qos::AtLeastOnce), (1, Qos::AtMostOnce), (2, Qos::AtMostOnce)] {
        assert!(!outgoing.push(entry(place, qos), ROOM, true).overrun);
    }
    assert!(!outgoing.push(entry(3, Qos::AtLeastOnce), ROOM, true).overrun);
    assert!(!outgoing.push(entry(4, Qos::AtLeastOnce), ROOM, true).overrun);
    assert_eq!((outgoing.dropped, outgoing.waiting()), (2, 3));
    let push = |outgoing: &mut Outgoing, place| {
        let Pushed { dropped, overrun } = outgoing.push(entry(place, Qos::AtLeastOnce), ROOM, true);
        (dropped, overrun)
    };
    assert_eq!(push(&mut outgoing, 5), (vec![0], false));
    tokio::time::advance(STALL).await;
    assert_eq!(send(&mut outgoing, 9), Some(3));
    assert_eq!(push(&mut outgoing, 6), (vec![], false));
    assert_eq!(push(&mut outgoing, 7), (vec![4], false), "it takes some");
    tokio::time::advance(STALL).await;
    assert_eq!(push(&mut outgoing, 8), (vec![], true));
    assert_eq!(outgoing.push(entry(9, Qos::AtLeastOnce), ROOM, false).dropped, [5, 6]);
}

#[test]
fn knows_of_what_may_be_lost_only_while_it_waits() {
    let mut outgoing = Outgoing::default();
    outgoing.push(entry(0, Qos::AtMostOnce), ROOM, true);
    assert_eq!(send(&mut outgoing, 9), Some(0));
    for (place, qos) in [(1, Qos::AtLeastOnce), (2, Qos::AtMostOnce), (3, Qos::AtLeastOnce)] {
        outgoing.push(entry(place, qos), ROOM, true);
    }
    assert_eq!((outgoing.queued.lossy, send(&mut outgoing, 9)), (1, Some(1)));
    assert_eq!((outgoing.resume(), outgoing.queued.lossy), (vec![], 1), "1 is to be sent again");
    assert!(!outgoing.push(entry(4, Qos::AtLeastOnce), ROOM, true).overrun);
    assert_eq!((outgoing.dropped, outgoing.queued.lossy), (1, 0));
    assert_eq!(outgoing.push(entry(5, Qos::AtLeastOnce), ROOM, true).dropped, [1]);
}

#[test]
fn what_a_client_may_have_received_is_not_dropped_before_it_is_released() {
    let mut outgoing = Outgoing::default();
    for (place, qos) in [(0, Qos::ExactlyOnce), (1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
        outgoing.push(entry(place, qos), ROOM, true);
    }
    let _ = (send(&mut outgoing, 2), send(&mut outgoing, 2));
    outgoing.resume();
    // 2 was not sent yet.
    for (place, dropped) in [(3, 1), (4, 2), (5, 3)] {
        assert_eq!(outgoing.push(entry(place, Qos::AtLeastOnce), ROOM, false).dropped, [dropped]);
    }
    assert_eq!((outgoing.shrink(0), outgoing.waiting()), (vec![4, 5], 1));
    assert!(outgoing.push(entry(6, Qos::AtLeastOnce), Room { count: 1, bytes: 0 }, false).dropped == [6]);
    assert_eq!(send(&mut outgoing, 9), Some(0));
}

#[test]
fn keeps_to_the_window() {
    let mut outgoing = Outgoing::default();
    for place in 0..3 {
        outgoing.push(entry(place, Qos::AtLeastOnce), ROOM, true);
    }
    assert_eq!(
        (send(&mut outgoing, 2), send(&mut outgoing, 2), send(&mut outgoing, 2)),
        (Some(0), Some(1), None)
    );
    assert_eq!(outgoing.acknowledged(packet_id(1)).unwrap().place, 1);
    assert!(outgoing.acknowledged(packet_id(1)).is_none());
    assert_eq!(send(&mut outgoing, 2), Some(2));
}

#[test]
fn looks_for_what_is_retained_when_what_was_found_is_sent() {
    let mut outgoing = Outgoing::default();
    let filter = |text: &str| text.parse::<TopicFilter>().unwrap();
    let asked = |until| Asked { wanted: Wanted::default(), subscription_id: None, until, after: None };
    for (text, until) in [("a/#", 1), ("b", 1), ("a/#", 2)] {
        outgoing.ask(filter(text), asked(until));
    }
    outgoing.ask_no_more(&filter("b"));
    assert!(outgoing.has_next(9));
    assert_eq!(
        outgoing.next_asked().map(|(filter, asked)| (filter.to_string(), asked.until)),
        Some(("a/#".to_owned(), 2))
    );
    outgoing.add_retained(entry(0, Qos::AtMostOnce).message, Qos::AtMostOnce, None);
    outgoing.ask(filter("c"), asked(3));
    assert!(outgoing.next_asked().is_none(), "one waits");
    assert_eq!((send(&mut outgoing, 9), outgoing.next_asked().is_some()), (Some(99), true));
    assert!(!outgoing.has_next(9));
}

#[test]
fn what_is_retained_goes_before_what_was_published_since_and_neither_waits_without_end() {
    let mut outgoing = Outgoing::default();
    let filter: TopicFilter = "#".parse().unwrap();
    let asked = || Asked { wanted: Wanted::default(), subscription_id: None, until: 1, after: None };
    let mut order = Vec::new();
    outgoing.ask(filter.clone(), asked());
    for place in 0..6 {
        // One is published for each that is sent: there is always one that waits.
        outgoing.push(entry(place, Qos::AtMostOnce), ROOM, true);
        if outgoing.next_asked().is_some() {
            outgoing.add_retained(entry(0, Qos::AtMostOnce).message, Qos::AtMostOnce, None);
            outgoing.ask(filter.clone(), asked());
        }
        order.push(send(&mut outgoing, 9).unwrap());
    }
    assert_eq!(order, [99, 0, 99, 1, 2, 99]);
}

#[test]
fn what_is_retained_and_was_not_sent_is_looked_for_again_by_the_next_connection() {
    let mut outgoing = Outgoing::default();
    let filter: TopicFilter = "#".parse().unwrap();
    let asked = |after: Option<&str>| {
        let after = after.map(|topic| topic.parse().unwrap());
        Asked { wanted: Wanted::default(), subscription_id: None, until: 1, after }
    };
    for is_asked_anew in [false, true] {
        outgoing.ask(filter.clone(), asked(None));
        let (_, first) = outgoing.next_asked().unwrap();
        for _ in 0..2 {
            outgoing.add_retained(entry(0, Qos::AtMostOnce).message, Qos::AtMostOnce, None);
        }
        outgoing.found_for(filter.clone(), first);
        outgoing.ask(filter.clone(), asked(Some("u").filter(|_| !is_asked_anew)));
        assert_eq!(send(&mut outgoing, 9), Some(99));
        outgoing.resume();
        assert_eq!(outgoing.waiting(), 0);
        let (_, next) = outgoing.next_asked().unwrap();
        let behind = next.after.map(|topic| topic.to_string());
        assert_eq!(behind.as_deref(), (!is_asked_anew).then_some("t"), "behind what was sent");
    }
}

#[test]
fn what_is_retained_and_over_before_its_turn_is_not_sent() {
    let mut outgoing = Outgoing::default();
    let mut message = Arc::into_inner(entry(0, Qos::AtMostOnce).message).unwrap();
    message.expires = Some(Expiry::kept(Timestamp::from_millis(5)));
    outgoing.add_retained(Arc::new(message), Qos::AtMostOnce, None);
    outgoing.push(entry(7, Qos::AtMostOnce), ROOM, true);
    let next = outgoing.next(9, Timestamp::from_millis(5), || 99);
    assert!(matches!(next, Some(Next::Publish(entry)) if entry.place == 7));
}

#[test]
fn gives_no_packet_id_that_is_in_flight() {
    let mut outgoing = Outgoing::default();
    outgoing.push(entry(5, Qos::AtLeastOnce), ROOM, true);
    outgoing.push(entry(5 + PACKET_IDS, Qos::AtLeastOnce), ROOM, true);
    assert_eq!((send(&mut outgoing, 9), send(&mut outgoing, 9)), (Some(5), None));
    assert!(outgoing.acknowledged(6).is_some());
    assert_eq!(send(&mut outgoing, 9), Some(5 + PACKET_IDS));

    // Nor to what is retained, which gets its place only now.
    outgoing.add_retained(entry(0, Qos::AtLeastOnce).message, Qos::AtLeastOnce, None);
    let mut next = |place| outgoing.next(9, Timestamp::default(), || place);
    assert!(next(5 + 2 * PACKET_IDS).is_none());
    assert!(!outgoing.has_next(9), "it keeps the place that it was given");
    assert!(outgoing.acknowledged(6).is_some());
    assert_eq!(send(&mut outgoing, 9), Some(5 + 2 * PACKET_IDS));
}

#[test]
fn sends_again_in_order_on_the_next_connection() {
    let mut outgoing = Outgoing::default();
    for place in 0..3 {
        outgoing.push(entry(place, Qos::ExactlyOnce), ROOM, true);
    }
    let _ = (send(&mut outgoing, 9), send(&mut outgoing, 9));
    let (place, stored, first) = outgoing.received(packet_id(0)).unwrap();
    assert_eq!((place, stored, first.is_some()), (0, true, true));
    // It may not be on disk yet.
    assert!(matches!(outgoing.received(packet_id(0)), Some((0, true, None))));
    assert_eq!(outgoing.resume(), [(0, true)]);
    outgoing.written(0);
    assert!(matches!(outgoing.received(packet_id(0)), Some((0, false, None))));
    assert_eq!(outgoing.resume(), [(0, false)]);
    assert!(
        matches!(outgoing.next(9, Timestamp::default(), || 0), Some(Next::Publish(e)) if e.place == 1 && e.again)
    );
    assert!(
        matches!(outgoing.next(9, Timestamp::default(), || 0), Some(Next::Publish(e)) if e.place == 2 && !e.again)
    );
    assert_eq!(outgoing.completed(packet_id(0)), Some((0, true)));
    assert_eq!(outgoing.completed(packet_id(0)), None);
}
