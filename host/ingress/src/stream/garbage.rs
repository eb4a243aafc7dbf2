//! For those who throw garbage at what cuts streams into frames: `tests/fuzz`.

use bytes::Bytes;
use sandbar_reading::{Cutter, Framing};
use serde_json::json;

const LIMIT: usize = 8;

/// The first byte chooses the framing.
pub(crate) const STREAMS: &[&[u8]] = &[
    b"\x0021.5\n\r\n22.5\r\n123456789\n23",
    b"\x01ab\x03\x04\x03\x03\x04cd\x03\x04",
    b"\x02\0\x02ab\0\x01c\0\x09123456789\0\0",
    b"\x03\x06\0\0\0ab\x01\0\0\0\x05\0\0\0x",
    b"\x04abcdef",
];

fn framing(chosen: u8) -> Framing {
    let settings = match chosen % 5 {
        0 => json!({ "kind": "lines" }),
        1 => json!({ "kind": "delimiter", "end": { "hex": "0304" } }),
        2 => json!({ "kind": "length", "size": "u16" }),
        3 => json!({ "kind": "length", "size": "u32", "order": "little", "counts_itself": true }),
        _ => json!({ "kind": "fixed", "bytes": 3 }),
    };
    serde_json::from_value(settings).expect("a framing")
}

/// Whether there are frames, and nothing that is none. They are the same however the bytes arrive.
pub(crate) fn cuts(bytes: &[u8]) -> bool {
    let Some((chosen, stream)) = bytes.split_first() else { return false };
    let framing = framing(*chosen);
    let (frames, errors) = cut(&framing, stream.chunks(stream.len().max(1)));
    assert_eq!(frames, cut(&framing, stream.chunks(3)).0, "in pieces");
    for frame in &frames {
        assert!(frame.len() <= LIMIT, "{frame:x?}");
        // What was cut out of a stream can be put into one.
        let again = framing.encode(frame).expect("it was a frame");
        // But for a carriage return before the end of a line, which is a part of the end.
        if !(framing == Framing::Lines && frame.ends_with(b"\r")) {
            assert_eq!(cut(&framing, [&*again].into_iter()), (vec![frame.clone()], 0));
        }
    }
    !frames.is_empty() && errors == 0
}

/// The frames, and how often there was something else.
fn cut<'a>(framing: &Framing, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, usize) {
    let mut cutter = Cutter::new(framing.clone(), LIMIT);
    let (mut frames, mut errors) = (Vec::new(), 0);
    for piece in pieces {
        cutter.push(piece);
        loop {
            match cutter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => errors += 1,
            }
        }
    }
    (frames, errors)
}
