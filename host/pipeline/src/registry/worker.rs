//! The registry's own work: looks at what was journaled, notices silence, and writes what changed.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbar_reading::{Lineage, Name, Reading, ReadingId, Steps, Timestamp};
use sandbar_store::{Accept, DevicesBatch, Presence, ReadingQuery};
use tokio::time::Instant;

use super::inbox::Waiting;
use super::words::Words;
use super::{DEVICES_INGRESS, DeviceEvent, Known, Registry, mark, tell, watch};
use crate::intake::lanes_of;
use crate::router::Router;
use crate::unloadable::STORE_WAIT;

/// What changes within this time is written at once.
const GATHER: Duration = Duration::from_millis(50);

/// The longest wait between two looks.
const IDLE: Duration = Duration::from_secs(1);

/// What is not urgent is written after this time: the journal has it.
const SAVE_AFTER: Duration = Duration::from_secs(10);

/// How many devices one commit takes: it is in the way of readings as long as it lasts.
const CHUNK: usize = 256;

/// A device of which something is being written, and what it takes to do that again.
struct Saving {
    id: Arc<str>,
    told: Option<Presence>,
    words: Words,
    unsaved: Option<ReadingId>,
    event: Option<DeviceEvent>,
}

impl Registry {
    pub(super) async fn work(self: Arc<Self>, mut steps: Steps) {
        while !self.stop.is_cancelled() {
            let now = self.clock.now();
            let look = self.known.lock().looks.peek().map(|Reverse((due, _))| due.since(now));
            let wait = look.map_or(IDLE, |look| look.min(IDLE)).max(GATHER);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
            self.look_at_readings().await;
            let now = self.clock.now();
            self.look_at_clock(&mut steps, now);
            self.look_at_silence(now);
            let well = self.resolve_doubts() && self.save_urgent().await && self.save_old().await;
            self.bring_desired().await;
            self.expire_commands().await;
            tokio::select! {
                () = tokio::time::sleep(if well { GATHER } else { STORE_WAIT }) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn look_at_readings(&self) {
        let Waiting { mut readings, from, .. } = self.inbox.take();
        // One with a large payload comes after younger ones.
        readings.sort_unstable_by_key(|reading| reading.id);
        for chunk in readings.chunks(CHUNK) {
            self.look_at(chunk);
            tokio::task::yield_now().await;
        }
        let Some(from) = from else { return };
        let mut cursor = from.as_u128().checked_sub(1).map(ReadingId::from_u128);
        while !self.stop.is_cancelled() {
            let query = ReadingQuery { cursor, limit: CHUNK, ..ReadingQuery::default() };
            let Ok(page) = self.store.readings(&query) else { break };
            let readings: Vec<_> = page.items.into_iter().map(Arc::new).collect();
            self.look_at(&readings);
            cursor = page.cursor.or(cursor);
            if page.cursor.is_none() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // Later, or after the next start.
        let next = |cursor: ReadingId| ReadingId::from_u128(cursor.as_u128().saturating_add(1));
        self.inbox.look_from(cursor.map_or(from, next));
    }

    fn look_at(&self, readings: &[Arc<Reading>]) {
        let now = self.clock.now();
        let silences = self.silences.load();
        let mut talkers = Vec::new();
        let mut known = self.known.lock();
        for reading in readings {
            known.seen = known.seen.max(Some(reading.id));
            let Some(device) = reading.device.as_deref() else { continue };
            if reading.ingress.as_str() == DEVICES_INGRESS {
                continue;
            }
            if !self.is_listed(&mut known, device, true, reading.id.time().min(now)) {
                continue;
            }
            let Known { devices, looks, dirty, urgent, arrived, .. } = &mut *known;
            let Some(record) = devices.get_mut(device) else { continue };
            let before = record.life.presence;
            // A route's message about a device is no sign of life.
            if reading.ingress.chained_from().is_none() {
                record.through(&reading.ingress);
                record.life.seen(reading.id.time(), now);
            }
            if record.words.add(reading) {
                talkers.push(Arc::clone(&record.id));
            }
            record.is_not_saved_from(reading.id);
            let is_urgent = before != record.life.presence || record.told.is_none();
            if is_urgent && record.has_desired {
                arrived.push(record.arrive(now));
            }
            arrived.extend(record.first_word());
            mark(record, is_urgent, now, dirty, urgent);
            watch(record, looks, &silences);
        }
        drop(known);
        self.look_into(talkers);
        self.tell_of(readings);
    }

    /// What these devices said of their resources; while that is done, others may be spoken of.
    fn look_into(&self, mut devices: Vec<Arc<str>>) {
        devices.sort_unstable();
        devices.dedup();
        for device in devices {
            let words = self.known.lock().devices.get_mut(&device).map(|record| record.words.take());
            let Some(mut words) = words else { continue };
            words.look_into(&device);
            if let Some(record) = self.known.lock().devices.get_mut(&device) {
                record.words.give_back(words);
            }
        }
    }

    fn tell_of(&self, readings: &[Arc<Reading>]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        for reading in readings {
            let Some(device) = reading.device.as_deref() else { continue };
            if reading.ingress.as_str() == DEVICES_INGRESS {
                continue;
            }
            let Reading { topic, content_type, payload, .. } = &**reading;
            let resources = super::twin::resources(topic, device, content_type, payload, reading.id.time());
            if !resources.is_empty() {
                self.tell(|| DeviceEvent::Reported { device: device.into(), resources });
            }
        }
    }

    /// Silence counts by a clock that nobody sets, and so does the time of what waits.
    fn look_at_clock(&self, steps: &mut Steps, now: Timestamp) {
        let Some(step) = steps.look(now, Instant::now().into_std()) else { return };
        let mut known = self.known.lock();
        known.devices.values_mut().for_each(|record| record.life.clock_was_set(step, now));
        drop(known);
        self.leaps.lock().add(step, now, |by| now.before(by));
        self.watch_all();
    }

    fn look_at_silence(&self, now: Timestamp) {
        let silences = self.silences.load();
        let mut known = self.known.lock();
        let Known { devices, looks, dirty, urgent, .. } = &mut *known;
        while looks.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((due, id))) = looks.pop() else { break };
            let Some(record) = devices.get_mut(&id).filter(|record| record.watched == Some(due)) else {
                continue;
            };
            record.watched = None;
            let silence = record.silence(&silences);
            let before = record.life.presence;
            record.life.look(silence, now);
            if record.life.presence != before {
                mark(record, true, now, dirty, urgent);
            }
            watch(record, looks, &silences);
        }
    }

    /// False if the store fails.
    async fn save_urgent(&self) -> bool {
        loop {
            let ids = {
                let mut known = self.known.lock();
                let count = known.urgent.len().min(CHUNK);
                known.urgent.drain(..count).collect::<Vec<_>>()
            };
            if ids.is_empty() {
                return true;
            }
            if !self.save(&ids).await {
                return false;
            }
        }
    }

    async fn save_old(&self) -> bool {
        let now = self.clock.now();
        loop {
            // The clock may have been set back since then.
            let ids = self.old(|since| since > now || now.since(since) >= SAVE_AFTER);
            if ids.is_empty() {
                return true;
            }
            if !self.save(&ids).await {
                return false;
            }
        }
    }

    /// Everything that was learnt.
    pub(super) async fn save_all(&self) {
        self.look_at_readings().await;
        if !self.resolve_doubts() {
            return;
        }
        loop {
            let ids = self.old(|_| true);
            if ids.is_empty() || !self.save(&ids).await {
                return;
            }
        }
    }

    fn old(&self, is_old: impl Fn(Timestamp) -> bool) -> Vec<Arc<str>> {
        let mut known = self.known.lock();
        let Known { devices, dirty, .. } = &mut *known;
        let mut ids = Vec::new();
        while ids.len() < CHUNK && dirty.front().is_some_and(|(since, _)| is_old(*since)) {
            let Some((since, id)) = dirty.pop_front() else { break };
            // It may have been written since, and changed again.
            if devices.get(&id).is_some_and(|record| record.dirty == Some(since)) {
                ids.push(id);
            }
        }
        ids
    }

    /// What was told to have failed may be there: the store knows now. False if it cannot be asked.
    fn resolve_doubts(&self) -> bool {
        if !self.known.lock().is_in_doubt {
            return true;
        }
        // It may fail, and not know that yet. Damaged rows are left out: of what is in doubt there they say nothing.
        let Ok(rows) = self.store.devices() else { return false };
        let mut known = self.known.lock();
        for row in rows {
            if let Some(record) = known.devices.get_mut(&*row.id).filter(|record| record.is_in_doubt) {
                // It was told in the transaction that wrote the row.
                record.told = Some(row.presence);
            }
        }
        known.devices.values_mut().for_each(|record| record.is_in_doubt = false);
        known.is_in_doubt = false;
        true
    }

    /// False if the store fails: then they are to be written again, once it is known what is there.
    async fn save(&self, ids: &[Arc<str>]) -> bool {
        // Kept until it is committed: the removal of a route waits for whatever still goes to it.
        let router = self.router.load_full();
        let (batch, saving) = self.batch(ids, &router);
        if batch.rows.is_empty() {
            return true;
        }
        let changes = batch.readings.len() as u64;
        if self.store.put_devices(batch).await.is_ok() {
            self.changes.fetch_add(changes, Ordering::Relaxed);
            for event in saving.into_iter().filter_map(|saving| saving.event) {
                self.tell(|| event);
            }
            return true;
        }
        let now = self.clock.now();
        let mut known = self.known.lock();
        known.is_in_doubt = true;
        let Known { devices, dirty, urgent, .. } = &mut *known;
        for Saving { id, told, words, unsaved, .. } in saving {
            let Some(record) = devices.get_mut(&id) else { continue };
            (record.told, record.is_in_doubt) = (told, true);
            record.words.give_back(words);
            if let Some(first) = unsaved {
                record.is_not_saved_from(first);
            }
            mark(record, true, now, dirty, urgent);
        }
        false
    }

    fn batch(&self, ids: &[Arc<str>], router: &Router) -> (DevicesBatch, Vec<Saving>) {
        let ingress: Name = DEVICES_INGRESS.parse().expect("it is a name");
        // In this order: what is late no more is in the inbox, unless it was looked at.
        let late = self.store.oldest_late();
        let unseen = late.into_iter().chain(self.inbox.first()).min();
        let mut batch = DevicesBatch::default();
        let mut all = Vec::with_capacity(ids.len());
        let mut known = self.known.lock();
        for id in ids {
            let Some(record) = known.devices.get_mut(id) else { continue };
            let row = record.row();
            let (told, is_urgent) = (record.told, record.is_urgent);
            if told != Some(row.presence) {
                let inbound = tell::presence(&row, told);
                let lanes = lanes_of(router, &ingress, &inbound);
                let (ingress, lineage, keep) = (ingress.clone(), Lineage::default(), Vec::new());
                batch.readings.push(Accept { ingress, inbound, lineage, lanes, keep });
                record.told = Some(row.presence);
            }
            let words = record.words.take();
            let unsaved = record.unsaved.take();
            (record.dirty, record.is_urgent) = (None, false);
            let event = is_urgent.then(|| DeviceEvent::Changed(row.clone()));
            batch.rows.push(row);
            all.push(Saving { id: Arc::clone(id), told, words, unsaved, event });
        }
        batch.seen = known.saved(unseen);
        drop(known);
        for Saving { id, words, .. } in &mut all {
            words.look_into(id);
            let resources = words.resources();
            if !resources.is_empty() {
                batch.resources.push(((**id).into(), resources));
            }
        }
        (batch, all)
    }
}

impl Known {
    /// All readings up to this one are in what was, or is being, written. `unseen`: the first that was not looked at,
    /// though younger ones may have been.
    fn saved(&self, unseen: Option<ReadingId>) -> Option<ReadingId> {
        let dirty = self.dirty.iter().filter_map(|(_, id)| self.devices.get(id)?.unsaved);
        match dirty.chain(unseen).min() {
            Some(first) => first.as_u128().checked_sub(1).map(ReadingId::from_u128).min(self.seen),
            None => self.seen,
        }
    }
}
