//! Giving up on what waits, all of it for a route or target, and taking that back.

use std::borrow::Cow;

use redb::ReadableTable;
use sandbar_reading::{Name, Reading, Target};

use crate::apply::{Batch, Ids, next};
use crate::change::{Lane, Subject};
use crate::error::StoreError;
use crate::key;
use crate::queue::{DISCARD_CHUNK, Done};
use crate::read::{split_queued, split_waiting, subject};
use crate::row::{self, JournalHead, QueuedHead, StateRow, WaitingRow};

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
            self.bury_reading(lane, reading, attempts, format!("route `{route}` was deleted"), next(ids))?;
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
            self.bury_delivery(target, delivery, &old, attempts, format!("{name} was deleted"), next(ids))?;
        }
        Ok(more)
    }

    pub(crate) fn redrive(&mut self, id: u128) -> Result<Done> {
        let Some(row) = self.tables.dead()?.remove(id)?.map(|row| row.value().to_vec()) else {
            return Ok(Err(StoreError::NotFound));
        };
        self.ledger.dead -= 1;
        match subject(&row)? {
            Subject::Reading { lane, reading } => {
                self.trace.redriven(reading.id.as_u128());
                self.journal_again(&lane, &reading)?;
                self.wait(lane, reading)?;
            }
            Subject::Delivery { target, delivery } => {
                self.trace.redriven(delivery.id.as_u128());
                self.queue(target, delivery)?;
            }
        }
        Ok(Ok(false))
    }

    /// Puts the reading back if retention removed it, and says that it waits in `lane` again.
    fn journal_again(&mut self, lane: &Lane, reading: &Reading) -> Result<()> {
        let route = (Cow::Borrowed(lane.route.as_str()), lane.id().0);
        let lanes = {
            let Some(row) = self.tables.journal()?.remove(reading.id.as_u128())? else {
                return self.journal(reading, vec![route]);
            };
            let (head, _) = row::read_head::<JournalHead<'_>>(row.value(), "journal")?;
            let own = |(name, id): (Cow<'_, str>, u64)| (Cow::Owned(name.into_owned()), id);
            self.ledger.journal_bytes -= head.payload_bytes;
            head.lanes.into_iter().map(own).collect::<Vec<_>>()
        };
        self.ledger.journal -= 1;
        let mut lanes = lanes;
        if !lanes.contains(&route) {
            lanes.push(route);
        }
        self.journal(reading, lanes)
    }
}
