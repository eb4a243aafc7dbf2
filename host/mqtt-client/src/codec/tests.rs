use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn round_trip(packet: &Packet, version: Version) -> Packet {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    // Byte by byte: half a packet is none, and nothing of it is lost.
    let mut input = BytesMut::new();
    for byte in &bytes[..bytes.len() - 1] {
        input.extend_from_slice(&[*byte]);
        assert_eq!(decode(&mut input, version, LIMIT), Ok(None));
    }
    input.extend_from_slice(&bytes[bytes.len() - 1..]);
    let decoded = decode(&mut input, version, LIMIT).expect("what was encoded").expect("all of it");
    assert!(input.is_empty());
    decoded
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[^\0]{0,20}".prop_map(Into::into)
}

fn properties() -> impl Strategy<Value = Properties> {
    let numbers = (any::<bool>(), any::<Option<u32>>(), proptest::option::of(1..=u16::MAX));
    let texts = (proptest::option::of(text()), proptest::option::of(text()));
    let lists = (
        proptest::collection::vec(1_u32..268_435_455, 0..3),
        proptest::collection::vec((text(), text()), 0..4),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    );
    (numbers, texts, lists).prop_map(|(numbers, texts, lists)| Properties {
        is_text: numbers.0,
        message_expiry: numbers.1,
        receive_maximum: numbers.2,
        topic_alias: numbers.2,
        content_type: texts.0,
        response_topic: texts.1,
        subscription_ids: lists.0,
        user: lists.1,
        correlation_data: lists.2.map(Bytes::from),
        ..Properties::default()
    })
}

fn publish() -> impl Strategy<Value = Publish> {
    let head = (any::<bool>(), 0..=2_u8, any::<bool>(), 1..=u16::MAX);
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    (head, text(), properties(), payload).prop_map(|(head, topic, properties, payload)| {
        let qos = Qos::from_bits(head.1).expect("0 to 2");
        Publish {
            duplicate: head.0,
            qos,
            retain: head.2,
            topic,
            packet_id: if qos == Qos::AtMostOnce { 0 } else { head.3 },
            properties,
            payload: payload.into(),
        }
    })
}

proptest! {
    #[test]
    fn a_publish_comes_out_as_it_went_in(publish in publish()) {
        let packet = Packet::Publish(publish.clone());
        prop_assert_eq!(&round_trip(&packet, Version::V5), &packet);
        let mut bytes = Vec::new();
        encode(&packet, Version::V5, &mut bytes);
        prop_assert_eq!(bytes.len(), publish_size(&publish, Version::V5));
        let plain = Packet::Publish(Publish { properties: Properties::default(), ..publish });
        prop_assert_eq!(round_trip(&packet, Version::V3), plain);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), five: bool) {
        let version = if five { Version::V5 } else { Version::V3 };
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut input, version, 100) {}
    }

    #[test]
    fn a_damaged_publish_is_refused_or_another(publish in publish(), at: prop::sample::Index, bits in 1..=255_u8) {
        let mut bytes = Vec::new();
        encode(&Packet::Publish(publish), Version::V5, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut input, Version::V5, LIMIT) {}
    }
}

#[test]
fn every_other_packet_comes_out_as_it_went_in() {
    let properties = Properties {
        session_expiry: Some(3600),
        receive_maximum: Some(20),
        user: vec![("a".into(), "b".into())],
        ..Properties::default()
    };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 30,
        client_id: "boiler".into(),
        user: Some("u".into()),
        password: Some(Bytes::from_static(b"\0p")),
        properties: properties.clone(),
    };
    let filter = Filter { no_local: true, retain_handling: 2, ..Filter::new("a/+", Qos::ExactlyOnce) };
    for packet in [
        Packet::Connect(Box::new(connect)),
        Packet::ConnAck(Box::new(ConnAck { session_present: true, code: 0, properties: properties.clone() })),
        Packet::Ack(Ack::new(AckKind::PubRel, 7)),
        Packet::Ack(Ack { code: 0x97, reason: Some("full".into()), ..Ack::new(AckKind::PubAck, 65_535) }),
        Packet::Subscribe(Subscribe { packet_id: 1, filters: vec![filter] }),
        Packet::SubAck(SubAck { packet_id: 1, codes: vec![2, 0x87] }),
        Packet::Unsubscribe(Unsubscribe { packet_id: 3, filters: vec!["a/#".into(), "b".into()] }),
        Packet::UnsubAck(3),
        Packet::PingReq,
        Packet::PingResp,
        Packet::Disconnect(Box::default()),
        Packet::Disconnect(Box::new(Disconnect { code: 0x8e, properties })),
    ] {
        assert_eq!(round_trip(&packet, Version::V5), packet);
    }
    let v3 = Packet::Ack(Ack::new(AckKind::PubComp, 9));
    assert_eq!(round_trip(&v3, Version::V3), v3);
}

#[test]
fn what_is_no_packet_is_named() {
    for (bytes, problem) in [
        (&[0x30, 0xff, 0xff, 0xff, 0xff][..], Malformed::Length),
        (&[0x30, 0xff, 0xff, 0x7f], Malformed::TooLarge { size: 2_097_155, limit: LIMIT }),
        (&[0xf0, 0x00], Malformed::Type(15)),
        (&[0x60, 0x02, 0, 1], Malformed::Flags { packet: 6, flags: 0 }),
        (&[0x40, 0x02, 0, 0], Malformed::PacketId),
        (&[0x40, 0x01, 0], Malformed::Short),
        (&[0xd0, 0x01, 0], Malformed::Long),
        (&[0x36, 0x03, 0, 1, b'a'], Malformed::Qos),
        (&[0x30, 0x04, 0, 1, 0xff, 0], Malformed::Text),
        (&[0x30, 0x06, 0, 1, b'a', 2, 0x7f, 0], Malformed::Property(0x7f)),
        (&[0x30, 0x08, 0, 1, b'a', 4, 0x01, 1, 0x01, 1], Malformed::Property(1)),
    ] {
        assert_eq!(decode(&mut BytesMut::from(bytes), Version::V5, LIMIT), Err(problem));
    }
}
