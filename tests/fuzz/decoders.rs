//! What drivers read of what peers send: every `decode`.

use sandbar_ingress::decoders::{DECODERS, Decoder};
use sandbar_tests::mutate::mutate;

use crate::fuzz_bytes;

/// What formats trip over.
const PIECES: [&[u8]; 16] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b":",
    b",",
    b"1e400",
    b"-0",
    b"18446744073709551616",
    b"\xff",
    b"\xc3\x28",
    b"\x7f\xff\xff\xff",
];

fn throw(decoder: &Decoder) {
    for seed in decoder.seeds {
        (decoder.decode)(seed);
    }
    let (mut taken, mut refused) = (0, 0);
    fuzz_bytes(
        |random| mutate(random, random.clone().one_of(decoder.seeds), &PIECES),
        |bytes| match (decoder.decode)(bytes) {
            true => taken += 1,
            false => refused += 1,
        },
    );
    eprintln!("{}: {taken} taken, {refused} refused", decoder.name);
    assert!(taken > 0 && refused > 0, "{}: {taken} taken, {refused} refused", decoder.name);
}

#[test]
fn every_decode_takes_or_refuses_and_never_panics() {
    // At once: they share the time, not the processor.
    std::thread::scope(|scope| {
        for decoder in DECODERS {
            scope.spawn(|| throw(decoder));
        }
    });
}
