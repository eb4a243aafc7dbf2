//! What leaves by itself: journaled readings that are old or too many, state that has expired, and what is too much of
//! dead letters, ended commands and the trace.
//!
//! A chunk rides on each commit, so that nobody waits for it; when nothing else is to be committed, a chunk
//! is a commit of its own. redb gives the pages that become free to later writes: the file does not shrink.
//! What cannot be read is in nobody's way (docs/decisions/0024-what-cannot-be-read.md): a damaged row is stepped over,
//! and a part that the storage fails at rests.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use redb::ReadableTable;
use sandbar_reading::{ReadingId, Timestamp};
use tokio::time::Instant;

use crate::ages::Ages;
use crate::apply::Batch;
use crate::devices::EndedCommands;
use crate::digest::Digest;
use crate::key;
use crate::options::{Options, Retention};
use crate::rests::{Part, Rests};
use crate::row::{self, Damaged, JournalHead, StateRow};
use crate::tables::Ledger;

/// How many rows a commit looks at beside its own work, at least; and one that has no other work.
const BESIDE: usize = 64;
const ALONE: usize = 1024;
/// Where rows that go are smaller than those that come, so many may go for each so many bytes that come; and at most.
const MANY: (usize, u64) = (2048, 256 << 10);
const MANY_MAX: usize = 32 * 1024;
/// How often what could not go is looked at again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The shortest and longest wait for what is due when nothing else happens.
const IDLE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));

/// What goes by itself, and how far the look for it has come.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    retention: Retention,
    dead_letter_bytes: Option<u64>,
    trace_bytes: u64,
    look: Look,
    commands: EndedCommands,
    ages: Ages,
    rests: Rests,
}

/// Of an open file. It is not asked before the first look: what cannot be read there is no hindrance to opening it.
#[derive(Clone, Debug, Default)]
struct Look {
    begun: bool,
    /// The next reading to look at; none if all were.
    candidate: Option<u128>,
    /// The oldest reading that was passed over because it waited.
    passed_over: Option<u128>,
    /// When to look at that again.
    again_at: Timestamp,
    /// What is younger came after the look had begun: the next one may begin before it is looked at.
    until: u128,
    /// When the next state expires, or earlier.
    next_expiry: u64,
    /// The last reading that is damaged.
    damaged: u128,
}

/// How much may go at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    rows: usize,
    /// Of less than this more rows may go.
    bytes: u64,
    rows_max: usize,
}

impl Chunk {
    /// More than came in, or it would never become less; a larger one if the commit is for that alone.
    pub(crate) fn new(alone: bool, rows_in: usize, bytes_in: u64) -> Self {
        if alone {
            return Self { rows: ALONE, bytes: 0, rows_max: ALONE };
        }
        let (rows, bytes) = (BESIDE.max(2 * rows_in), 2 * bytes_in);
        let many = usize::try_from(bytes_in.div_ceil(MANY.1)).unwrap_or(MANY_MAX);
        Self { rows, bytes, rows_max: many.saturating_mul(MANY.0).min(MANY_MAX) }
    }

    /// Whether there is room for one more.
    pub(crate) const fn takes(&self, rows: usize, bytes: u64) -> bool {
        rows < self.rows || bytes < self.bytes && rows < self.rows_max
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }
}

impl Sweep {
    pub(crate) fn new(options: &Options, ages: Ages) -> Self {
        let Options { retention, dead_letter_bytes, trace_bytes, .. } = *options;
        Self {
            retention,
            dead_letter_bytes,
            trace_bytes,
            look: Look::default(),
            commands: EndedCommands::new(options.commands),
            ages,
            rests: Rests::default(),
        }
    }

    /// The file was opened anew.
    pub(crate) fn begin_anew(&mut self) {
        self.look = Look::default();
        self.commands.begin_anew();
    }

    /// `last`: the last id that was given out.
    pub(crate) fn look_at_clock(&mut self, now: Timestamp, last: impl FnOnce() -> u128) {
        self.ages.look(now, Instant::now().into_std(), last);
    }

    /// The oldest reading that has yet to be found old: about the oldest there is.
    pub(crate) fn oldest(&self) -> Option<ReadingId> {
        let Look { passed_over, candidate, .. } = self.look;
        [passed_over, candidate].into_iter().flatten().min().map(ReadingId::from_u128)
    }

    /// How long until there is something to sweep; never, if what there is stays.
    pub(crate) fn due_in(&self, ledger: &Ledger, now: Timestamp) -> Option<Duration> {
        let instant = Instant::now();
        let due = |part| Some(self.part_due_in(part, ledger, now)?.max(self.rests.left(part, instant)));
        Part::ALL.into_iter().filter_map(due).min().map(|wait| wait.clamp(IDLE.0, IDLE.1))
    }

    /// Whether something that failed is to be tried again, in a commit for nothing else.
    pub(crate) fn is_to_go_alone(&self, ledger: &Ledger, now: Timestamp) -> bool {
        let instant = Instant::now();
        let goes = |part| self.rests.is_over(part, instant) && self.is_due(part, ledger, now);
        Part::ALL.into_iter().any(goes)
    }

    /// The storage failed at it; how long it rests.
    pub(crate) fn failed(&mut self, part: Part) -> Duration {
        self.rests.failed(part, Instant::now())
    }

    fn is_due(&self, part: Part, ledger: &Ledger, now: Timestamp) -> bool {
        self.part_due_in(part, ledger, now) == Some(Duration::ZERO)
    }

    fn part_due_in(&self, part: Part, ledger: &Ledger, now: Timestamp) -> Option<Duration> {
        match part {
            Part::State => {
                let next = self.look.next_expiry;
                (next != StateRow::NEVER).then(|| Timestamp::from_nanos(next).since(now))
            }
            Part::Journal => self.journal_due_in(ledger, now),
            Part::DeadLetters => self.are_too_many(ledger).then_some(Duration::ZERO),
            Part::Commands => self.commands.due_in(now),
            Part::Trace => (ledger.trace_bytes > self.trace_bytes).then_some(Duration::ZERO),
        }
    }

    fn journal_due_in(&self, ledger: &Ledger, now: Timestamp) -> Option<Duration> {
        if !self.look.begun {
            return Some(Duration::ZERO);
        }
        let too_many = self.retention.bytes.is_some_and(|limit| ledger.journal_bytes > limit);
        let grows_old = |id| Some(self.ages.taken(id).after(self.retention.age?).since(now));
        let candidate = self.look.candidate;
        let next = candidate.and_then(|id| if too_many { Some(Duration::ZERO) } else { grows_old(id) });
        let limited = too_many || self.retention.age.is_some();
        let again = (limited && self.look.passed_over.is_some()).then(|| again_in(self.look.again_at, now));
        [next, again].into_iter().flatten().min()
    }

    /// Removes a chunk of what may go; a larger one if the commit is for that alone. True if anything went. While it is
    /// at a part, `at` says at which.
    pub(crate) fn run(
        &mut self,
        batch: &mut Batch<'_>,
        alone: bool,
        at: &Cell<Option<Part>>,
    ) -> Result<bool, redb::Error> {
        self.note(batch);
        let (mut went, now) = (false, Instant::now());
        for part in Part::ALL {
            if !self.is_due(part, &batch.ledger, batch.now) || !self.rests.may_go(part, alone, now) {
                continue;
            }
            at.set(Some(part));
            went |= self.sweep(part, batch, alone)?;
            at.set(None);
            if !self.is_due(part, &batch.ledger, batch.now) {
                self.rests.through(part);
            }
        }
        Ok(went)
    }

    fn sweep(&mut self, part: Part, batch: &mut Batch<'_>, alone: bool) -> Result<bool, redb::Error> {
        let journaled = Chunk::new(alone, batch.journaled, batch.journaled_bytes);
        match part {
            Part::State => self.expire(batch, journaled.rows()),
            Part::Journal => self.forget(batch, journaled),
            Part::DeadLetters => {
                let buried = batch.news.dead_letters.len();
                self.discard(batch, Chunk::new(alone, buried, batch.buried_bytes))
            }
            Part::Commands => {
                let chunk = Chunk::new(alone, batch.commands_written, 0);
                batch.forget_commands(&mut self.commands, chunk.rows())
            }
            Part::Trace => batch.trim_trace(self.trace_bytes, alone),
        }
    }

    /// What the batch wrote.
    fn note(&mut self, batch: &Batch<'_>) {
        self.look.next_expiry = self.look.next_expiry.min(batch.first_expiry);
        self.commands.written(batch.commands_written);
        // What is not looked at yet is found by the first look.
        let Some(first) = batch.first_journaled.filter(|_| self.look.begun) else { return };
        match self.look.candidate {
            None => self.look.candidate = Some(first),
            Some(candidate) if first < candidate => self.pass_over(first),
            Some(_) => {}
        }
    }

    /// What was passed over before may be younger.
    fn pass_over(&mut self, id: u128) {
        self.look.passed_over = Some(self.look.passed_over.map_or(id, |other| other.min(id)));
    }

    /// Journaled readings.
    fn forget(&mut self, batch: &mut Batch<'_>, chunk: Chunk) -> Result<bool, redb::Error> {
        if !self.look.begun {
            self.look.candidate = batch.tables.journal()?.first()?.map(|(id, _)| id.value());
            self.look.begun = true;
        }
        let now = batch.now;
        // One look is finished before the next begins: else it would never get past very many that wait.
        let is_through = self
            .look
            .candidate
            .is_none_or(|id| id > self.look.until || !self.may_go(id, batch.ledger.journal_bytes, now));
        if is_through && again_in(self.look.again_at, now).is_zero() {
            self.look.again_at = now.after(LOOK_AGAIN);
            self.look.until = batch.ledger.last_id;
            // Either may be the older one: what was forgotten and is redriven comes back under its old id.
            self.look.candidate =
                [self.look.passed_over.take(), self.look.candidate].into_iter().flatten().min();
        }
        let Some(from) = self.look.candidate.take() else { return Ok(false) };
        let (mut found, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for row in batch.tables.journal()?.range(from..)? {
            let (id, row) = row?;
            let id = id.value();
            let left = batch.ledger.journal_bytes.saturating_sub(bytes);
            if !chunk.takes(rows, bytes) || !self.may_go(id, left, now) {
                self.look.candidate = Some(id);
                break;
            }
            rows += 1;
            match Found::of(id, row.value()) {
                Ok(one) => {
                    bytes += one.bytes;
                    found.push(one);
                }
                Err(damaged) => self.step_over(id, &damaged),
            }
        }
        let mut went = false;
        for Found { id, bytes, file, lanes } in found {
            if batch.still_waits(id, &lanes)? {
                self.pass_over(id);
                continue;
            }
            batch.tables.journal()?.remove(id)?;
            batch.ledger.journal -= 1;
            batch.ledger.journal_bytes = batch.ledger.journal_bytes.saturating_sub(bytes);
            batch.refer_no_more(file)?;
            went = true;
        }
        Ok(went)
    }

    /// Where it waits, and so whether it may go, nobody knows: it stays, and is told once.
    fn step_over(&mut self, id: u128, damaged: &Damaged) {
        if id > self.look.damaged {
            self.look.damaged = id;
            let reading = ReadingId::from_u128(id);
            tracing::error!(%reading, %damaged, "it stays in the journal");
        }
    }

    /// `bytes`: of the journal.
    fn may_go(&self, id: u128, bytes: u64, now: Timestamp) -> bool {
        let too_old = |age| self.ages.taken(id).after(age) <= now;
        self.retention.bytes.is_some_and(|limit| bytes > limit) || self.retention.age.is_some_and(too_old)
    }

    /// One may be larger than all are to be.
    fn are_too_many(&self, dead: &Ledger) -> bool {
        self.dead_letter_bytes.is_some_and(|most| dead.dead > 1 && dead.dead_bytes > most)
    }

    /// Dead letters, from the oldest.
    fn discard(&self, batch: &mut Batch<'_>, chunk: Chunk) -> Result<bool, redb::Error> {
        let (mut gone, before) = (0, batch.ledger.dead_bytes);
        while self.are_too_many(&batch.ledger)
            && chunk.takes(gone, before.saturating_sub(batch.ledger.dead_bytes))
        {
            let Some(oldest) = batch.tables.dead()?.first()?.map(|(id, _)| id.value()) else { break };
            batch.remove_dead_letter(oldest)?;
            gone += 1;
        }
        batch.discarded += gone as u64;
        Ok(gone > 0)
    }

    /// State.
    fn expire(&mut self, batch: &mut Batch<'_>, rows: usize) -> Result<bool, redb::Error> {
        let end = (batch.now.nanos().saturating_add(1)).to_be_bytes();
        let mut expired = Vec::new();
        for row in batch.tables.expiry()?.range(..&end[..])?.take(rows) {
            expired.push(row?.0.value().to_vec());
        }
        if expired.is_empty() {
            // What is no key of an expiry may come behind those that are over.
            let first = batch.tables.expiry()?.first()?.map(|(key, _)| key.value().to_vec());
            expired.extend(first.filter(|key| key::split_expiry(key).is_none()));
        }
        let went = !expired.is_empty();
        for key in expired {
            if let Some((expires, state)) = key::split_expiry(&key) {
                let table = batch.tables.state()?;
                // Of a value whose row was damaged when it was written anew, an old time may be left.
                let stays = |row: redb::AccessGuard<'_, &'static [u8]>| {
                    StateRow::read(row.value()).is_ok_and(|row| row.expires != expires)
                };
                if !table.get(state)?.is_some_and(stays) {
                    table.remove(state)?;
                }
            }
            batch.tables.expiry()?.remove(&key[..])?;
        }
        self.look.next_expiry = first_expiry(batch.tables.expiry()?)?;
        Ok(went)
    }
}

/// A journaled reading that may go.
struct Found {
    id: u128,
    bytes: u64,
    file: Option<Digest>,
    lanes: Vec<(Cow<'static, str>, u64)>,
}

impl Found {
    fn of(id: u128, row: &[u8]) -> Result<Self, Damaged> {
        let (head, rest) = row::read_head::<JournalHead<'_>>(row, "journal")?;
        let (file, _) = row::kept_of_reading(rest, "journal")?;
        let lanes = head.lanes.into_iter().map(|(name, lane)| (name.into_owned().into(), lane)).collect();
        Ok(Self { id, bytes: head.bytes, file, lanes })
    }
}

/// No longer than usual, should the clock have been set back meanwhile.
pub(crate) fn again_in(again_at: Timestamp, now: Timestamp) -> Duration {
    let wait = again_at.since(now);
    if wait > LOOK_AGAIN { Duration::ZERO } else { wait }
}

fn first_expiry(expiry: &impl ReadableTable<&'static [u8], ()>) -> Result<u64, redb::Error> {
    let first = expiry.first()?;
    // What is no key of an expiry is removed like one that is over.
    let time = |key: &[u8]| key::split_expiry(key).map_or(0, |(expires, _)| expires);
    Ok(first.map_or(StateRow::NEVER, |(key, _)| time(key.value())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_goes_than_comes_by_rows_and_by_bytes() {
        let little = Chunk::new(false, 10, 1000);
        assert!(little.takes(BESIDE - 1, 1 << 20) && !little.takes(BESIDE, 2000));
        assert!(little.takes(MANY.0 - 1, 1999), "those that go are smaller than those that came");
        assert!(!little.takes(MANY.0, 1999));
        let many = Chunk::new(false, 4000, 1 << 20);
        assert!(many.takes(7999, u64::MAX) && many.takes(8191, 0) && !many.takes(8192, 0));
        assert!(!Chunk::new(false, 1, 1 << 40).takes(MANY_MAX, 0));
        assert!(!Chunk::new(true, 0, 0).takes(ALONE, 0));
    }
}
