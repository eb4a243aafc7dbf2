//! Payloads that are too large for the journal: each has a file beside it, named by what it holds
//! (docs/decisions/0015-large-payloads.md).
//!
//! A file is on disk before anything that refers to it is committed, and is removed after the commit that took
//! the last reference away. What is in between is *pinned*: it stays, whatever the table of references says.
//! A crash leaves at most files that nothing refers to; they are removed at the next start.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use redb::ReadTransaction;

use crate::digest::Digest;
use crate::error::Fault;
use crate::folder::Folder;
use crate::shared::Shared;
use crate::tables::PAYLOADS;
use crate::writers::{Job, Writers};

pub(crate) struct Payloads {
    folder: Box<dyn Folder>,
    /// How many changes that are under way each file is for.
    pinned: Mutex<HashMap<Digest, usize>>,
    writers: Writers,
}

/// The files of one change's payloads, on disk. They stay until this is dropped, and for as long as a row refers
/// to them.
pub(crate) struct Pins {
    /// By the change's ids; none where the payload is kept in the row.
    files: Vec<Option<Digest>>,
    bytes: usize,
    shared: Arc<Shared>,
}

impl Payloads {
    pub(crate) fn new(folder: Box<dyn Folder>, writers: Writers) -> Self {
        Self { folder, pinned: Mutex::default(), writers }
    }

    pub(crate) fn folder(&self) -> &dyn Folder {
        &*self.folder
    }

    fn pin(&self, digest: Digest) {
        *self.pinned.lock().entry(digest).or_default() += 1;
    }
}

impl Shared {
    /// Puts payloads into files on a writer's thread, then calls `then` there. If the writers end before, `then` is
    /// dropped.
    pub(crate) fn put_payloads(
        self: &Arc<Self>,
        payloads: Vec<Option<Bytes>>,
        then: impl FnOnce(Result<Pins, Fault>) + Send + 'static,
    ) {
        let shared = self.clone();
        let bytes = payloads.iter().flatten().map(Bytes::len).sum();
        let run = move || {
            let put = catch_unwind(AssertUnwindSafe(|| shared.put_all(&payloads)));
            then(put.unwrap_or_else(|_| Err(Fault::Io { cause: "writing a payload panicked".to_owned() })));
        };
        self.payloads.writers.push(Job::new(bytes, run));
    }

    fn put_all(self: &Arc<Self>, payloads: &[Option<Bytes>]) -> Result<Pins, Fault> {
        let bytes = payloads.iter().flatten().map(Bytes::len).sum();
        let mut pins = Pins { files: Vec::with_capacity(payloads.len()), bytes, shared: self.clone() };
        for (at, payload) in payloads.iter().enumerate() {
            let Some(payload) = payload else {
                pins.files.push(None);
                continue;
            };
            // What goes to several targets is there once, and is not read through again.
            let same = |other: &Option<Bytes>| {
                other
                    .as_ref()
                    .is_some_and(|other| (other.as_ptr(), other.len()) == (payload.as_ptr(), payload.len()))
            };
            let known = payloads[..at].iter().position(same).and_then(|at| pins.files[at]);
            let digest = known.unwrap_or_else(|| Digest::of(payload));
            self.payloads.pin(digest);
            pins.files.push(Some(digest));
            if known.is_none() {
                self.payloads.folder.put(&digest, payload).map_err(|error| Fault::of_io(&error))?;
            }
        }
        Ok(pins)
    }

    /// Does something that may wait for the disk.
    pub(crate) fn on_writer(&self, work: impl FnOnce() + Send + 'static) {
        self.payloads.writers.push(Job::new(0, work));
    }

    /// Removes, later, those of these files that nothing refers to.
    pub(crate) fn tidy_payloads(self: &Arc<Self>, files: Vec<Digest>) {
        if !files.is_empty() {
            let shared = self.clone();
            self.on_writer(move || files.iter().for_each(|file| shared.tidy(file, false)));
        }
    }

    /// The same, of all that there are, later.
    pub(crate) fn tidy_all_payloads(self: &Arc<Self>) {
        let shared = self.clone();
        self.on_writer(move || shared.collect_payloads());
    }

    /// Removes all files that nothing refers to.
    pub(crate) fn collect_payloads(&self) {
        match self.payloads.folder.digests() {
            Ok(files) => files.iter().for_each(|file| self.tidy(file, false)),
            Err(error) => tracing::warn!(%error, "the folder of large payloads cannot be read"),
        }
    }

    fn tidy(&self, file: &Digest, unpin: bool) {
        // Held until the file is gone: whoever pins it after that finds that it is not there.
        let mut pinned = self.payloads.pinned.lock();
        if let Some(pins) = pinned.get_mut(file) {
            *pins -= usize::from(unpin);
            if *pins > 0 {
                return;
            }
            pinned.remove(file);
        }
        // Within the question: the storage is not closed, and not opened by another, before it is answered. If it
        // cannot be asked, all files are looked at once it can.
        let asked = self.ask(|read| {
            if !is_referred_to(read, file)?
                && let Err(error) = self.payloads.folder.remove(file)
            {
                tracing::warn!(%error, payload = %file, "a payload that is no longer needed cannot be removed");
            }
            Ok(())
        });
        drop(asked);
    }
}

/// Whether a row refers to the file.
pub(crate) fn is_referred_to(read: &ReadTransaction, file: &Digest) -> Result<bool, redb::Error> {
    Ok(read.open_table(PAYLOADS)?.get(file.as_bytes())?.is_some())
}

impl Pins {
    pub(crate) fn files(&self) -> &[Option<Digest>] {
        &self.files
    }

    /// Of the payloads.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let files: Vec<_> = self.files.drain(..).flatten().collect();
        if !files.is_empty() {
            let shared = self.shared.clone();
            self.shared.on_writer(move || files.iter().for_each(|file| shared.tidy(file, true)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, mpsc};

    use sandbar_reading::SystemClock;

    use super::*;
    use crate::medium::Medium;
    use crate::opened;
    use crate::options::Options;
    use crate::simulated::Simulated;

    /// They were given up under the queue's lock, which what is then done asks for: everything stood still.
    #[test]
    fn files_of_a_change_that_was_refused_meanwhile_go_also_where_no_thread_could_be_started() {
        let (disk, options) = (Simulated::new(1), Options { seed: Some(1), ..Options::default() });
        let opened = opened::open(&disk, &options, true).unwrap();
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let writers = Writers::Threads { jobs, waiting, started: OnceLock::from(0) };
        let payloads = Payloads::new(Medium::payloads(&disk).unwrap(), writers);
        let (clock, medium) = (Arc::new(SystemClock), Arc::new(disk.clone()));
        let shared = Arc::new(Shared::new(options, clock, medium, opened, payloads));

        let given = Arc::new(Mutex::new(None));
        let give = given.clone();
        shared.put_payloads(vec![Some(Bytes::from_static(b"picture"))], move |put| *give.lock() = put.ok());
        let pins = given.lock().take().expect("it was written at once");
        assert_eq!(disk.payloads(), [Digest::of(b"picture")]);
        shared.queue.written(7, Ok(pins));
        assert_eq!(disk.payloads(), []);
    }
}
