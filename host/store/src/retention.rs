//! What leaves by itself: journaled readings that are old or too many, state that has expired, and dead letters that are
//! too many.
//!
//! A chunk rides on each commit, so that nobody waits for it; when nothing else is to be committed, a chunk
//! is a commit of its own. redb gives the pages that become free to later writes: the file does not shrink.

use std::time::Duration;

use redb::ReadableTable;
use sandbar_reading::{ReadingId, Timestamp};

use crate::apply::Batch;
use crate::key;
use crate::options::{Options, Retention};
use crate::row::{self, JournalHead};
use crate::tables::{EXPIRY, JOURNAL, Ledger};

/// How many rows a commit looks at beside its own work, at least; and one that has no other work.
const BESIDE: usize = 64;
const ALONE: usize = 1024;
/// How often readings that could not go because they waited are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The shortest and longest wait for what is due when nothing else happens.
const IDLE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));

/// Where the look for what may go has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    retention: Retention,
    dead_letter_bytes: Option<u64>,
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
}

impl Sweep {
    pub(crate) fn begin(options: &Options, transaction: &redb::ReadTransaction) -> Result<Self, redb::Error> {
        let Options { retention, dead_letter_bytes, .. } = *options;
        let journal = transaction.open_table(JOURNAL)?;
        let candidate = journal.first()?.map(|(id, _)| id.value());
        let next_expiry = first_expiry(&transaction.open_table(EXPIRY)?)?;
        let again_at = Timestamp::from_nanos(0);
        let passed_over = None;
        Ok(Self { retention, dead_letter_bytes, candidate, passed_over, again_at, until: 0, next_expiry })
    }

    /// The oldest reading that has yet to be found old: about the oldest there is.
    pub(crate) fn oldest(&self) -> Option<ReadingId> {
        [self.passed_over, self.candidate].into_iter().flatten().min().map(ReadingId::from_u128)
    }

    /// How long until there is something to sweep; never, if what there is stays.
    pub(crate) fn due_in(&self, ledger: &Ledger, now: Timestamp) -> Option<Duration> {
        let expiry =
            (self.next_expiry != u64::MAX).then(|| Timestamp::from_nanos(self.next_expiry).since(now));
        let discard = self.are_too_many(ledger).then_some(Duration::ZERO);
        let due = [self.journal_due_in(ledger, now), expiry, discard].into_iter().flatten().min();
        due.map(|wait| wait.clamp(IDLE.0, IDLE.1))
    }

    fn journal_due_in(&self, ledger: &Ledger, now: Timestamp) -> Option<Duration> {
        let too_many = self.retention.bytes.is_some_and(|limit| ledger.journal_bytes > limit);
        let grows_old = |id| {
            let age = self.retention.age?;
            Some(ReadingId::from_u128(id).time().after(age).since(now))
        };
        let next = self.candidate.and_then(|id| if too_many { Some(Duration::ZERO) } else { grows_old(id) });
        let limited = too_many || self.retention.age.is_some();
        let again = (limited && self.passed_over.is_some()).then(|| self.again_at.since(now));
        [next, again].into_iter().flatten().min()
    }

    /// Removes a chunk of what may go; a larger one if the commit is for that alone. True if anything went.
    pub(crate) fn run(&mut self, batch: &mut Batch<'_>, alone: bool) -> Result<bool, redb::Error> {
        self.note(batch);
        // More than came in, or it would never become less.
        let chunk = if alone { ALONE } else { BESIDE.max(2 * batch.journaled) };
        let mut went = false;
        if self.next_expiry <= batch.now.nanos() {
            went |= self.expire(batch, chunk)?;
        }
        if self.journal_due_in(&batch.ledger, batch.now) == Some(Duration::ZERO) {
            went |= self.forget(batch, chunk)?;
        }
        if self.are_too_many(&batch.ledger) {
            let chunk = chunk.max(2 * batch.news.dead_letters.len());
            went |= self.discard(batch, chunk)?;
        }
        Ok(went)
    }

    /// What the batch wrote.
    fn note(&mut self, batch: &Batch<'_>) {
        self.next_expiry = self.next_expiry.min(batch.first_expiry);
        let Some(first) = batch.first_journaled else { return };
        match self.candidate {
            None => self.candidate = Some(first),
            Some(candidate) if first < candidate => self.pass_over(first),
            Some(_) => {}
        }
    }

    /// What was passed over before may be younger.
    fn pass_over(&mut self, id: u128) {
        self.passed_over = Some(self.passed_over.map_or(id, |other| other.min(id)));
    }

    /// Journaled readings.
    fn forget(&mut self, batch: &mut Batch<'_>, chunk: usize) -> Result<bool, redb::Error> {
        // One look is finished before the next begins: else it would never get past very many that wait.
        let is_through =
            self.candidate.is_none_or(|id| id > self.until || !self.may_go(id, &batch.ledger, batch.now));
        if is_through && self.again_at <= batch.now {
            self.again_at = batch.now.after(LOOK_AGAIN);
            self.until = batch.ledger.last_id;
            // Either may be the older one: what was forgotten and is redriven comes back under its old id.
            self.candidate = [self.passed_over.take(), self.candidate].into_iter().flatten().min();
        }
        let Some(from) = self.candidate.take() else { return Ok(false) };
        let mut looked_at = Vec::with_capacity(chunk);
        for row in batch.tables.journal()?.range(from..)? {
            let (id, row) = row?;
            if looked_at.len() == chunk {
                self.candidate = Some(id.value());
                break;
            }
            let (head, rest) = row::read_head::<JournalHead<'_>>(row.value(), "journal")?;
            let (file, _) = row::kept_of_reading(rest, "journal")?;
            let lanes: Vec<_> =
                head.lanes.into_iter().map(|(name, lane)| (name.into_owned().into(), lane)).collect();
            looked_at.push((id.value(), head.bytes, file, lanes));
        }
        let mut went = false;
        for (id, bytes, file, lanes) in looked_at {
            if !self.may_go(id, &batch.ledger, batch.now) {
                self.candidate = Some(id);
                break;
            }
            if batch.still_waits(id, &lanes)? {
                self.pass_over(id);
                continue;
            }
            batch.tables.journal()?.remove(id)?;
            batch.ledger.journal -= 1;
            batch.ledger.journal_bytes -= bytes;
            batch.refer_no_more(file)?;
            went = true;
        }
        Ok(went)
    }

    fn may_go(&self, id: u128, ledger: &Ledger, now: Timestamp) -> bool {
        let too_old = |age| ReadingId::from_u128(id).time().after(age) <= now;
        self.retention.bytes.is_some_and(|limit| ledger.journal_bytes > limit)
            || self.retention.age.is_some_and(too_old)
    }

    /// One may be larger than all are to be.
    fn are_too_many(&self, dead: &Ledger) -> bool {
        self.dead_letter_bytes.is_some_and(|most| dead.dead > 1 && dead.dead_bytes > most)
    }

    /// Dead letters, from the oldest.
    fn discard(&self, batch: &mut Batch<'_>, chunk: usize) -> Result<bool, redb::Error> {
        let before = batch.discarded;
        for _ in 0..chunk {
            if !self.are_too_many(&batch.ledger) {
                break;
            }
            let Some(oldest) = batch.tables.dead()?.first()?.map(|(id, _)| id.value()) else { break };
            batch.remove_dead_letter(oldest)?;
            batch.discarded += 1;
        }
        Ok(batch.discarded > before)
    }

    /// State.
    fn expire(&mut self, batch: &mut Batch<'_>, chunk: usize) -> Result<bool, redb::Error> {
        let end = (batch.now.nanos().saturating_add(1)).to_be_bytes();
        let mut expired = Vec::new();
        for row in batch.tables.expiry()?.range(..&end[..])?.take(chunk) {
            expired.push(row?.0.value().to_vec());
        }
        let went = !expired.is_empty();
        for key in expired {
            let (_, state) = key::split_expiry(&key).ok_or(row::Damaged { table: "state expiry" })?;
            batch.tables.state()?.remove(state)?;
            batch.tables.expiry()?.remove(&key[..])?;
        }
        self.next_expiry = first_expiry(batch.tables.expiry()?)?;
        Ok(went)
    }
}

fn first_expiry(expiry: &impl ReadableTable<&'static [u8], ()>) -> Result<u64, redb::Error> {
    let first = expiry.first()?;
    let time = first.and_then(|(key, _)| key::split_expiry(key.value()).map(|(expires, _)| expires));
    Ok(time.unwrap_or(u64::MAX))
}
