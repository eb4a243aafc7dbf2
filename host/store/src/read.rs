//! What may be asked of the store by the pipeline. Each answer is of one commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase};
use sandbar_reading::{DeadLetterId, DeliveryId, Name, Reading, ReadingId, Scope, Target, Timestamp};

use crate::change::{DeadLetter, Lane, LaneId, Queued, Subject, Waiting};
use crate::damaged::readable;
use crate::documents::Kind;
use crate::error::{Fault, StoreError, needs_reopening, panicked};
use crate::partial::Partial;
use crate::queue::{Lost, LostWhat};
use crate::row::{
    self, Damaged, DeadHead, DeliveryRow, JournalHead, QueuedHead, ReadingRow, StateRow, SubjectRow,
    WaitingRow,
};
use crate::store::Store;
use crate::tables::{DOCUMENTS, JOURNAL, OUTBOX, STATE, WAITING};
use crate::{key, shared::Shared};

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A part of what there is.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub items: Vec<T>,
    /// There is nothing beyond `items`.
    pub complete: bool,
}

impl Shared {
    /// Asks the database as of the last commit.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T> {
        if let Some(fault) = self.queue.fault() {
            return Err(fault.into());
        }
        // Recursive: a question may be asked within another's `skip`.
        let database = self.database.read_recursive();
        let Some(opened) = &*database else { return Err(StoreError::Stopping) };
        let answer = || opened.database.begin_read().map_err(redb::Error::from).and_then(|read| ask(&read));
        let answer = catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|_| Err(panicked()));
        answer.map_err(|error| {
            let fault = Fault::of(&error);
            if needs_reopening(&error) {
                self.queue.suspect(fault.clone());
            }
            fault.into()
        })
    }
}

impl Store {
    /// All documents of a kind, by name.
    pub fn documents(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        self.shared().ask(|read| {
            let (begin, end) = ([kind as u8], [kind as u8 + 1]);
            let mut documents = Vec::new();
            for row in read.open_table(DOCUMENTS)?.range(&begin[..]..&end[..])? {
                let (key, document) = row?;
                let name = String::from_utf8_lossy(&key.value()[1..]).into_owned();
                documents.push((name, document.value().to_vec()));
            }
            Ok(documents)
        })
    }

    /// A value of the scope's state that has not expired.
    pub fn state(&self, scope: &Scope, name: &str) -> Result<Option<Bytes>> {
        let now = self.shared().clock.now();
        self.shared().ask(|read| {
            let mut key = Vec::with_capacity(64);
            key::state(&mut key, scope, name);
            let Some(row) = read.open_table(STATE)?.get(&key[..])? else { return Ok(None) };
            let row = StateRow::read(row.value())?;
            Ok((!row.has_expired(now)).then(|| Bytes::copy_from_slice(row.value)))
        })
    }

    /// The names of the scope's state that begin with `prefix`, sorted.
    pub fn state_names(&self, scope: &Scope, prefix: &str) -> Result<Vec<Box<str>>> {
        let mut names = Vec::new();
        self.each_state(scope, prefix, |name, _| names.push(name.into()))?;
        Ok(names)
    }

    /// Bytes (of names and values) and count of the scope's state.
    pub fn state_used(&self, scope: &Scope) -> Result<(usize, usize)> {
        let (mut bytes, mut count) = (0, 0);
        self.each_state(scope, "", |name, value| {
            bytes += name.len() + value.len();
            count += 1;
        })?;
        Ok((bytes, count))
    }

    /// Calls `each` with name and value of the scope's state whose name begins with `prefix`, sorted. It may ask
    /// the store itself.
    pub fn each_state(&self, scope: &Scope, prefix: &str, mut each: impl FnMut(&str, &[u8])) -> Result<()> {
        let now = self.shared().clock.now();
        self.shared().ask(|read| {
            let (mut begin, mut of) = (Vec::new(), Vec::new());
            key::state(&mut begin, scope, prefix);
            key::scope(&mut of, scope);
            for row in read.open_table(STATE)?.range(&begin[..]..&key::behind(&of)[..])? {
                let (key, row) = row?;
                if !key.value().starts_with(&begin) {
                    break;
                }
                let name = std::str::from_utf8(&key.value()[of.len()..]);
                let name = readable(name.map_err(|_| Damaged { table: "state" }));
                let (Some(name), Some(row)) = (name, readable(StateRow::read(row.value()))) else { continue };
                if !row.has_expired(now) {
                    each(name, row.value);
                }
            }
            Ok(())
        })
    }

    /// Lanes of the route in which something waits, by id, those behind `after`. The cost grows with the
    /// lanes, not with what waits in them. Where a row is damaged that says which lane it is, it becomes a dead letter,
    /// and this is to be asked again.
    pub fn lanes(&self, route: &Name, after: Option<LaneId>, limit: usize) -> Result<Vec<Lane>> {
        let lanes = self.shared().ask(|read| {
            let waiting = read.open_table(WAITING)?;
            let mut begin = Vec::new();
            key::route(&mut begin, route);
            let end = key::behind(&begin);
            let mut after = after;
            let mut lanes = Vec::new();
            while lanes.len() < limit {
                if let Some(lane) = after {
                    let Some(next) = lane.0.checked_add(1) else { break };
                    key::lane(&mut begin, route, LaneId(next));
                }
                let Some(row) = waiting.range(&begin[..]..&end[..])?.next() else { break };
                let (key, row) = row?;
                let Some((_, lane, id)) = readable(split_waiting(key.value())) else {
                    begin = behind(key.value());
                    after = None;
                    continue;
                };
                let Ok(WaitingRow { key, .. }) = WaitingRow::read(row.value()) else {
                    return Ok(Err(unreadable(LostWhat::Reading(route.clone(), lane), id)));
                };
                lanes.push(Lane { route: route.clone(), key: key.into() });
                after = Some(lane);
            }
            Ok(Ok(lanes))
        })?;
        lanes.map_err(|lost| self.lose(lost))
    }

    /// Whether the reading waits in the lane.
    pub fn waits(&self, route: &Name, lane: LaneId, reading: ReadingId) -> Result<bool> {
        self.shared().ask(|read| {
            let mut key = Vec::new();
            key::waiting(&mut key, route.as_str(), lane, reading.as_u128());
            Ok(read.open_table(WAITING)?.get(&key[..])?.is_some())
        })
    }

    /// What waits in a lane, oldest first, without what `skip` says yes to; at most `count` readings and,
    /// beyond the first, `bytes` of them. What is damaged, or has lost its payload, becomes a dead letter.
    pub fn waiting(
        &self,
        route: &Name,
        lane: LaneId,
        skip: &dyn Fn(ReadingId) -> bool,
        count: usize,
        bytes: usize,
    ) -> Result<Loaded<Waiting>> {
        let loaded = self.shared().ask(|read| {
            let (waiting, journal) = (read.open_table(WAITING)?, read.open_table(JOURNAL)?);
            let (mut begin, mut end) = (Vec::new(), Vec::new());
            key::lane(&mut begin, route, lane);
            key::waiting(&mut end, route.as_str(), lane, u128::MAX);
            let (mut items, mut size) = (Vec::new(), 0);
            for row in waiting.range(&begin[..]..=&end[..])? {
                let (key, row) = row?;
                let Some((_, _, id)) = readable(split_waiting(key.value())) else { continue };
                if skip(ReadingId::from_u128(id)) {
                    continue;
                }
                if items.len() >= count || size >= bytes && !items.is_empty() {
                    return Ok((Loaded { items, complete: false }, None));
                }
                let journaled = journal.get(id)?;
                let journaled = journaled.as_ref().map(|row| row.value()).unwrap_or_default();
                let (Ok(reading), Ok(row)) = (reading(id, journaled), WaitingRow::read(row.value())) else {
                    let lost = unreadable(LostWhat::Reading(route.clone(), lane), id);
                    return Ok((Loaded { items, complete: false }, Some(lost)));
                };
                size += reading.it().size() + reading.bytes_to_come();
                let lane = Lane { route: route.clone(), key: row.key.into() };
                let (attempts, due) = (row.attempts, row.due);
                items.push(reading.map(|reading| Waiting {
                    lane,
                    reading: Arc::new(reading),
                    attempts,
                    due,
                }));
            }
            Ok((Loaded { items, complete: true }, None))
        })?;
        self.complete(loaded, |waiting| {
            let Lane { route, .. } = &waiting.lane;
            (LostWhat::Reading(route.clone(), waiting.lane.id()), waiting.reading.id.as_u128())
        })
    }

    /// The routes that something waits for.
    pub fn routes_waiting(&self) -> Result<Vec<Name>> {
        self.shared().ask(|read| {
            let waiting = read.open_table(WAITING)?;
            let (mut begin, mut routes) = (Vec::new(), Vec::new());
            while let Some(row) = waiting.range(&begin[..]..)?.next() {
                let (key, _) = row?;
                let route = split_waiting(key.value()).and_then(|(route, _, _)| {
                    route.parse::<Name>().map_err(|_| Damaged { table: "waiting" })
                });
                let Some(route) = readable(route) else {
                    begin = behind(key.value());
                    continue;
                };
                key::route(&mut begin, &route);
                begin = key::behind(&begin);
                routes.push(route);
            }
            Ok(routes)
        })
    }

    /// The targets that something is queued for.
    pub fn targets(&self) -> Result<Vec<Target>> {
        self.shared().ask(|read| {
            let outbox = read.open_table(OUTBOX)?;
            let (mut begin, mut targets) = (Vec::new(), Vec::new());
            while let Some(row) = outbox.range(&begin[..]..)?.next() {
                let (key, _) = row?;
                let Some((target, _)) = readable(split_queued(key.value())) else {
                    begin = behind(key.value());
                    continue;
                };
                key::target(&mut begin, &target);
                begin = key::behind(&begin);
                targets.push(target);
            }
            Ok(targets)
        })
    }

    /// What is queued for the target, oldest first, without what `skip` says yes to; at most `count` deliveries and,
    /// beyond the first, `bytes` of them. What is damaged, or has lost its payload, becomes a dead letter.
    pub fn queued(
        &self,
        target: &Target,
        skip: &dyn Fn(DeliveryId) -> bool,
        count: usize,
        bytes: usize,
    ) -> Result<Loaded<Queued>> {
        let loaded = self.shared().ask(|read| {
            let mut begin = Vec::new();
            key::target(&mut begin, target);
            let (mut items, mut size) = (Vec::new(), 0);
            for row in read.open_table(OUTBOX)?.range(&begin[..]..&key::behind(&begin)[..])? {
                let (key, row) = row?;
                let Some((_, id)) = readable(split_queued(key.value())) else { continue };
                if skip(DeliveryId::from_u128(id)) {
                    continue;
                }
                if items.len() >= count || size >= bytes && !items.is_empty() {
                    return Ok((Loaded { items, complete: false }, None));
                }
                let Ok(queued) = delivery(target.clone(), id, row.value()) else {
                    let lost = unreadable(LostWhat::Delivery(target.clone()), id);
                    return Ok((Loaded { items, complete: false }, Some(lost)));
                };
                size += queued.it().delivery.size() + queued.bytes_to_come();
                items.push(queued);
            }
            Ok((Loaded { items, complete: true }, None))
        })?;
        self.complete(loaded, |queued| {
            (LostWhat::Delivery(queued.target.clone()), queued.delivery.id.as_u128())
        })
    }

    /// How many deliveries are queued for the target, counted no further than `limit`.
    pub fn queued_count(&self, target: &Target, limit: usize) -> Result<usize> {
        self.shared().ask(|read| {
            let (outbox, mut begin) = (read.open_table(OUTBOX)?, Vec::new());
            key::target(&mut begin, target);
            let end = key::behind(&begin);
            let mut rows = outbox.range(&begin[..]..&end[..])?.take(limit);
            Ok(rows.try_fold(0, |count, row| row.map(|_| count + 1))?)
        })
    }

    /// A journaled reading, if retention has not removed it. One that has lost its payload says so in an attribute.
    pub fn reading(&self, id: ReadingId) -> Result<Option<Reading>> {
        let reading = self.shared().ask(|read| {
            let row = read.open_table(JOURNAL)?.get(id.as_u128())?;
            Ok(row.map(|row| reading(id.as_u128(), row.value())).transpose()?)
        })?;
        Ok(self.shown(reading)?.into_iter().next())
    }
}

/// Where to go on behind a key of which nothing can be made.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn unreadable(what: LostWhat, id: u128) -> Lost {
    Lost { what, id, cause: "it cannot be read".to_owned() }
}

pub(crate) fn split_waiting(key: &[u8]) -> Result<(&str, LaneId, u128), Damaged> {
    key::split_waiting(key).ok_or(Damaged { table: "waiting" })
}

pub(crate) fn split_queued(key: &[u8]) -> Result<(Target, u128), Damaged> {
    key::split_queued(key).ok_or(Damaged { table: "outbox" })
}

pub(crate) fn reading(id: u128, row: &[u8]) -> Result<Partial<Reading>, Damaged> {
    let (_, rest) = row::read_head::<JournalHead<'_>>(row, "journal")?;
    row::read::<ReadingRow<'_>>(rest, "journal")?.into_reading(id, "journal")
}

pub(crate) fn delivery(target: Target, id: u128, row: &[u8]) -> Result<Partial<Queued>, Damaged> {
    let (head, rest) = row::read_head::<QueuedHead<'_>>(row, "outbox")?;
    let (attempts, due) = (head.attempts, Timestamp::from_nanos(head.due));
    let last_cause = head.last_cause.map(str::to_owned);
    let delivery = row::read::<DeliveryRow<'_>>(rest, "outbox")?.into_delivery(id, "outbox")?;
    Ok(delivery.map(|delivery| Queued { target, delivery: Arc::new(delivery), attempts, due, last_cause }))
}

pub(crate) fn dead_letter(id: u128, row: &[u8]) -> Result<Partial<DeadLetter>, Damaged> {
    let (head, rest) = row::read_head::<DeadHead<'_>>(row, "dead letters")?;
    let (time, attempts) = (Timestamp::from_nanos(head.time), head.attempts);
    let (id, cause) = (DeadLetterId::from_u128(id), head.cause.to_owned());
    Ok(subject(&head, rest)?.map(|subject| DeadLetter { id, time, attempts, cause, subject }))
}

/// What a dead letter is of; `rest` follows its head.
pub(crate) fn subject(head: &DeadHead<'_>, rest: &[u8]) -> Result<Partial<Subject>, Damaged> {
    let table = "dead letters";
    let name = |name: &str| name.parse::<Name>().map_err(|_| Damaged { table });
    let target = match &head.subject {
        SubjectRow::Reading { route, key } => {
            let reading = row::read::<ReadingRow<'_>>(rest, table)?.into_reading(head.id, table)?;
            let lane = Lane { route: name(route)?, key: (*key).into() };
            return Ok(reading.map(|reading| Subject::Reading { lane, reading: Arc::new(reading) }));
        }
        SubjectRow::Sink(sink) => Target::Sink(name(sink)?),
        SubjectRow::Device(device) => Target::Device((*device).into()),
    };
    let delivery = row::read::<DeliveryRow<'_>>(rest, table)?.into_delivery(head.id, table)?;
    Ok(delivery.map(|delivery| Subject::Delivery { target, delivery: Arc::new(delivery) }))
}
