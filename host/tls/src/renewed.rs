//! What is made of files that may change while it is in use.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sandbar_reading::ConfigError;

/// What could not be made is tried again after this, also without a change: it may have failed for what is not the
/// files' fault, such as too many open ones.
const AGAIN: Duration = Duration::from_secs(5);

/// What is made of files that settings name, such as certificates and secrets, and made anew once one of them changed: a
/// renewed file needs no restart.
pub struct Renewed<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, ConfigError> + Send + Sync>,
    current: Mutex<Current<T>>,
}

struct Current<T> {
    made: Arc<T>,
    of: Vec<Option<Stamp>>,
    /// The last try failed.
    again_at: Option<Instant>,
}

/// Another once a file was renewed, or made readable.
#[derive(PartialEq, Eq)]
struct Stamp {
    written: SystemTime,
    /// Seconds and nanoseconds: also when its permissions changed.
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

impl<T> Renewed<T> {
    /// What `make` cannot do of the files as they are now is an error here.
    pub fn new(
        files: impl IntoIterator<Item = PathBuf>,
        make: impl Fn() -> Result<T, ConfigError> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let files: Vec<PathBuf> = files.into_iter().collect();
        // Before they are read: a change in between is seen later.
        let of = stamps(&files);
        let made = Arc::new(make()?);
        Ok(Self { files, make: Box::new(make), current: Mutex::new(Current { made, of, again_at: None }) })
    }

    /// What to make the next connection with: the same as before unless a file changed. What cannot be made of changed
    /// files, or of one that is gone, the log says once, and the old one stays; it is tried again every few seconds.
    /// Looks at the files, and reads them else only if they changed.
    pub fn current(&self) -> Arc<T> {
        let mut current = self.current.lock();
        let of = stamps(&self.files);
        let have_changed = of != current.of;
        if have_changed || current.again_at.is_some_and(|at| at <= Instant::now()) {
            match (self.make)() {
                Ok(made) => {
                    (current.made, current.again_at) = (Arc::new(made), None);
                    tracing::info!(files = ?self.files, "files that changed were read again");
                }
                // Written in two steps, perhaps: the change of the second one leads here again.
                Err(error) => {
                    if have_changed {
                        tracing::warn!(%error, "a file that changed cannot be used; what was read before is");
                    }
                    current.again_at = Some(Instant::now() + AGAIN);
                }
            }
            current.of = of;
        }
        Arc::clone(&current.made)
    }
}

/// `None` of one that cannot be looked at.
fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        written: metadata.modified().ok()?,
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.len(),
        inode: metadata.ino(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// A text that is made of one file, and how often that was tried.
    struct Text {
        folder: tempfile::TempDir,
        tried: Arc<AtomicUsize>,
        renewed: Renewed<String>,
    }

    impl Text {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("text");
            std::fs::write(&path, "one").unwrap();
            let tried = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&tried);
            let renewed = Renewed::new([path.clone()], move || {
                counted.fetch_add(1, Ordering::Relaxed);
                std::fs::read_to_string(&path).map_err(|error| ConfigError::at("text", error.to_string()))
            });
            Self { folder, tried, renewed: renewed.unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("text")
        }

        /// What it is now, and how often it was tried to make it until now.
        fn now(&self) -> (String, usize) {
            (self.renewed.current().to_string(), self.tried.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn it_is_made_anew_once_a_file_changed() {
        let text = Text::new();
        assert_eq!((text.now(), text.now()), (("one".to_owned(), 1), ("one".to_owned(), 1)));
        std::fs::write(text.path(), "two, longer").unwrap();
        assert_eq!((text.now(), text.now()), (("two, longer".to_owned(), 2), ("two, longer".to_owned(), 2)));
    }

    #[test]
    fn another_file_in_its_place_is_noticed_though_its_time_and_length_are_the_same() {
        let text = Text::new();
        let written = std::fs::metadata(text.path()).unwrap().modified().unwrap();
        let other = text.folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::File::options().write(true).open(&other).unwrap().set_modified(written).unwrap();
        std::fs::rename(&other, text.path()).unwrap();
        assert_eq!(text.now(), ("two".to_owned(), 2));
    }

    #[test]
    fn a_file_that_is_gone_leaves_what_was_made_and_is_tried_once_until_it_is_back() {
        let text = Text::new();
        let aside = text.folder.path().join("aside");
        std::fs::rename(text.path(), &aside).unwrap();
        assert_eq!((text.now(), text.now()), (("one".to_owned(), 2), ("one".to_owned(), 2)));
        std::fs::rename(&aside, text.path()).unwrap();
        assert_eq!(text.now(), ("one".to_owned(), 3));
    }

    #[test]
    fn a_file_that_was_made_readable_is_read() {
        let text = Text::new();
        let before = stamp(&text.path());
        // The file system's clock may be a coarse one.
        while stamp(&text.path()) == before {
            std::fs::set_permissions(text.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(text.now(), ("one".to_owned(), 2));
    }

    #[test]
    fn what_failed_though_the_file_is_well_is_tried_again_soon() {
        let text = Text::new();
        let (fails, path) = (Arc::new(AtomicBool::new(false)), text.path());
        let failing = Arc::clone(&fails);
        let make = move || match failing.load(Ordering::Relaxed) {
            true => Err(ConfigError::at("text", "too many open files")),
            false => Ok(std::fs::read_to_string(&path).unwrap()),
        };
        let renewed = Renewed::new([text.path()], make).unwrap();
        std::fs::write(text.path(), "two, longer").unwrap();
        fails.store(true, Ordering::Relaxed);
        assert_eq!(*renewed.current(), "one");
        fails.store(false, Ordering::Relaxed);
        assert_eq!(*renewed.current(), "one", "a moment later");
        renewed.current.lock().again_at = Some(Instant::now());
        assert_eq!(*renewed.current(), "two, longer");
        assert!(renewed.current.lock().again_at.is_none());
    }

    #[test]
    fn what_cannot_be_made_at_first_is_an_error() {
        let refused = || Err::<(), _>(ConfigError::at("text", "is missing"));
        assert_eq!(Renewed::new([PathBuf::from("/nowhere")], refused).err().unwrap().setting, "text");
    }
}
