//! How a folder's changes are learned of: from the system, or by looking again and again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::pending::Change;

/// Changes that may wait to be looked at; when there are more, the folder is looked at as a whole.
const SIGNALS_MAX: usize = 4096;

/// What the system tells is believed, but the folder is looked at so often all the same.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Signal {
    Changed(PathBuf, Change),
    /// The folder is to be looked at as a whole.
    Look,
    /// The same, and some changes were not told.
    Missed,
    /// From now on the system may not tell of all changes, and why.
    Failed(String),
}

pub(super) struct Watching {
    /// None: only looking helps.
    watcher: Option<RecommendedWatcher>,
    signals: mpsc::Receiver<Signal>,
    missed: Arc<AtomicBool>,
    poll: Duration,
}

impl Watching {
    pub(super) fn by_looking(poll: Duration) -> Self {
        let (_, signals) = mpsc::channel(1);
        Self { watcher: None, signals, missed: Arc::default(), poll }
    }

    /// Where the system has no watches left, an error says so and it is done by looking.
    pub(super) fn start(
        folder: &Path,
        recursive: bool,
        follow_links: bool,
        poll: Duration,
    ) -> (Self, Option<String>) {
        let (sender, signals) = mpsc::channel(SIGNALS_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let (root, missing) = (folder.to_owned(), Arc::clone(&missed));
        let tell = move |event: notify::Result<notify::Event>| {
            for signal in signals_of(event, &root) {
                if sender.try_send(signal).is_err() {
                    missing.store(true, Ordering::Relaxed);
                }
            }
        };
        let config = notify::Config::default().with_follow_symlinks(follow_links);
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let watcher = RecommendedWatcher::new(tell, config)
            .and_then(|mut watcher| watcher.watch(folder, mode).map(|()| watcher));
        match watcher {
            Ok(watcher) => (Self { watcher: Some(watcher), signals, missed, poll }, None),
            Err(error) => (Self::by_looking(poll), Some(reason(&error))),
        }
    }

    pub(super) fn give_up(&mut self) {
        self.watcher = None;
    }

    pub(super) fn is_by_looking(&self) -> bool {
        self.watcher.is_none()
    }

    /// How long until the folder is to be looked at, whatever is told.
    pub(super) fn look_every(&self) -> Duration {
        if self.is_by_looking() { self.poll } else { LOOK_EVERY }
    }

    /// Never resolves where the system tells nothing.
    pub(super) async fn next(&mut self) -> Signal {
        if self.watcher.is_none() {
            return std::future::pending().await;
        }
        match self.signals.recv().await {
            Some(_) if self.missed.swap(false, Ordering::Relaxed) => Signal::Missed,
            Some(signal) => signal,
            None => Signal::Failed("the watcher ended".to_owned()),
        }
    }

    /// What waits already.
    pub(super) fn ready(&mut self) -> Option<Signal> {
        self.signals.try_recv().ok()
    }
}

fn signals_of(event: notify::Result<notify::Event>, root: &Path) -> Vec<Signal> {
    let event = match event {
        Ok(event) => event,
        Err(error) => return vec![Signal::Failed(reason(&error))],
    };
    if event.need_rescan() {
        return vec![Signal::Missed];
    }
    let change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => Change::Written,
        // Told as two, too.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Vec::new(),
        _ => Change::Touched,
    };
    let signal = |path: PathBuf| match change == Change::Touched && (path == root || path.is_dir()) {
        // Files may have been in it before it was watched.
        true => Signal::Look,
        false => Signal::Changed(path, change),
    };
    event.paths.into_iter().map(signal).collect()
}

fn reason(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "no watches are left (fs.inotify.max_user_watches is too small)".to_owned()
        }
        // EMFILE: of inotify instances, or of files.
        ErrorKind::Io(io) if io.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "no more can be watched (fs.inotify.max_user_instances is too small)".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_what_is_written_closed_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watching, failed) = Watching::start(folder.path(), true, false, Duration::from_secs(1));
        assert_eq!(failed, None);
        std::fs::write(folder.path().join("a"), "x").unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        let (mut closed, mut looks) = (false, false);
        while !closed || !looks {
            let signal = tokio::time::timeout(Duration::from_secs(10), watching.next()).await.unwrap();
            closed |= matches!(&signal, Signal::Changed(path, Change::Closed) if path.ends_with("a"));
            looks |= matches!(signal, Signal::Look);
        }
        assert_eq!(watching.look_every(), LOOK_EVERY);
        watching.give_up();
        assert_eq!(watching.look_every(), Duration::from_secs(1));
    }

    #[test]
    fn says_which_limit_is_too_small() {
        let watches = notify::Error::new(ErrorKind::MaxFilesWatch);
        assert!(reason(&watches).contains("max_user_watches"));
        let instances = notify::Error::io(std::io::Error::from_raw_os_error(24));
        assert!(reason(&instances).contains("max_user_instances"));
    }
}
