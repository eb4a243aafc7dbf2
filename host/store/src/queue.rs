//! What waits for the committer. Ids are given out here, so that the order of ids is the order of calls.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandbar_reading::{IdGenerator, Name, Scope, StateWrite, Target, Timestamp};
use tokio::sync::{Notify, oneshot};

use crate::aside::{Aside, behind};
use crate::change::{Accept, Delivered, LaneId, NewDelivery, Outcome, Replayed};
use crate::devices::DevicesWork;
use crate::documents::Kind;
use crate::error::{Fault, StoreError};
use crate::late::{IsLate, Late};
use crate::payloads::Pins;

/// A change, and who waits for it.
pub(crate) struct Change {
    pub(crate) work: Work,
    /// For the readings, deliveries and dead letters that come of it.
    pub(crate) ids: Range<u128>,
    /// The files of its large payloads. They must outlive the commit.
    pub(crate) pins: Option<Pins>,
    /// If younger ones may be committed before it; until the observer was told of it.
    pub(crate) late: Option<IsLate>,
    pub(crate) done: oneshot::Sender<Done>,
}

/// Whether there is more of it to do, if it is done in chunks.
pub(crate) type Done = Result<bool, StoreError>;

pub(crate) enum Work {
    Accept(Accept),
    Keep {
        scope: Scope,
        writes: Vec<StateWrite>,
        /// Somebody waits for it.
        prompt: bool,
    },
    Settle(Outcome),
    Delivered(Delivered),
    Replayed(Replayed),
    Documents(Vec<(Kind, String, Option<Vec<u8>>)>),
    Devices(Box<DevicesWork>),
    DiscardRoute(Name),
    DiscardTarget(Target),
    /// Its driver's state.
    DiscardIngress(Name),
    /// With its payload, if that has a file.
    Redrive(u128, Option<Bytes>),
    DiscardDeadLetter(u128),
    /// Something that waits, or its payload, is gone: it becomes a dead letter.
    Lose(Lost),
}

/// What cannot be handled or delivered any more, and why.
pub(crate) struct Lost {
    pub(crate) what: LostWhat,
    pub(crate) id: u128,
    pub(crate) cause: String,
}

pub(crate) enum LostWhat {
    /// In a lane of the route.
    Reading(Name, LaneId),
    Delivery(Target),
}

/// Bytes of a change.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// In memory.
    held: usize,
    /// To be written into the storage: without payloads that have files.
    written: usize,
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
            Self::Lose(_) => 1,
            Self::Keep { .. }
            | Self::Documents(_)
            | Self::DiscardIngress(_)
            | Self::Redrive(..)
            | Self::DiscardDeadLetter(_) => 0,
        }
    }

    /// The payloads above `inline_max`, by the ids of what they are of; nothing if there are none.
    pub(crate) fn large(&self, inline_max: usize) -> Vec<Option<Bytes>> {
        let (deliveries, chained) = match self {
            Self::Accept(accept) => (&[][..], std::slice::from_ref(accept)),
            Self::Settle(outcome) => (&outcome.deliveries[..], &outcome.chained[..]),
            Self::Replayed(replayed) => (&replayed.deliveries[..], &replayed.chained[..]),
            Self::Devices(work) => match &**work {
                DevicesWork::Batch(batch) => (&[][..], &batch.readings[..]),
                DevicesWork::Command(command) if command.message.payload.len() > inline_max => {
                    return vec![Some(command.message.payload.clone())];
                }
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        let payloads = deliveries.iter().map(|delivery| &delivery.message.payload);
        let payloads = payloads.chain(chained.iter().map(|accept| &accept.inbound.payload));
        let is_large = |payload: &&Bytes| payload.len() > inline_max;
        if !payloads.clone().any(|payload| is_large(&payload)) {
            return Vec::new();
        }
        payloads.map(|payload| Some(payload).filter(is_large).cloned()).collect()
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
            Self::Keep { writes, .. } => FIXED + kept(writes),
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
            Self::Redrive(_, payload) => FIXED + payload.as_ref().map_or(0, Bytes::len),
            Self::DiscardRoute(_)
            | Self::DiscardTarget(_)
            | Self::DiscardIngress(_)
            | Self::DiscardDeadLetter(_)
            | Self::Lose(_) => FIXED,
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
            Self::Keep { prompt, .. } => *prompt,
            _ => true,
        }
    }

    /// From drivers: they are told when there is no room, and must not take the room of the host's own.
    const fn is_from_drivers(&self) -> bool {
        matches!(self, Self::Accept(_) | Self::Keep { .. })
    }
}

/// A change to be queued.
pub(crate) struct New {
    pub(crate) work: Work,
    pub(crate) large: Large,
}

/// How it stands with a change's large payloads.
pub(crate) enum Large {
    None,
    /// They have files.
    Written(Pins),
    /// They are yet to be written, so many bytes.
    ToWrite(usize),
}

/// A change that was queued.
pub(crate) struct Pushed {
    /// The first of its ids.
    pub(crate) first: u128,
    pub(crate) done: oneshot::Receiver<Done>,
    /// What [`Queue::written`] is to be told of, if payloads are yet to be written.
    pub(crate) ticket: Option<u64>,
}

/// Why a change was not queued.
pub(crate) enum NotQueued {
    /// There is no room; it comes back.
    Full(Box<New>),
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
    changes: VecDeque<(Change, Size)>,
    /// How many of them are prompt.
    prompt: usize,
    /// Those that cannot go yet.
    aside: Aside,
    /// They, and those that could not go and have yet to be told of.
    late: Late,
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
                aside: Aside::default(),
                late: Late::default(),
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

    /// Puts a change where it is taken from in order.
    pub(crate) fn push(&self, new: New, now: Timestamp) -> Result<Pushed, NotQueued> {
        let (count, held) = (new.work.ids(), new.work.size());
        let mut state = self.state.lock();
        if let Some(fault) = &state.fault {
            return Err(NotQueued::Never(fault.clone().into()));
        }
        if state.closed {
            return Err(NotQueued::Never(StoreError::Stopping));
        }
        let used = state.used(&new.work);
        // One change goes in whatever its size: else it would wait for ever.
        if used.count >= self.limit.count || (used.count > 0 && used.bytes + held > self.limit.bytes) {
            return Err(NotQueued::Full(Box::new(new)));
        }
        used.count += 1;
        used.bytes += held;
        let ids = state.reserve(count, now);
        let first = ids.start;
        let New { work, large } = new;
        let (pins, to_write, in_files) = match large {
            Large::None => (None, false, 0),
            Large::ToWrite(bytes) => (None, true, bytes),
            Large::Written(pins) => {
                let bytes = pins.bytes();
                (Some(pins), false, bytes)
            }
        };
        let size = Size { held, written: held.saturating_sub(in_files) };
        let (done, result) = oneshot::channel();
        let change = Change { work, ids, pins, late: None, done };
        let (news, ticket) = state.put(change, size, to_write);
        drop(state);
        if news {
            self.wake.notify_one();
        }
        Ok(Pushed { first, done: result, ticket })
    }

    /// The payloads of a change have files now, or cannot have.
    pub(crate) fn written(&self, ticket: u64, result: Result<Pins, StoreError>) {
        match result {
            Ok(pins) => {
                let mut state = self.state.lock();
                let unwanted = match state.aside.written(ticket, pins) {
                    Ok(freed) => {
                        state.all_ready(freed);
                        None
                    }
                    Err(pins) => Some(pins),
                };
                // What is done for their sake may ask the queue.
                drop(state);
                drop(unwanted);
            }
            Err(error) => {
                let refused = {
                    let mut state = self.state.lock();
                    let refused = state.aside.refused(ticket);
                    state.forget(&refused);
                    let freed = state.aside.freed();
                    state.all_ready(freed);
                    refused
                };
                self.room.notify_waiters();
                for (change, _) in refused {
                    // Who waited may have gone.
                    let _ = change.done.send(Err(error.clone()));
                }
            }
        }
        self.wake.notify_one();
    }

    /// What the next commit is to take.
    pub(crate) fn take(&self, count: usize, bytes: usize) -> Vec<Change> {
        let mut state = self.state.lock();
        let mut taken = Vec::with_capacity(count.min(state.changes.len()));
        let mut written = 0;
        while taken.len() < count && written < bytes {
            let Some((change, size)) = state.changes.pop_front() else { break };
            written += size.written;
            state.prompt -= usize::from(change.work.is_prompt());
            taken.push((change, size));
        }
        state.forget(&taken);
        drop(state);
        if !taken.is_empty() {
            self.room.notify_waiters();
        }
        taken.into_iter().map(|(change, _)| change).collect()
    }

    /// All that waits, also what cannot go yet.
    pub(crate) fn drain(&self) -> Vec<Change> {
        let mut drained = self.take(usize::MAX, usize::MAX);
        let mut state = self.state.lock();
        let aside = state.aside.drain();
        state.forget(&aside);
        drop(state);
        self.room.notify_waiters();
        drained.extend(aside.into_iter().map(|(change, _)| change));
        drained
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
        self.drain()
    }

    pub(crate) fn mend(&self) {
        let mut state = self.state.lock();
        state.fault = None;
        state.suspect = None;
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state.lock().fault.clone()
    }

    pub(crate) fn oldest_late(&self) -> Option<u128> {
        self.state.lock().late.oldest()
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

    /// The last id that was given out.
    pub(crate) fn last_id(&self) -> u128 {
        self.state.lock().ids.last()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// It is closed, and nothing will come out of it any more.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.changes.is_empty() && state.aside.is_empty()
    }
}

impl State {
    /// Whether the committer is to be woken, and the ticket of what is to be written first.
    fn put(&mut self, mut change: Change, size: Size, to_write: bool) -> (bool, Option<u64>) {
        if to_write || !self.aside.is_empty() {
            let behind = behind(&change.work);
            let is_held_back = to_write || self.aside.holds_back(&behind);
            if is_held_back && !change.ids.is_empty() {
                change.late = Some(self.late.note(change.ids.start));
            }
            if to_write {
                return (false, Some(self.aside.add_waiting(change, size, behind)));
            }
            if is_held_back {
                self.aside.add(change, size, behind);
                return (false, None);
            }
        }
        (self.ready(change, size), None)
    }

    fn all_ready(&mut self, changes: Vec<(Change, Size)>) {
        for (change, size) in changes {
            self.ready(change, size);
        }
    }

    /// Whether it is news: the committer looks at all there is, and need not be woken for what comes after.
    fn ready(&mut self, change: Change, size: Size) -> bool {
        let prompt = change.work.is_prompt();
        self.prompt += usize::from(prompt);
        self.changes.push_back((change, size));
        self.changes.len() == 1 || prompt && self.prompt == 1
    }

    /// They take no room any more.
    fn forget(&mut self, changes: &[(Change, Size)]) {
        for (change, size) in changes {
            let used = self.used(&change.work);
            used.count -= 1;
            used.bytes -= size.held;
        }
    }

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
