//! What handlers and targets do with a reading. It follows from the seed and the reading's label alone, so
//! that what must have become of every reading can be told afterwards.

use std::time::Duration;

use sandbar_reading::Reading;
use sandbar_tests::seed::Random;

pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) attempts_max: u32,
}

/// Two routes that feed each other.
pub(crate) const LOOP: [&str; 2] = ["ping", "pong"];

/// What becomes of a reading in a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Handled,
    Slow(Duration),
    /// The first calls fail, or trap; fewer than there may be attempts.
    FailsFirst {
        calls: u32,
        traps: bool,
    },
    /// The host has no room for the first calls, which is nobody's failure.
    NoRoomFirst {
        calls: u32,
    },
    Rejected,
    /// Every call fails, or traps.
    Exhausted {
        traps: bool,
    },
}

impl Fate {
    pub(crate) fn is_dead_letter(self) -> bool {
        matches!(self, Self::Rejected | Self::Exhausted { .. })
    }
}

impl Script {
    pub(crate) fn fate(&self, route: &str, reading: &Reading) -> Fate {
        if LOOP.contains(&route) {
            return Fate::Handled;
        }
        let mut random = self.random(&[route, reading.ingress.as_str(), label(reading)]);
        let traps = random.chance(50);
        match random.below(100) {
            0..65 => Fate::Handled,
            65..74 => Fate::Slow(Duration::from_millis(1 + random.below(800))),
            // Longer than most faults.
            74..77 => Fate::Slow(Duration::from_millis(1 + random.below(5000))),
            77..85 => {
                let calls = 1 + random.below(u64::from(self.attempts_max - 1)) as u32;
                Fate::FailsFirst { calls, traps }
            }
            85..90 => Fate::NoRoomFirst { calls: 1 + random.below(3) as u32 },
            90..95 => Fate::Rejected,
            _ => Fate::Exhausted { traps },
        }
    }

    /// Whether the first route's handler puts out a command for it.
    pub(crate) fn commands(&self, label: &str) -> bool {
        self.random(&["command", label]).chance(20)
    }

    /// Whether a target that would never take it does once it is redriven.
    pub(crate) fn taken_when_redriven(&self, target: &str, label: &str) -> bool {
        self.random(&["redriven", target, label]).chance(50)
    }

    /// For how long a state that is written for it is there.
    pub(crate) fn expires_after(&self, route: &str, label: &str) -> Duration {
        Duration::from_millis(1 + self.random(&["expires", route, label]).below(1500))
    }

    /// Whether a target will never take what came of it.
    pub(crate) fn never_taken(&self, target: &str, label: &str) -> bool {
        self.random(&["never", target, label]).chance(5)
    }

    fn random(&self, of: &[&str]) -> Random {
        let bytes = of.iter().flat_map(|text| text.bytes().chain([0]));
        // FNV-1a.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random::new(self.seed ^ hash)
    }
}

/// Tells what a peer sent from everything else, and goes through all routes: it is the payload.
pub(crate) fn label(reading: &Reading) -> &str {
    text(&reading.payload)
}

pub(crate) fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).unwrap_or("not UTF-8")
}
