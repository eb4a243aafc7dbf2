//! What peers do wrong, counted, and logged now and then: a broken one must not fill a disk with its faults.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{Name, Timestamp};

/// Of one kind, one is logged in this time.
const EVERY: Duration = Duration::from_secs(60);

/// Of one ingress.
pub(crate) struct Complaints {
    ingress: Name,
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Debug, Default)]
struct Kind {
    count: u64,
    logged: Option<Timestamp>,
}

impl Complaints {
    pub(crate) fn new(ingress: Name) -> Self {
        Self { ingress, kinds: Mutex::default() }
    }

    /// `kind` is one of few: `oversized`, `slow` …
    pub(crate) fn note(&self, kind: &'static str, peer: impl Display, about: impl Display, now: Timestamp) {
        if let Some(count) = self.count(kind, now) {
            tracing::warn!(ingress = %self.ingress, kind, count, %peer, "{about}");
        }
    }

    /// How many there were so far, if it is time to say so.
    fn count(&self, kind: &'static str, now: Timestamp) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry(kind).or_default();
        kind.count += 1;
        let due = kind.logged.is_none_or(|logged| now.since(logged) >= EVERY || now < logged);
        due.then(|| {
            kind.logged = Some(now);
            kind.count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_the_first_and_then_now_and_then_with_the_count() {
        let complaints = Complaints::new("tested".parse().unwrap());
        let at = |kind, seconds: u64| complaints.count(kind, Timestamp::from_millis(seconds * 1000));
        assert_eq!(at("oversized", 100), Some(1));
        assert_eq!(at("oversized", 101), None);
        assert_eq!(at("slow", 101), Some(1));
        assert_eq!(at("oversized", 160), Some(3));
        assert_eq!(at("oversized", 10), Some(4), "a clock that was set back silences nothing");
    }
}
