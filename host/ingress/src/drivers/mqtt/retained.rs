//! Retained messages (MQTT 5.0, section 3.3.1.3): the last one of each topic that asked for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sandbar_reading::{Timestamp, TopicFilter};

use super::message::Message;

/// A tree of topic levels, so that the cost of a filter is that of what it matches.
#[derive(Debug, Default)]
pub(super) struct RetainedMessages {
    root: Level,
    count: usize,
    stamp: u64,
    /// Changes that were stamped and are not made yet.
    under_way: usize,
    /// Topics removed while others were under way: what is older must not come back.
    removed: HashMap<Box<str>, u64>,
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
    pub(super) fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.under_way += 1;
        self.stamp
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn has(&self, topic: &str) -> bool {
        let level = topic.split('/').try_fold(&self.root, |level, part| level.below.get(part));
        level.is_some_and(|level| level.held.is_some())
    }

    /// `None` removes. Nothing happens if a change with a later stamp was here first.
    pub(super) fn set(&mut self, topic: &str, message: Option<Arc<Message>>, stamp: u64) {
        match message {
            Some(message) if self.removed.get(topic).is_none_or(|removed| *removed < stamp) => {
                self.insert(topic, message, stamp);
            }
            Some(_) => {}
            None => {
                self.removed.insert(topic.into(), stamp);
                self.remove(topic, stamp);
            }
        }
        self.abandon();
    }

    /// A stamped change that does not come.
    pub(super) fn abandon(&mut self) {
        self.under_way -= 1;
        if self.under_way == 0 {
            self.removed.clear();
        }
    }

    /// One that was there when the broker started.
    pub(super) fn load(&mut self, message: Arc<Message>) {
        let topic = message.topic.clone();
        self.insert(topic.as_str(), message, 0);
    }

    fn insert(&mut self, topic: &str, message: Arc<Message>, stamp: u64) {
        let mut level = &mut self.root;
        for part in topic.split('/') {
            level = level.below.entry(part.into()).or_default();
        }
        match &mut level.held {
            Some(held) if held.stamp > stamp => {}
            Some(held) => *held = Held { message, stamp },
            held => {
                *held = Some(Held { message, stamp });
                self.count += 1;
            }
        }
    }

    fn remove(&mut self, topic: &str, stamp: u64) {
        if self.root.remove(&mut topic.split('/'), stamp) {
            self.count -= 1;
        }
    }

    /// Those that `filter` matches and whose time is not over.
    pub(super) fn matching(&self, filter: &TopicFilter, now: Timestamp) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        let levels: Vec<&str> = filter.levels().collect();
        self.root.find(&levels, true, &mut |message| {
            if !message.has_expired(now) {
                found.push(Arc::clone(message));
            }
        });
        found
    }

    /// Removes those whose time is over; returns their topics.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        self.root.find(&["#"], false, &mut |message| {
            if message.has_expired(now) {
                gone.push(Arc::clone(message));
            }
        });
        for message in &gone {
            self.remove(message.topic.as_str(), u64::MAX);
        }
        gone
    }
}

impl Level {
    fn own(&self, found: &mut impl FnMut(&Arc<Message>)) {
        if let Some(held) = &self.held {
            found(&held.message);
        }
    }

    /// `first` keeps wildcards from topics that begin with `$`.
    fn find(&self, levels: &[&str], first: bool, found: &mut impl FnMut(&Arc<Message>)) {
        let Some((level, rest)) = levels.split_first() else { return self.own(found) };
        let hidden = |name: &str| first && name.starts_with('$');
        match *level {
            "#" => {
                self.own(found);
                for (name, below) in &self.below {
                    if !hidden(name) {
                        below.find(levels, false, found);
                    }
                }
            }
            "+" => {
                for (name, below) in &self.below {
                    if !hidden(name) {
                        below.find(rest, false, found);
                    }
                }
            }
            exact => {
                if let Some(below) = self.below.get(exact) {
                    below.find(rest, false, found);
                }
            }
        }
    }

    /// Removes what `topic` holds, unless it is newer, and the branch as far as that leaves it bare.
    fn remove(&mut self, topic: &mut std::str::Split<'_, char>, stamp: u64) -> bool {
        let Some(level) = topic.next() else {
            return self.held.take_if(|held| held.stamp < stamp).is_some();
        };
        let Some(below) = self.below.get_mut(level) else { return false };
        let removed = below.remove(topic, stamp);
        if below.held.is_none() && below.below.is_empty() {
            self.below.remove(level);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::codec::Qos;
    use super::*;

    fn message(topic: &str, expires: Option<Timestamp>) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.parse().unwrap(),
            payload: Bytes::from_static(b"x"),
            properties: Bytes::new(),
            qos: Qos::AtMostOnce,
            retain: true,
            expires,
            publisher: 0,
            row: None,
        })
    }

    fn found(retained: &RetainedMessages, filter: &str) -> Vec<String> {
        let found = retained.matching(&filter.parse().unwrap(), Timestamp::from_millis(10));
        found.iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn finds_what_a_filter_matches() {
        let mut retained = RetainedMessages::default();
        for topic in ["a", "a/b", "a/c/d", "$SYS/x", "/a"] {
            let stamp = retained.stamp();
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
        let (first, second) = (retained.stamp(), retained.stamp());
        retained.set("a/b", Some(message("a/b", None)), second);
        retained.set("a/b", None, first);
        assert_eq!(found(&retained, "a/b"), ["a/b"]);
        let (third, fourth) = (retained.stamp(), retained.stamp());
        retained.set("a/b", None, fourth);
        retained.set("a/b", Some(message("a/b", None)), third);
        assert!(retained.removed.is_empty());
        assert_eq!((retained.count(), retained.root.below.len()), (0, 0));
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
