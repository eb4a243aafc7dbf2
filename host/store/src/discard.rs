//! Giving up on what waits, all of it for a route or target, and taking that back.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableTable;
use sandbar_reading::{Name, Target};

use crate::apply::{Batch, Ids};
use crate::change::{Lane, Subject};
use crate::error::StoreError;
use crate::key;
use crate::queue::{DISCARD_CHUNK, Done};
use crate::read::{split_queued, split_waiting, subject};
use crate::row::{self, DeadHead, JournalHead, QueuedHead, StateRow, WaitingRow};

type Result<T, E = redb::Error> = std::result::Result<T, E>;

impl Batch<'_> {
    /// True while there is more.
    pub(crate) fn discard_route(&mut self, route: &Name, ids: &mut Ids) -> Result<bool> {
        key::route(&mut self.key, route);
        let (begin, end) = (self.key.clone(), key::behind(&self.key));
        let mut rows = Vec::new();
        for row in self.tables.waiting()?.range(&begin[..]..&end[..])?.take(DISCARD_CHUNK) {
            let (key, row) = row?;
            let (_, _, reading) = split_waiting(key.value())?;
            let WaitingRow { attempts, key: lane_key, .. } = WaitingRow::read(row.value())?;
            let lane = Lane { route: route.clone(), key: lane_key.into() };
            rows.push((key.value().to_vec(), lane, reading, attempts));
        }
        let mut more = rows.len() == DISCARD_CHUNK;
        for (key, lane, reading, attempts) in rows {
            self.tables.waiting()?.remove(&key[..])?;
            self.ledger.waiting -= 1;
            let cause = format!("route `{route}` was deleted");
            self.bury_reading(&lane, reading, attempts, &cause, ids.next().id)?;
        }
        if !more {
            more = self.drop_state(route)?;
        }
        Ok(more)
    }

    /// Of all keys of the route, a chunk of it. True while there is more.
    fn drop_state(&mut self, route: &Name) -> Result<bool> {
        key::scopes_of_route(&mut self.key, route);
        let (begin, end) = (self.key.clone(), key::behind(&self.key));
        let mut rows = Vec::new();
        for row in self.tables.state()?.range(&begin[..]..&end[..])?.take(DISCARD_CHUNK) {
            let (key, row) = row?;
            rows.push((key.value().to_vec(), StateRow::read(row.value())?.expires));
        }
        let more = rows.len() == DISCARD_CHUNK;
        for (key, expires) in rows {
            self.tables.state()?.remove(&key[..])?;
            self.key = key;
            self.expire_anew(expires, StateRow::NEVER)?;
        }
        Ok(more)
    }

    /// True while there is more.
    pub(crate) fn discard_target(&mut self, target: &Target, ids: &mut Ids) -> Result<bool> {
        key::target(&mut self.key, target);
        let (begin, end) = (self.key.clone(), key::behind(&self.key));
        let mut rows = Vec::new();
        for row in self.tables.outbox()?.range(&begin[..]..&end[..])?.take(DISCARD_CHUNK) {
            let (key, row) = row?;
            let (_, delivery) = split_queued(key.value())?;
            rows.push((key.value().to_vec(), delivery, row.value().to_vec()));
        }
        let more = rows.len() == DISCARD_CHUNK;
        let name = match target {
            Target::Sink(name) => format!("sink `{name}`"),
            Target::Device(device) => format!("device `{device}`"),
        };
        for (key, delivery, old) in rows {
            self.tables.outbox()?.remove(&key[..])?;
            self.ledger.outbox -= 1;
            let attempts = row::read_head::<QueuedHead<'_>>(&old, "outbox")?.0.attempts;
            let cause = format!("{name} was deleted");
            self.bury_delivery(target, delivery, &old, attempts, &cause, ids.next().id)?;
        }
        Ok(more)
    }

    /// `payload`: of what was given up on, if it has a file.
    pub(crate) fn redrive(&mut self, id: u128, payload: Option<Bytes>) -> Result<Done> {
        let Some(row) = self.tables.dead()?.remove(id)?.map(|row| row.value().to_vec()) else {
            return Ok(Err(StoreError::NotFound));
        };
        self.dead_letter_gone(row::weight_of_dead_letter(&row));
        let (head, rest) = row::read_head::<DeadHead<'_>>(&row, "dead letters")?;
        let subject = subject(&head, rest)?;
        let subject = match payload {
            Some(payload) => subject.with(payload),
            None => subject.without_payload(),
        };
        match subject {
            Subject::Reading { lane, reading } => {
                self.trace.redriven(reading.id.as_u128());
                let file = head.file(rest)?;
                if self.journal_again(&lane, reading.id.as_u128(), reading.payload.len() as u64, rest)? {
                    // The journal has a row that refers to it.
                    self.refer_no_more(file)?;
                }
                self.wait(lane, reading)?;
            }
            Subject::Delivery { target, delivery } => {
                self.trace.redriven(delivery.id.as_u128());
                self.queue(target, Arc::clone(&delivery), rest)?;
            }
        }
        Ok(Ok(false))
    }

    /// Puts the reading back if retention removed it, and says that it waits in `lane` again. True if it was there.
    fn journal_again(&mut self, lane: &Lane, id: u128, payload_bytes: u64, row: &[u8]) -> Result<bool> {
        let route = (Cow::Borrowed(lane.route.as_str()), lane.id().0);
        let mut lanes = {
            let Some(row) = self.tables.journal()?.remove(id)? else {
                return self.journal(id, row, payload_bytes, vec![route]).map(|()| false);
            };
            let (head, _) = row::read_head::<JournalHead<'_>>(row.value(), "journal")?;
            let own = |(name, id): (Cow<'_, str>, u64)| (Cow::Owned(name.into_owned()), id);
            self.ledger.journal_bytes -= head.bytes;
            head.lanes.into_iter().map(own).collect::<Vec<_>>()
        };
        self.ledger.journal -= 1;
        if !lanes.contains(&route) {
            lanes.push(route);
        }
        self.journal(id, row, payload_bytes, lanes).map(|()| true)
    }
}
