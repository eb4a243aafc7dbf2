//! From a message that was published to the queues of its subscribers: planned before the commit, which
//! stores the plan with the reading, and carried out after it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sandbar_reading::{Refused, StateWrite};

use super::broker::Broker;
use super::client::Client;
use super::codec::{Qos, forwardable};
use super::inbound::{By, Published};
use super::message::{Entry, Expiry, Message};
use super::rows::{self, How};
use super::subscriptions::Recipient;
use crate::Replies;

/// A message that waits for its commit.
pub(super) struct Submitted {
    /// Resolves once it is on disk.
    pub(super) accept: BoxFuture<'static, Result<Option<Replies>, Refused>>,
    pub(super) plan: Plan,
}

/// Who gets a message once it is on disk. Must be [delivered](Broker::deliver) or
/// [abandoned](Broker::abandon).
#[derive(Default)]
pub(super) struct Plan {
    message: Option<Arc<Message>>,
    recipients: Vec<Planned>,
    retain: Option<Retain>,
    /// The host has the message, whatever becomes of the rest.
    pub(super) is_taken: bool,
}

/// A change of what is retained.
#[derive(Clone, Copy)]
struct Retain {
    stamp: u64,
    /// Else its topic has nothing any more.
    stays: bool,
}

struct Planned {
    recipient: Recipient,
    /// Its place, if it has a row.
    stored: Option<u64>,
}

impl Broker {
    /// Hands a client's message to the host, with `keep` and the rows of its subscribers, in the order of the
    /// calls.
    pub(super) fn submit(
        self: &Arc<Self>,
        published: Published,
        by: &By,
        mut keep: Vec<StateWrite>,
    ) -> Submitted {
        let _order = published.retain.then(|| self.retaining.lock());
        let plan = self.plan(&published, by.number, &mut keep);
        let broker = Arc::clone(self);
        let accept = if published.qos == Qos::AtMostOnce && !self.settings.journal_qos0 {
            self.keep(keep)
        } else {
            let inbound = self.settings.mapping.inbound(published, by);
            async move { Ok(broker.session.accept_keeping(inbound, keep).await?.replies) }.boxed()
        };
        Submitted { accept: begun(accept), plan }
    }

    /// A message that the host has taken already, with a commit that was told to have failed: the rows of its
    /// subscribers are there. Who has subscribed since gets it, too, and what is retained may be another one.
    pub(super) fn submit_taken(self: &Arc<Self>, plan: Plan) -> Submitted {
        let mut plan = Plan { is_taken: true, ..plan };
        let mut keep = Vec::new();
        let retains = plan.message.as_ref().is_some_and(|message| message.retain);
        let _order = retains.then(|| self.retaining.lock());
        if let Some(message) = &plan.message {
            plan.retain = retains.then(|| self.plan_retained(message, &mut keep));
            let mut since = self.subscriptions.read().recipients(message.about());
            since.retain(|to| {
                let mut planned = plan.recipients.iter().map(|planned| planned.recipient.client.number);
                to.group.is_none() && !planned.any(|number| number == to.client.number)
            });
            plan.recipients.extend(self.plan_queued(since, message, &mut keep));
        }
        Submitted { accept: begun(self.keep(keep)), plan }
    }

    /// A message that is not a reading: of a sink, or a reply.
    pub(super) fn submit_own(self: &Arc<Self>, published: &Published) -> Submitted {
        let _order = published.retain.then(|| self.retaining.lock());
        let mut keep = Vec::new();
        let plan = self.plan(published, 0, &mut keep);
        Submitted { accept: begun(self.keep(keep)), plan }
    }

    fn keep(self: &Arc<Self>, keep: Vec<StateWrite>) -> BoxFuture<'static, Result<Option<Replies>, Refused>> {
        if keep.is_empty() {
            return futures::future::ready(Ok(None)).boxed();
        }
        let broker = Arc::clone(self);
        async move { broker.session.keep(keep).await.map(|()| None) }.boxed()
    }

    fn plan(&self, published: &Published, publisher: u32, keep: &mut Vec<StateWrite>) -> Plan {
        let recipients = self.subscriptions.read().recipients(published.about(publisher));
        if recipients.is_empty() && !published.retain {
            return Plan::default();
        }
        let expiry = published.properties.as_ref().and_then(|properties| properties.message_expiry);
        let expires = expiry.map(|seconds| {
            let wait = Duration::from_secs(seconds.into());
            Expiry { by_clock: self.session.now().after(wait), at: self.time().after(wait) }
        });
        let mut message = Message {
            topic: published.topic.clone(),
            payload: published.payload.clone(),
            properties: published.properties.as_ref().map_or_else(Bytes::new, |p| forwardable(p)),
            qos: published.qos,
            retain: published.retain,
            expires,
            publisher,
            row: None,
        };
        if recipients.iter().filter(|to| to.is_stored()).count() > 1 {
            message.row = Some(self.own_row(self.message_number()));
        }
        let message = Arc::new(message);
        let retain = published.retain.then(|| self.plan_retained(&message, keep));
        let recipients = self.plan_queued(recipients, &message, keep);
        Plan { message: Some(message), recipients, retain, is_taken: false }
    }

    /// What finds no room takes along what it was to replace: nobody is to be told that for the last one.
    fn plan_retained(&self, message: &Arc<Message>, keep: &mut Vec<StateWrite>) -> Retain {
        let topic = message.topic.as_str();
        let (name, is_message) = (rows::retained(topic), !message.payload.is_empty());
        let mut retained = self.retained.lock();
        let stays = is_message && retained.has_room(message, self.settings.retained);
        let stamp = retained.stamp(&message.topic);
        drop(retained);
        if is_message && !stays {
            self.count_unretained(topic);
        }
        keep.push(if stays { rows::write_message(name, message) } else { rows::delete(name) });
        Retain { stamp, stays }
    }

    /// A row for each session that is stored. If there are several, the message has a row of its own.
    fn plan_queued(
        &self,
        recipients: Vec<Recipient>,
        message: &Arc<Message>,
        keep: &mut Vec<StateWrite>,
    ) -> Vec<Planned> {
        let own = message.row.as_ref().map(|row| row.number);
        if let Some(number) = own {
            keep.push(rows::write_message(rows::message(number), message));
        }
        let planned = recipients.into_iter().map(|to| {
            if !to.is_stored() {
                return Planned { recipient: to, stored: None };
            }
            let place = to.client.place();
            let name = rows::queued(to.client.number, place);
            let subscription_ids = to.subscription_ids.clone().into();
            let group = to.group.as_ref().map(|group| group.text.clone());
            let how = How { qos: to.qos as u8, retain: to.retain, subscription_ids, group };
            keep.push(match own {
                None => rows::write_queued(name, message, how),
                Some(number) => rows::write_shared(name, message, number, how),
            });
            Planned { recipient: to, stored: Some(place) }
        });
        planned.collect()
    }

    /// It is on disk: into the queues, and what is retained.
    pub(super) fn deliver(&self, plan: Plan) {
        let Plan { message: Some(message), recipients, retain, .. } = plan else { return };
        if let Some(Retain { stamp, stays }) = retain {
            let kept = stays.then(|| Message::without_row(&message));
            let awaiting = self.retained.lock().set(message.topic.as_str(), kept, stamp);
            awaiting.iter().for_each(|client| client.look_again());
        }
        for Planned { recipient, stored } in recipients {
            let client = &recipient.client;
            let pushed = client.push(Entry {
                message: Arc::clone(&message),
                qos: recipient.qos,
                retain: recipient.retain,
                subscription_ids: recipient.subscription_ids.into(),
                place: stored.unwrap_or_else(|| client.place()),
                stored: stored.is_some(),
                again: false,
                command: None,
                group: recipient.group,
            });
            match pushed {
                Ok(gone) if gone.is_empty() => {}
                Ok(gone) => self.forget(client, gone),
                Err(entry) => self.not_wanted(client, entry),
            }
        }
        self.make_room();
    }

    /// Its session has ended since it was planned.
    fn not_wanted(&self, client: &Client, entry: Entry) {
        let place = entry.stored.then_some(entry.place);
        if entry.group.is_some() && client.is_gone() {
            self.hand_over(vec![entry]);
        }
        self.forget(client, place);
    }

    /// A member of shared subscriptions is gone for good: what it had not acknowledged goes to others (MQTT 5.0,
    /// section 4.8.2). Their rows come before the ones that are deleted.
    pub(super) fn hand_over(&self, entries: Vec<Entry>) {
        let now = self.time();
        for Entry { message, group, .. } in entries {
            let chosen =
                group.filter(|_| !message.has_expired(now)).and_then(|group| group.choose(message.about()));
            let mut keep = Vec::new();
            let recipients = self.plan_queued(chosen.into_iter().collect(), &message, &mut keep);
            self.keeper.soon(keep);
            self.deliver(Plan { message: Some(message), recipients, ..Plan::default() });
        }
    }

    /// The host did not take it. If that is doubtful, its subscribers' rows may be there.
    pub(super) fn abandon(&self, plan: &Plan, is_doubtful: bool) {
        self.abandon_retained(plan.retain);
        if is_doubtful {
            for Planned { recipient, stored } in &plan.recipients {
                self.forget(&recipient.client, *stored);
            }
        }
    }

    /// A client's QoS 2 message may be there, and so may the rows of its subscribers: they are left, until the client
    /// sends it again.
    pub(super) fn doubt(&self, client: &Client, id: u16, mut plan: Plan) {
        self.abandon_retained(plan.retain.take());
        client.doubted.lock().insert(id, plan);
    }

    fn abandon_retained(&self, retain: Option<Retain>) {
        if let Some(Retain { stamp, .. }) = retain {
            let awaiting = self.retained.lock().abandon(stamp);
            awaiting.iter().for_each(|client| client.look_again());
        }
    }
}

/// Polled once, so that it is in line behind what was submitted before.
fn begun<T: Send + 'static>(mut future: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
    match (&mut future).now_or_never() {
        Some(done) => futures::future::ready(done).boxed(),
        None => future,
    }
}
