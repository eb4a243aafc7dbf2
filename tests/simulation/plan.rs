//! What a seed decides before the run: how the host is set up, who sends, and what happens when.

use std::num::NonZeroU32;
use std::time::Duration;

use sandbar_pipeline::{Attempts, Offering, Window};
use sandbar_store::Retention;
use sandbar_store::simulated::Failure;
use sandbar_tests::seed::Random;

pub(crate) struct Plan {
    pub(crate) devices: u64,
    /// Of each device; each sends one reading at a time.
    pub(crate) connections: u64,
    /// Of each connection.
    pub(crate) readings: u64,
    pub(crate) queue_max: usize,
    pub(crate) commit_max: usize,
    pub(crate) window: Window,
    pub(crate) deliveries_held: usize,
    pub(crate) attempts: Attempts,
    pub(crate) concurrency: usize,
    /// The second route has one key for all.
    pub(crate) again_alone: bool,
    pub(crate) reply: bool,
    pub(crate) offering: Offering,
    /// What is larger has a file; in some runs everything has.
    pub(crate) inline_max: usize,
    /// How long such a file takes.
    pub(crate) payload_time: Duration,
    pub(crate) retention: Retention,
    /// Messages of the second route go to two that feed each other, down to this depth.
    pub(crate) loops: bool,
    pub(crate) depth_max: u8,
    pub(crate) faults: Vec<Fault>,
    /// By time.
    pub(crate) incidents: Vec<(Duration, Incident)>,
}

/// The disk fails for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) of: Operation,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Write(Failure),
    Sync(Failure),
    Read,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Incident {
    /// So many more operations reach the disk; a little later the host is gone.
    PowerLoss {
        operations: u64,
        later: Duration,
    },
    Restart,
    /// Milliseconds.
    ClockJump(i64),
    ReplaceRoutes,
    ReplaceSink(usize),
    RemovePassing,
    AddPassing,
    /// What was given up on waits again.
    Redrive,
}

/// Something happens during this time; then everything is mended.
const BUSY: u64 = 4000;

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let (devices, connections) = (1 + random.below(5), 1 + random.below(2));
        let mut few = |choices: &[usize]| choices[random.below(choices.len() as u64) as usize];
        let window = Window {
            readings: few(&[1, 2, 5, 2048]),
            bytes: few(&[1, 500, 8 << 20]),
            lanes: few(&[1, 2, 1024]),
            per_lane: few(&[1, 3, 256]),
        };
        let (queue_max, commit_max) = (few(&[2, 8, 16_384]), few(&[1, 3, 4096]));
        let (deliveries_held, batch_max) = (few(&[1, 3, 512]), few(&[1, 3, 100]));
        let inline_max = few(&[0, 9, usize::MAX, usize::MAX]);
        let retention = Retention {
            age: [None, None, Some(Duration::from_millis(300)), Some(Duration::from_secs(3))]
                [few(&[0, 1, 2, 3])],
            bytes: [None, None, Some(0), Some(100)][few(&[0, 1, 2, 3])],
        };
        let depth_max = few(&[2, 3, 6]) as u8;
        let mut plan = Self {
            devices,
            connections,
            readings: (40 / (devices * connections)).max(4),
            queue_max,
            commit_max,
            window,
            deliveries_held,
            attempts: Attempts {
                max: NonZeroU32::new(2 + random.below(3) as u32).expect("at least 2"),
                first_wait: Duration::from_millis(20 + random.below(300)),
                longest_wait: Duration::from_secs(2),
            },
            concurrency: 1 + random.below(3) as usize,
            again_alone: random.chance(50),
            reply: random.chance(50),
            offering: Offering {
                batch_max,
                first_wait: Duration::from_millis(20 + random.below(300)),
                longest_wait: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                ..Offering::default()
            },
            inline_max,
            payload_time: Duration::from_millis(random.below(60)),
            retention,
            loops: random.chance(30),
            depth_max,
            faults: Vec::new(),
            incidents: Vec::new(),
        };
        plan.faults = (0..random.below(5)).map(|_| fault(random)).collect();
        let mut incidents: Vec<_> = (0..1 + random.below(6)).map(|_| incident(random)).collect();
        incidents.sort_by_key(|(at, _)| *at);
        plan.incidents = incidents;
        plan
    }

    /// Whether the journal may have forgotten something in the end.
    pub(crate) fn forgets(&self) -> bool {
        self.retention.age.is_some() || self.retention.bytes.is_some()
    }

    /// Whether the clock only ever goes on.
    pub(crate) fn is_steady(&self) -> bool {
        !self.incidents.iter().any(|(_, incident)| matches!(incident, Incident::ClockJump(_)))
    }

    /// When everything that happens has happened.
    pub(crate) fn end(&self) -> Duration {
        let faults = self.faults.iter().map(|fault| fault.to);
        faults.chain(self.incidents.iter().map(|(at, _)| *at)).max().unwrap_or_default()
    }
}

fn fault(random: &mut Random) -> Fault {
    let from = Duration::from_millis(random.below(BUSY));
    let failure = if random.chance(50) { Failure::Full } else { Failure::Broken };
    let of = match random.below(5) {
        0 | 1 => Operation::Write(failure),
        2 | 3 => Operation::Sync(failure),
        _ => Operation::Read,
    };
    let longest = if random.chance(70) { 300 } else { 3000 };
    Fault { from, to: from + Duration::from_millis(1 + random.below(longest)), of }
}

fn incident(random: &mut Random) -> (Duration, Incident) {
    let at = Duration::from_millis(random.below(BUSY));
    let incident = match random.below(15) {
        0..3 => Incident::PowerLoss {
            operations: random.below(60),
            later: Duration::from_millis(random.below(300)),
        },
        3 | 4 => Incident::Restart,
        5 => Incident::ClockJump(random.below(7_200_000).cast_signed() - 3_600_000),
        6 => Incident::ReplaceRoutes,
        7 | 8 => Incident::ReplaceSink(random.below(3) as usize),
        9 | 10 => Incident::RemovePassing,
        11 => Incident::AddPassing,
        _ => Incident::Redrive,
    };
    (at, incident)
}
