//! What a route has in memory of its lanes: which readings wait, which lane is being handled, and what is
//! only in the store. Pure: it decides, others do.
//!
//! Only a window of what waits is held. A lane says with `more` that the store has readings of it beyond
//! those in its queue; the route says with `Unknown` that the store may have lanes that are not here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sandbar_reading::{ReadingId, Timestamp, backoff};
use sandbar_store::{Lane, LaneId, Waiting};

/// How much of what waits a route holds in memory. One reading may always be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub readings: usize,
    pub bytes: usize,
    /// Those that wait for their time take nobody's place; there may be several times as many.
    pub lanes: usize,
    pub per_lane: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { readings: 2048, bytes: 8 << 20, lanes: 1024, per_lane: 256 }
    }
}

/// So many times as many lanes as are at work, those that wait for their time included, are in memory.
const LANES_TIMES: usize = 8;

/// How long a lane waits that cannot be loaded though the store is well: at first, and at most.
const UNLOADABLE_WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

pub(crate) struct Lanes {
    window: Window,
    lanes: HashMap<LaneId, LaneQueue>,
    /// How many of them wait for their time.
    blocked: usize,
    ready: VecDeque<LaneId>,
    /// Lanes whose queue is empty though the store has more.
    hungry: VecDeque<LaneId>,
    unknown: Unknown,
    /// The lane that was found last: those before it are known, most of them.
    found_last: Option<LaneId>,
    loaded: usize,
    loaded_bytes: usize,
}

struct LaneQueue {
    lane: Lane,
    /// What is being handled stays here until it is settled.
    queue: VecDeque<Waiting>,
    phase: Phase,
    more: bool,
    /// The time of its head has come while that was not in memory, whatever the clock says once it is.
    due: bool,
    /// How often in a row it could not be loaded.
    unloadable: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    Running,
    Blocked,
    Hungry,
    Loading,
}

/// Lanes that only the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    None,
    Some,
    /// The store is being asked; `missed` if another came meanwhile.
    BeingFound {
        missed: bool,
    },
}

/// Readings of one lane, to be handled in order.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) lane: Lane,
    pub(crate) readings: Vec<Waiting>,
}

/// What should be read from the store before the next turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The next readings of a lane: answer with [`Lanes::loaded`].
    Readings { lane: Lane, count: usize, bytes: usize },
    /// So many lanes that are not [`Lanes::knows`]n, those `behind` one first: answer with [`Lanes::found`].
    Lanes { count: usize, behind: Option<LaneId> },
}

/// What somebody has to do for a lane now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// A turn can be taken, or something is [`Lanes::wanted`].
    Runner,
    /// Call [`Lanes::wake`] then.
    WakeAt(Timestamp),
    /// The same, after so long.
    WakeAfter(Duration),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The first `handled` are done. If the next one failed it waits until `retry_at`.
    Settled { handled: usize, attempts: u32, retry_at: Option<Timestamp> },
    /// Nothing was committed; it can be tried again then.
    Unsettled { again_at: Timestamp },
    /// The store knows better what waits in this lane.
    Stale,
}

impl Lanes {
    /// What waited before the start is in the store only.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            lanes: HashMap::new(),
            blocked: 0,
            ready: VecDeque::new(),
            hungry: VecDeque::new(),
            unknown: Unknown::Some,
            found_last: None,
            loaded: 0,
            loaded_bytes: 0,
        }
    }

    /// A reading that was just committed, or put back.
    pub(crate) fn push(&mut self, waiting: Waiting, now: Timestamp) -> Need {
        let id = waiting.lane.id();
        let (room, place) = (self.has_room(), self.places() > 0);
        let Some(lane) = self.lanes.get_mut(&id) else {
            return match &mut self.unknown {
                // Its lane may have older readings that only the store has.
                Unknown::Some => Need::Nothing,
                Unknown::BeingFound { missed } => {
                    *missed = true;
                    Need::Nothing
                }
                Unknown::None if room && place => {
                    self.add_lane(waiting.lane.clone(), false);
                    self.load(id, waiting);
                    self.rest(id, now)
                }
                Unknown::None => {
                    self.unknown = Unknown::Some;
                    Need::Nothing
                }
            };
        };
        if lane.queue.iter().any(|held| held.reading.id == waiting.reading.id) {
            return Need::Nothing;
        }
        let follows = !lane.more && matches!(lane.phase, Phase::Ready | Phase::Running);
        if follows && room && lane.queue.len() < self.window.per_lane {
            self.load(id, waiting);
        } else {
            lane.more = true;
        }
        Need::Nothing
    }

    /// The next lane's readings, as many as a turn may have; the lane is then running.
    pub(crate) fn take(&mut self, count_max: usize, bytes_max: usize) -> Option<Turn> {
        let id = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.phase = Phase::Running;
        let mut bytes = 0;
        let readings = lane
            .queue
            .iter()
            // After a failed attempt it is alone: the others would wait for nothing if it fails again.
            .take(if lane.queue.front().is_some_and(|head| head.attempts > 0) { 1 } else { count_max })
            .take_while(|waiting| {
                let first = bytes == 0;
                bytes += waiting.reading.size();
                first || bytes <= bytes_max
            })
            .cloned()
            .collect();
        Some(Turn { lane: lane.lane.clone(), readings })
    }

    /// The turn of a lane is over.
    pub(crate) fn ended(&mut self, id: LaneId, ended: Ended, now: Timestamp) -> Need {
        let Some(lane) = self.lanes.get_mut(&id) else { return Need::Nothing };
        match ended {
            Ended::Settled { handled, attempts, retry_at } => {
                let gone: Vec<_> = lane.queue.drain(..handled.min(lane.queue.len())).collect();
                if let (Some(due), Some(head)) = (retry_at, lane.queue.front_mut()) {
                    (head.attempts, head.due) = (attempts, due);
                }
                self.unload(&gone);
            }
            Ended::Unsettled { again_at } => {
                if let Some(head) = lane.queue.front_mut() {
                    head.due = head.due.max(again_at);
                }
            }
            Ended::Stale => self.forget_queue(id, 0),
        }
        self.rest(id, now)
    }

    /// The time that a lane was waiting for has come.
    pub(crate) fn wake(&mut self, id: LaneId, now: Timestamp) -> Need {
        match self.lanes.get_mut(&id) {
            Some(lane) if lane.phase == Phase::Blocked => {
                lane.due |= lane.queue.is_empty() && lane.unloadable == 0;
                self.rest(id, now)
            }
            _ => Need::Nothing,
        }
    }

    pub(crate) fn wanted(&mut self) -> Option<Wanted> {
        if !self.has_room() {
            return None;
        }
        if let Some(id) = self.hungry.pop_front() {
            let count =
                (self.window.readings - self.loaded.min(self.window.readings)).clamp(1, self.window.per_lane);
            let bytes = self.window.bytes.saturating_sub(self.loaded_bytes);
            let lane = self.lanes.get_mut(&id)?;
            lane.phase = Phase::Loading;
            lane.more = false;
            return Some(Wanted::Readings { lane: lane.lane.clone(), count, bytes });
        }
        let count = self.places();
        if self.unknown == Unknown::Some && count > 0 {
            self.unknown = Unknown::BeingFound { missed: false };
            return Some(Wanted::Lanes { count, behind: self.found_last });
        }
        None
    }

    /// The answer to [`Wanted::Readings`]; `all` if the store has no more than these.
    pub(crate) fn loaded(&mut self, id: LaneId, readings: Vec<Waiting>, all: bool, now: Timestamp) -> Need {
        for waiting in readings {
            self.load(id, waiting);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.more |= !all;
            lane.unloadable = 0;
            if std::mem::take(&mut lane.due)
                && let Some(head) = lane.queue.front_mut()
            {
                head.due = head.due.min(now);
            }
        }
        self.rest(id, now)
    }

    /// The answer to [`Wanted::Lanes`]; `all` if the store has no more than these and the known ones.
    pub(crate) fn found(&mut self, lanes: Vec<Lane>, all: bool) {
        let missed = self.unknown != Unknown::BeingFound { missed: false };
        self.unknown = if all && !missed { Unknown::None } else { Unknown::Some };
        self.found_last = lanes.last().map(Lane::id).or(self.found_last);
        for lane in lanes {
            if !self.lanes.contains_key(&lane.id()) {
                self.hungry.push_back(lane.id());
                self.add_lane(lane, true);
            }
        }
    }

    /// The store is well, but this lane cannot be loaded: it waits for itself, and for nobody else; ever longer, unless
    /// it `goes_on` with what is behind.
    pub(crate) fn unloadable(&mut self, id: LaneId, goes_on: bool) -> Need {
        let Some(lane) = self.lanes.get_mut(&id) else { return Need::Nothing };
        lane.unloadable = if goes_on { 1 } else { lane.unloadable.saturating_add(1) };
        (lane.phase, lane.more) = (Phase::Blocked, true);
        self.blocked += 1;
        Need::WakeAfter(backoff(UNLOADABLE_WAIT.0, UNLOADABLE_WAIT.1, lane.unloadable, 0.0))
    }

    /// The store could not be asked: both kinds of question are to be asked again.
    pub(crate) fn not_answered(&mut self, lane: Option<LaneId>) {
        match lane {
            Some(id) => {
                let lane = self.lanes.get_mut(&id);
                if let Some(lane) = lane.filter(|lane| lane.phase == Phase::Loading) {
                    (lane.phase, lane.more) = (Phase::Hungry, true);
                    self.hungry.push_back(id);
                }
            }
            None => self.unknown = Unknown::Some,
        }
    }

    /// The store may have what nobody told of.
    pub(crate) fn look_again(&mut self) {
        self.unknown = match self.unknown {
            Unknown::BeingFound { .. } => Unknown::BeingFound { missed: true },
            Unknown::None | Unknown::Some => Unknown::Some,
        };
        for lane in self.lanes.values_mut() {
            lane.more = true;
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.loaded
    }

    /// What is in memory of a lane, what is being handled included.
    pub(crate) fn readings(&self, id: LaneId) -> impl Iterator<Item = ReadingId> {
        self.lanes.get(&id).into_iter().flat_map(|lane| lane.queue.iter().map(|waiting| waiting.reading.id))
    }

    pub(crate) fn knows(&self, id: LaneId) -> bool {
        self.lanes.contains_key(&id)
    }

    /// A turn can be taken, or something is wanted.
    pub(crate) fn has_work(&self) -> bool {
        let lanes_wanted = self.unknown == Unknown::Some && self.places() > 0;
        !self.ready.is_empty() || self.has_room() && (lanes_wanted || !self.hungry.is_empty())
    }

    /// Puts a lane where it belongs when nobody works on it.
    fn rest(&mut self, id: LaneId, now: Timestamp) -> Need {
        let Some(lane) = self.lanes.get_mut(&id) else { return Need::Nothing };
        self.blocked -= usize::from(lane.phase == Phase::Blocked);
        match lane.queue.front().map(|head| head.due) {
            Some(due) if due > now => {
                lane.phase = Phase::Blocked;
                self.blocked += 1;
                // What waits behind it need not wait in memory.
                self.forget_queue(id, 1);
                // Nor need the head: lanes that wait must leave half of the window to those that do not.
                if self.loaded > self.window.readings / 2 || self.loaded_bytes > self.window.bytes / 2 {
                    self.forget_queue(id, 0);
                }
                Need::WakeAt(due)
            }
            Some(_) => {
                lane.phase = Phase::Ready;
                self.ready.push_back(id);
                Need::Runner
            }
            None if lane.more => {
                lane.phase = Phase::Hungry;
                self.hungry.push_back(id);
                Need::Runner
            }
            None => {
                self.lanes.remove(&id);
                if self.unknown == Unknown::None { Need::Nothing } else { Need::Runner }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.loaded == 0 || self.loaded < self.window.readings && self.loaded_bytes < self.window.bytes
    }

    /// For how many more lanes there is a place.
    fn places(&self) -> usize {
        let at_work = self.lanes.len() - self.blocked;
        let all = self.window.lanes.saturating_mul(LANES_TIMES);
        self.window.lanes.saturating_sub(at_work).min(all.saturating_sub(self.lanes.len()))
    }

    fn add_lane(&mut self, lane: Lane, more: bool) {
        let (queue, phase) = (VecDeque::new(), Phase::Hungry);
        let queue = LaneQueue { lane, queue, phase, more, due: false, unloadable: 0 };
        self.lanes.insert(queue.lane.id(), queue);
    }

    fn load(&mut self, id: LaneId, waiting: Waiting) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            self.loaded += 1;
            self.loaded_bytes += waiting.reading.size();
            lane.queue.push_back(waiting);
        }
    }

    /// Keeps the first `kept` of a lane's queue; the store has the rest.
    fn forget_queue(&mut self, id: LaneId, kept: usize) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.queue.len() > kept || kept == 0 {
            let gone: Vec<_> = lane.queue.drain(kept.min(lane.queue.len())..).collect();
            lane.more = true;
            self.unload(&gone);
        }
    }

    fn unload(&mut self, gone: &[Waiting]) {
        self.loaded -= gone.len();
        self.loaded_bytes -= gone.iter().map(|waiting| waiting.reading.size()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests;
