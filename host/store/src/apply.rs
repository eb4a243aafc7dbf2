//! What each change writes, within the transaction that it shares with others.
//!
//! A change that can fail by itself is checked before its first write: the others must not suffer, and
//! nothing of it may stay.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use redb::ReadableTable;
use sandbar_reading::{
    DeadLetterId, Delivery, DeliveryId, Inbound, Lineage, Name, Reading, ReadingId, Scope, StateWrite,
    Target, Timestamp,
};

use crate::change::{
    Accept, Delivered, FailedAttempt, Lane, LaneId, NewDelivery, News, Next, Outcome, Queued, Replayed,
    Waiting,
};
use crate::damaged::{Remains, readable};
use crate::devices::CommandState;
use crate::digest::Digest;
use crate::documents::Kind;
use crate::error::StoreError;
use crate::key;
use crate::queue::{Done, Lost, LostWhat, Work};
use crate::row::{
    self, DeadHead, DeliveryRow, JournalHead, QueuedHead, ReadingRow, StateRow, SubjectRow, WaitingRow,
};
use crate::tables::{Ledger, Tables};
use crate::trace::TraceRow;

/// The ids of what a change makes, and which of it has a payload in a file.
pub(crate) struct Ids {
    ids: Range<u128>,
    next: usize,
    files: Vec<Option<Digest>>,
}

/// What is made next.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) id: u128,
    pub(crate) file: Option<Digest>,
}

type Result<T, E = redb::Error> = std::result::Result<T, E>;

/// One transaction in the making.
pub(crate) struct Batch<'t> {
    pub(crate) tables: Tables<'t>,
    pub(crate) now: Timestamp,
    pub(crate) ledger: Ledger,
    pub(crate) news: News,
    /// When the first state that this batch wrote expires.
    pub(crate) first_expiry: u64,
    /// Readings that were journaled, and what they weigh.
    pub(crate) journaled: usize,
    pub(crate) journaled_bytes: u64,
    /// The first of them.
    pub(crate) first_journaled: Option<u128>,
    pub(crate) key: Vec<u8>,
    pub(crate) row: Vec<u8>,
    /// A row without its head.
    rest: Vec<u8>,
    pub(crate) trace: TraceRow,
    /// Rows of the trace that were written, and bytes of them.
    pub(crate) traced: (usize, u64),
    /// What the new dead letters weigh.
    pub(crate) buried_bytes: u64,
    /// How often rows of commands were written.
    pub(crate) commands_written: usize,
    /// Files that nothing refers to after this.
    pub(crate) unreferred: Vec<Digest>,
    /// Dead letters that went because there were too many.
    pub(crate) discarded: u64,
}

impl<'t> Batch<'t> {
    pub(crate) fn new(tables: Tables<'t>, now: Timestamp, ledger: Ledger) -> Self {
        let (key, row) = (Vec::with_capacity(128), Vec::with_capacity(1024));
        let news = News::default();
        Self {
            tables,
            now,
            ledger,
            news,
            first_expiry: StateRow::NEVER,
            journaled: 0,
            journaled_bytes: 0,
            first_journaled: None,
            key,
            row,
            rest: Vec::new(),
            trace: TraceRow::default(),
            traced: (0, 0),
            buried_bytes: 0,
            commands_written: 0,
            unreferred: Vec::new(),
            discarded: 0,
        }
    }

    /// Makes one change. The outer error is the storage's, and ends the whole transaction.
    pub(crate) fn apply(&mut self, work: Work, mut ids: Ids) -> Result<Done> {
        self.ledger.last_id = self.ledger.last_id.max(ids.ids.end.saturating_sub(1));
        match work {
            Work::Accept(accept) => self.accept(accept, &mut ids)?,
            Work::Keep { scope, writes, .. } => self.keep(&scope, &writes)?,
            Work::Settle(outcome) => return self.settle(outcome, &mut ids),
            Work::Delivered(delivered) => self.delivered(delivered, &mut ids)?,
            Work::Replayed(replayed) => self.replayed(replayed, &mut ids)?,
            Work::Documents(documents) => self.documents(&documents)?,
            Work::Devices(work) => return self.devices(*work, &mut ids),
            Work::DiscardRoute(route) => return self.discard_route(&route, &mut ids).map(Ok),
            Work::DiscardTarget(target) => return self.discard_target(&target, &mut ids).map(Ok),
            Work::DiscardIngress(ingress) => return self.discard_ingress(ingress).map(Ok),
            Work::Redrive(id, payload) => return self.redrive(id, payload),
            Work::DiscardDeadLetter(id) => {
                if !self.remove_dead_letter(id)? {
                    return Ok(Err(StoreError::NotFound));
                }
            }
            Work::Lose(lost) => self.lose(lost, &mut ids)?,
        }
        Ok(Ok(false))
    }

    pub(crate) fn accept(&mut self, accept: Accept, ids: &mut Ids) -> Result<()> {
        let Accept { ingress, inbound, lineage, lanes, keep } = accept;
        if !keep.is_empty() {
            self.keep(&Scope::Ingress(ingress.clone()), &keep)?;
        }
        let Made { id, file } = ids.next();
        let reading = Arc::new(self.stamp(ingress, inbound, lineage, id));
        let mut row = std::mem::take(&mut self.rest);
        row.clear();
        row::append(&mut row, &ReadingRow::of(&reading, file));
        self.refer(file)?;
        let own = lanes.iter().map(|lane| (Cow::Borrowed(lane.route.as_str()), lane.id().0)).collect();
        self.journal(id, &row, reading.payload.len() as u64, own)?;
        self.rest = row;
        for lane in lanes {
            self.wait(lane, reading.clone())?;
        }
        self.news.readings.push(reading);
        Ok(())
    }

    fn stamp(&self, ingress: Name, inbound: Inbound, lineage: Lineage, id: u128) -> Reading {
        let Inbound { topic, device, time, content_type, attributes, payload } = inbound;
        let time = time.unwrap_or(self.now);
        let id = ReadingId::from_u128(id);
        Reading { id, ingress, topic, device, time, content_type, attributes, payload, lineage }
    }

    /// `row`: the reading's, whose file, if it has one, is referred to already.
    pub(crate) fn journal(
        &mut self,
        id: u128,
        row: &[u8],
        payload_bytes: u64,
        lanes: Vec<(Cow<'_, str>, u64)>,
    ) -> Result<()> {
        let bytes = row::weight(row, payload_bytes);
        self.row.clear();
        row::append(&mut self.row, &JournalHead { bytes, lanes });
        self.row.extend_from_slice(row);
        self.tables.journal()?.insert(id, &self.row[..])?;
        self.ledger.journal += 1;
        self.ledger.journal_bytes += bytes;
        self.journaled += 1;
        self.journaled_bytes += bytes;
        self.first_journaled = Some(self.first_journaled.map_or(id, |first| first.min(id)));
        Ok(())
    }

    /// From now on the reading waits in the lane.
    pub(crate) fn wait(&mut self, lane: Lane, reading: Arc<Reading>) -> Result<()> {
        // It is due at once, also should the clock jump back.
        let waiting = Waiting { lane, reading, attempts: 0, due: Timestamp::from_nanos(0) };
        self.write_waiting(&waiting.lane, waiting.reading.id, 0, waiting.due)?;
        self.ledger.waiting += 1;
        self.news.waiting.push(waiting);
        Ok(())
    }

    fn write_waiting(&mut self, lane: &Lane, id: ReadingId, attempts: u32, due: Timestamp) -> Result<()> {
        key::waiting(&mut self.key, lane.route.as_str(), lane.id(), id.as_u128());
        WaitingRow { due, attempts, key: &lane.key }.write(&mut self.row);
        self.tables.waiting()?.insert(&self.key[..], &self.row[..])?;
        Ok(())
    }

    fn settle(&mut self, outcome: Outcome, ids: &mut Ids) -> Result<Done> {
        let Outcome { lane, handled, deliveries, chained, state, failed, traces, prompt: _ } = outcome;
        if !self.stop_waiting(&lane, &handled, failed.as_ref().map(|failed| failed.reading))? {
            return Ok(Err(StoreError::Stale));
        }
        if !state.is_empty() {
            let scope = Scope::Route { route: lane.route.clone(), key: (*lane.key).into() };
            self.keep(&scope, &state)?;
        }
        self.trace.outcome(&lane.route, &traces, &deliveries, failed.as_ref(), ids.ids.start);
        for delivery in deliveries {
            self.put_out(delivery, &lane.route, ids.next())?;
        }
        for accept in chained {
            self.accept(accept, ids)?;
        }
        if let Some(failed) = failed {
            self.attempt_failed(&lane, failed, ids)?;
        }
        Ok(Ok(false))
    }

    fn replayed(&mut self, replayed: Replayed, ids: &mut Ids) -> Result<()> {
        let Replayed { route, deliveries, chained, state, traces, dead_letters, documents } = replayed;
        for (scope, writes) in state {
            self.keep(&scope, &writes)?;
        }
        self.trace.outcome(&route, &traces, &deliveries, None, ids.ids.start);
        for delivery in deliveries {
            self.put_out(delivery, &route, ids.next())?;
        }
        for accept in chained {
            self.accept(accept, ids)?;
        }
        for letter in dead_letters {
            self.remove_dead_letter(letter.as_u128())?;
        }
        self.documents(&documents)
    }

    /// Takes `handled` out of the lane, if they and `failed` all wait there; else changes nothing.
    fn stop_waiting(
        &mut self,
        lane: &Lane,
        handled: &[ReadingId],
        failed: Option<ReadingId>,
    ) -> Result<bool> {
        let (route, id) = (lane.route.as_str(), lane.id());
        let waiting = self.tables.waiting()?;
        // The removal of the first tells by itself whether it waited: most outcomes are of one reading.
        for reading in handled.iter().skip(1).copied().chain(failed) {
            key::waiting(&mut self.key, route, id, reading.as_u128());
            if waiting.get(&self.key[..])?.is_none() {
                return Ok(false);
            }
        }
        for reading in handled {
            key::waiting(&mut self.key, route, id, reading.as_u128());
            if waiting.remove(&self.key[..])?.is_none() {
                return Ok(false);
            }
        }
        self.ledger.waiting -= handled.len() as u64;
        Ok(true)
    }

    fn attempt_failed(&mut self, lane: &Lane, failed: FailedAttempt, ids: &mut Ids) -> Result<()> {
        let FailedAttempt { reading, attempts, cause, next: then } = failed;
        if let Next::RetryAt(due) = then {
            return self.write_waiting(lane, reading, attempts, due);
        }
        key::waiting(&mut self.key, lane.route.as_str(), lane.id(), reading.as_u128());
        self.tables.waiting()?.remove(&self.key[..])?;
        self.ledger.waiting -= 1;
        self.bury_reading((&lane.route, &lane.key), reading.as_u128(), attempts, &cause, ids.next().id)
    }

    /// `of`: the route and the key of the lane that it waited in.
    pub(crate) fn bury_reading(
        &mut self,
        of: (&Name, &str),
        reading: u128,
        attempts: u32,
        cause: &str,
        id: u128,
    ) -> Result<()> {
        let remains = {
            let row = self.tables.journal()?.get(reading)?;
            Remains::of_reading(reading, row.as_ref().map(|row| row.value()).unwrap_or_default())
        };
        self.refer(remains.file)?;
        let (time, cause) = (self.now.nanos(), remains.cause(cause));
        let subject = SubjectRow::Reading { route: of.0.as_str(), key: of.1 };
        self.bury(id, &DeadHead { time, attempts, cause: &cause, subject, id: reading }, &remains.row)
    }

    /// `row`: of the subject, whose file, if it has one, is referred to already.
    fn bury(&mut self, id: u128, head: &DeadHead<'_>, row: &[u8]) -> Result<()> {
        self.row.clear();
        row::append(&mut self.row, head);
        self.row.extend_from_slice(row);
        self.tables.dead()?.insert(id, &self.row[..])?;
        let bytes = row::weight_of_dead_letter(&self.row);
        self.ledger.dead += 1;
        self.ledger.dead_bytes += bytes;
        self.buried_bytes += bytes;
        self.news.dead_letters.push(DeadLetterId::from_u128(id));
        Ok(())
    }

    /// False if there is none. What one refers to that is damaged, nobody knows: its file stays.
    pub(crate) fn remove_dead_letter(&mut self, id: u128) -> Result<bool> {
        let (file, bytes) = {
            let Some(row) = self.tables.dead()?.remove(id)? else { return Ok(false) };
            let kept = readable(row::kept_of_dead_letter(row.value()));
            (kept.and_then(|(file, _)| file), row::weight_of_dead_letter(row.value()))
        };
        self.dead_letter_gone(bytes);
        self.refer_no_more(file)?;
        Ok(true)
    }

    /// `bytes`: what it weighed; saturating, since another version may have counted and not weighed.
    pub(crate) fn dead_letter_gone(&mut self, bytes: u64) {
        self.ledger.dead -= 1;
        self.ledger.dead_bytes = match self.ledger.dead {
            0 => 0,
            _ => self.ledger.dead_bytes.saturating_sub(bytes),
        };
    }

    /// What no longer waits is passed over.
    fn lose(&mut self, lost: Lost, ids: &mut Ids) -> Result<()> {
        let Lost { what, id, cause } = lost;
        match what {
            LostWhat::Reading(route, lane) => {
                key::waiting(&mut self.key, route.as_str(), lane, id);
                let waited = match self.tables.waiting()?.remove(&self.key[..])? {
                    None => return Ok(()),
                    Some(row) => {
                        readable(WaitingRow::read(row.value())).map(|row| (row.attempts, row.key.to_owned()))
                    }
                };
                self.ledger.waiting -= 1;
                let (attempts, key) = waited.unwrap_or_default();
                self.bury_reading((&route, &key), id, attempts, &cause, ids.next().id)
            }
            LostWhat::Delivery(target) => {
                key::queued(&mut self.key, &target, id);
                let old = self.tables.outbox()?.remove(&self.key[..])?.map(|row| row.value().to_vec());
                let Some(old) = old else { return Ok(()) };
                self.ledger.outbox -= 1;
                self.bury_delivery(&target, id, &old, None, &cause, ids.next().id)
            }
        }
    }

    fn put_out(&mut self, delivery: NewDelivery, route: &Name, made: Made) -> Result<()> {
        let NewDelivery { target, reading, message } = delivery;
        let id = DeliveryId::from_u128(made.id);
        self.put(target, Delivery { id, reading, route: route.clone(), time: self.now, message }, made.file)
    }

    /// A new delivery, whose payload may have a file.
    pub(crate) fn put(&mut self, target: Target, delivery: Delivery, file: Option<Digest>) -> Result<()> {
        let mut row = std::mem::take(&mut self.rest);
        row.clear();
        row::append(&mut row, &DeliveryRow::of(&delivery, file));
        self.refer(file)?;
        self.queue(target, Arc::new(delivery), &row)?;
        self.rest = row;
        Ok(())
    }

    /// From now on the delivery waits in the outbox. `row`: its row, whose file is referred to already.
    pub(crate) fn queue(&mut self, target: Target, delivery: Arc<Delivery>, row: &[u8]) -> Result<()> {
        let due = Timestamp::from_nanos(0);
        key::queued(&mut self.key, &target, delivery.id.as_u128());
        self.row.clear();
        row::append(&mut self.row, &QueuedHead { attempts: 0, due: due.nanos(), last_cause: None });
        self.row.extend_from_slice(row);
        self.tables.outbox()?.insert(&self.key[..], &self.row[..])?;
        self.ledger.outbox += 1;
        if let Target::Device(device) = &target {
            self.command_queued(device, &delivery)?;
        }
        self.news.queued.push(Queued { target, delivery, attempts: 0, due, last_cause: None });
        Ok(())
    }

    /// What is no longer in the outbox was discarded meanwhile, and is passed over.
    fn delivered(&mut self, delivered: Delivered, ids: &mut Ids) -> Result<()> {
        let Delivered { target, accepted, failed } = delivered;
        self.trace.delivered(&target, &accepted, &failed);
        for id in accepted {
            key::queued(&mut self.key, &target, id.as_u128());
            let file = match self.tables.outbox()?.remove(&self.key[..])? {
                None => continue,
                Some(row) => readable(row::file_of_queued(row.value())).flatten(),
            };
            self.ledger.outbox -= 1;
            self.refer_no_more(file)?;
            if let Target::Device(device) = &target {
                self.command_ended(device, id, CommandState::Acknowledged, None)?;
            }
        }
        for failed in failed {
            key::queued(&mut self.key, &target, failed.id.as_u128());
            match failed.next {
                Next::RetryAt(due) => self.deliver_again(failed.attempts, due, &failed.cause)?,
                Next::DeadLetter => {
                    let Some(old) =
                        self.tables.outbox()?.remove(&self.key[..])?.map(|row| row.value().to_vec())
                    else {
                        continue;
                    };
                    self.ledger.outbox -= 1;
                    let (of, made) = (failed.id.as_u128(), ids.next());
                    self.bury_delivery(&target, of, &old, Some(failed.attempts), &failed.cause, made.id)?;
                }
            }
        }
        Ok(())
    }

    /// Of the delivery under `self.key`.
    fn deliver_again(&mut self, attempts: u32, due: Timestamp, cause: &str) -> Result<()> {
        let outbox = self.tables.outbox()?;
        {
            let Some(old) = outbox.get(&self.key[..])? else { return Ok(()) };
            // The next who loads it finds that it is damaged.
            let old = readable(row::read_head::<QueuedHead<'_>>(old.value(), "outbox"));
            let Some((_, rest)) = old else { return Ok(()) };
            self.row.clear();
            row::append(&mut self.row, &QueuedHead { attempts, due: due.nanos(), last_cause: Some(cause) });
            self.row.extend_from_slice(rest);
        }
        outbox.insert(&self.key[..], &self.row[..])?;
        Ok(())
    }

    /// `old`: its row in the outbox, which is gone; the dead letter refers to its file instead. Without `attempts` there
    /// were as many as that says.
    pub(crate) fn bury_delivery(
        &mut self,
        target: &Target,
        delivery: u128,
        old: &[u8],
        attempts: Option<u32>,
        cause: &str,
        id: u128,
    ) -> Result<()> {
        let attempts = attempts.or_else(|| {
            readable(row::read_head::<QueuedHead<'_>>(old, "outbox")).map(|(head, _)| head.attempts)
        });
        let remains = Remains::of_delivery(delivery, old);
        self.refer(remains.file)?;
        let (time, attempts, subject) = (self.now.nanos(), attempts.unwrap_or(0), SubjectRow::of(target));
        let cause = remains.cause(cause);
        self.bury(id, &DeadHead { time, attempts, cause: &cause, subject, id: delivery }, &remains.row)?;
        if let Target::Device(device) = target {
            let delivery = DeliveryId::from_u128(delivery);
            self.command_ended(device, delivery, CommandState::Failed, Some(&cause))?;
        }
        Ok(())
    }

    pub(crate) fn keep(&mut self, scope: &Scope, writes: &[StateWrite]) -> Result<()> {
        for write in writes {
            key::state(&mut self.key, scope, &write.name);
            let old = match &write.value {
                None => self
                    .tables
                    .state()?
                    .remove(&self.key[..])?
                    .map(|old| StateRow::read(old.value()).map(|old| old.expires)),
                Some(value) => {
                    let expires = write.expires.map_or(StateRow::NEVER, Timestamp::nanos);
                    StateRow { expires, value }.write(&mut self.row);
                    let old = self.tables.state()?.insert(&self.key[..], &self.row[..])?;
                    old.map(|old| StateRow::read(old.value()).map(|old| old.expires))
                }
            };
            let old = old.and_then(readable).unwrap_or(StateRow::NEVER);
            let new = write.value.as_ref().and(write.expires).map_or(StateRow::NEVER, Timestamp::nanos);
            self.expire_anew(old, new)?;
        }
        Ok(())
    }

    /// The state under `self.key` no longer expires at `old`, but at `new`.
    pub(crate) fn expire_anew(&mut self, old: u64, new: u64) -> Result<()> {
        if old == new {
            return Ok(());
        }
        if old != StateRow::NEVER {
            key::expiry(&mut self.row, old, &self.key);
            self.tables.expiry()?.remove(&self.row[..])?;
        }
        if new != StateRow::NEVER {
            key::expiry(&mut self.row, new, &self.key);
            self.tables.expiry()?.insert(&self.row[..], ())?;
            self.first_expiry = self.first_expiry.min(new);
        }
        Ok(())
    }

    fn documents(&mut self, documents: &[(Kind, String, Option<Vec<u8>>)]) -> Result<()> {
        for (kind, name, document) in documents {
            key::document(&mut self.key, *kind, name);
            let table = self.tables.documents()?;
            match document {
                Some(document) => table.insert(&self.key[..], &document[..])?,
                None => table.remove(&self.key[..])?,
            };
        }
        Ok(())
    }

    /// Whether a journaled reading waits in one of `lanes`.
    pub(crate) fn still_waits(&mut self, reading: u128, lanes: &[(Cow<'_, str>, u64)]) -> Result<bool> {
        for (route, lane) in lanes {
            key::waiting(&mut self.key, route, LaneId(*lane), reading);
            if self.tables.waiting()?.get(&self.key[..])?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Ids {
    /// `files`: of what is made with the first ids; what is made with the others has none.
    pub(crate) const fn new(ids: Range<u128>, files: Vec<Option<Digest>>) -> Self {
        Self { ids, next: 0, files }
    }

    /// Every change was given as many ids as it can need.
    pub(crate) fn next(&mut self) -> Made {
        let id = self.ids.start + self.next as u128;
        assert!(id < self.ids.end, "the queue reserved an id for everything that a change makes");
        let file = self.files.get(self.next).copied().flatten();
        self.next += 1;
        Made { id, file }
    }
}
