//! What waits for the committer. Ids are given out here, so that the order of ids is the order of calls.

use std::collections::VecDeque;
use std::ops::Range;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandbar_reading::{IdGenerator, Name, Scope, StateWrite, Target, Timestamp};
use tokio::sync::{Notify, oneshot};

use crate::change::{Accept, Delivered, NewDelivery, Outcome, Replayed};
use crate::devices::DevicesWork;
use crate::documents::Kind;
use crate::error::{Fault, StoreError};

/// A change, and who waits for it.
pub(crate) struct Change {
    pub(crate) work: Work,
    /// For the readings, deliveries and dead letters that come of it.
    pub(crate) ids: Range<u128>,
    pub(crate) done: oneshot::Sender<Done>,
}

/// Whether there is more of it to do, if it is done in chunks.
pub(crate) type Done = Result<bool, StoreError>;

pub(crate) enum Work {
    Accept(Accept),
    Keep(Scope, Vec<StateWrite>),
    Settle(Outcome),
    Delivered(Delivered),
    Replayed(Replayed),
    Documents(Vec<(Kind, String, Option<Vec<u8>>)>),
    Devices(Box<DevicesWork>),
    DiscardRoute(Name),
    DiscardTarget(Target),
    Redrive(u128),
    DiscardDeadLetter(u128),
}

/// How much of a discarded route or target one commit takes.
pub(crate) const DISCARD_CHUNK: usize = 256;

impl Work {
    /// How many ids it may need.
    fn ids(&self) -> usize {
        match self {
            Self::Accept(_) => 1,
            Self::Settle(outcome) => outcome.chained.len() + outcome.deliveries.len() + 1,
            Self::Delivered(delivered) => delivered.failed.len(),
            Self::Replayed(replayed) => replayed.chained.len() + replayed.deliveries.len(),
            Self::DiscardRoute(_) | Self::DiscardTarget(_) => DISCARD_CHUNK,
            Self::Devices(work) => work.ids(),
            Self::Keep(..) | Self::Documents(_) | Self::Redrive(_) | Self::DiscardDeadLetter(_) => 0,
        }
    }

    /// Bytes it holds, about.
    fn size(&self) -> usize {
        const FIXED: usize = 256;
        let kept = |writes: &[StateWrite]| {
            writes
                .iter()
                .map(|write| write.name.len() + write.value.as_ref().map_or(0, |v| v.len()))
                .sum::<usize>()
        };
        let accept = |accept: &Accept| {
            let inbound = &accept.inbound;
            FIXED
                + inbound.payload.len()
                + inbound.attributes.size()
                + inbound.topic.as_str().len()
                + kept(&accept.keep)
        };
        let sent = |delivery: &NewDelivery| {
            let message = &delivery.message;
            FIXED + message.payload.len() + message.attributes.size() + message.topic.as_str().len()
        };
        match self {
            Self::Accept(accepted) => accept(accepted),
            Self::Keep(_, writes) => FIXED + kept(writes),
            Self::Settle(outcome) => {
                let sent = outcome.deliveries.iter().map(sent);
                let chained = outcome.chained.iter().map(accept);
                FIXED + kept(&outcome.state) + sent.sum::<usize>() + chained.sum::<usize>()
            }
            Self::Replayed(replayed) => {
                let state: usize = replayed.state.iter().map(|(_, writes)| kept(writes)).sum();
                let sent: usize = replayed.deliveries.iter().map(sent).sum();
                FIXED + state + sent + replayed.chained.iter().map(accept).sum::<usize>()
            }
            Self::Delivered(delivered) => FIXED + 32 * (delivered.accepted.len() + delivered.failed.len()),
            Self::Documents(documents) => {
                FIXED
                    + documents
                        .iter()
                        .map(|(_, name, bytes)| name.len() + bytes.as_ref().map_or(0, Vec::len))
                        .sum::<usize>()
            }
            Self::Devices(work) => work.size(),
            Self::DiscardRoute(_)
            | Self::DiscardTarget(_)
            | Self::Redrive(_)
            | Self::DiscardDeadLetter(_) => FIXED,
        }
    }

    /// Somebody waits for it, or for what it brings. What is not prompt may wait a moment for company: a flush
    /// for it alone would be in the way of the next reading.
    fn is_prompt(&self) -> bool {
        match self {
            Self::Settle(outcome) => {
                outcome.prompt
                    || outcome.handled.len() > 1
                    || !outcome.deliveries.is_empty()
                    || !outcome.chained.is_empty()
                    || outcome.failed.is_some()
            }
            Self::Delivered(delivered) => delivered.accepted.len() > 1 || !delivered.failed.is_empty(),
            _ => true,
        }
    }

    /// From drivers: they are told when there is no room, and must not take the room of the host's own.
    const fn is_from_drivers(&self) -> bool {
        matches!(self, Self::Accept(_) | Self::Keep(..))
    }
}

/// Why a change was not queued.
pub(crate) enum NotQueued {
    /// There is no room; it comes back.
    Full(Box<Work>),
    Never(StoreError),
}

pub(crate) struct Queue {
    state: Mutex<State>,
    limit: Room,
    /// For the committer: there is something to do.
    pub(crate) wake: Notify,
    /// For those who wait for room.
    pub(crate) room: Notify,
}

struct State {
    changes: VecDeque<(Change, usize)>,
    /// How many of them are prompt.
    prompt: usize,
    drivers: Room,
    own: Room,
    ids: IdGenerator,
    random: StdRng,
    fault: Option<Fault>,
    /// A reader found the storage failing.
    suspect: Option<Fault>,
    closed: bool,
}

/// How much there is, or may be.
#[derive(Clone, Copy, Default)]
struct Room {
    count: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(count: usize, bytes: usize, last_id: u128, seed: Option<u64>) -> Self {
        let random = seed.map_or_else(rand::make_rng, StdRng::seed_from_u64);
        Self {
            state: Mutex::new(State {
                changes: VecDeque::new(),
                prompt: 0,
                drivers: Room::default(),
                own: Room::default(),
                ids: IdGenerator::after(last_id),
                random,
                fault: None,
                suspect: None,
                closed: false,
            }),
            limit: Room { count, bytes },
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// The first of the change's ids, and what becomes of it.
    pub(crate) fn push(
        &self,
        work: Work,
        now: Timestamp,
    ) -> Result<(u128, oneshot::Receiver<Done>), NotQueued> {
        let (count, size) = (work.ids(), work.size());
        let mut state = self.state.lock();
        if let Some(fault) = &state.fault {
            return Err(NotQueued::Never(fault.clone().into()));
        }
        if state.closed {
            return Err(NotQueued::Never(StoreError::Stopping));
        }
        let used = state.used(&work);
        // One change goes in whatever its size: else it would wait for ever.
        if used.count >= self.limit.count || (used.count > 0 && used.bytes + size > self.limit.bytes) {
            return Err(NotQueued::Full(Box::new(work)));
        }
        used.count += 1;
        used.bytes += size;
        let ids = state.reserve(count, now);
        let first = ids.start;
        let (done, result) = oneshot::channel();
        let prompt = work.is_prompt();
        state.prompt += usize::from(prompt);
        state.changes.push_back((Change { work, ids, done }, size));
        // The committer looks at all there is: it need not be woken for what comes after.
        let news = state.changes.len() == 1 || prompt && state.prompt == 1;
        drop(state);
        if news {
            self.wake.notify_one();
        }
        Ok((first, result))
    }

    /// What the next commit is to take.
    pub(crate) fn take(&self, count: usize, bytes: usize) -> Vec<Change> {
        let mut state = self.state.lock();
        let mut taken = Vec::with_capacity(count.min(state.changes.len()));
        let mut size = 0;
        while taken.len() < count && size < bytes {
            let Some((change, own)) = state.changes.pop_front() else { break };
            size += own;
            state.prompt -= usize::from(change.work.is_prompt());
            let used = state.used(&change.work);
            used.count -= 1;
            used.bytes -= own;
            taken.push(change);
        }
        drop(state);
        if !taken.is_empty() {
            self.room.notify_waiters();
        }
        taken
    }

    /// Whether all that waits may wait a moment longer.
    pub(crate) fn is_patient(&self) -> bool {
        let state = self.state.lock();
        state.prompt == 0 && !state.changes.is_empty() && !state.closed && state.suspect.is_none()
    }

    /// From now on changes are refused with `fault`; returns those that waited.
    pub(crate) fn fail(&self, fault: Fault) -> Vec<Change> {
        {
            let mut state = self.state.lock();
            state.fault = Some(fault);
            state.suspect = None;
        }
        self.take(usize::MAX, usize::MAX)
    }

    pub(crate) fn mend(&self) {
        let mut state = self.state.lock();
        state.fault = None;
        state.suspect = None;
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state.lock().fault.clone()
    }

    /// A reader found that the storage fails: the committer is to see to it.
    pub(crate) fn suspect(&self, fault: Fault) {
        self.state.lock().suspect = Some(fault);
        self.wake.notify_one();
    }

    pub(crate) fn suspected(&self) -> Option<Fault> {
        self.state.lock().suspect.take()
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl State {
    fn used(&mut self, work: &Work) -> &mut Room {
        if work.is_from_drivers() { &mut self.drivers } else { &mut self.own }
    }

    /// Ids in a row.
    fn reserve(&mut self, count: usize, now: Timestamp) -> Range<u128> {
        if count == 0 {
            return 0..0;
        }
        let first = self.ids.next(now, || self.random.random());
        for _ in 1..count {
            // The millisecond is taken: it counts on.
            self.ids.next(now, || 0);
        }
        first..self.ids.last() + 1
    }
}
