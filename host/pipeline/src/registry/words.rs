//! What a device has said of its resources and is not in the store yet. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::sync::Arc;

use sandbar_reading::Reading;
use sandbar_store::Resource;

use super::twin;

/// When so many topics of a device wait to be looked into, or a payload of so many bytes, it is time to do so.
const PENDING_MAX: usize = 16;
const PENDING_BYTES: usize = 16 << 10;

/// The most resources that wait to be written: the store keeps fewer.
const VALUES_MAX: usize = 256;

/// Looking into them is not for who holds a lock: payloads may be long.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// By name. The number says when it was said, among all that was.
    values: BTreeMap<Box<str>, (u64, Resource)>,
    /// The last reading of each topic that was not looked into yet, likewise.
    pending: Vec<(u64, Arc<Reading>)>,
    said: u64,
}

impl Words {
    /// A reading that may say something of resources. Whether it is time to look into what waits.
    pub(super) fn add(&mut self, reading: &Arc<Reading>) -> bool {
        self.said += 1;
        self.pending.retain(|(_, other)| other.topic != reading.topic);
        self.pending.push((self.said, Arc::clone(reading)));
        self.pending.len() > PENDING_MAX || reading.payload.len() > PENDING_BYTES
    }

    pub(super) fn report(&mut self, resource: Resource) {
        self.said += 1;
        self.set(self.said, resource);
    }

    pub(super) fn look_into(&mut self, device: &str) {
        for (said, reading) in mem::take(&mut self.pending) {
            let Reading { id, topic, content_type, payload, .. } = &*reading;
            for resource in twin::resources(topic, device, content_type, payload, id.time()) {
                self.set(said, resource);
            }
        }
    }

    /// By name; of what was looked into.
    pub(super) fn resources(&self) -> Vec<Resource> {
        self.values.values().map(|(_, resource)| resource.clone()).collect()
    }

    pub(super) fn take(&mut self) -> Self {
        let said = self.said;
        mem::replace(self, Self { said, ..Self::default() })
    }

    /// What was taken and looked into. What was said since then stays.
    pub(super) fn give_back(&mut self, taken: Self) {
        for (said, resource) in taken.values.into_values() {
            self.set(said, resource);
        }
    }

    fn set(&mut self, said: u64, resource: Resource) {
        let is_full = self.values.len() >= VALUES_MAX;
        match self.values.entry(resource.name.clone()) {
            Entry::Occupied(mut known) if known.get().0 <= said => {
                known.insert((said, resource));
            }
            Entry::Vacant(new) if !is_full => {
                new.insert((said, resource));
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{ContentType, Lineage, ReadingId, Timestamp};
    use serde_json::json;

    use super::*;

    fn reading(topic: &str, payload: String) -> Arc<Reading> {
        Arc::new(Reading {
            id: ReadingId::from_u128(1 << 80),
            ingress: "i".parse().unwrap(),
            topic: topic.parse().unwrap(),
            device: Some("d".into()),
            time: Timestamp::from_nanos(1),
            content_type: ContentType::JSON,
            attributes: <_>::default(),
            payload: payload.into(),
            lineage: Lineage::default(),
        })
    }

    fn said(words: &Words) -> Vec<String> {
        let mut words = words.clone();
        words.look_into("d");
        words.resources().iter().map(|resource| format!("{}={}", resource.name, resource.value)).collect()
    }

    fn reported(name: &str, value: u32) -> Resource {
        twin::resource(name, &json!(value), Timestamp::from_nanos(1))
    }

    #[test]
    fn what_was_said_last_of_a_resource_counts_whenever_it_is_looked_into() {
        let mut words = Words::default();
        assert!(!words.add(&reading("a", r#"{"t":1,"u":1}"#.to_owned())));
        words.report(reported("t", 2));
        assert_eq!(said(&words), ["t=2", "u=1"]);
        words.add(&reading("b", r#"{"t":3}"#.to_owned()));
        assert_eq!(said(&words), ["t=3", "u=1"]);
        words.add(&reading("a", r#"{"t":4}"#.to_owned()));
        assert_eq!(said(&words), ["t=4"], "a newer one of its topic takes its place");
    }

    #[test]
    fn what_is_given_back_is_older_than_what_was_said_meanwhile() {
        let mut words = Words::default();
        words.add(&reading("a", r#"{"t":1,"u":1}"#.to_owned()));
        let mut taken = words.take();
        assert!(said(&words).is_empty());
        words.report(reported("t", 2));
        taken.look_into("d");
        words.give_back(taken);
        assert_eq!(said(&words), ["t=2", "u=1"]);
    }

    /// Each of thousands was compared with all that were known.
    #[test]
    fn of_a_device_with_very_many_resources_some_are_held() {
        let mut words = Words::default();
        for number in 0..200 {
            let keys = (0..5000).map(|key| (format!("{number}-{key}"), json!(1)));
            let payload = serde_json::Value::Object(keys.collect()).to_string();
            assert!(words.add(&reading("a", payload)), "it is long");
            words.look_into("d");
        }
        assert_eq!(words.resources().len(), VALUES_MAX);
        for topic in 0..PENDING_MAX {
            assert!(!words.add(&reading(&topic.to_string(), "1".to_owned())));
        }
        assert!(words.add(&reading("one-more", "1".to_owned())));
    }
}
