//! What reads what others write must say what is wrong, and never panic: texts made from valid ones by
//! scribbling in them, for `SANDBAR_FUZZ_SECONDS` a target (5 in CI, more with `make fuzz`).

mod bodies;
mod config;
mod decoders;
mod packets;
mod scribble;
mod topics;

use std::time::{Duration, Instant};

use sandbar_tests::seed::{Random, seed};

/// Tells what it was if its test panics. What is too deep for the stack ends the process instead: the seed,
/// which was printed before, leads there again.
struct Case<'a> {
    number: u64,
    input: &'a [u8],
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let beginning = &self.input[..self.input.len().min(10_000)];
            let text = beginning.utf8_chunks().all(|chunk| chunk.invalid().is_empty());
            match text {
                true => eprintln!("case {}: {}", self.number, String::from_utf8_lossy(beginning)),
                false => eprintln!("case {}, {} bytes: {beginning:?}", self.number, self.input.len()),
            }
        }
    }
}

/// Calls `one` again and again. The same seed gives the same cases, in the same order.
fn fuzz(make: impl Fn(&mut Random) -> String, mut one: impl FnMut(&str)) {
    fuzz_bytes(
        |random| make(random).into_bytes(),
        |bytes| one(std::str::from_utf8(bytes).expect("it was made of text")),
    );
}

/// The same for what is no text.
fn fuzz_bytes(make: impl Fn(&mut Random) -> Vec<u8>, mut one: impl FnMut(&[u8])) {
    let seconds =
        std::env::var("SANDBAR_FUZZ_SECONDS").map_or(5, |text| text.parse().expect("it is a number"));
    let mut random = Random::new(seed());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        let input = make(&mut random);
        let case = Case { number, input: &input };
        one(&input);
        drop(case);
    }
    assert!(number > 100, "only {number} cases in {seconds} s");
    eprintln!("{number} cases");
}
