use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// One packet of each type that a client sends.
fn samples(version: Version) -> Vec<Vec<u8>> {
    let five = version == Version::V5;
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let properties = |bytes: &[u8]| if five { [&[bytes.len() as u8], bytes].concat() } else { Vec::new() };
    let level = if five { 5 } else { 4 };
    let connect = [
        text("MQTT"),
        vec![level, 0xF6, 0, 60],
        properties(&[17, 0, 0, 0, 9, 33, 0, 5, 34, 0, 7, 39, 0, 1, 0, 0, 38, 0, 1, b'a', 0, 1, b'b']),
        text("client"),
        properties(&[24, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 3]),
        text("will/topic"),
        text("gone"),
        text("ann"),
        text("secret"),
    ];
    let publish = [
        text("a/b"),
        vec![0, 7],
        properties(&[
            1, 1, 2, 0, 0, 0, 60, 8, 0, 1, b'r', 9, 0, 2, 1, 2, 35, 0, 1, 38, 0, 1, b'a', 0, 1, b'b',
        ]),
        b"payload".to_vec(),
    ];
    let subscribe =
        [vec![0, 8], properties(&[11, 0x80, 1]), text("a/+/#"), vec![if five { 0x2E } else { 2 }]];
    let unsubscribe = [vec![0, 9], properties(&[38, 0, 0, 0, 0]), text("a/+")];
    let ack = |first: u8| {
        let rest: &[u8] = if five { &[0x10, 4, 31, 0, 1, b'x'] } else { &[] };
        (first, [&[0, 7], rest].concat())
    };
    let disconnect: &[u8] = if five { &[4, 5, 17, 0, 0, 0, 0] } else { &[] };
    let mut packets = vec![
        (0x10, connect.concat()),
        (0x34, publish.concat()),
        ack(0x40),
        ack(0x50),
        ack(0x62),
        ack(0x70),
        (0x82, subscribe.concat()),
        (0xA2, unsubscribe.concat()),
        (0xC0, Vec::new()),
        (0xE0, disconnect.to_vec()),
    ];
    if five {
        packets.push((0xF0, vec![0x18, 4, 21, 0, 1, b'm']));
    }
    packets.into_iter().map(|(first, body)| [&[first, body.len() as u8], &body[..]].concat()).collect()
}

fn read(bytes: &[u8], version: Version) -> Result<Option<Packet>, Wrong> {
    let mut buffer = BytesMut::from(bytes);
    match frame(&mut buffer, 1 << 20)? {
        Some(frame) => decode(frame, version).map(Some),
        None => Ok(None),
    }
}

#[test]
fn reads_every_packet_of_both_versions() {
    for version in [Version::V3, Version::V5] {
        for sample in samples(version) {
            let read = read(&sample, version);
            assert!(matches!(read, Ok(Some(_))), "{version:?} {sample:02x?}: {read:?}");
        }
    }
}

#[test]
fn reads_what_was_said() {
    let five = samples(Version::V5);
    let Ok(Some(Packet::Connect(connect))) = read(&five[0], Version::V5) else { panic!("no CONNECT") };
    assert_eq!((&*connect.client, connect.keep_alive, connect.clean), ("client", 60, true));
    assert_eq!(connect.properties.session_expiry, Some(9));
    let will = connect.will.unwrap();
    assert_eq!((&*will.topic, will.qos, will.retain), ("will/topic", Qos::ExactlyOnce, true));
    assert_eq!(will.properties.will_delay, Some(1));
    let Ok(Some(Packet::Publish(publish))) = read(&five[1], Version::V5) else { panic!("no PUBLISH") };
    assert_eq!((&*publish.topic, publish.id, &publish.payload[..]), ("a/b", 7, &b"payload"[..]));
    assert_eq!(publish.properties.unwrap().topic_alias, Some(1));
    let Ok(Some(Packet::Subscribe(subscribe))) = read(&five[6], Version::V5) else { panic!("no SUBSCRIBE") };
    assert_eq!(subscribe.subscription_id, Some(128));
    let wanted = subscribe.filters[0].1;
    assert_eq!((wanted.no_local, wanted.retain_as_published, wanted.retained), (true, true, Retained::Never));
}

/// 10,000 mutations of each packet of each version: read, or refused, and never more.
#[test]
fn survives_ten_thousand_mutations_of_every_packet() {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for version in [Version::V3, Version::V5] {
        for sample in samples(version) {
            let mut refused = 0;
            for _ in 0..10_000 {
                let mut bytes = sample.clone();
                for _ in 0..random.random_range(1..4) {
                    match random.random_range(0..4) {
                        0 => {
                            let at = random.random_range(0..bytes.len());
                            bytes[at] = random.random();
                        }
                        1 => bytes.truncate(random.random_range(1..=bytes.len())),
                        2 => bytes.insert(random.random_range(0..=bytes.len()), random.random()),
                        _ => {
                            let at = random.random_range(0..bytes.len());
                            bytes[at] ^= 1 << random.random_range(0..8);
                        }
                    }
                }
                refused += u32::from(read(&bytes, version).is_err());
            }
            assert!(refused > 0, "{version:?} {sample:02x?}");
        }
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256), five in any::<bool>()) {
        let _ = read(&bytes, if five { Version::V5 } else { Version::V3 });
    }

    /// An independent implementation reads what is written here, as it was meant.
    #[test]
    fn others_read_our_messages(
        topic in "[a-zü]{1,200}",
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        qos in 0_u8..3,
        retain in any::<bool>(),
        alias in proptest::option::of(1_u16..),
        expiry in proptest::option::of(any::<u32>()),
        ids in proptest::collection::vec(1_u32..268_435_455, 0..3),
        user in proptest::option::of(("[a-z]{0,5}", "[a-z]{0,200}")),
    ) {
        use mqtt_protocol_core::mqtt::packet::v5_0::Publish as Theirs;
        let user = user.map(|(name, value)| (name.into(), value.into())).into_iter().collect();
        let properties = forwardable(&Properties { user, ..Properties::default() });
        let packet = Outgoing {
            qos: Qos::of(qos).unwrap(), retain, again: false, topic: &topic, id: 7, alias, expiry,
            subscription_ids: &ids, properties: &properties, payload_length: payload.len(),
        };
        let mut out = BytesMut::new();
        publish(&mut out, Version::V5, &packet);
        out.put_slice(&payload);
        prop_assert_eq!(out.len(), packet.size(Version::V5));
        let frame = frame(&mut out, 1 << 20).unwrap().unwrap();
        prop_assert!(out.is_empty());
        let (theirs, _) = Theirs::parse(frame.first & 15, frame.body.to_vec().into()).unwrap();
        prop_assert_eq!(theirs.topic_name(), &*topic);
        prop_assert_eq!(theirs.payload().as_slice(), &payload[..]);
        prop_assert_eq!(theirs.retain(), retain);
        let count = usize::from(alias.is_some()) + usize::from(expiry.is_some()) + ids.len()
            + usize::from(!properties.is_empty());
        prop_assert_eq!(theirs.props().len(), count);
    }
}

#[test]
fn a_packet_is_taken_when_it_is_whole_and_not_too_large() {
    let sample = samples(Version::V3).remove(1);
    let mut buffer = BytesMut::new();
    for byte in &sample[..sample.len() - 1] {
        buffer.put_u8(*byte);
        assert!(frame(&mut buffer, 100).unwrap().is_none());
    }
    buffer.put_slice(&[sample[sample.len() - 1], 0xC0]);
    assert_eq!(frame(&mut buffer, 100).unwrap().unwrap().body.len(), sample.len() - 2);
    assert_eq!(buffer, Bytes::from_static(&[0xC0]));
    let error = frame(&mut BytesMut::from(&[0x30, 0x80, 0x08][..]), 1024).unwrap_err();
    assert_eq!(error, Wrong::TooLarge { limit: 1024 });
    assert!(frame(&mut BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 0x80, 1][..]), 1024).is_err());
}

#[test]
fn refuses_what_the_specification_forbids() {
    let refused = |version, bytes: &[u8], reason: u8| match read(bytes, version) {
        Err(wrong) => assert_eq!(wrong.reason(), reason, "{bytes:02x?}: {wrong}"),
        other => panic!("{bytes:02x?}: {other:?}"),
    };
    for version in [Version::V3, Version::V5] {
        refused(version, &[0x36, 5, 0, 1, b'a', 0, 1], reason::MALFORMED);
        refused(version, &[0x38, 4, 0, 1, b'a', 0], reason::MALFORMED);
        refused(version, &[0x30, 3, 0, 1, b'+'], reason::TOPIC_NAME_INVALID);
        refused(version, &[0x30, 3, 0, 1, 0], reason::MALFORMED);
        refused(version, &[0x30, 3, 0, 1, 0xff], reason::MALFORMED);
        refused(version, &[0x80, 5, 0, 1, 0, 0, 0], reason::MALFORMED);
        refused(version, &[0x82, 3, 0, 1, 0], if version == Version::V5 { 0x82 } else { 0x81 });
        refused(version, &[0x20, 2, 0, 0], reason::PROTOCOL_ERROR);
    }
    refused(Version::V5, &[0x30, 3, 0, 0, 0], reason::PROTOCOL_ERROR);
    refused(Version::V5, &[0x30, 8, 0, 1, b'a', 4, 1, 0, 1, 0], reason::PROTOCOL_ERROR);
    refused(Version::V5, &[0x32, 5, 0, 1, b'a', 0, 0], reason::PROTOCOL_ERROR);
    refused(Version::V3, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0], 0x84);
    refused(Version::V3, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x42, 0, 0, 0, 0], reason::MALFORMED);
}

#[test]
fn no_packet_has_more_filters_than_are_worked_off_at_once() {
    for (first, filter) in [(0x82, &[0, 1, b'a', 0][..]), (0xA2, &[0, 1, b'a'])] {
        let packet = |filters: usize| {
            let body = [&[0, 1][..], &filter.repeat(filters)].concat();
            decode(Frame { first, body: body.into() }, Version::V3)
        };
        assert!(packet(16_384).is_ok());
        let wrong = packet(16_385).unwrap_err();
        assert_eq!((wrong, wrong.reason()), (Wrong::Filters { max: 16_384 }, reason::QUOTA));
    }
}
