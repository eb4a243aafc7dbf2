//! What drivers have kept outlives their ingresses for a while, but not another driver under the same name
//! (docs/decisions/0025-what-drivers-keep.md).

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_reading::{Name, Timestamp};
use sandbar_store::StoreError;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::control::Inner;
use crate::documents::Known;
use crate::tables::IngressTable;
use crate::wanted::{Owned, Wanted};

/// For how long after an ingress is gone.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The start of 2024: a clock that says less was not set yet.
const CLOCK_SET: Timestamp = Timestamp::from_millis(1_704_067_200_000);

/// An ingress whose driver may have kept something, by its name.
pub(crate) type KnownIngresses = BTreeMap<String, KnownIngress>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownIngress {
    driver: String,
    /// Since when there is no such ingress, in nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
}

/// What is known from now on, and what is dropped.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    known: KnownIngresses,
    /// Kept by another driver than the ingress has now.
    foreign: Vec<Name>,
    /// Of ingresses that have been gone for long; they are still `known`.
    old: Vec<Name>,
}

/// `latest`: the latest time that is known of, since a box without a clock of its own begins in the past.
fn decide(
    mut known: KnownIngresses,
    wanted: &BTreeMap<Name, Owned<IngressTable>>,
    now: Timestamp,
    latest: Timestamp,
) -> Decided {
    let (mut foreign, mut old) = (Vec::new(), Vec::new());
    for (text, ingress) in &mut known {
        let Ok(name) = text.parse::<Name>() else { continue };
        if wanted.contains_key(&name) {
            continue;
        }
        let since = ingress.gone.map(Timestamp::from_nanos).filter(|since| *since >= CLOCK_SET);
        let since = since.unwrap_or(latest);
        ingress.gone = Some(since.nanos());
        if now.since(since) >= KEPT_FOR {
            old.push(name);
        }
    }
    for (name, Owned { it: table, .. }) in wanted {
        let ingress = KnownIngress { driver: table.driver.clone(), gone: None };
        let before = known.insert(name.to_string(), ingress);
        if before.is_some_and(|before| before.driver != table.driver) {
            foreign.push(name.clone());
        }
    }
    Decided { known, foreign, old }
}

impl Inner {
    /// Before `starting`, of what is `wanted`, are started, and after those that are not wanted any more have ended.
    /// Nothing else depends on it.
    pub(crate) async fn drop_states(&self, wanted: &Wanted, starting: &[&Name]) {
        if let Err(error) = self.try_to_drop_states(wanted, starting).await {
            warn!(%error, "what drivers have kept that are gone could not be dropped now");
        }
    }

    async fn try_to_drop_states(&self, wanted: &Wanted, starting: &[&Name]) -> Result<(), StoreError> {
        let before = Known::read(&self.store)?;
        let now = self.clock.now();
        let latest = self.store.last_id().time().max(now);
        let Decided { mut known, foreign, old } =
            decide(before.ingresses.clone(), &wanted.ingresses, now, latest);
        for ingress in old {
            info!(%ingress, "gone for long: what its driver has kept is dropped");
            if self.drop_state(&ingress).await {
                known.remove(ingress.as_str());
            }
        }
        let after = Known { ingresses: known, ..before.clone() };
        if after != before {
            self.store.put_documents(vec![after.change()]).await?;
        }
        // Only now, and not under a driver that runs: what the new one keeps must not be taken for the old one's later.
        for ingress in foreign.into_iter().filter(|ingress| starting.contains(&ingress)) {
            info!(%ingress, "it has another driver: what the one before has kept is dropped");
            self.drop_state(&ingress).await;
        }
        Ok(())
    }

    /// False if it cannot be done now, which is told: the others need not suffer for it.
    async fn drop_state(&self, ingress: &Name) -> bool {
        let dropped = self.store.discard_ingress(ingress.clone()).await;
        dropped.inspect_err(|error| warn!(%ingress, %error, "what its driver has kept stays for now")).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(ingresses: &[(&str, &str)]) -> BTreeMap<Name, Owned<IngressTable>> {
        let owned = |(name, driver): &(&str, &str)| {
            let table = serde_json::json!({ "driver": driver });
            (name.parse().unwrap(), Owned { declared: true, it: serde_json::from_value(table).unwrap() })
        };
        ingresses.iter().map(owned).collect()
    }

    fn day(day: u64) -> Timestamp {
        CLOCK_SET.after(Duration::from_secs(day * 24 * 3600))
    }

    fn names(names: &[Name]) -> Vec<&str> {
        names.iter().map(Name::as_str).collect()
    }

    #[test]
    fn what_a_driver_has_kept_waits_for_its_ingress_to_come_back_and_not_for_ever() {
        let first = decide(KnownIngresses::new(), &wanted(&[("a", "mqtt"), ("b", "files")]), day(1), day(1));
        let gone = decide(first.known, &wanted(&[("b", "files")]), day(2), day(2));
        assert_eq!((names(&gone.old), names(&gone.foreign)), (vec![], vec![]));
        let back = decide(gone.known.clone(), &wanted(&[("a", "mqtt"), ("b", "files")]), day(31), day(31));
        assert_eq!((names(&back.old), names(&back.foreign)), (vec![], vec![]));
        assert_eq!(back.known["a"].gone, None);
        let waits = decide(gone.known, &wanted(&[("b", "files")]), day(31), day(31));
        assert_eq!(names(&waits.old), Vec::<&str>::new());
        let over = decide(waits.known, &wanted(&[("b", "files")]), day(32), day(32));
        assert_eq!(names(&over.old), ["a"]);
    }

    /// It was gone since 1970, and so for long, as soon as the clock was set.
    #[test]
    fn the_time_begins_when_the_clock_is_right() {
        let first = decide(KnownIngresses::new(), &wanted(&[("a", "mqtt")]), day(1), day(1));
        let unset = Timestamp::from_millis(5000);
        let gone = decide(first.known.clone(), &wanted(&[]), unset, day(1));
        assert_eq!(
            (gone.known["a"].gone, gone.old.len()),
            (Some(day(1).nanos()), 0),
            "the store knows better"
        );
        let new = decide(first.known, &wanted(&[]), unset, unset);
        let set = decide(new.known, &wanted(&[]), day(2), day(2));
        assert_eq!((set.known["a"].gone, set.old.len()), (Some(day(2).nanos()), 0));
        let over = decide(set.known, &wanted(&[]), day(32), day(32));
        assert_eq!(names(&over.old), ["a"]);
    }

    #[test]
    fn another_driver_does_not_find_what_the_one_before_has_kept() {
        let first = decide(KnownIngresses::new(), &wanted(&[("a", "mqtt")]), day(1), day(1));
        let same = decide(first.known.clone(), &wanted(&[("a", "mqtt")]), day(2), day(2));
        assert_eq!((names(&same.foreign), same.known == first.known), (vec![], true));
        let gone = decide(first.known.clone(), &wanted(&[]), day(2), day(2));
        for known in [first.known, gone.known] {
            let other = decide(known, &wanted(&[("a", "files")]), day(3), day(3));
            assert_eq!((names(&other.foreign), names(&other.old)), (vec!["a"], vec![]));
            assert_eq!(other.known["a"], KnownIngress { driver: "files".into(), gone: None });
        }
    }
}
