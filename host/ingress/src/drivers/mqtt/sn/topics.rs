//! The numbers that topics have for one client (MQTT-SN 1.2, section 6.5). Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::wire::Topic;

/// How many topics one client may have numbers for.
const TOPICS_MAX: usize = 1024;

/// Numbers that are the same for all clients, as configured.
pub(super) type Predefined = Arc<HashMap<u16, Box<str>>>;

pub(super) struct Topics {
    predefined: Predefined,
    by_id: HashMap<u16, Box<str>>,
    by_name: HashMap<Box<str>, u16>,
}

impl Topics {
    pub(super) fn new(predefined: Predefined) -> Self {
        Self { predefined, by_id: HashMap::new(), by_name: HashMap::new() }
    }

    /// The number of a topic, which it keeps; `None` if there are too many.
    pub(super) fn register(&mut self, name: &str) -> Option<u16> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        let id = u16::try_from(self.by_id.len()).ok().filter(|count| usize::from(*count) < TOPICS_MAX)? + 1;
        self.by_id.insert(id, name.into());
        self.by_name.insert(name.into(), id);
        Some(id)
    }

    pub(super) fn name(&self, topic: &Topic) -> Option<Box<str>> {
        match topic {
            Topic::Id(id) => self.by_id.get(id).cloned(),
            Topic::Predefined(id) => self.predefined.get(id).cloned(),
            Topic::Name(name) => Some(name.clone()),
            Topic::Short(name) => std::str::from_utf8(name).ok().map(Into::into),
        }
    }

    /// How the client knows a topic already, if it does.
    pub(super) fn known(&self, name: &str) -> Option<Topic> {
        if let &[first, second] = name.as_bytes() {
            return Some(Topic::Short([first, second]));
        }
        if let Some((id, _)) = self.predefined.iter().find(|(_, known)| ***known == *name) {
            return Some(Topic::Predefined(*id));
        }
        self.by_name.get(name).copied().map(Topic::Id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_keeps_its_number() {
        let predefined = Arc::new([(7, "fixed".into())].into());
        let mut topics = Topics::new(predefined);
        assert_eq!(
            (topics.register("a/b"), topics.register("a/c"), topics.register("a/b")),
            (Some(1), Some(2), Some(1))
        );
        assert_eq!(topics.name(&Topic::Id(2)).as_deref(), Some("a/c"));
        assert_eq!(topics.name(&Topic::Predefined(7)).as_deref(), Some("fixed"));
        assert_eq!(topics.name(&Topic::Id(3)), None);
        assert_eq!(topics.known("fixed"), Some(Topic::Predefined(7)));
        assert_eq!(topics.known("ab"), Some(Topic::Short(*b"ab")));
        assert_eq!((topics.known("a/b"), topics.known("other")), (Some(Topic::Id(1)), None));
        for number in 0..2000 {
            topics.register(&number.to_string());
        }
        assert_eq!(topics.register("one more"), None);
    }
}
