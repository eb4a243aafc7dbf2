//! Giving up on what waits, all of it for a route or target, and taking that back.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableTable;
use sandbar_reading::{Name, Scope, Target};

use crate::apply::{Batch, Ids};
use crate::change::{Lane, Subject};
use crate::damaged::readable;
use crate::error::{Fault, StoreError};
use crate::key;
use crate::queue::{DISCARD_CHUNK, Done};
use crate::read::{split_queued, split_waiting, subject};
use crate::row::{self, DeadHead, JournalHead, StateRow, WaitingRow};

type Result<T, E = redb::Error> = std::result::Result<T, E>;

impl Batch<'_> {
    /// True while there is more.
    pub(crate) fn discard_route(&mut self, route: &Name, ids: &mut Ids) -> Result<bool> {
        key::route(&mut self.key, route);
        let (begin, end) = (self.key.clone(), key::behind(&self.key));
        let mut rows = Vec::new();
        for row in self.tables.waiting()?.range(&begin[..]..&end[..])?.take(DISCARD_CHUNK) {
            let (key, row) = row?;
            let reading = readable(split_waiting(key.value())).map(|(_, _, reading)| reading);
            let waited = readable(WaitingRow::read(row.value()));
            let (attempts, lane_key) =
                waited.map(|row| (row.attempts, row.key.to_owned())).unwrap_or_default();
            rows.push((key.value().to_vec(), lane_key, reading, attempts));
        }
        let mut more = rows.len() == DISCARD_CHUNK;
        let cause = format!("route `{route}` was deleted");
        for (key, lane_key, reading, attempts) in rows {
            self.tables.waiting()?.remove(&key[..])?;
            self.ledger.waiting -= 1;
            // Which one waited there nobody knows.
            let Some(reading) = reading else { continue };
            self.bury_reading((route, &lane_key), reading, attempts, &cause, ids.next().id)?;
        }
        if !more {
            key::scopes_of_route(&mut self.key, route);
            more = self.drop_state()?;
        }
        Ok(more)
    }

    /// What a driver keeps as the ingress of this name. True while there is more.
    pub(crate) fn discard_ingress(&mut self, ingress: Name) -> Result<bool> {
        key::scope(&mut self.key, &Scope::Ingress(ingress));
        self.drop_state()
    }

    /// Of all scopes whose keys begin with `self.key`, a chunk of it. True while there is more.
    fn drop_state(&mut self) -> Result<bool> {
        let (begin, end) = (self.key.clone(), key::behind(&self.key));
        let mut rows = Vec::new();
        for row in self.tables.state()?.range(&begin[..]..&end[..])?.take(DISCARD_CHUNK) {
            let (key, row) = row?;
            let expires = readable(StateRow::read(row.value())).map_or(StateRow::NEVER, |row| row.expires);
            rows.push((key.value().to_vec(), expires));
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
            let delivery = readable(split_queued(key.value())).map(|(_, delivery)| delivery);
            rows.push((key.value().to_vec(), delivery, row.value().to_vec()));
        }
        let more = rows.len() == DISCARD_CHUNK;
        let name = match target {
            Target::Sink(name) => format!("sink `{name}`"),
            Target::Device(device) => format!("device `{device}`"),
        };
        let cause = format!("{name} was deleted");
        for (key, delivery, old) in rows {
            self.tables.outbox()?.remove(&key[..])?;
            self.ledger.outbox -= 1;
            let Some(delivery) = delivery else { continue };
            self.bury_delivery(target, delivery, &old, None, &cause, ids.next().id)?;
        }
        Ok(more)
    }

    /// `payload`: of what was given up on, if it has a file.
    pub(crate) fn redrive(&mut self, id: u128, payload: Option<Bytes>) -> Result<Done> {
        let Some(row) = self.tables.dead()?.get(id)?.map(|row| row.value().to_vec()) else {
            return Ok(Err(StoreError::NotFound));
        };
        let letter = row::read_head::<DeadHead<'_>>(&row, "dead letters")
            .and_then(|(head, rest)| Ok((subject(&head, rest)?, head.file(rest)?, rest)));
        let (subject, file, rest) = match letter {
            Ok(letter) => letter,
            Err(damaged) => return Ok(Err(Fault::Io { cause: damaged.to_string() }.into())),
        };
        self.tables.dead()?.remove(id)?;
        self.dead_letter_gone(row::weight_of_dead_letter(&row));
        let subject = match payload {
            Some(payload) => subject.with(payload),
            None => subject.without_payload(),
        };
        match subject {
            Subject::Reading { lane, reading } => {
                self.trace.redriven(reading.id.as_u128());
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
            let own = |(name, id): (Cow<'_, str>, u64)| (Cow::Owned(name.into_owned()), id);
            match readable(row::read_head::<JournalHead<'_>>(row.value(), "journal")) {
                Some((head, _)) => {
                    self.ledger.journal_bytes = self.ledger.journal_bytes.saturating_sub(head.bytes);
                    head.lanes.into_iter().map(own).collect::<Vec<_>>()
                }
                // It is whole again.
                None => Vec::new(),
            }
        };
        self.ledger.journal -= 1;
        if !lanes.contains(&route) {
            lanes.push(route);
        }
        self.journal(id, row, payload_bytes, lanes).map(|()| true)
    }
}
