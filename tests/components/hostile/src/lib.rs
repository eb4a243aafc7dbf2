//! Misbehaves as it is told: by the setting `mode`, or where that is not set, by the payload. A mode is a word
//! and, for some, a number: `spin 50`. What each does stands at its arm below; what it does not know is rejected.

use std::hint::black_box;
use std::time::Duration;

use sandbar_guest::prelude::*;

const MEBIBYTE: usize = 1 << 20;

struct Hostile {
    mode: Option<String>,
}

impl Handler for Hostile {
    fn configure() -> Result<Self, String> {
        let mode = config::get("mode");
        match mode.as_deref() {
            Some("configure-refuse") => return Err("refused as told".to_owned()),
            Some("configure-trap") => panic!("trapped as told"),
            Some("configure-loop") => loop_for_ever(),
            _ => {}
        }
        Ok(Self { mode })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let text = match &self.mode {
            Some(mode) => mode,
            None => reading.text()?,
        };
        let mut words = text.split_whitespace();
        let mode = words.next().unwrap_or("");
        let number = |default: usize| match words.clone().next() {
            Some(number) => number.parse().map_err(|_| Failure::reject(format!("no number: {text}"))),
            None => Ok(default),
        };
        match mode {
            "ok" => {}
            "reject" => return Err(Failure::reject("rejected as told")),
            "retry" => return Err(Failure::retry("not yet, as told")),
            // Its text is found in the host's log, at level critical.
            "trap" => panic!("trapped as told"),
            // One in `number` readings, always the same ones: the host may retry them as often as it likes.
            "trap-at-random" => {
                let one_in = u64::try_from(number(2)?.max(1)).unwrap_or(u64::MAX);
                assert!(hash(&reading.id) % one_in != 0, "trapped as told, by the reading's id");
            }
            "loop" => loop_for_ever(),
            // A while of work: `number` million steps, a few milliseconds each. No clock can be seen from here.
            "spin" => spin(number(10)?),
            // `number` MiB of memory, touched; without a number until the host says no.
            "grow" => grow(number(usize::MAX)?),
            "recurse" => {
                black_box(recurse(black_box(1)));
            }
            // `number` messages of a mebibyte each.
            "huge" => return Ok((0..number(10_000)?).map(|_| message(vec![b'x'; MEBIBYTE])).collect()),
            // `number` messages with next to nothing in them.
            "many" => return Ok((0..number(1_000_000)?).map(|_| message(vec![])).collect()),
            "log-flood" => (0..number(1_000_000)?).for_each(|n| log::info!("line {n} of a flood")),
            // Names without end; what the state refuses, it must refuse as an error.
            "state-flood" => {
                for n in 0..number(1_000_000)? {
                    state::set_for(&format!("flood/{n}"), &[b'x'; 1024], Duration::from_secs(3600))?;
                }
            }
            // One value of `number` MiB.
            "state-huge" => state::set("huge", &vec![b'x'; number(64)?.saturating_mul(MEBIBYTE)])?,
            // Outputs that the contract forbids.
            "bad-topic" => return Ok(vec![Message::text("a/+/#\0", "x").into()]),
            "reserved-attribute" => {
                return Ok(vec![Message::text("hostile", "x").with_attribute("sandbar.depth", "0").into()]);
            }
            other => return Err(Failure::reject(format!("no such mode: {other:?}"))),
        }
        Ok(vec![message(reading.payload)])
    }
}

fn message(payload: Vec<u8>) -> Output {
    Message::new("hostile", "text/plain", payload).into()
}

fn loop_for_ever() -> ! {
    loop {
        black_box(());
    }
}

fn spin(millions: usize) {
    for step in 0..millions.saturating_mul(1_000_000) {
        black_box(step);
    }
}

fn grow(mebibytes: usize) {
    let mut held = Vec::new();
    while held.len() < mebibytes {
        held.push(black_box(vec![1_u8; MEBIBYTE]));
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    // Not a tail call: the frame is needed after it.
    if depth == 0 { 0 } else { recurse(black_box(depth + 1)) + frame[usize::from(depth == 1)] }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

sandbar_guest::handler!(Hostile);
