//! How configurations that were made through the API, and modules, are kept: JSON documents in the store.

use std::collections::{BTreeMap, BTreeSet};

use sandbar_reading::Name;
use sandbar_store::{Kind, Store, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::kept_states::KnownIngresses;
use crate::trust::Trust;
use crate::wanted::{Module, Owned, Wanted};

/// A document's kind, name and content; `None` removes it.
pub(crate) type Change = (Kind, String, Option<Vec<u8>>);

#[derive(Serialize, Deserialize)]
struct ModuleDocument {
    declared: bool,
    #[serde(flatten)]
    module: Module,
}

/// Names of everything that may have left something in the store: what is no longer configured at the next
/// start has to be discarded then, whoever declared it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) routes: BTreeSet<String>,
    #[serde(default)]
    pub(crate) ingresses: KnownIngresses,
}

const KNOWN: &str = "known";

impl Known {
    /// With the routes of all of these, and no others.
    pub(crate) fn with_routes<'a>(&self, all: impl IntoIterator<Item = &'a Wanted>) -> Self {
        let routes = all.into_iter().flat_map(|wanted| wanted.routes.keys().map(ToString::to_string));
        Self { routes: routes.collect(), ingresses: self.ingresses.clone() }
    }

    pub(crate) fn change(&self) -> Change {
        (Kind::Setting, KNOWN.to_owned(), Some(json(self)))
    }

    pub(crate) fn read(store: &Store) -> Result<Self, StoreError> {
        Ok(read_all(store, Kind::Setting)?.remove(KNOWN).unwrap_or_default())
    }
}

/// Everything that is kept. What cannot be read is told, and left out.
pub(crate) fn read(store: &Store) -> Result<Wanted, StoreError> {
    let modules = read_all::<ModuleDocument>(store, Kind::Module)?;
    Ok(Wanted {
        secrets: BTreeMap::new(),
        trust: Trust::default(),
        sinks: through_api(read_all(store, Kind::Sink)?),
        ingresses: through_api(read_all(store, Kind::Ingress)?),
        routes: through_api(read_all(store, Kind::Route)?),
        modules: named(modules)
            .map(|(name, document)| (name, Owned { declared: document.declared, it: document.module }))
            .collect(),
    })
}

/// From what is kept of `old` to what is to be kept of `new`.
pub(crate) fn changes(old: &Wanted, new: &Wanted) -> Vec<Change> {
    let mut documents = of(old);
    let mut changes = Vec::new();
    for (key, new) in of(new) {
        if documents.remove(&key).as_ref() != Some(&new) {
            changes.push((kind(key.0), key.1, Some(new)));
        }
    }
    changes.extend(documents.into_keys().map(|(number, name)| (kind(number), name, None)));
    changes
}

/// In the order of [`of`]'s numbers.
const KINDS: [Kind; 4] = [Kind::Module, Kind::Route, Kind::Ingress, Kind::Sink];

const fn kind(number: usize) -> Kind {
    KINDS[number]
}

fn of(wanted: &Wanted) -> BTreeMap<(usize, String), Vec<u8>> {
    let mut documents = BTreeMap::new();
    for (name, module) in &wanted.modules {
        let document = ModuleDocument { declared: module.declared, module: module.it.clone() };
        documents.insert((0, name.to_string()), json(&document));
    }
    add(&mut documents, 1, &wanted.routes);
    add(&mut documents, 2, &wanted.ingresses);
    add(&mut documents, 3, &wanted.sinks);
    documents
}

/// What the file declares is in the file.
fn add<T: Serialize>(
    documents: &mut BTreeMap<(usize, String), Vec<u8>>,
    number: usize,
    tables: &BTreeMap<Name, Owned<T>>,
) {
    for (name, owned) in tables.iter().filter(|(_, owned)| !owned.declared) {
        documents.insert((number, name.to_string()), json(&owned.it));
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("tables have text keys and no failing parts")
}

pub(crate) fn read_all<T: DeserializeOwned>(
    store: &Store,
    kind: Kind,
) -> Result<BTreeMap<String, T>, StoreError> {
    let mut all = BTreeMap::new();
    for (name, document) in store.documents(kind)? {
        match serde_json::from_slice(&document) {
            Ok(document) => drop(all.insert(name, document)),
            Err(error) => {
                error!(?kind, name, error = %error, "what the store has of this cannot be read: left out");
            }
        }
    }
    Ok(all)
}

fn through_api<T>(tables: BTreeMap<String, T>) -> BTreeMap<Name, Owned<T>> {
    named(tables).map(|(name, it)| (name, Owned { declared: false, it })).collect()
}

fn named<T>(documents: BTreeMap<String, T>) -> impl Iterator<Item = (Name, T)> {
    documents.into_iter().filter_map(|(name, document)| Some((name.parse().ok()?, document)))
}

/// A time as nanoseconds since the Unix epoch.
pub(crate) mod nanos {
    use sandbar_reading::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.nanos())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Reply, RouteTable};

    fn wanted(routes: &[(&str, bool, bool)]) -> Wanted {
        let route = |(name, declared, reply): &(&str, bool, bool)| {
            let it = RouteTable { reply: Reply::Handler(*reply), ..RouteTable::default() };
            (name.parse().unwrap(), Owned { declared: *declared, it })
        };
        Wanted { routes: routes.iter().map(route).collect(), ..Wanted::default() }
    }

    fn check(old: &[(&str, bool, bool)], new: &[(&str, bool, bool)], expected: &[(&str, bool)]) {
        let changes = changes(&wanted(old), &wanted(new));
        let changes: Vec<_> =
            changes.iter().map(|(_, name, document)| (name.as_str(), document.is_some())).collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn only_what_changed_is_written() {
        check(&[("a", false, false)], &[("a", false, false)], &[]);
        check(
            &[("a", false, false)],
            &[("a", false, true), ("b", false, false)],
            &[("a", true), ("b", true)],
        );
        check(&[("a", false, false)], &[], &[("a", false)]);
    }

    #[test]
    fn what_the_file_declares_is_not_kept() {
        check(&[], &[("a", true, false)], &[]);
        check(&[("a", false, false)], &[("a", true, false)], &[("a", false)]);
    }
}
