//! Retained messages (MQTT 5.0, section 3.3.1.3): the last one of each topic that asked for it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use sandbar_reading::{Timestamp, Topic, TopicFilter};

use super::client::Client;
use super::message::Message;
use super::outgoing::Room;

/// What a level takes that has others below it, about: a node of a tree has room for eleven.
const BELOW: usize = 640;

/// A tree of topic levels, so that the cost of a filter is that of what it matches.
#[derive(Default)]
pub(super) struct RetainedMessages {
    root: Level,
    count: usize,
    /// What they and the levels above them take, about.
    bytes: usize,
    stamp: u64,
    /// Changes that were stamped and are not made yet.
    under_way: BTreeMap<u64, Topic>,
    /// Topics removed while earlier changes were under way: what is older must not come back.
    removed: HashMap<Arc<str>, u64>,
    /// The same, by stamp.
    removals: BTreeMap<u64, Arc<str>>,
    /// Sessions that ask for what is under way, by number.
    awaiting: HashMap<u32, Arc<Client>>,
}

#[derive(Debug, Default)]
struct Level {
    held: Option<Held>,
    below: BTreeMap<Box<str>, Level>,
}

#[derive(Debug)]
struct Held {
    message: Arc<Message>,
    stamp: u64,
}

impl RetainedMessages {
    /// Numbers a change, in the order in which they go to the store. [`set`](Self::set) or
    /// [`abandon`](Self::abandon) must follow.
    pub(super) fn stamp(&mut self, topic: &Topic) -> u64 {
        self.stamp += 1;
        self.under_way.insert(self.stamp, topic.clone());
        self.stamp
    }

    /// Whether a change up to `until` is not made yet, of a topic that `filter` matches.
    pub(super) fn is_under_way(&self, filter: &TopicFilter, until: u64) -> bool {
        self.under_way.range(..=until).any(|(_, topic)| filter.matches(topic))
    }

    /// The session is told of the next change that is made, or does not come.
    pub(super) fn await_change(&mut self, client: &Arc<Client>) {
        self.awaiting.insert(client.number, Arc::clone(client));
    }

    /// The last number that was given.
    pub(super) const fn stamped(&self) -> u64 {
        self.stamp
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for it in the place of what its topic has.
    pub(super) fn has_room(&self, message: &Message, room: Room) -> bool {
        let (mut level, mut bytes) = (Some(&self.root), self.bytes + message.size());
        for part in message.topic.levels() {
            if level.is_none_or(|level| level.below.is_empty()) {
                bytes += BELOW;
            }
            level = level.and_then(|level| level.below.get(part));
        }
        match level.and_then(|level| level.held.as_ref()) {
            Some(held) => bytes - held.message.size() <= room.bytes,
            None => bytes <= room.bytes && self.count < room.count,
        }
    }

    /// `None` removes. Nothing happens if a change with a later stamp was here first. Returns who
    /// [awaits](Self::await_change) it.
    pub(super) fn set(&mut self, topic: &str, message: Option<Arc<Message>>, stamp: u64) -> Vec<Arc<Client>> {
        match message {
            Some(message) if self.removed.get(topic).is_none_or(|removed| *removed < stamp) => {
                self.insert(topic, message, stamp);
            }
            Some(_) => {}
            None => {
                let name: Arc<str> = topic.into();
                self.removals.insert(stamp, Arc::clone(&name));
                let removed = self.removed.entry(name).or_default();
                *removed = stamp.max(*removed);
                self.remove(topic, stamp);
            }
        }
        self.abandon(stamp)
    }

    /// A stamped change that does not come. Returns who awaits one.
    pub(super) fn abandon(&mut self, stamp: u64) -> Vec<Arc<Client>> {
        self.under_way.remove(&stamp);
        let oldest = self.under_way.first_key_value().map_or(u64::MAX, |(oldest, _)| *oldest);
        while let Some(first) = self.removals.first_entry().filter(|first| *first.key() < oldest) {
            let (stamp, topic) = first.remove_entry();
            if self.removed.get(&topic) == Some(&stamp) {
                self.removed.remove(&topic);
            }
        }
        std::mem::take(&mut self.awaiting).into_values().collect()
    }

    /// One that was there when the broker started.
    pub(super) fn load(&mut self, message: Arc<Message>) {
        let topic = message.topic.clone();
        self.insert(topic.as_str(), message, 0);
    }

    fn insert(&mut self, topic: &str, message: Arc<Message>, stamp: u64) {
        let mut level = &mut self.root;
        for part in topic.split('/') {
            if level.below.is_empty() {
                self.bytes += BELOW;
            }
            level = level.below.entry(part.into()).or_default();
        }
        match &level.held {
            Some(held) if held.stamp > stamp => return,
            Some(held) => self.bytes -= held.message.size(),
            None => self.count += 1,
        }
        self.bytes += message.size();
        level.held = Some(Held { message, stamp });
    }

    fn remove(&mut self, topic: &str, stamp: u64) {
        if self.root.remove(&mut topic.split('/'), stamp, &mut self.bytes) {
            self.count -= 1;
        }
    }

    /// Those that `filter` matches, whose time is not over and whose stamp is at most `until`: in their order, behind
    /// `after`, up to so many.
    pub(super) fn matching(
        &self,
        filter: &TopicFilter,
        after: Option<&Topic>,
        until: u64,
        most: usize,
        now: Timestamp,
    ) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        let levels: Vec<&str> = filter.levels().collect();
        let after: Option<Vec<&str>> = after.map(|topic| topic.levels().collect());
        let _ = self.root.find(&levels, after.as_deref(), true, &mut |Held { message, stamp }| {
            if *stamp <= until && !message.has_expired(now) {
                found.push(Arc::clone(message));
            }
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found
    }

    /// Removes those whose time is over; returns their topics.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        let _ = self.root.find(&["#"], None, false, &mut |Held { message, .. }| {
            if message.has_expired(now) {
                gone.push(Arc::clone(message));
            }
            ControlFlow::Continue(())
        });
        for message in &gone {
            self.remove(message.topic.as_str(), u64::MAX);
        }
        gone
    }
}

impl Level {
    /// One's own comes before those below, and is passed over if it is, or one of those.
    fn own(
        &self,
        after: Option<&[&str]>,
        found: &mut impl FnMut(&Held) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match &self.held {
            Some(held) if after.is_none() => found(held),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Those below that are not passed over, each with what is passed over within it.
    fn below<'a>(
        &'a self,
        after: Option<&'a [&'a str]>,
    ) -> impl Iterator<Item = (&'a str, &'a Self, Option<&'a [&'a str]>)> {
        let passed = after.and_then(<[&str]>::split_first);
        let from = passed.map_or(Bound::Unbounded, |(name, _)| Bound::Included(*name));
        self.below.range::<str, _>((from, Bound::<&str>::Unbounded)).map(move |(name, level)| {
            let within = passed.filter(|(passed, _)| ***passed == **name).map(|(_, within)| within);
            (&**name, level, within)
        })
    }

    /// In the order of their levels; up to the topic `after`, they are passed over. `first` keeps wildcards from topics
    /// that begin with `$`.
    fn find(
        &self,
        levels: &[&str],
        after: Option<&[&str]>,
        first: bool,
        found: &mut impl FnMut(&Held) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((level, rest)) = levels.split_first() else { return self.own(after, found) };
        let hidden = |name: &str| first && name.starts_with('$');
        match *level {
            "#" => {
                self.own(after, found)?;
                for (_, below, within) in self.below(after).filter(|(name, ..)| !hidden(name)) {
                    below.find(levels, within, false, found)?;
                }
            }
            "+" => {
                for (_, below, within) in self.below(after).filter(|(name, ..)| !hidden(name)) {
                    below.find(rest, within, false, found)?;
                }
            }
            exact => {
                let passed = after.and_then(<[&str]>::split_first);
                let within = match passed.map(|(passed, within)| (exact.cmp(passed), within)) {
                    Some((Ordering::Less, _)) => return ControlFlow::Continue(()),
                    Some((Ordering::Equal, within)) => Some(within),
                    Some((Ordering::Greater, _)) | None => None,
                };
                if let Some(below) = self.below.get(exact) {
                    below.find(rest, within, false, found)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Removes what `topic` holds, unless it is newer, and the branch as far as that leaves it bare.
    fn remove(&mut self, topic: &mut std::str::Split<'_, char>, stamp: u64, bytes: &mut usize) -> bool {
        let Some(level) = topic.next() else {
            let gone = self.held.take_if(|held| held.stamp < stamp);
            *bytes -= gone.as_ref().map_or(0, |gone| gone.message.size());
            return gone.is_some();
        };
        let Some(below) = self.below.get_mut(level) else { return false };
        let removed = below.remove(topic, stamp, bytes);
        if below.held.is_none() && below.below.is_empty() {
            self.below.remove(level);
            *bytes -= if self.below.is_empty() { BELOW } else { 0 };
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::codec::Qos;
    use super::super::message::Expiry;
    use super::*;

    fn message(topic: &str, expires: Option<Timestamp>) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.parse().unwrap(),
            payload: Bytes::from_static(b"x"),
            properties: Bytes::new(),
            qos: Qos::AtMostOnce,
            retain: true,
            expires: expires.map(Expiry::kept),
            publisher: 0,
            row: None,
        })
    }

    fn stamp(retained: &mut RetainedMessages, topic: &str) -> u64 {
        retained.stamp(&topic.parse().unwrap())
    }

    fn found(retained: &RetainedMessages, filter: &str) -> Vec<String> {
        let now = Timestamp::from_millis(10);
        let found = retained.matching(&filter.parse().unwrap(), None, u64::MAX, usize::MAX, now);
        found.iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn finds_what_a_filter_matches() {
        let mut retained = RetainedMessages::default();
        for topic in ["a", "a/b", "a/c/d", "$SYS/x", "/a"] {
            let stamp = stamp(&mut retained, topic);
            retained.set(topic, Some(message(topic, None)), stamp);
        }
        assert_eq!(found(&retained, "#"), ["/a", "a", "a/b", "a/c/d"]);
        assert_eq!(found(&retained, "a/#"), ["a", "a/b", "a/c/d"]);
        assert_eq!(found(&retained, "a/+"), ["a/b"]);
        assert_eq!(found(&retained, "+"), ["a"]);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS/x"]);
        assert_eq!(found(&retained, "a/c/d"), ["a/c/d"]);
        assert_eq!(retained.count(), 5);
    }

    #[test]
    fn a_later_change_stays_whatever_comes_after_it() {
        let mut retained = RetainedMessages::default();
        let (first, second) = (stamp(&mut retained, "a/b"), stamp(&mut retained, "a/b"));
        retained.set("a/b", Some(message("a/b", None)), second);
        retained.set("a/b", None, first);
        assert_eq!(found(&retained, "a/b"), ["a/b"]);
        let (third, fourth) = (stamp(&mut retained, "a/b"), stamp(&mut retained, "a/b"));
        retained.set("a/b", None, fourth);
        retained.set("a/b", Some(message("a/b", None)), third);
        assert!(retained.removed.is_empty());
        assert_eq!((retained.count(), retained.root.below.len()), (0, 0));
    }

    #[test]
    fn what_was_removed_is_forgotten_though_changes_always_overlap() {
        let mut retained = RetainedMessages::default();
        let mut earlier = stamp(&mut retained, "t");
        for _ in 0..100 {
            let later = stamp(&mut retained, "t");
            retained.set("t", None, earlier);
            earlier = later;
        }
        assert!(retained.removed.is_empty() && retained.removals.is_empty());
    }

    #[test]
    fn goes_on_behind_what_was_found_before() {
        let mut retained = RetainedMessages::default();
        for topic in ["a", "a/b", "a/b/d", "a/c/d", "b/b", "b/b/d", "/", "a/", "$SYS/x", "c"] {
            let stamp = stamp(&mut retained, topic);
            retained.set(topic, Some(message(topic, None)), stamp);
        }
        let asked = retained.stamped();
        let later = stamp(&mut retained, "b/c");
        retained.set("b/c", Some(message("b/c", None)), later);
        for filter in ["#", "a/#", "+/b", "+/b/#", "+/+", "b/+/d", "a/b/d", "$SYS/#", "c", "none"] {
            let parsed: TopicFilter = filter.parse().unwrap();
            let find = |after: Option<&Topic>, most| {
                retained.matching(&parsed, after, asked, most, Timestamp::default())
            };
            let (all, mut one_by_one) = (find(None, usize::MAX), Vec::new());
            let mut after = None;
            while let Some(next) = find(after.as_ref(), 1).pop() {
                after = Some(next.topic.clone());
                one_by_one.push(next);
            }
            let topics = |found: &[Arc<Message>]| -> Vec<_> {
                found.iter().map(|message| message.topic.to_string()).collect()
            };
            assert_eq!(topics(&one_by_one), topics(&all), "{filter}");
            assert!(!topics(&all).contains(&"b/c".to_owned()), "it came later");
        }
    }

    #[test]
    fn what_goes_gives_its_room_back() {
        let mut retained = RetainedMessages::default();
        let room = |bytes| Room { count: 2, bytes };
        let (first, second) = (message("a/b/c", None), message("a/b/d", None));
        let alone = 3 * BELOW + first.size();
        assert!(retained.has_room(&first, room(alone)) && !retained.has_room(&first, room(alone - 1)));
        for message in [&first, &second, &first] {
            let stamp = retained.stamp(&message.topic);
            retained.set(message.topic.as_str(), Some(Arc::clone(message)), stamp);
        }
        assert_eq!(retained.bytes(), alone + second.size());
        assert!(retained.has_room(&second, room(retained.bytes())), "in its own place");
        assert!(!retained.has_room(&second, room(retained.bytes() - 1)));
        assert!(!retained.has_room(&message("x", None), room(usize::MAX)), "they are too many");
        for topic in ["a/b/c", "a/b/d"] {
            let stamp = stamp(&mut retained, topic);
            retained.set(topic, None, stamp);
        }
        assert_eq!((retained.count(), retained.bytes()), (0, 0));
    }

    #[test]
    fn what_is_over_is_neither_found_nor_kept() {
        let mut retained = RetainedMessages::default();
        retained.load(message("a", Some(Timestamp::from_millis(5))));
        assert_eq!(found(&retained, "#"), [""; 0]);
        assert_eq!(retained.expire(Timestamp::from_millis(10)).len(), 1);
        assert_eq!(retained.count(), 0);
    }
}
