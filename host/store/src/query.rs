//! What people and programs may ask: readings, dead letters, the outbox, and how the store is doing.

use std::time::Duration;

use sandbar_reading::{DeadLetterId, DeliveryId, Name, Reading, ReadingId, Target, Timestamp, TopicFilter};

use crate::change::{DeadLetter, Queued};
use crate::damaged;
use crate::error::StoreError;
use crate::key;
use crate::partial::{Carries, Partial};
use crate::read::{dead_letter, delivery, split_queued};
use crate::row::{self, Damaged, DeadHead, DeliveryRow, JournalHead, ReadingRow, SubjectRow};
use crate::store::Store;
use crate::tables::{DEAD, JOURNAL, OUTBOX};

/// How many rows one question looks at: one that matches little comes back with a cursor instead of
/// keeping its thread.
pub(crate) const LOOK_AT_MAX: usize = 50_000;

/// A page with so many bytes of payloads is full, whatever was asked for.
const PAGE_BYTES: usize = 8 << 20;

/// A part of an answer.
#[derive(Clone, Debug)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    /// Where to go on, if there may be more.
    pub cursor: Option<C>,
}

/// Which readings. Those left `None` do not restrict.
#[derive(Clone, Debug, Default)]
pub struct ReadingQuery {
    pub ingress: Option<Name>,
    pub topic: Option<TopicFilter>,
    pub device: Option<Box<str>>,
    /// Accepted then or later.
    pub since: Option<Timestamp>,
    /// Go on behind this one, in the order asked for.
    pub cursor: Option<ReadingId>,
    pub newest_first: bool,
    pub limit: usize,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterQuery {
    /// Readings that this route could not handle, and deliveries that it put out.
    pub route: Option<Name>,
    pub target: Option<Target>,
    /// Go on behind this one, in the order asked for.
    pub cursor: Option<DeadLetterId>,
    /// Else newest first.
    pub oldest_first: bool,
    pub limit: usize,
}

/// How the store is doing.
#[derive(Clone, Debug)]
pub struct Stats {
    pub journal_count: u64,
    /// As [`Retention`](crate::Retention) counts them.
    pub journal_bytes: u64,
    /// Of what is kept of how readings were handled.
    pub trace_bytes: u64,
    /// About when the oldest reading in the journal was accepted.
    pub oldest: Option<Timestamp>,
    /// Readings that wait, once for each lane.
    pub waiting: u64,
    pub outbox: u64,
    pub dead_letters: u64,
    /// Likewise of them.
    pub dead_letter_bytes: u64,
    /// Dead letters that went since the store was opened, because there were too many.
    pub dead_letters_discarded: u64,
    /// Payloads that have files of their own.
    pub payloads: u64,
    /// Since the store was opened.
    pub commits: u64,
    /// Journaled since the store was opened.
    pub readings: u64,
    pub last_commit: Duration,
    pub file_bytes: u64,
    /// What ails the storage, if anything does.
    pub fault: Option<String>,
}

impl Stats {
    pub fn readings_per_commit(&self) -> f64 {
        if self.commits == 0 { 0.0 } else { self.readings as f64 / self.commits as f64 }
    }
}

impl Store {
    /// Readings in the journal; those that are damaged are left out.
    pub fn readings(&self, query: &ReadingQuery) -> Result<Page<Reading, ReadingId>, StoreError> {
        let since = query.since.map_or(0, |time| ReadingId::first_at(time).as_u128());
        let cursor = query.cursor.map(ReadingId::as_u128);
        let page = self.shared().ask(|read| {
            let journal = read.open_table(JOURNAL)?;
            let mut page = Pages::new(query.limit);
            if query.newest_first {
                let end = cursor.unwrap_or(u128::MAX);
                if since < end {
                    page.fill(journal.range(since..end)?.rev(), |id, row| query.pick(id, row))?;
                }
            } else {
                let begin = cursor.map_or(since, |id| since.max(id.saturating_add(1)));
                page.fill(journal.range(begin..)?, |id, row| query.pick(id, row))?;
            }
            Ok(page.done(ReadingId::from_u128))
        })?;
        Ok(Page { items: self.shown(page.items)?, cursor: page.cursor })
    }

    /// One that is damaged says so: it can be discarded, and no more.
    pub fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        let letter = self.shared().ask(|read| {
            let row = read.open_table(DEAD)?.get(id.as_u128())?;
            Ok(row.map(|row| known(id.as_u128(), dead_letter(id.as_u128(), row.value()))))
        })?;
        Ok(self.shown(letter)?.into_iter().next())
    }

    /// Those that are damaged are of no route and no target.
    pub fn dead_letters(
        &self,
        query: &DeadLetterQuery,
    ) -> Result<Page<DeadLetter, DeadLetterId>, StoreError> {
        let page = self.shared().ask(|read| {
            let mut page = Pages::new(query.limit);
            let table = read.open_table(DEAD)?;
            let cursor = query.cursor.map(DeadLetterId::as_u128);
            if query.oldest_first {
                let begin = cursor.map_or(0, |id| id.saturating_add(1));
                page.fill(table.range(begin..)?, |id, row| query.pick(id, row))?;
            } else {
                let end = cursor.unwrap_or(u128::MAX);
                page.fill(table.range(..end)?.rev(), |id, row| query.pick(id, row))?;
            }
            Ok(page.done(DeadLetterId::from_u128))
        })?;
        Ok(Page { items: self.shown(page.items)?, cursor: page.cursor })
    }

    /// The outbox, by target and then oldest first, behind `cursor`. What is damaged is left out: it becomes a dead
    /// letter when it is to be delivered.
    pub fn outbox(
        &self,
        cursor: Option<&(Target, DeliveryId)>,
        limit: usize,
    ) -> Result<Page<Queued, (Target, DeliveryId)>, StoreError> {
        let page = self.shared().ask(|read| {
            let mut begin = Vec::new();
            if let Some((target, id)) = cursor {
                key::queued(&mut begin, target, id.as_u128().saturating_add(1));
            }
            let mut items: Vec<Partial<Queued>> = Vec::new();
            let mut bytes = 0;
            for row in read.open_table(OUTBOX)?.range(&begin[..]..)? {
                if items.len() >= limit || bytes >= PAGE_BYTES {
                    let cursor = items.last().map(|last| (last.it().target.clone(), last.it().delivery.id));
                    return Ok(Page { items, cursor });
                }
                let (key, row) = row?;
                let queued =
                    split_queued(key.value()).and_then(|(target, id)| delivery(target, id, row.value()));
                let Ok(queued) = queued else { continue };
                bytes += queued.size();
                items.push(queued);
            }
            Ok(Page { items, cursor: None })
        })?;
        Ok(Page { items: self.shown(page.items)?, cursor: page.cursor })
    }

    /// Costs nothing: no table is asked.
    pub fn stats(&self) -> Stats {
        let counted = self.shared().counts.get();
        Stats {
            journal_count: counted.ledger.journal,
            journal_bytes: counted.ledger.journal_bytes,
            trace_bytes: counted.ledger.trace_bytes,
            oldest: counted.oldest.map(ReadingId::time),
            waiting: counted.ledger.waiting,
            outbox: counted.ledger.outbox,
            dead_letters: counted.ledger.dead,
            dead_letter_bytes: counted.ledger.dead_bytes,
            dead_letters_discarded: counted.discarded,
            payloads: counted.ledger.payloads,
            commits: counted.commits,
            readings: counted.readings,
            last_commit: counted.last_commit,
            file_bytes: self.shared().file_len(),
            fault: self.shared().queue.fault().map(|fault| fault.to_string()),
        }
    }
}

/// A page being filled.
struct Pages<T> {
    items: Vec<Partial<T>>,
    bytes: usize,
    limit: usize,
    cursor: Option<u128>,
}

impl<T: Carries> Pages<T> {
    fn new(limit: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, limit, cursor: None }
    }

    fn fill<'a>(
        &mut self,
        rows: impl Iterator<
            Item = Result<
                (redb::AccessGuard<'a, u128>, redb::AccessGuard<'a, &'static [u8]>),
                redb::StorageError,
            >,
        >,
        pick: impl Fn(u128, &[u8]) -> Result<Option<Partial<T>>, Damaged>,
    ) -> Result<(), redb::Error> {
        let mut last = None;
        for (looked_at, row) in rows.enumerate() {
            if self.items.len() >= self.limit || self.bytes >= PAGE_BYTES || looked_at >= LOOK_AT_MAX {
                self.cursor = last;
                break;
            }
            let (id, row) = row?;
            let id = id.value();
            // One that is damaged must not hide the others.
            if let Ok(Some(item)) = pick(id, row.value()) {
                self.bytes += item.size();
                self.items.push(item);
            }
            last = Some(id);
        }
        Ok(())
    }

    fn done<C>(self, cursor: impl FnOnce(u128) -> C) -> Page<Partial<T>, C> {
        Page { items: self.items, cursor: self.cursor.map(cursor) }
    }
}

impl ReadingQuery {
    fn pick(&self, id: u128, row: &[u8]) -> Result<Option<Partial<Reading>>, Damaged> {
        let (_, rest) = row::read_head::<JournalHead<'_>>(row, "journal")?;
        let row = row::read::<ReadingRow<'_>>(rest, "journal")?;
        let is_asked_for = self.ingress.as_ref().is_none_or(|ingress| ingress.as_str() == row.ingress)
            && self.device.as_deref().is_none_or(|device| row.message.device == Some(device));
        if !is_asked_for {
            return Ok(None);
        }
        let reading = row.into_reading(id, "journal")?;
        Ok(self.topic.as_ref().is_none_or(|topic| topic.matches(&reading.it().topic)).then_some(reading))
    }
}

impl DeadLetterQuery {
    fn pick(&self, id: u128, row: &[u8]) -> Result<Option<Partial<DeadLetter>>, Damaged> {
        if self.route.is_none() && self.target.is_none() {
            return Ok(Some(known(id, dead_letter(id, row))));
        }
        let (head, rest) = row::read_head::<DeadHead<'_>>(row, "dead letters")?;
        let route = match &head.subject {
            SubjectRow::Reading { route, .. } => *route,
            SubjectRow::Sink(_) | SubjectRow::Device(_) => {
                row::read::<DeliveryRow<'_>>(rest, "dead letters")?.route
            }
        };
        let of_route = |wanted: &Name| route == wanted.as_str();
        let of_target = |wanted: &Target| match (&head.subject, wanted) {
            (SubjectRow::Sink(name), Target::Sink(wanted)) => *name == wanted.as_str(),
            (SubjectRow::Device(device), Target::Device(wanted)) => *device == &**wanted,
            _ => false,
        };
        if self.route.as_ref().is_none_or(of_route) && self.target.as_ref().is_none_or(of_target) {
            dead_letter(id, row).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// What is known of a dead letter: of one that is damaged, that it is there.
fn known(id: u128, read: Result<Partial<DeadLetter>, Damaged>) -> Partial<DeadLetter> {
    read.unwrap_or_else(|_| Partial::new(damaged::dead_letter(id), None))
}
