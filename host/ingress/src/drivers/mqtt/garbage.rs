//! Every packet that a client may send, in both versions: what garbage is made from.

use bytes::BytesMut;

use super::codec::{self, Version};

/// One or several of each type, in the order of their types.
pub(crate) const V3: &[&[u8]] = &[
    b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c",
    b"\x10\x19\0\x04MQTT\x04\xc6\0\x3c\0\x01c\0\x01w\0\x01x\0\x01u\0\x01p",
    b"\x30\x06\0\x03a/bx",
    b"\x32\x08\0\x03a/b\0\x05x",
    b"\x3d\x08\0\x03a/b\0\x06x",
    b"\x40\x02\0\x05",
    b"\x50\x02\0\x05",
    b"\x62\x02\0\x05",
    b"\x70\x02\0\x05",
    b"\x82\x0c\0\x01\0\x03a/+\x01\0\x01#\x02",
    b"\xa2\x07\0\x02\0\x03a/+",
    b"\xc0\0",
    b"\xe0\0",
];

pub(crate) const V5: &[&[u8]] = &[
    b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01c",
    b"\x10\x37\0\x04MQTT\x05\xc6\0\x3c\x17\x11\0\0\0\x3c\x21\0\x14\x27\0\x01\0\0\x22\0\x05\x26\0\x01k\0\x01v\
      \0\x01c\x05\x18\0\0\0\x01\0\x01w\0\x01x\0\x01u\0\x01p",
    b"\x30\x07\0\x03a/b\0x",
    b"\x32\x26\0\x03a/b\0\x05\x1d\x01\x01\x02\0\0\0\x3c\x03\0\x01t\x08\0\x01r\x09\0\x01c\x23\0\x01\x26\0\x01k\0\x01vx",
    b"\x34\x09\0\x03a/b\0\x06\0x",
    b"\x40\x02\0\x05",
    b"\x40\x08\0\x05\x97\x04\x1f\0\x01n",
    b"\x50\x03\0\x05\0",
    b"\x62\x04\0\x05\x92\0",
    b"\x70\x02\0\x05",
    b"\x82\x18\0\x01\x02\x0b\x07\0\x03a/+\x1d\0\x0a$share/g/#\x01",
    b"\xa2\x08\0\x02\0\0\x03a/+",
    b"\xc0\0",
    b"\xe0\0",
    b"\xe0\x07\x04\x05\x11\0\0\0\x05",
    b"\xf0\x09\x18\x07\x15\0\x04test",
];

/// Whether all of it is packets of a client that speaks MQTT 3.1.1.
pub(crate) fn decodes_v3(bytes: &[u8]) -> bool {
    decodes(bytes, Version::V3)
}

pub(crate) fn decodes_v5(bytes: &[u8]) -> bool {
    decodes(bytes, Version::V5)
}

fn decodes(bytes: &[u8], version: Version) -> bool {
    let mut rest = BytesMut::from(bytes);
    while let Ok(Some(frame)) = codec::frame(&mut rest, codec::LARGEST) {
        if codec::decode(frame, version).is_err() {
            return false;
        }
    }
    rest.is_empty()
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
