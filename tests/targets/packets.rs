//! Packets of MQTT, each type alone: what is thrown at CONNECT never becomes a PINGREQ, where nothing can go wrong.

use std::collections::BTreeMap;

use super::{Decoder, Target};

/// By the number in a packet's first byte.
pub const TYPES: [&str; 16] = [
    "0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

/// What the format trips over: lengths, wildcards, bytes that are no UTF-8, properties, packets of two bytes.
pub const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x01",
    b"\0\x01#",
    b"\0\x01+",
    b"\0\x03\xff\xfe\xfd",
    b"\x26\0\x01k",
    b"\x23\0\0",
    b"\x21\0\0",
    b"\x0b\0",
    b"\xc0\0",
    b"\xd0\0",
    b"\xe0\0",
];

pub fn by_type(packets: &'static [&'static [u8]]) -> BTreeMap<u8, Vec<&'static [u8]>> {
    let mut by_type: BTreeMap<u8, Vec<&'static [u8]>> = BTreeMap::new();
    for packet in packets {
        by_type.entry(packet[0] >> 4).or_default().push(packet);
    }
    by_type
}

/// Those that read a client's packets, and those that read a broker's.
pub(super) fn is_mqtt((name, ..): &Decoder) -> bool {
    matches!(name.split_once(' '), Some(("mqtt" | "mqtt-client", _)))
}

/// A target for each type of packet that there are seeds of. The type stays; what is behind it is anybody's.
pub(super) fn each((name, seeds, decode): Decoder) -> impl Iterator<Item = Target> {
    by_type(seeds).into_iter().map(move |(kind, packets)| {
        let name = format!("{name} {}", TYPES[usize::from(kind)]);
        Target::new(name, &packets, move |bytes| {
            let mut packet = bytes.to_vec();
            let Some(first) = packet.first_mut() else { return false };
            *first = kind << 4 | *first & 0x0f;
            decode(&packet)
        })
    })
}
