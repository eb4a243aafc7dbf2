//! Bytes that are nearly right.

use crate::seed::Random;

/// `original` with up to five mistakes; `pieces` are what its parsers trip over.
pub fn mutate(random: &mut Random, original: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = bytes.len().min(at + random.below(40) as usize);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, random.one_of(pieces).iter().copied())),
            3 => {
                let count = random.below(20) as usize;
                drop(bytes.splice(at..end, random.bytes(count)));
            }
            4 => {
                let again = bytes[at..end].repeat(1 + random.below(200) as usize);
                drop(bytes.splice(at..at, again));
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
    bytes
}
