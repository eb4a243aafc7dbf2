//! Files that may have to be read, until they are whole. Pure: time is passed in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::file::Signature;

/// Those beyond are forgotten, and found again by looking.
const FILES_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Pending {
    files: HashMap<Box<str>, Waiting>,
    forgot: bool,
}

#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    /// When it was looked at last.
    signature: Option<Signature>,
    /// Since when nothing changed, as far as is known.
    since: Instant,
    /// Something was written, and the writer has not closed it.
    is_open: bool,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was made, renamed, removed, or its times were set.
    Touched,
    Written,
    /// By who has written it.
    Closed,
}

/// For how long a file must be left alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) settle: Duration,
    /// If its writer has not closed it.
    pub(super) stalled: Duration,
}

impl Pending {
    pub(super) fn change(&mut self, key: &str, path: &Path, change: Change, now: Instant) {
        let Some(waiting) = self.entry(key, path, now) else { return };
        (waiting.since, waiting.signature) = (now, None);
        match change {
            Change::Written => waiting.is_open = true,
            Change::Closed => waiting.is_open = false,
            Change::Touched => {}
        }
    }

    /// A look at the file found it so; the last change to it was `age` ago.
    pub(super) fn found(
        &mut self,
        key: &str,
        path: &Path,
        signature: Signature,
        age: Duration,
        now: Instant,
    ) {
        let is_new = !self.files.contains_key(key);
        let Some(waiting) = self.entry(key, path, now) else { return };
        if is_new {
            waiting.since = now.checked_sub(age).unwrap_or(now);
        } else if waiting.signature.is_some_and(|known| known != signature) {
            waiting.since = now;
        }
        waiting.signature = Some(signature);
    }

    fn entry(&mut self, key: &str, path: &Path, now: Instant) -> Option<&mut Waiting> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(key) {
            self.forgot = true;
            return None;
        }
        let waiting = || Waiting { path: path.to_owned(), signature: None, since: now, is_open: false };
        Some(self.files.entry(key.into()).or_insert_with(waiting))
    }

    /// It was dealt with.
    pub(super) fn done(&mut self, key: &str) {
        self.files.remove(key);
    }

    /// Some events were lost: who closed what is not known any more.
    pub(super) fn distrust(&mut self) {
        self.files.values_mut().for_each(|waiting| waiting.is_open = false);
    }

    /// Those that were left alone for long enough, up to so many, as far as is known those first that were written
    /// first.
    pub(super) fn due(&self, patience: Patience, now: Instant, most: usize) -> Vec<(Box<str>, PathBuf)> {
        let mut due: Vec<_> = self.files.iter().filter(|(_, waiting)| waiting.due(patience) <= now).collect();
        due.sort_by_key(|(key, waiting)| (waiting.signature.map(|signature| signature.modified), *key));
        due.truncate(most);
        due.into_iter().map(|(key, waiting)| (key.clone(), waiting.path.clone())).collect()
    }

    /// Whether what was found now is what was found before. If it is not, it waits again.
    pub(super) fn is_settled(&mut self, key: &str, signature: Signature, now: Instant) -> bool {
        let Some(waiting) = self.files.get_mut(key) else { return false };
        let known = waiting.signature.replace(signature);
        let settled = known.is_none_or(|known| known == signature);
        if !settled {
            waiting.since = now;
        }
        settled
    }

    pub(super) fn next_due(&self, patience: Patience) -> Option<Instant> {
        self.files.values().map(|waiting| waiting.due(patience)).min()
    }

    /// Whether some were forgotten, and there is room for them now.
    pub(super) fn takes_forgotten(&mut self) -> bool {
        let takes = self.forgot && self.files.len() < FILES_MAX / 2;
        self.forgot &= !takes;
        takes
    }
}

impl Waiting {
    fn due(&self, patience: Patience) -> Instant {
        self.since + if self.is_open { patience.stalled } else { patience.settle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { settle: Duration::from_millis(500), stalled: Duration::from_secs(60) };

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn signature(size: u64) -> Signature {
        Signature { inode: 1, size, modified: 1 }
    }

    #[test]
    fn a_file_is_due_when_its_writer_closed_it_and_it_was_left_alone() {
        let (mut pending, start, path) = (Pending::default(), Instant::now(), Path::new("/in/a"));
        for (change, millis) in [(Change::Touched, 0), (Change::Written, 100), (Change::Written, 300)] {
            pending.change("a", path, change, at(start, millis));
        }
        assert!(pending.due(PATIENCE, at(start, 50_000), 9).is_empty(), "it is not closed");
        pending.change("a", path, Change::Closed, at(start, 50_000));
        assert!(pending.due(PATIENCE, at(start, 50_499), 9).is_empty());
        assert_eq!(pending.next_due(PATIENCE), Some(at(start, 50_500)));
        assert_eq!(pending.due(PATIENCE, at(start, 50_500), 9), [("a".into(), path.to_owned())]);
        pending.change("b", path, Change::Written, start);
        assert_eq!(pending.due(PATIENCE, at(start, 60_000), 9).len(), 2, "its writer stalled");
        pending.done("a");
        assert_eq!(pending.due(PATIENCE, at(start, 60_000), 9).len(), 1);
    }

    #[test]
    fn without_events_two_looks_must_agree() {
        let (mut pending, start, path) = (Pending::default(), Instant::now(), Path::new("/in/a"));
        pending.found("a", path, signature(1), Duration::ZERO, start);
        pending.found("a", path, signature(2), Duration::ZERO, at(start, 400));
        assert!(pending.due(PATIENCE, at(start, 800), 9).is_empty());
        assert_eq!(pending.due(PATIENCE, at(start, 900), 9).len(), 1);
        assert!(!pending.is_settled("a", signature(3), at(start, 900)));
        assert!(pending.due(PATIENCE, at(start, 1300), 9).is_empty());
        assert!(pending.is_settled("a", signature(3), at(start, 1400)));
        pending.found("old", path, signature(1), Duration::from_secs(3600), at(start, 2000));
        assert_eq!(pending.due(PATIENCE, at(start, 2000), 9).len(), 2, "it was not written lately");
    }
}
