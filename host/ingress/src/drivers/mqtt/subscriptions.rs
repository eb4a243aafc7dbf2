//! Who is subscribed to what, and who is to get a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use sandbar_reading::{FilterError, Topic, TopicFilter, TopicTree};

use super::client::Client;
use super::codec::{Qos, Wanted};
use super::message::About;

/// Every subscription of every session.
#[derive(Default)]
pub(super) struct Subscriptions {
    plain: TopicTree<Subscription>,
    shared: TopicTree<Arc<Group>>,
    groups: HashMap<(Box<str>, Box<str>), Arc<Group>>,
}

#[derive(Clone)]
struct Subscription {
    client: Arc<Client>,
    wanted: Wanted,
    id: Option<u32>,
}

/// Of a shared subscription's messages, each goes to one member (MQTT 5.0, section 4.8.2).
pub(super) struct Group {
    /// As its members wrote it: `$share/group/sensors/#`.
    pub(super) text: Box<str>,
    members: Mutex<Vec<Subscription>>,
    turn: AtomicUsize,
}

/// A session that is to get a message, and how.
pub(super) struct Recipient {
    pub(super) client: Arc<Client>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) subscription_ids: Vec<u32>,
    /// If it gets the message in the place of others.
    pub(super) group: Option<Arc<Group>>,
}

/// What a client subscribes to: `sensors/#`, or `$share/group/sensors/#`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: Option<Box<str>>,
    pub(super) filter: TopicFilter,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, FilterError> {
        let Some(shared) = text.strip_prefix("$share/") else {
            return Ok(Self { group: None, filter: text.parse()? });
        };
        // A group's name has one character at least and no wildcard; a filter must follow.
        let (group, filter) = shared.split_once('/').unwrap_or((shared, ""));
        let filter = filter.parse()?;
        match group.contains(['+', '#']) || group.is_empty() {
            true => Err(FilterError::PlusInsideLevel { level: 2 }),
            false => Ok(Self { group: Some(group.into()), filter }),
        }
    }
}

impl Subscriptions {
    /// Replaces the client's earlier subscription to the same.
    pub(super) fn insert(&mut self, client: &Arc<Client>, target: &Target, wanted: Wanted, id: Option<u32>) {
        let subscription = Subscription { client: Arc::clone(client), wanted, id };
        let Some(group) = &target.group else {
            self.remove(client, target);
            return self.plain.insert(&target.filter, subscription);
        };
        let text = format!("$share/{group}/{}", target.filter.as_str()).into();
        let key = (group.clone(), target.filter.as_str().into());
        let group = self.groups.entry(key).or_insert_with(|| {
            let group = Arc::new(Group { text, members: Mutex::default(), turn: AtomicUsize::new(0) });
            self.shared.insert(&target.filter, Arc::clone(&group));
            group
        });
        // In its place: what waits for the only member goes to later ones of the same group, if it ends.
        let mut members = group.members.lock();
        match members.iter_mut().find(|member| Arc::ptr_eq(&member.client, client)) {
            Some(member) => *member = subscription,
            None => members.push(subscription),
        }
    }

    pub(super) fn remove(&mut self, client: &Arc<Client>, target: &Target) {
        let own = |subscription: &Subscription| Arc::ptr_eq(&subscription.client, client);
        let Some(group) = &target.group else {
            return self.plain.remove(&target.filter, own);
        };
        let key = (group.clone(), target.filter.as_str().into());
        let Some(group) = self.groups.get(&key) else { return };
        let bare = {
            let mut members = group.members.lock();
            members.retain(|member| !own(member));
            members.is_empty()
        };
        if bare && let Some(group) = self.groups.remove(&key) {
            self.shared.remove(&target.filter, |other| Arc::ptr_eq(other, &group));
        }
    }

    /// Who is to get a message: each session once, at the highest quality of service that it asked for.
    pub(super) fn recipients(&self, message: About<'_>) -> Vec<Recipient> {
        let mut found = Vec::new();
        self.plain.matches(message.topic, |subscription| {
            let own = subscription.wanted.no_local && subscription.client.number == message.publisher;
            if !own && subscription.client.may_receive(message.topic) {
                found.push(subscription);
            }
        });
        if found.len() > 1 {
            found.sort_by_key(|subscription| subscription.client.number);
        }
        let mut recipients: Vec<Recipient> = Vec::with_capacity(found.len());
        for subscription in found {
            match recipients.last_mut() {
                Some(last) if last.client.number == subscription.client.number => {
                    last.add(subscription, message);
                }
                _ => recipients.push(Recipient::of(subscription, message)),
            }
        }
        self.shared.matches(message.topic, |group| recipients.extend(group.choose(message)));
        recipients
    }

    /// As long as it has a member.
    pub(super) fn group(&self, text: &str) -> Option<Arc<Group>> {
        let target = Target::parse(text).ok()?;
        self.groups.get(&(target.group?, target.filter.as_str().into())).cloned()
    }

    pub(super) fn matches(&self, client: &Client, topic: &Topic) -> Option<Wanted> {
        let mut found: Option<Wanted> = None;
        self.plain.matches(topic, |subscription| {
            let better = found.is_none_or(|found| found.qos < subscription.wanted.qos);
            if subscription.client.number == client.number && better {
                found = Some(subscription.wanted);
            }
        });
        found
    }
}

impl Group {
    /// The next member in turn; connected ones first, then those whose queue is stored.
    pub(super) fn choose(self: &Arc<Self>, message: About<'_>) -> Option<Recipient> {
        let topic = message.topic;
        let members = self.members.lock();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..members.len()).map(|n| &members[(turn.wrapping_add(n)) % members.len()]);
        let may = |member: &&Subscription| !member.client.is_gone() && member.client.may_receive(topic);
        let chosen = in_turn()
            .filter(may)
            .find(|member| member.client.has_room())
            .or_else(|| in_turn().filter(may).find(|member| member.client.is_connected()))
            .or_else(|| in_turn().find(may))?;
        Some(Recipient { group: Some(Arc::clone(self)), ..Recipient::of(chosen, message) })
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Recipient {
    /// Whether its entry gets a row.
    pub(super) fn is_stored(&self) -> bool {
        self.client.stored && self.qos != Qos::AtMostOnce
    }

    fn of(subscription: &Subscription, message: About<'_>) -> Self {
        Self {
            client: Arc::clone(&subscription.client),
            qos: subscription.wanted.qos.min(message.qos),
            retain: message.retain && subscription.wanted.retain_as_published,
            subscription_ids: subscription.id.into_iter().collect(),
            group: None,
        }
    }

    fn add(&mut self, subscription: &Subscription, message: About<'_>) {
        self.qos = self.qos.max(subscription.wanted.qos.min(message.qos));
        self.retain |= message.retain && subscription.wanted.retain_as_published;
        self.subscription_ids.extend(subscription.id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Link;
    use super::super::client::tests::client;
    use super::super::codec::Retained;
    use super::*;

    fn about(topic: &Topic, qos: Qos, publisher: u32) -> About<'_> {
        About { topic, qos, retain: true, publisher }
    }

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }

    fn wanted(qos: Qos) -> Wanted {
        Wanted { qos, no_local: false, retain_as_published: false, retained: Retained::Always }
    }

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    #[test]
    fn a_session_gets_a_message_once_with_all_its_identifiers() {
        let mut subscriptions = Subscriptions::default();
        let (a, b) = (client("a", 1), client("b", 2));
        subscriptions.insert(&a, &target("t/+"), wanted(Qos::AtMostOnce), Some(7));
        subscriptions.insert(&b, &target("t/1"), wanted(Qos::AtLeastOnce), None);
        subscriptions.insert(&a, &target("t/#"), wanted(Qos::ExactlyOnce), Some(8));
        let found = subscriptions.recipients(about(&topic("t/1"), Qos::AtLeastOnce, 0));
        let found: Vec<_> =
            found.iter().map(|r| (r.client.number, r.qos, r.subscription_ids.clone())).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1, Qos::AtLeastOnce);
        assert_eq!(found[0].2.iter().sum::<u32>(), 15);
        subscriptions.remove(&a, &target("t/#"));
        subscriptions.remove(&a, &target("t/+"));
        assert_eq!(subscriptions.recipients(about(&topic("t/1"), Qos::AtMostOnce, 0)).len(), 1);
    }

    #[test]
    fn nothing_of_ones_own_where_it_is_not_wanted() {
        let mut subscriptions = Subscriptions::default();
        let a = client("a", 1);
        let quiet = Wanted { no_local: true, ..wanted(Qos::AtMostOnce) };
        subscriptions.insert(&a, &target("#"), quiet, None);
        assert!(subscriptions.recipients(about(&topic("t"), Qos::AtMostOnce, 1)).is_empty());
        assert_eq!(subscriptions.recipients(about(&topic("t"), Qos::AtMostOnce, 2)).len(), 1);
    }

    #[test]
    fn members_of_a_group_take_turns() {
        let mut subscriptions = Subscriptions::default();
        let members = [client("a", 1), client("b", 2)];
        for member in &members {
            member.state().take(Link::new());
            subscriptions.insert(member, &target("$share/g/t/#"), wanted(Qos::AtMostOnce), None);
        }
        let mut got = [0; 3];
        for _ in 0..10 {
            let found = subscriptions.recipients(about(&topic("t/1"), Qos::AtMostOnce, 0));
            assert_eq!(found.len(), 1);
            got[found[0].client.number as usize] += 1;
        }
        assert_eq!(got, [0, 5, 5]);
        for member in &members {
            subscriptions.remove(member, &target("$share/g/t/#"));
        }
        assert!(subscriptions.groups.is_empty() && subscriptions.shared.is_empty());
    }

    #[test]
    fn who_subscribes_anew_stays_in_the_group_that_its_messages_came_by() {
        let mut subscriptions = Subscriptions::default();
        let (a, b) = (client("a", 1), client("b", 2));
        let shared = target("$share/g/t");
        subscriptions.insert(&a, &shared, wanted(Qos::AtMostOnce), None);
        let before = subscriptions.group("$share/g/t").unwrap();
        subscriptions.insert(&a, &shared, wanted(Qos::AtLeastOnce), Some(7));
        assert_eq!(before.members.lock().len(), 1);
        subscriptions.insert(&b, &shared, wanted(Qos::AtMostOnce), None);
        subscriptions.remove(&a, &shared);
        b.state().take(Link::new());
        assert_eq!(before.choose(about(&topic("t"), Qos::AtMostOnce, 0)).unwrap().client.number, 2);
    }

    #[test]
    fn refuses_groups_without_a_name_or_filter() {
        for bad in ["$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "a/#/b", ""] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(target("$share/g//x").filter.as_str(), "/x");
    }
}
