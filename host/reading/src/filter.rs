//! Topic filters (MQTT 5.0, section 4.7), and the tree that finds the filters a topic matches.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::topic::{self, Topic, TopicError};

/// A topic in which `+` stands for one level and a last `#` for all that follow. A filter that begins
/// with a wildcard does not match topics that begin with `$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Box<str>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("`+` must be a whole level: `a/+/b`, not `a/+b` (level {level})")]
    PlusInsideLevel { level: usize },
    #[error("`#` must be the whole last level: `a/#`, not `a/#/b` (level {level})")]
    HashNotLast { level: usize },
}

impl TopicFilter {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.as_str().starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl FromStr for TopicFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        topic::check(text, |c| c == '\0')?;
        let last = text.split('/').count();
        for (level, part) in (1..).zip(text.split('/')) {
            if part.contains('#') && (part != "#" || level != last) {
                return Err(FilterError::HashNotLast { level });
            }
            if part.contains('+') && part != "+" {
                return Err(FilterError::PlusInsideLevel { level });
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Values under topic filters. The cost of a match grows with the topic's levels and the filters that
/// match, not with the filters that there are.
#[derive(Clone, Debug)]
pub struct TopicTree<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    values: Vec<T>,
    /// Values of filters that end here with `#`.
    rest: Vec<T>,
    any: Option<Box<Self>>,
    exact: HashMap<Box<str>, Self>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { values: Vec::new(), rest: Vec::new(), any: None, exact: HashMap::new() }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.rest.is_empty() && self.any.is_none() && self.exact.is_empty()
    }

    fn remove(&mut self, levels: &mut dyn Iterator<Item = &str>, gone: &mut dyn FnMut(&T) -> bool) {
        match levels.next() {
            None => self.values.retain(|value| !gone(value)),
            Some("#") => self.rest.retain(|value| !gone(value)),
            Some("+") => {
                if let Some(next) = &mut self.any {
                    next.remove(levels, gone);
                }
                self.any.take_if(|next| next.is_empty());
            }
            Some(level) => {
                if let Some(next) = self.exact.get_mut(level) {
                    next.remove(levels, gone);
                    if next.is_empty() {
                        self.exact.remove(level);
                    }
                }
            }
        }
    }
}

impl<T> Default for TopicTree<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> TopicTree<T> {
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut node = &mut self.root;
        for level in filter.levels() {
            node = match level {
                "#" => return node.rest.push(value),
                "+" => node.any.get_or_insert_default(),
                level => node.exact.entry(level.into()).or_default(),
            };
        }
        node.values.push(value);
    }

    /// Removes the values of `filter` that `gone` says yes to, and the branches this leaves bare.
    pub fn remove(&mut self, filter: &TopicFilter, mut gone: impl FnMut(&T) -> bool) {
        self.root.remove(&mut filter.levels(), &mut gone);
    }

    /// Calls `found` with every value whose filter matches `topic`, in no particular order.
    pub fn matches<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a T)) {
        fn walk<'a, T>(
            node: &'a Node<T>,
            rest: Option<&str>,
            wildcards: bool,
            found: &mut impl FnMut(&'a T),
        ) {
            if wildcards {
                node.rest.iter().for_each(&mut *found);
            }
            let Some(rest) = rest else {
                return node.values.iter().for_each(found);
            };
            let (level, deeper) = match rest.split_once('/') {
                Some((level, deeper)) => (level, Some(deeper)),
                None => (rest, None),
            };
            if let Some(next) = node.exact.get(level) {
                walk(next, deeper, true, found);
            }
            if let (true, Some(next)) = (wildcards, &node.any) {
                walk(next, deeper, true, found);
            }
        }
        let wildcards_at_first = !topic.as_str().starts_with('$');
        walk(&self.root, Some(topic.as_str()), wildcards_at_first, &mut found);
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }

    #[test]
    fn follows_the_examples_of_the_specification() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/", true),
            ("$SYS/monitor/+", "$SYS/monitor/clients", true),
            ("Accounts", "accounts", false),
        ];
        for (f, t, expected) in table {
            assert_eq!(filter(f).matches(&topic(t)), expected, "{f} on {t}");
        }
    }

    #[test]
    fn names_the_level_that_is_wrong() {
        let deep = "+/".repeat(30_000);
        let table = [
            ("sport/tennis#", FilterError::HashNotLast { level: 2 }),
            ("sport/#/ranking", FilterError::HashNotLast { level: 2 }),
            ("sport+", FilterError::PlusInsideLevel { level: 1 }),
            ("", FilterError::Topic(TopicError::Empty)),
            (&*deep, FilterError::Topic(TopicError::TooDeep { levels: 30_001 })),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<TopicFilter>(), Err(error), "{text}");
        }
    }

    #[test]
    fn removing_leaves_no_bare_branches() {
        let mut tree = TopicTree::default();
        for text in ["a/+/c", "a/#", "a/b/c"] {
            tree.insert(&filter(text), text);
        }
        tree.remove(&filter("a/+/c"), |_| true);
        let mut found = Vec::new();
        tree.matches(&topic("a/b/c"), |text| found.push(*text));
        found.sort_unstable();
        assert_eq!(found, ["a/#", "a/b/c"]);
        tree.remove(&filter("a/#"), |_| true);
        tree.remove(&filter("a/b/c"), |_| true);
        assert!(tree.is_empty());
    }

    /// A thread may have less than the main one.
    #[test]
    fn the_deepest_filter_fits_on_a_small_stack() {
        let (deep, name) = ("+/".repeat(255) + "#", "a/".repeat(255) + "a");
        let inserted = move || {
            let mut tree = TopicTree::default();
            for text in [&deep, &name] {
                tree.insert(&filter(text), text.len());
            }
            let mut found = 0;
            tree.matches(&topic(&name), |_| found += 1);
            tree.remove(&filter(&name), |_| true);
            found
        };
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(inserted).unwrap();
        assert_eq!(thread.join().unwrap(), 2);
    }

    proptest! {
        /// The tree is only a faster way to ask every filter.
        #[test]
        fn the_tree_agrees_with_the_filters(
            filters in prop::collection::vec("(([ab$]{0,2}|\\+)/){0,3}([ab$]{1,2}|\\+|#)", 0..12),
            name in "([ab$]{0,2}/){0,3}[ab$]{1,2}",
        ) {
            let topic = topic(&name);
            let mut tree = TopicTree::default();
            for (index, text) in filters.iter().enumerate() {
                tree.insert(&filter(text), index);
            }
            let mut found = Vec::new();
            tree.matches(&topic, |index| found.push(*index));
            found.sort_unstable();
            let expected: Vec<usize> =
                (0..filters.len()).filter(|i| filter(&filters[*i]).matches(&topic)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
