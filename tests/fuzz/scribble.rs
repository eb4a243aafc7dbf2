//! Texts that are nearly valid.

use sandbar_tests::seed::Random;

/// What TOML, JSON, topics and numbers trip over.
const PIECES: &[&str] = &[
    "\n",
    "\"",
    "\"\"\"",
    "'",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    ":",
    "#",
    "+",
    "/",
    "$",
    "\\",
    "\\u0000",
    "\\ud800",
    "\0",
    "\u{feff}",
    "é",
    "😀",
    " ",
    "\t",
    "\r",
    "-",
    "0",
    "-0",
    "1e400",
    "1e-400",
    "nan",
    "inf",
    "18446744073709551616",
    "-9223372036854775809",
    "0x",
    "true",
    "null",
    "1979-05-27T07:32:00Z",
    "[a]",
    "a.b.c",
    "driver",
    "kind",
    "topic",
    "route",
    "127.0.0.1:0",
    "..",
    "route/",
    "pointer:",
    "attribute:",
];

/// One of `seeds`, with up to five mistakes.
pub(crate) fn scribble(random: &mut Random, seeds: &[&str]) -> String {
    let mut text: Vec<char> = random.one_of(seeds).chars().collect();
    for _ in 0..=random.below(5) {
        mistake(random, &mut text, seeds);
    }
    text.into_iter().collect()
}

fn mistake(random: &mut Random, text: &mut Vec<char>, seeds: &[&str]) {
    let at = random.below(text.len() as u64 + 1) as usize;
    let end = text.len().min(at + random.below(30) as usize);
    let range = at..end;
    match random.below(7) {
        0 => drop(text.drain(range)),
        1 => drop(text.splice(at..at, random.one_of(PIECES).chars())),
        2 => drop(text.splice(range, random.one_of(PIECES).chars())),
        3 => {
            let again = text[range].repeat(random.below(6) as usize);
            drop(text.splice(at..at, again));
        }
        // Deep, long.
        4 if random.chance(10) => {
            let again = random.one_of(PIECES).repeat(random.below(20_000) as usize);
            drop(text.splice(at..at, again.chars()));
        }
        5 => {
            let other: Vec<char> = random.one_of(seeds).chars().collect();
            let from = random.below(other.len() as u64 + 1) as usize;
            drop(text.splice(range, other[from..].iter().copied()));
        }
        _ => {
            let any = char::from_u32(random.below(0x300) as u32).unwrap_or('?');
            drop(text.splice(range, [any]));
        }
    }
}
