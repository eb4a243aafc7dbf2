//! A version that is on trial in a route: beside the active one (shadow), or in its place for a share of the
//! keys (canary). Compared with the active one; it stops by itself when it fails too often.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::ReadingId;
use sandbar_runtime::{Fault, Handled};
use tokio::sync::watch;
use twox_hash::XxHash3_64;

use crate::handlers::Handler;

/// How many differences are kept for those who look.
const DIFFERENCES_MAX: usize = 20;
/// After so many calls in a row that took too long, or for which there was no instance of it, it stops: each costs
/// its route the whole time, or a start for nothing.
const DEAR_MAX: u32 = 3;

pub struct Candidate {
    pub version: u32,
    pub handler: Arc<dyn Handler>,
    pub mode: Mode,
    pub limit: ErrorLimit,
    compared: Mutex<State>,
    stopped: watch::Sender<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Sees every reading; nothing comes of it.
    Shadow,
    /// Handles the readings of `percent` of the keys; what it fails at, the active version handles.
    Canary { percent: f64 },
}

/// When a candidate is given up on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorLimit {
    /// Of its calls, those at which only it failed.
    pub percent: f64,
    /// Not before so many calls.
    pub after: u64,
}

/// Since it began, or since the host started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Of the candidate.
    pub calls: u64,
    /// Those at which it failed and the active version did not.
    pub errors: u64,
    /// Shadow: both handled it, and put out and wrote the same.
    pub same: u64,
    /// Shadow: one handled it otherwise than the other.
    pub different: u64,
    pub time: Duration,
    /// Calls of the active version meanwhile.
    pub active_calls: u64,
    pub active_errors: u64,
    pub active_time: Duration,
    /// The newest.
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub reading: ReadingId,
    /// In words.
    pub what: String,
}

#[derive(Default)]
struct State {
    compared: Compared,
    differences: VecDeque<Difference>,
    /// In a row.
    dear: u32,
}

/// How a call ended, as far as it is compared.
pub(crate) type Ended<'a> = Result<&'a Handled, &'a Fault>;

impl Candidate {
    pub fn new(version: u32, handler: Arc<dyn Handler>, mode: Mode, limit: ErrorLimit) -> Self {
        let stopped = watch::channel(None).0;
        Self { version, handler, mode, limit, compared: Mutex::default(), stopped }
    }

    pub fn compared(&self) -> Compared {
        let state = self.compared.lock();
        Compared { differences: state.differences.iter().cloned().collect(), ..state.compared.clone() }
    }

    /// Tells once why it stopped by itself.
    pub fn stops(&self) -> watch::Receiver<Option<String>> {
        self.stopped.subscribe()
    }

    /// Whether it is to be called for a lane.
    pub(crate) fn takes(&self, key: &str) -> bool {
        match self.mode {
            _ if self.is_stopped() => false,
            Mode::Shadow => true,
            Mode::Canary { percent } => share(key) < percent,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    /// The canary handled a reading.
    pub(crate) fn handled(&self, took: Duration) {
        let mut state = self.compared.lock();
        state.dear = 0;
        state.compared.calls += 1;
        state.compared.time += took;
    }

    /// It failed at a reading, and `alone` if the active version did not.
    pub(crate) fn failed(
        &self,
        reading: ReadingId,
        took: Duration,
        fault: &str,
        timed_out: bool,
        alone: bool,
    ) {
        self.count(reading, took, fault, alone, timed_out.then_some("calls in a row took too long"));
    }

    /// There was no instance of it for a reading: its `configure` refused, trapped or took too long.
    pub(crate) fn not_started(&self, reading: ReadingId, took: Duration, fault: &str) {
        self.count(reading, took, fault, true, Some("times in a row it could not be started"));
    }

    /// `dear`: what so many of in a row are more than its route should pay for.
    fn count(&self, reading: ReadingId, took: Duration, fault: &str, alone: bool, dear: Option<&str>) {
        let mut state = self.compared.lock();
        state.compared.calls += 1;
        state.compared.time += took;
        state.dear = if dear.is_some() { state.dear + 1 } else { 0 };
        if alone {
            state.compared.errors += 1;
            state.differ(reading, format!("it failed: {fault}"));
        }
        let Compared { calls, errors, .. } = state.compared;
        let too_many = calls >= self.limit.after && errors as f64 * 100.0 > calls as f64 * self.limit.percent;
        let why = match dear.filter(|_| state.dear >= DEAR_MAX) {
            Some(dear) => format!("{DEAR_MAX} {dear}: {fault}"),
            None if too_many && alone => format!("it failed at {errors} of {calls} readings, last: {fault}"),
            None => return,
        };
        drop(state);
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(why);
            }
            first
        });
    }

    pub(crate) fn active(&self, took: Duration, failed: bool) {
        let mut state = self.compared.lock();
        state.compared.active_calls += 1;
        state.compared.active_errors += u64::from(failed);
        state.compared.active_time += took;
    }

    /// Shadow: both were called with the same reading and state.
    pub(crate) fn compare(
        &self,
        reading: ReadingId,
        active: Ended<'_>,
        candidate: Ended<'_>,
        took: Duration,
    ) {
        match (active, candidate) {
            (_, Err(fault)) => {
                let timed_out = matches!(fault, Fault::TimedOut { .. });
                self.failed(reading, took, &fault.to_string(), timed_out, active.is_ok());
                if active.is_err() {
                    self.compared.lock().compared.same += 1;
                } else {
                    self.compared.lock().compared.different += 1;
                }
            }
            (active, Ok(handled)) => {
                self.handled(took);
                let mut state = self.compared.lock();
                match difference(active, handled) {
                    None => state.compared.same += 1,
                    Some(what) => {
                        state.compared.different += 1;
                        state.differ(reading, what);
                    }
                }
            }
        }
    }
}

impl State {
    fn differ(&mut self, reading: ReadingId, what: String) {
        if self.differences.len() == DIFFERENCES_MAX {
            self.differences.pop_front();
        }
        self.differences.push_back(Difference { reading, what });
    }
}

/// Where a key is between 0 and 100: always at the same place, on every host.
fn share(key: &str) -> f64 {
    (XxHash3_64::oneshot_with_seed(0x00ca_4a47, key.as_bytes()) % 1_000_000) as f64 / 10_000.0
}

/// What differs, in words.
pub fn difference(active: Ended<'_>, candidate: &Handled) -> Option<String> {
    let active = match active {
        Ok(active) => active,
        Err(fault) => return Some(format!("the active version failed: {fault}")),
    };
    if active.outputs.len() != candidate.outputs.len() {
        return Some(format!("{} outputs became {}", active.outputs.len(), candidate.outputs.len()));
    }
    let pairs = active.outputs.iter().zip(&candidate.outputs);
    if let Some(index) = pairs.clone().position(|(a, b)| a != b) {
        return Some(format!("output {index} is another one"));
    }
    let writes = active.writes.iter().zip(&candidate.writes);
    match active.writes.len() != candidate.writes.len() || writes.clone().any(|(a, b)| a != b) {
        true => Some("it writes another state".to_owned()),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use sandbar_reading::{Attributes, ContentType, Message, Output};

    use super::*;
    use crate::handlers::Sandbox;

    struct Nobody;

    impl Handler for Nobody {
        fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
            Box::pin(std::future::ready(Err(Fault::NoRoom("none".to_owned()))))
        }
    }

    fn candidate(mode: Mode) -> Candidate {
        Candidate::new(2, Arc::new(Nobody), mode, ErrorLimit { percent: 10.0, after: 10 })
    }

    const READING: ReadingId = ReadingId::from_u128(7);

    #[test]
    fn a_share_of_the_keys_is_the_canarys_and_always_the_same() {
        let canary = candidate(Mode::Canary { percent: 20.0 });
        let keys: Vec<_> = (0..10_000).map(|n| format!("device-{n}")).collect();
        let taken = keys.iter().filter(|key| canary.takes(key)).count();
        assert!((1800..2200).contains(&taken), "{taken}");
        let wider = candidate(Mode::Canary { percent: 40.0 });
        assert!(keys.iter().filter(|key| canary.takes(key)).all(|key| wider.takes(key)));
        assert!(keys.iter().all(|key| candidate(Mode::Canary { percent: 100.0 }).takes(key)));
        assert!(!keys.iter().any(|key| candidate(Mode::Canary { percent: 0.0 }).takes(key)));
    }

    #[test]
    fn errors_of_its_own_stop_it_and_shared_ones_do_not() {
        let canary = candidate(Mode::Canary { percent: 100.0 });
        for _ in 0..100 {
            canary.failed(READING, Duration::ZERO, "x", false, false);
        }
        assert!(!canary.is_stopped());
        for _ in 0..11 {
            canary.failed(READING, Duration::ZERO, "x", false, true);
        }
        assert!(!canary.is_stopped(), "11 of 111");
        canary.failed(READING, Duration::ZERO, "x", false, true);
        assert!(canary.is_stopped() && !canary.takes("any"));
        assert!(canary.stops().borrow().as_ref().unwrap().contains("12 of 112"));
    }

    #[test]
    fn calls_that_take_too_long_stop_it_soon() {
        let shadow = candidate(Mode::Shadow);
        let fault = Fault::TimedOut { limit: Duration::from_secs(1) };
        for _ in 0..DEAR_MAX {
            assert!(!shadow.is_stopped());
            shadow.compare(READING, Ok(&Handled::default()), Err(&fault), Duration::from_secs(1));
        }
        assert!(shadow.is_stopped());
    }

    #[test]
    fn one_that_cannot_be_started_stops_soon() {
        let canary = candidate(Mode::Canary { percent: 50.0 });
        let fail = || canary.not_started(READING, Duration::ZERO, "configure: no table");
        fail();
        fail();
        canary.handled(Duration::ZERO);
        fail();
        fail();
        assert!(!canary.is_stopped(), "not in a row");
        fail();
        let why = canary.stops().borrow().clone();
        assert_eq!(why.unwrap(), "3 times in a row it could not be started: configure: no table");
        assert_eq!(canary.compared().errors, 5);
    }

    #[test]
    fn differences_are_told() {
        let shadow = candidate(Mode::Shadow);
        let message = |payload: &'static str| Handled {
            outputs: vec![Output::Message(Message {
                topic: "t".parse().unwrap(),
                device: None,
                content_type: ContentType::TEXT,
                attributes: Attributes::new(),
                payload: payload.into(),
            })],
            writes: Vec::new(),
        };
        shadow.compare(READING, Ok(&message("a")), Ok(&message("a")), Duration::ZERO);
        shadow.compare(READING, Ok(&message("a")), Ok(&message("b")), Duration::ZERO);
        shadow.compare(READING, Ok(&message("a")), Ok(&Handled::default()), Duration::ZERO);
        let compared = shadow.compared();
        assert_eq!((compared.calls, compared.same, compared.different), (3, 1, 2));
        let what: Vec<_> = compared.differences.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(what, ["output 0 is another one", "1 outputs became 0"]);
    }
}
