//! What the broker kept, read again when it starts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Refused, StateWrite, Timestamp};

use super::broker::Broker;
use super::client::{Begin, Client};
use super::codec::Qos;
use super::message::{Entry, Message};
use super::rows::{self, How, MessageRow, QueueRow, SessionRow, SubscriptionRow};
use super::subscriptions::{Subscriptions, Target};
use super::will::{AFTER_START, Will};

/// After a crash places go on so far behind those that are known: packet identifiers that a client may still
/// hold are not given to other messages.
const JUMP: u64 = 16_384;

struct Loading<'a> {
    broker: &'a Arc<Broker>,
    sessions: HashMap<u32, Loaded>,
    /// Rows of nobody, and such as cannot be read.
    orphans: Vec<StateWrite>,
    last_message: u64,
    last_session: u32,
}

struct Loaded {
    client: Arc<Client>,
    row: SessionRow,
    /// In the order of places.
    queue: BTreeMap<u64, Option<Entry>>,
    /// Where the last row is, also one that cannot be read: until it is gone, nothing may be put in its place.
    last: Option<u64>,
}

impl Broker {
    /// Must come before the first connection.
    pub(super) async fn load(self: &Arc<Self>) -> Result<(), Refused> {
        // What an earlier session of the driver said last is on disk after this.
        self.session.keep(Vec::new()).await?;
        let mut loading = Loading {
            broker: self,
            sessions: HashMap::new(),
            orphans: Vec::new(),
            last_message: 0,
            last_session: 0,
        };
        loading.sessions()?;
        loading.subscriptions()?;
        loading.queues()?;
        loading.packets()?;
        loading.retained()?;
        loading.wills()?;
        loading.finish();
        Ok(())
    }
}

impl Loading<'_> {
    fn each(&self, prefix: &str, mut each: impl FnMut(&str, &[u8])) -> Result<(), Refused> {
        self.broker.session.each_kept(prefix, &mut |name, value| each(name, value))
    }

    fn orphan(&mut self, name: &str) {
        self.orphans.push(rows::delete(name.into()));
    }

    fn sessions(&mut self) -> Result<(), Refused> {
        let mut read = Vec::new();
        self.each("s", |name, value| read.push((Box::<str>::from(name), rows::read::<SessionRow>(value))))?;
        for (name, row) in read {
            let Some(row) = row else {
                self.orphan(&name);
                continue;
            };
            self.session(&name[1..], row);
        }
        Ok(())
    }

    fn session(&mut self, id: &str, row: SessionRow) {
        let broker = self.broker;
        let now = broker.session.now();
        let grants = Arc::new(broker.settings.access.of(id, row.user.as_deref()));
        let begin = Begin {
            id: id.into(),
            number: row.number,
            user: row.user.clone(),
            expiry_s: row.expiry_s,
            stored: true,
            next_place: row.next_place + if row.absent_since.is_none() { JUMP } else { 0 },
            absent_since: Some(row.absent_since.map_or(now, Timestamp::from_nanos)),
        };
        self.last_session = self.last_session.max(row.number);
        let client = Client::new(begin, grants, broker.settings.room, &broker.absent_bytes);
        broker.clients.lock().insert(id.into(), Arc::clone(&client));
        self.sessions.insert(row.number, Loaded { client, row, queue: BTreeMap::new(), last: None });
    }

    fn subscriptions(&mut self) -> Result<(), Refused> {
        let (mut orphans, mut last) = (Vec::new(), 0);
        self.each("u", |name, value| {
            let mut read = || {
                let (number, filter) = rows::split(&name[1..])?;
                last = number.max(last);
                let loaded = self.sessions.get(&number)?;
                let row: SubscriptionRow = rows::read(value)?;
                let (target, wanted) = (Target::parse(filter).ok()?, row.wanted()?);
                // It may have been allowed when it was made, and not be now.
                if !loaded.client.grants().may_subscribe(&target.filter) {
                    return None;
                }
                loaded.client.subscriptions.lock().insert(filter.into(), wanted, row.id);
                self.broker.subscriptions.write().insert(&loaded.client, &target, wanted, row.id);
                Some(())
            };
            if read().is_none() {
                orphans.push(rows::delete(name.into()));
            }
        })?;
        self.orphans.append(&mut orphans);
        self.last_session = self.last_session.max(last);
        Ok(())
    }

    fn queues(&mut self) -> Result<(), Refused> {
        let mut shared: HashMap<u64, Arc<Message>> = HashMap::new();
        let mut orphans = Vec::new();
        let mut last = 0;
        self.each("m", |name, value| {
            let number = u64::from_str_radix(&name[1..], 16).ok();
            let message = rows::read::<MessageRow<'_>>(value).and_then(|row| row.message());
            last = number.unwrap_or_default().max(last);
            let (Some(number), Some(mut message)) = (number, message) else {
                return orphans.push(rows::delete(name.into()));
            };
            // Dropped without a session that waits for it, it deletes its row.
            message.row = Some(self.broker.own_row(number));
            shared.insert(number, Arc::new(message));
        })?;
        self.last_message = last;
        let mut found = Vec::new();
        let mut places: HashMap<u32, u64> = HashMap::new();
        let subscriptions = self.broker.subscriptions.read();
        self.each("q", |name, value| {
            let mut read = || {
                let (number, place) = rows::split(&name[1..])?;
                let place = u64::from_str_radix(place, 16).ok()?;
                let last = places.entry(number).or_default();
                *last = place.max(*last);
                let loaded = self.sessions.get(&number)?;
                Some((number, place, loaded.entry(place, rows::read(value)?, &shared, &subscriptions)?))
            };
            match read() {
                Some(read) => found.push(read),
                None => orphans.push(rows::delete(name.into())),
            }
        })?;
        drop(subscriptions);
        for (number, place, entry) in found {
            if let Some(loaded) = self.sessions.get_mut(&number) {
                loaded.queue.insert(place, entry);
            }
        }
        for (number, place) in places {
            self.last_session = self.last_session.max(number);
            if let Some(loaded) = self.sessions.get_mut(&number) {
                loaded.last = Some(place);
            }
        }
        self.orphans.append(&mut orphans);
        Ok(())
    }

    fn packets(&mut self) -> Result<(), Refused> {
        let (mut orphans, mut last) = (Vec::new(), 0);
        self.each("p", |name, _| {
            let read = rows::split(&name[1..]).and_then(|(number, id)| {
                last = number.max(last);
                Some((self.sessions.get(&number)?, u16::from_str_radix(id, 16).ok()?))
            });
            match read {
                Some((loaded, id)) => drop(loaded.client.received.lock().insert(id)),
                None => orphans.push(rows::delete(name.into())),
            }
        })?;
        self.orphans.append(&mut orphans);
        self.last_session = self.last_session.max(last);
        Ok(())
    }

    fn retained(&mut self) -> Result<(), Refused> {
        let mut orphans = Vec::new();
        let mut retained = self.broker.retained.lock();
        self.each("r", |name, value| {
            match rows::read::<MessageRow<'_>>(value).and_then(|row| row.message()) {
                // No session of today published it.
                Some(message) => retained.load(Arc::new(Message { publisher: 0, ..message })),
                None => orphans.push(rows::delete(name.into())),
            }
        })?;
        drop(retained);
        self.orphans.append(&mut orphans);
        Ok(())
    }

    /// Those who were connected when the host stopped are lost, unless they come back.
    fn wills(&mut self) -> Result<(), Refused> {
        let mut read = Vec::new();
        self.each("w", |name, value| {
            let number = u32::from_str_radix(&name[1..], 16).ok();
            read.push((Box::<str>::from(name), number.and_then(|number| Will::read(number, value))));
        })?;
        for (name, will) in read {
            let Some(will) = will else {
                self.orphan(&name);
                continue;
            };
            let number = will.by.number;
            self.last_session = self.last_session.max(number);
            if self.sessions.contains_key(&number) {
                let wait = Duration::from_secs(will.delay_s.into()).max(AFTER_START);
                self.broker.await_will(will, wait);
            } else {
                // Its session ended with the host.
                self.broker.await_will(will, AFTER_START);
                self.broker.wills.ended(number);
            }
        }
        Ok(())
    }

    fn finish(self) {
        let Self { broker, sessions, orphans, last_message, last_session } = self;
        broker.numbers_from(last_session.saturating_add(1), last_message.saturating_add(1));
        for loaded in sessions.into_values() {
            let Loaded { client, row, queue, last } = loaded;
            let jump = if row.absent_since.is_none() { JUMP } else { 1 };
            if let Some(last) = last {
                client.places_from(last.saturating_add(jump));
            }
            let mut state = client.state();
            for (place, entry) in queue {
                match entry {
                    Some(entry) => state.outgoing.load(entry),
                    None => state.outgoing.load_released(place),
                }
            }
            state.count();
            let since = state.absent_since().unwrap_or_default();
            drop(state);
            if row.absent_since.is_none() {
                broker.keeper.soon([rows::write(rows::session(&client.id), &client.row())]);
            }
            broker.expire_after(&client, row.expiry_s, since);
        }
        if !orphans.is_empty() {
            let count = orphans.len();
            tracing::info!(ingress = %broker.session.ingress(), count, "rows of ended sessions are removed");
            broker.keeper.soon(orphans);
        }
        broker.make_room();
    }
}

impl Loaded {
    /// `None` outside if it cannot be read, inside if only its PUBREL is due.
    fn entry(
        &self,
        place: u64,
        row: QueueRow<'_>,
        shared: &HashMap<u64, Arc<Message>>,
        subscriptions: &Subscriptions,
    ) -> Option<Option<Entry>> {
        let (message, how): (_, How) = match row {
            QueueRow::Released => return Some(None),
            QueueRow::Whole { message, how } => (Arc::new(message.message()?), how),
            QueueRow::Shared { message, how } => (Arc::clone(shared.get(&message)?), how),
        };
        // It may have been allowed when it was queued, and not be now.
        if !self.client.grants().may_have(&message.topic) {
            return None;
        }
        let again = self.row.absent_since.is_none() || place < self.row.sent_below;
        Some(Some(Entry {
            message,
            qos: Qos::of(how.qos)?,
            retain: how.retain,
            subscription_ids: how.subscription_ids,
            place,
            stored: true,
            again,
            command: None,
            group: how.group.and_then(|text| subscriptions.group(&text)),
        }))
    }
}
