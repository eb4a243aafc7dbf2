//! Reading a file, handing it over, and removing or moving it then.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Inbound, Refused, StateWrite};

use super::config::Settings;
use super::decode::{Chunk, Of, chunks, decode};
use super::file::{self, Signature};
use super::handing::{Handed, hand_over};
use super::seen::{self, Entry, Event, Standing, Switches};
use crate::complaints::Complaints;
use crate::{LinkError, Session};

/// Files that are read at once, and their bytes: what is held in memory.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;

/// A file that is to be read.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Box<str>,
    pub(super) path: PathBuf,
    pub(super) signature: Signature,
    pub(super) event: Event,
    /// How much of it was read before.
    pub(super) offset: u64,
}

/// A file whose reading is on disk.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) key: Box<str>,
    pub(super) path: PathBuf,
    pub(super) signature: Signature,
    pub(super) event: Event,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing more to do with it, as it is now.
    Done,
    /// It was written while it was read.
    Unsettled,
    /// It could not be read; that was said.
    Unread,
    Later(Duration),
    Stopping,
}

pub(super) struct Reader {
    pub(super) settings: Arc<Settings>,
    pub(super) session: Session,
    pub(super) complaints: Complaints,
}

impl Job {
    fn of(&self) -> Of<'_> {
        Of { key: &self.key, path: &self.path, signature: self.signature, event: self.event }
    }

    fn read(&self) -> Read {
        let Self { key, path, signature, event, .. } = self.clone();
        Read { key, path, signature, event }
    }

    fn keep(&self, standing: Standing) -> StateWrite {
        Entry { signature: self.signature, standing }.write(&self.key)
    }
}

impl Reader {
    pub(super) fn new(settings: Arc<Settings>, session: Session) -> Self {
        let complaints = Complaints::new(session.ingress().clone());
        Self { settings, session, complaints }
    }

    pub(super) fn switches(&self) -> Switches {
        let limit = self.session.reading_max() as u64;
        Switches {
            on_create: self.settings.on_create,
            on_modify: self.settings.on_modify,
            limit: self.settings.chunk.is_none().then_some(limit),
        }
    }

    /// The most bytes of one reading.
    fn most(&self) -> usize {
        let limit = self.session.reading_max();
        self.settings.chunk.map_or(limit, |chunk| chunk.min(limit))
    }

    /// How many of these are read together, from the first on: at least one, and one that is too large alone.
    pub(super) fn batch(&self, jobs: &[Job]) -> usize {
        let mut bytes = 0;
        let most = self.most() as u64;
        let fitting = jobs.iter().take(BATCH_FILES).take_while(|job| {
            bytes += job.signature.size;
            bytes <= BATCH_BYTES && job.signature.size <= most
        });
        fitting.count().max(1)
    }

    /// Reads a [batch](Self::batch) and hands it over; one outcome for each, in their order. Those after one that is to
    /// be offered later are, too.
    pub(super) async fn read(&self, batch: &[Job]) -> Vec<Outcome> {
        let most = self.most();
        match batch {
            [job] if job.signature.size > most as u64 => vec![match self.settings.chunk {
                Some(_) => self.read_split(job).await,
                None => self.refuse(job, &too_large(job, most)).await,
            }],
            _ => self.read_whole(batch).await,
        }
    }

    async fn read_whole(&self, batch: &[Job]) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Unsettled; batch.len()];
        let (mut readings, mut offered) = (Vec::new(), Vec::new());
        for (index, (job, content)) in batch.iter().zip(self.contents(batch).await).enumerate() {
            match content {
                Ok(Some(content)) => {
                    let standing =
                        Standing::Read { event: job.event, tidy: self.settings.tidy.takes(job.event) };
                    readings
                        .push((decode(&self.settings, job.of(), None, content), self.keep_of(job, standing)));
                    offered.push(index);
                }
                Ok(None) => {}
                Err(error) => {
                    self.complain("unreadable", &job.path, &error);
                    outcomes[index] = Outcome::Unread;
                }
            }
        }
        let told = hand_over(&self.session, readings).await;
        let refused = told.iter().filter_map(|told| match told {
            Handed::Later(wait) => Some(*wait),
            _ => None,
        });
        let wait = refused.max().unwrap_or_default();
        let mut told = told.into_iter();
        let mut read = Vec::new();
        for index in offered {
            let (job, handed) = (&batch[index], told.next().unwrap_or(Handed::Later(wait)));
            read.extend((handed == Handed::Taken).then(|| job.read()));
            outcomes[index] = self.outcome(job, handed).await;
        }
        self.tidy(read).await;
        outcomes
    }

    /// Every part is on disk before the next one is read: a restart goes on with the part that is missing.
    async fn read_split(&self, job: &Job) -> Outcome {
        let most = self.most();
        for chunk in chunks(job.signature.size, job.offset, most) {
            let path = job.path.clone();
            let (follow, signature) = (self.settings.place.follow_links, job.signature);
            let content = blocking(move || content(&path, follow, &signature, chunk)).await;
            let content = match content {
                Ok(Some(content)) if content.len() == chunk.size => content,
                Ok(_) => return Outcome::Unsettled,
                Err(error) => {
                    self.complain("unreadable", &job.path, &error);
                    return Outcome::Unread;
                }
            };
            let until = chunk.offset + chunk.size as u64;
            let standing = match until == job.signature.size {
                true => Standing::Read { event: job.event, tidy: self.settings.tidy.takes(job.event) },
                false => Standing::Partly { event: job.event, offset: until },
            };
            let inbound = decode(&self.settings, job.of(), Some((chunk, most)), content);
            match self.hand_over_one(inbound, self.keep_of(job, standing)).await {
                Handed::Taken => {}
                refused => return self.outcome(job, refused).await,
            }
        }
        self.tidy(vec![job.read()]).await;
        Outcome::Done
    }

    async fn hand_over_one(&self, inbound: Inbound, keep: Vec<StateWrite>) -> Handed {
        let told = hand_over(&self.session, vec![(inbound, keep)]).await;
        told.into_iter().next().unwrap_or(Handed::Stopping)
    }

    /// With the reading: a file that is read again and again needs none, unless it is removed.
    fn keep_of(&self, job: &Job, standing: Standing) -> Vec<StateWrite> {
        match job.event == Event::Interval && self.settings.tidy.is_nothing() {
            true => Vec::new(),
            false => vec![job.keep(standing)],
        }
    }

    async fn outcome(&self, job: &Job, handed: Handed) -> Outcome {
        match handed {
            Handed::Taken => Outcome::Done,
            Handed::TooLarge(refused) => self.refuse(job, &refused).await,
            Handed::Later(wait) => Outcome::Later(wait),
            Handed::Stopping => Outcome::Stopping,
        }
    }

    /// It stays where it is, and is not read again while it is as it is.
    async fn refuse(&self, job: &Job, refused: &Refused) -> Outcome {
        self.complain("too large", &job.path, refused);
        if job.event == Event::Interval {
            return Outcome::Unread;
        }
        self.keep(vec![job.keep(Standing::TooLarge { event: job.event })]).await
    }

    pub(super) async fn keep(&self, keep: Vec<StateWrite>) -> Outcome {
        match self.session.keep(keep).await {
            Ok(()) => Outcome::Done,
            Err(Refused::Stopping) => Outcome::Stopping,
            Err(refused) => Outcome::Later(crate::exchange::wait(&refused).unwrap_or_default()),
        }
    }

    /// Removes or moves those of them that are to go, and forgets them, all at once. If that fails, they stay, and are
    /// known to have been read.
    pub(super) async fn tidy(&self, read: Vec<Read>) {
        let go: Vec<Read> = read.into_iter().filter(|read| self.settings.tidy.takes(read.event)).collect();
        self.remove(go).await;
    }

    /// Removes or moves them, whatever they were read because of.
    pub(super) async fn remove(&self, go: Vec<Read>) {
        if go.is_empty() {
            return;
        }
        let settings = Arc::clone(&self.settings);
        let gone = blocking(move || {
            let remove = |read: Read| {
                let done = settings.tidy.carry_out(&settings.place.folder, &read.path, &read.signature);
                (read, done)
            };
            Ok(go.into_iter().map(remove).collect::<Vec<_>>())
        });
        let mut forget = Vec::new();
        for (read, done) in gone.await.unwrap_or_default() {
            match done {
                Ok(is_gone) => forget.extend(is_gone.then(|| seen::forget(&read.key))),
                Err(error) => self.complain("stays", &read.path, &error),
            }
        }
        if !forget.is_empty() {
            // If this is not kept, the next look finds that the files are gone.
            self.keep(forget).await;
        }
    }

    /// `None` for one that is not what it was.
    async fn contents(&self, batch: &[Job]) -> Vec<io::Result<Option<Bytes>>> {
        let follow = self.settings.place.follow_links;
        let files: Vec<_> = batch.iter().map(|job| (job.path.clone(), job.signature)).collect();
        let whole = |size| Chunk { offset: 0, size: usize::try_from(size).unwrap_or(usize::MAX) };
        let contents = blocking(move || {
            let content = |(path, of): &(PathBuf, Signature)| content(path, follow, of, whole(of.size));
            Ok(files.iter().map(content).collect())
        });
        contents.await.unwrap_or_else(|error: io::Error| {
            batch.iter().map(|_| Err(io::Error::new(error.kind(), error.to_string()))).collect()
        })
    }

    pub(super) fn complain(&self, kind: &'static str, path: &Path, about: &dyn std::fmt::Display) {
        self.complaints.note(kind, path.display(), about, self.session.now());
    }

    pub(super) fn failed(&self, error: io::Error) -> LinkError {
        LinkError::new(format!("reading {}", self.settings.path.display()), error)
    }
}

fn too_large(job: &Job, limit: usize) -> Refused {
    Refused::TooLarge { size: usize::try_from(job.signature.size).unwrap_or(usize::MAX), limit }
}

fn content(path: &Path, follow: bool, signature: &Signature, chunk: Chunk) -> io::Result<Option<Bytes>> {
    let Some((file, before)) = file::open(path, follow)? else { return Ok(None) };
    if before != *signature {
        return Ok(None);
    }
    let bytes = file::bytes_at(&file, chunk.offset, chunk.size)?;
    let after = Signature::of(&file.metadata()?);
    Ok((after == before).then(|| bytes.into()))
}

/// Away from what must not wait for a disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
