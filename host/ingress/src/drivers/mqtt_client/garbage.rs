//! Every packet that a broker may send, in both versions, for those who throw garbage at the client: `tests/fuzz`.

use bytes::BytesMut;
use sandbar_mqtt_client::{Packet, Version, codec};
use sandbar_reading::ContentType;

use super::decode::{Pattern, Reader};

/// One or several of each type, in the order of their types.
pub(crate) const V3: &[&[u8]] = &[
    b"\x20\x02\x01\0",
    b"\x32\x0a\0\x05a/d/b\0\x05x",
    b"\x40\x02\0\x05",
    b"\x50\x02\0\x06",
    b"\x62\x02\0\x05",
    b"\x70\x02\0\x05",
    b"\x90\x04\0\x01\x02\x80",
    b"\xb0\x02\0\x01",
    b"\xd0\0",
];

pub(crate) const V5: &[&[u8]] = &[
    b"\x20\x0e\x01\0\x0b\x21\0\x14\x27\0\x01\0\0\x22\0\x05",
    b"\x32\x13\0\x03a/b\0\x05\x0a\x01\x01\x26\0\x01k\0\x02vvx",
    b"\x31\x1c\0\x05a/d/b\x13\x02\0\0\0\x3c\x03\0\x01t\x08\0\x01r\x09\0\x01c\x0b\x07x",
    b"\x40\x04\0\x05\x10\0",
    b"\x50\x03\0\x06\0",
    b"\x62\x02\0\x05",
    b"\x70\x02\0\x05",
    b"\x90\x05\0\x01\0\x02\x80",
    b"\xb0\x04\0\x01\0\x11",
    b"\xd0\0",
    b"\xe0\x02\x8b\0",
];

/// Whether all of it is packets of a broker that speaks MQTT 3.1.1, and what it publishes gives readings.
pub(crate) fn decodes_v3(bytes: &[u8]) -> bool {
    decodes(bytes, Version::V3)
}

pub(crate) fn decodes_v5(bytes: &[u8]) -> bool {
    decodes(bytes, Version::V5)
}

fn decodes(bytes: &[u8], version: Version) -> bool {
    let pattern = Pattern::parse("a/{device}/#").expect("a pattern");
    let reader = Reader { patterns: vec![pattern], content_type: ContentType::OCTETS };
    let mut rest = BytesMut::from(bytes);
    loop {
        match codec::decode(&mut rest, version, 1 << 20) {
            Ok(Some(Packet::Publish(publish))) if reader.decode(&publish).is_err() => return false,
            Ok(Some(_)) => {}
            Ok(None) => return rest.is_empty(),
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_garbage_is_made_from_is_none() {
        for packet in V3 {
            assert!(decodes_v3(packet), "{packet:x?}");
        }
        for packet in V5 {
            assert!(decodes_v5(packet), "{packet:x?}");
        }
    }
}
