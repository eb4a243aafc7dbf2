//! Wills: what the broker publishes for a client that was lost (MQTT 5.0, section 3.1.2.5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Refused, StateWrite, Topic};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::Broker;
use super::codec::{Properties, Will as Said};
use super::inbound::{By, Published};
use super::message::Message;
use super::rows::{self, MessageRow, WillRow};
use super::timers::{FOR_EVER, Timer, Timers, What};

/// After a start, clients that were connected have so long to come back before they count as lost.
pub(super) const AFTER_START: Duration = Duration::from_secs(10);

/// After a refusal.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) by: By,
    pub(super) delay_s: u32,
    pub(super) published: Published,
}

/// Those that are to be published, by session.
#[derive(Default)]
pub(super) struct Wills {
    waiting: Mutex<HashMap<u32, Waiting>>,
    /// Sessions that have ended, by client: who comes back has another one. Locked after `waiting`.
    ended: Mutex<HashMap<Box<str>, Vec<u32>>>,
    /// One was.
    published: Notify,
}

struct Waiting {
    will: Arc<Will>,
    due: Instant,
    timer: Timer,
    is_under_way: bool,
}

/// One whose client has come back, until that is on disk.
pub(super) struct Withdrawn {
    pub(super) will: Arc<Will>,
    due: Instant,
    of_ended: bool,
}

impl Will {
    /// `None` if its topic is none, which the caller has checked.
    pub(super) fn new(said: Said, by: By) -> Option<Self> {
        let delay_s = said.properties.will_delay.unwrap_or(0);
        let properties = Box::new(Properties { will_delay: None, ..said.properties });
        let published = Published {
            topic: Topic::try_from(said.topic).ok()?,
            payload: said.payload,
            qos: said.qos,
            retain: said.retain,
            properties: Some(properties),
        };
        Some(Self { by, delay_s, published })
    }

    pub(super) fn row(&self) -> StateWrite {
        let none = Properties::default();
        let published = &self.published;
        let properties = published.properties.as_deref().unwrap_or(&none);
        let message = Message {
            topic: published.topic.clone(),
            payload: published.payload.clone(),
            properties: Bytes::new(),
            qos: published.qos,
            retain: published.retain,
            expires: None,
            publisher: self.by.number,
            row: None,
        };
        let user_properties = properties.user.iter().map(|(name, value)| (&**name, &**value)).collect();
        let row = WillRow {
            client: &self.by.client,
            user: self.by.user.as_deref(),
            delay_s: self.delay_s,
            expiry_s: properties.message_expiry,
            content_type: properties.content_type.as_deref(),
            user_properties,
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            payload_format: properties.payload_format,
            message: MessageRow::of(&message),
        };
        rows::write(rows::will(self.by.number), &row)
    }

    /// `None` if it cannot have been written by this broker.
    pub(super) fn read(number: u32, row: &[u8]) -> Option<Self> {
        let row: WillRow<'_> = rows::read(row)?;
        let message = row.message.message()?;
        let properties = Properties {
            message_expiry: row.expiry_s,
            content_type: row.content_type.map(Into::into),
            user: row.user_properties.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            response_topic: row.response_topic.map(Into::into),
            correlation_data: row.correlation_data.map(Bytes::copy_from_slice),
            payload_format: row.payload_format,
            ..Properties::default()
        };
        let by = By { client: row.client.into(), user: row.user.map(Into::into), number };
        let published = Published {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: Some(Box::new(properties)),
        };
        Some(Self { by, delay_s: row.delay_s, published })
    }
}

impl Wills {
    /// The client of the session is back: a will that is due is told first, one that is not is withdrawn.
    pub(super) async fn settle(&self, number: u32, timers: &Timers) -> Option<Withdrawn> {
        loop {
            let published = self.published.notified();
            {
                let mut all = self.waiting.lock();
                if all.get(&number)?.due > Instant::now() {
                    return self.take(&mut all, number, timers);
                }
            }
            published.await;
        }
    }

    fn take(&self, all: &mut HashMap<u32, Waiting>, number: u32, timers: &Timers) -> Option<Withdrawn> {
        let Waiting { will, due, timer, .. } = all.remove(&number)?;
        timers.cancel(timer);
        let mut ended = self.ended.lock();
        let of_client = ended.get_mut(&will.by.client);
        let of_ended = of_client.is_some_and(|numbers| {
            let before = numbers.len();
            numbers.retain(|other| *other != number);
            numbers.len() < before
        });
        if ended.get(&will.by.client).is_some_and(Vec::is_empty) {
            ended.remove(&will.by.client);
        }
        Some(Withdrawn { will, due, of_ended })
    }

    /// It is as if its client had not come.
    fn put_back(&self, withdrawn: Withdrawn, timers: &Timers) {
        let Withdrawn { will, due, of_ended } = withdrawn;
        let number = will.by.number;
        let mut all = self.waiting.lock();
        let timer = timers.add(due.saturating_duration_since(Instant::now()), What::Will(number));
        all.insert(number, Waiting { due, timer, is_under_way: false, will });
        if of_ended {
            self.note_ended(&all, number);
        }
    }

    fn note_ended(&self, all: &HashMap<u32, Waiting>, number: u32) {
        let Some(waiting) = all.get(&number) else { return };
        let mut ended = self.ended.lock();
        let numbers = ended.entry(waiting.will.by.client.clone()).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }

    /// The session is no more.
    pub(super) fn ended(&self, number: u32) {
        self.note_ended(&self.waiting.lock(), number);
    }

    /// Sessions of the client that have ended, and whose wills are not published yet: its own, and those of nobody.
    pub(super) fn of_ended(&self, client: &str, user: Option<&str>) -> Vec<u32> {
        let (all, ended) = (self.waiting.lock(), self.ended.lock());
        let numbers = ended.get(client).map(Vec::as_slice).unwrap_or_default();
        let is_its_own = |number: &&u32| {
            let by = all.get(*number).map(|waiting| waiting.will.by.user.as_deref());
            by.is_some_and(|by| by.is_none() || by == user)
        };
        numbers.iter().filter(is_its_own).copied().collect()
    }

    fn add(&self, will: Will, wait: Duration, timers: &Timers) {
        let number = will.by.number;
        let due = Instant::now() + wait.min(FOR_EVER);
        // Held, so that it is there when its timer finds it due.
        let mut all = self.waiting.lock();
        let timer = timers.add(wait, What::Will(number));
        all.insert(number, Waiting { due, timer, is_under_way: false, will: Arc::new(will) });
    }

    /// It does not wait any longer, since its session has ended.
    fn hasten(&self, number: u32, timers: &Timers) {
        let mut all = self.waiting.lock();
        if let Some(waiting) = all.get_mut(&number) {
            waiting.due = Instant::now();
            timers.cancel(waiting.timer);
            waiting.timer = timers.add(Duration::ZERO, What::Will(number));
        }
        self.note_ended(&all, number);
    }

    /// One that is due, to be published. Not what came in the place of one whose time it was.
    fn begin(&self, number: u32) -> Option<Arc<Will>> {
        let mut waiting = self.waiting.lock();
        let due = waiting.get_mut(&number).filter(|waiting| waiting.due <= Instant::now());
        let due = due.filter(|waiting| !waiting.is_under_way)?;
        due.is_under_way = true;
        Some(Arc::clone(&due.will))
    }

    /// It could not be published, and is to be tried again.
    fn not_yet(&self, number: u32, timers: &Timers) {
        if let Some(waiting) = self.waiting.lock().get_mut(&number) {
            waiting.is_under_way = false;
            waiting.timer = timers.add(AGAIN, What::Will(number));
        }
    }

    /// It was published, or will not be.
    fn done(&self, number: u32, timers: &Timers) {
        self.take(&mut self.waiting.lock(), number, timers);
        self.published.notify_waiters();
    }
}

impl Broker {
    /// `will` is published after `wait`, unless its client comes back.
    pub(super) fn await_will(&self, will: Will, wait: Duration) {
        self.wills.add(will, wait, &self.timers);
    }

    /// What a CONNECT withdrew that came to nothing.
    pub(super) fn put_back(&self, withdrawn: Vec<Withdrawn>) {
        for withdrawn in withdrawn {
            self.keeper.soon([withdrawn.will.row()]);
            self.wills.put_back(withdrawn, &self.timers);
        }
    }

    /// The session ended: its will does not wait any longer.
    pub(super) fn hasten_will(&self, number: u32) {
        self.wills.hasten(number, &self.timers);
    }

    /// Publishes the will of a session, if it was not withdrawn; its row goes in the same commit.
    pub(super) async fn publish_will(self: &Arc<Self>, number: u32) {
        let Some(will) = self.wills.begin(number) else { return };
        let may = self.settings.access.of(&will.by.client, will.by.user.as_deref());
        if !may.may_publish(&will.published.topic) {
            self.keeper.soon([rows::delete(rows::will(number))]);
            return self.wills.done(number, &self.timers);
        }
        let gone = vec![rows::delete(rows::will(number))];
        let submitted = self.submit(will.published.clone(), &will.by, gone);
        match submitted.accept.await {
            Ok(_) => {
                self.wills.done(number, &self.timers);
                self.deliver(submitted.plan);
            }
            Err(Refused::Stopping) => self.abandon(&submitted.plan, true),
            Err(refused @ Refused::TooLarge { .. }) => {
                tracing::warn!(ingress = %self.session.ingress(), %refused, "a will is given up on");
                self.abandon(&submitted.plan, false);
                self.keeper.soon([rows::delete(rows::will(number))]);
                self.wills.done(number, &self.timers);
            }
            Err(refused) => {
                let (client, now) = (&will.by.client, self.session.now());
                self.complaints.note("will", client, format_args!("not published yet: {refused}"), now);
                self.abandon(&submitted.plan, true);
                self.wills.not_yet(number, &self.timers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Qos;
    use super::*;

    fn said() -> Said {
        Said {
            topic: "gone/c1".into(),
            payload: Bytes::from_static(b"\0lost"),
            qos: Qos::ExactlyOnce,
            retain: true,
            properties: Properties {
                will_delay: Some(9),
                message_expiry: Some(60),
                user: vec![("a".into(), "b".into())],
                response_topic: Some("r".into()),
                correlation_data: Some(Bytes::from_static(b"\0")),
                content_type: Some("text/plain".into()),
                payload_format: Some(1),
                ..Properties::default()
            },
        }
    }

    fn will() -> Will {
        Will::new(said(), By { client: "c1".into(), user: Some("ann".into()), number: 7 }).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn is_published_once_it_is_due_and_no_other_in_its_place() {
        let (wills, timers) = (Wills::default(), Timers::default());
        wills.add(will(), Duration::from_secs(2), &timers);
        assert!(wills.settle(7, &timers).await.is_some(), "its client is back before it is due");
        assert_eq!(timers.count(), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        wills.add(will(), Duration::from_secs(2), &timers);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(wills.begin(7).is_none(), "it was the first one's time");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(wills.begin(7).is_some() && wills.begin(7).is_none());
        wills.not_yet(7, &timers);
        assert!(wills.begin(7).is_some(), "the storage failed");
        let told = async { assert!(wills.settle(7, &timers).await.is_none()) };
        let publish = async { wills.done(7, &timers) };
        tokio::join!(told, publish);
        wills.add(will(), Duration::from_secs(3600), &timers);
        wills.hasten(7, &timers);
        wills.hasten(7, &timers);
        assert_eq!(timers.count(), 2, "of those above, which no broker has taken, and this one");
    }

    #[test]
    fn comes_back_from_its_row_as_it_was() {
        let will = will();
        let row = will.row();
        assert_eq!(&*row.name, "w00000007");
        let read = Will::read(7, &row.value.unwrap()).unwrap();
        assert_eq!(format!("{will:?}"), format!("{read:?}"));
    }
}
