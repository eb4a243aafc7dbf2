//! How readings were handled and deliveries offered: entries in the order of their commits, for those who ask
//! what became of a reading.
//!
//! All that one transaction has to tell goes into one row at the end of the table, and the oldest rows make room as
//! what leaves by itself does (`retention.rs`): that costs little, whatever is going on. Who asks about a reading reads on from its acceptance.

use std::borrow::Cow;

use redb::{ReadTransaction, TableError};
use sandbar_reading::{DeadLetterId, DeliveryId, Name, ReadingId, Target, Timestamp};
use serde::{Deserialize, Serialize};

use crate::apply::Batch;
use crate::change::{FailedAttempt, FailedDelivery, LaneId, NewDelivery, Next, Trace, TracedCall};
use crate::damaged::readable;
use crate::error::StoreError;
use crate::key;
use crate::query::LOOK_AT_MAX;
use crate::retention::Chunk;
use crate::row::{self, Damaged, DeadHead, JournalHead, QueuedHead, SubjectRow, WaitingRow};
use crate::store::Store;
use crate::tables::{DEAD, JOURNAL, OUTBOX, TRACE, WAITING};

/// A row is begun anew when it has become so large.
const ROW_BYTES: usize = 48 << 10;

/// One thing that happened.
#[derive(Serialize, Deserialize)]
enum Entry<'a> {
    /// A turn's outcome for one reading.
    Handled {
        #[serde(borrow)]
        route: Cow<'a, str>,
        reading: u128,
        calls: Cow<'a, [TracedCall]>,
        /// Its deliveries count up from here, one for each target; then its chained readings.
        first_delivery: u128,
        #[serde(borrow)]
        targets: Vec<SubjectRow<'a>>,
        first_chained: u128,
        chained: u32,
        end: End,
    },
    Accepted {
        #[serde(borrow)]
        target: SubjectRow<'a>,
        deliveries: Vec<u128>,
    },
    NotAccepted {
        #[serde(borrow)]
        target: SubjectRow<'a>,
        delivery: u128,
        attempts: u32,
        cause: Cow<'a, str>,
        end: End,
    },
    /// A dead letter waits again; `subject` is the reading or delivery.
    Redriven { subject: u128 },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum End {
    Done,
    Retry { due: u64 },
    Dead,
}

impl End {
    fn of(next: Next) -> Self {
        match next {
            Next::RetryAt(due) => Self::Retry { due: due.nanos() },
            Next::DeadLetter => Self::Dead,
        }
    }

    fn told(self) -> TracedEnd {
        match self {
            Self::Done => TracedEnd::Done,
            Self::Retry { due } => TracedEnd::Retry { due: Timestamp::from_nanos(due) },
            Self::Dead => TracedEnd::DeadLetter,
        }
    }
}

/// Entries of the transaction in the making.
#[derive(Default)]
pub(crate) struct TraceRow {
    rows: Vec<Vec<u8>>,
}

impl TraceRow {
    fn add(&mut self, entry: &Entry<'_>) {
        if self.rows.last().is_none_or(|row| row.len() >= ROW_BYTES) {
            self.rows.push(Vec::new());
        }
        if let Some(row) = self.rows.last_mut() {
            row::append(row, entry);
        }
    }

    /// `first`: the first of the outcome's ids: its deliveries', then its chained readings'.
    pub(crate) fn outcome(
        &mut self,
        route: &Name,
        traces: &[Trace],
        deliveries: &[NewDelivery],
        failed: Option<&FailedAttempt>,
        first: u128,
    ) {
        let (mut delivery, mut chained) = (0, 0);
        for trace in traces {
            let own = deliveries.get(delivery..delivery + trace.deliveries).unwrap_or_default();
            let end = failed.filter(|failed| failed.reading == trace.reading);
            self.add(&Entry::Handled {
                route: Cow::Borrowed(route.as_str()),
                reading: trace.reading.as_u128(),
                calls: Cow::Borrowed(&trace.calls),
                first_delivery: first + delivery as u128,
                targets: own.iter().map(|delivery| SubjectRow::of(&delivery.target)).collect(),
                first_chained: first + (deliveries.len() + chained) as u128,
                chained: u32::try_from(trace.chained).unwrap_or(u32::MAX),
                end: end.map_or(End::Done, |failed| End::of(failed.next)),
            });
            delivery += trace.deliveries;
            chained += trace.chained;
        }
    }

    pub(crate) fn delivered(&mut self, target: &Target, accepted: &[DeliveryId], failed: &[FailedDelivery]) {
        if !accepted.is_empty() {
            let deliveries = accepted.iter().map(|id| id.as_u128()).collect();
            self.add(&Entry::Accepted { target: SubjectRow::of(target), deliveries });
        }
        for failed in failed {
            self.add(&Entry::NotAccepted {
                target: SubjectRow::of(target),
                delivery: failed.id.as_u128(),
                attempts: failed.attempts,
                cause: Cow::Borrowed(&failed.cause),
                end: End::of(failed.next),
            });
        }
    }

    pub(crate) fn redriven(&mut self, subject: u128) {
        self.add(&Entry::Redriven { subject });
    }
}

impl Batch<'_> {
    /// Puts what was noted at the end of the table, unless none is to be kept.
    pub(crate) fn write_trace(&mut self, most: u64) -> Result<(), redb::Error> {
        let rows = std::mem::take(&mut self.trace.rows);
        if rows.is_empty() || most == 0 {
            return Ok(());
        }
        // Ids run ahead of a clock that was set back: what is told of a reading must not lie in front of its own.
        let begin = ReadingId::first_at(self.now).as_u128().max(self.ledger.last_id);
        let table = self.tables.trace()?;
        for row in &rows {
            let key = begin.max(self.ledger.last_trace.saturating_add(1));
            table.insert(key, &row[..])?;
            self.ledger.last_trace = key;
            self.ledger.trace_bytes += row.len() as u64;
            self.traced = (self.traced.0 + 1, self.traced.1 + row.len() as u64);
        }
        Ok(())
    }

    /// The oldest rows go while there are more than `most` bytes, a chunk of them. True if that changed anything.
    pub(crate) fn trim_trace(&mut self, most: u64, alone: bool) -> Result<bool, redb::Error> {
        let chunk = Chunk::new(alone, self.traced.0, self.traced.1);
        let (mut rows, mut bytes) = (0, 0);
        while self.ledger.trace_bytes > most && chunk.takes(rows, bytes) {
            let Some((_, row)) = self.tables.trace()?.pop_first()? else {
                // There is nothing left that could have been counted.
                self.ledger.trace_bytes = 0;
                return Ok(true);
            };
            let gone = row.value().len() as u64;
            self.ledger.trace_bytes = self.ledger.trace_bytes.saturating_sub(gone);
            (rows, bytes) = (rows + 1, bytes + gone);
        }
        Ok(rows > 0)
    }
}

/// What became of a reading, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadingTrace {
    /// The routes that took it when it was accepted, or later by a redrive.
    pub lanes: Vec<TracedLane>,
    /// In the order in which they were committed.
    pub handlings: Vec<TracedHandling>,
    pub deliveries: Vec<TracedDelivery>,
    /// When its dead letter, or one of a delivery of it, was made to wait again.
    pub redriven: Vec<Timestamp>,
    /// Those that there are now, of it and of its deliveries.
    pub dead_letters: Vec<DeadLetterId>,
}

/// Where a reading waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedLane {
    pub route: String,
    /// Failed attempts so far, and when the next one is due, if it still waits.
    pub waits: Option<(u32, Timestamp)>,
}

/// One attempt of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedHandling {
    pub route: String,
    /// When it was committed.
    pub time: Timestamp,
    pub calls: Vec<TracedCall>,
    /// Messages to routes, as readings of their own.
    pub chained: Vec<ReadingId>,
    pub end: TracedEnd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedDelivery {
    pub id: DeliveryId,
    pub target: Target,
    pub route: String,
    /// When it was put out.
    pub time: Timestamp,
    pub offers: Vec<TracedOffer>,
    /// Failed attempts so far, when the next one is due, and the last cause, if it is still in the outbox.
    pub waits: Option<(u32, Timestamp, Option<String>)>,
}

/// One offer to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedOffer {
    pub time: Timestamp,
    /// Why it was not accepted.
    pub cause: Option<String>,
    pub end: TracedEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracedEnd {
    Done,
    Retry { due: Timestamp },
    DeadLetter,
}

impl Store {
    /// The life of a reading. What is too old is no longer known.
    pub fn trace(&self, reading: ReadingId) -> Result<ReadingTrace, StoreError> {
        self.shared().ask(|read| {
            let mut trace = ReadingTrace { lanes: lanes(read, reading)?, ..ReadingTrace::default() };
            let table = match read.open_table(TRACE) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(trace),
                opened => opened?,
            };
            // The clock may have been set back: then the keys ran ahead of it with the ids, never behind.
            let from = ReadingId::first_at(reading.time()).as_u128();
            for row in table.range(from..)? {
                let (key, row) = row?;
                let time = ReadingId::from_u128(key.value()).time();
                let mut rest = row.value();
                // What comes behind what is damaged in a row cannot be told.
                while let Ok((entry, behind)) = row::read_head::<Entry<'_>>(rest, "trace") {
                    if trace.take(entry, reading, time).is_err() {
                        break;
                    }
                    rest = behind;
                }
            }
            for delivery in &mut trace.deliveries {
                delivery.waits = outbox(read, &delivery.target, delivery.id)?;
            }
            trace.dead_letters = dead_letters(read, reading, &trace.deliveries)?;
            Ok(trace)
        })
    }
}

impl ReadingTrace {
    fn take(&mut self, entry: Entry<'_>, reading: ReadingId, time: Timestamp) -> Result<(), Damaged> {
        match entry {
            Entry::Handled {
                route,
                reading: of,
                calls,
                first_delivery,
                targets,
                first_chained,
                chained,
                end,
            } if of == reading.as_u128() => {
                for (at, target) in targets.into_iter().enumerate() {
                    self.deliveries.push(TracedDelivery {
                        id: DeliveryId::from_u128(first_delivery + at as u128),
                        target: target_of(&target)?,
                        route: route.clone().into_owned(),
                        time,
                        offers: Vec::new(),
                        waits: None,
                    });
                }
                let chained = (0..u128::from(chained)).map(|at| ReadingId::from_u128(first_chained + at));
                self.handlings.push(TracedHandling {
                    route: route.into_owned(),
                    time,
                    calls: calls.into_owned(),
                    chained: chained.collect(),
                    end: end.told(),
                });
            }
            Entry::Accepted { deliveries, .. } => {
                for id in deliveries {
                    self.offered(id, TracedOffer { time, cause: None, end: TracedEnd::Done });
                }
            }
            Entry::NotAccepted { delivery, cause, end, .. } => {
                let cause = Some(cause.into_owned());
                self.offered(delivery, TracedOffer { time, cause, end: end.told() });
            }
            Entry::Redriven { subject } => {
                let is_own = self.deliveries.iter().any(|delivery| delivery.id.as_u128() == subject);
                if is_own || subject == reading.as_u128() {
                    self.redriven.push(time);
                }
            }
            Entry::Handled { .. } => {}
        }
        Ok(())
    }

    fn offered(&mut self, delivery: u128, offer: TracedOffer) {
        if let Some(own) = self.deliveries.iter_mut().find(|own| own.id.as_u128() == delivery) {
            own.offers.push(offer);
        }
    }
}

fn target_of(row: &SubjectRow<'_>) -> Result<Target, Damaged> {
    let damaged = || Damaged { table: "trace" };
    Ok(match row {
        SubjectRow::Sink(name) => Target::Sink(name.parse().map_err(|_| damaged())?),
        SubjectRow::Device(device) => Target::Device((*device).into()),
        SubjectRow::Reading { .. } => return Err(damaged()),
    })
}

fn lanes(read: &ReadTransaction, reading: ReadingId) -> Result<Vec<TracedLane>, redb::Error> {
    let id = reading.as_u128();
    let Some(row) = read.open_table(JOURNAL)?.get(id)? else { return Ok(Vec::new()) };
    let head = readable(row::read_head::<JournalHead<'_>>(row.value(), "journal"));
    let Some((head, _)) = head else { return Ok(Vec::new()) };
    let waiting = read.open_table(WAITING)?;
    let mut key = Vec::new();
    let mut lanes = Vec::with_capacity(head.lanes.len());
    for (route, lane) in head.lanes {
        key::waiting(&mut key, &route, LaneId(lane), id);
        let waits = match waiting.get(&key[..])? {
            None => None,
            Some(row) => readable(WaitingRow::read(row.value())).map(|row| (row.attempts, row.due)),
        };
        lanes.push(TracedLane { route: route.into_owned(), waits });
    }
    Ok(lanes)
}

/// A dead letter's own id is greater than that of what it is about.
fn dead_letters(
    read: &ReadTransaction,
    reading: ReadingId,
    deliveries: &[TracedDelivery],
) -> Result<Vec<DeadLetterId>, redb::Error> {
    let mut found = Vec::new();
    for row in read.open_table(DEAD)?.range(reading.as_u128()..)?.take(LOOK_AT_MAX) {
        let (id, row) = row?;
        let head = row::read_head::<DeadHead<'_>>(row.value(), "dead letters");
        let Ok((head, _)) = head else { continue };
        let is_own = deliveries.iter().any(|delivery| delivery.id.as_u128() == head.id);
        if is_own || head.id == reading.as_u128() {
            found.push(DeadLetterId::from_u128(id.value()));
        }
    }
    Ok(found)
}

type Waits = Option<(u32, Timestamp, Option<String>)>;

fn outbox(read: &ReadTransaction, target: &Target, id: DeliveryId) -> Result<Waits, redb::Error> {
    let mut key = Vec::new();
    key::queued(&mut key, target, id.as_u128());
    let Some(row) = read.open_table(OUTBOX)?.get(&key[..])? else { return Ok(None) };
    let head = readable(row::read_head::<QueuedHead<'_>>(row.value(), "outbox"));
    Ok(head.map(|(head, _)| {
        (head.attempts, Timestamp::from_nanos(head.due), head.last_cause.map(str::to_owned))
    }))
}
