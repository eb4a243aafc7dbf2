//! Files of a folder: each that appears or changes, once it is whole.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::StateWrite;
use tokio::time::Instant;

use super::config::{Existing, Settings, Watch};
use super::file::{self, Signature};
use super::pending::{Patience, Pending};
use super::place::Scan;
use super::reader::{Job, Outcome, Read, Reader, blocking};
use super::seen::{self, Decision, Entry, PREFIX, Standing, Switches, decide};
use super::watching::{Signal, Watching};
use crate::{LinkError, Session};

/// Kept once files that were there before the ingress were dealt with.
const BEGUN: &str = "begun";

/// Kept once files were found: the folder's inode, by which one that is not mounted is told from one that is empty.
const FOLDER: &str = "folder";

/// Files that are dealt with in a turn.
const TURN_MAX: usize = 512;

pub(super) struct Folder {
    reader: Reader,
    watching: Watching,
    pending: Pending,
    patience: Patience,
    next_look: Instant,
    /// Nothing is read until then: the host cannot take more.
    held_until: Option<Instant>,
}

/// A file that was left alone for long enough, as it is now.
struct Examined {
    key: Box<str>,
    path: PathBuf,
    /// `None`: it is gone.
    found: io::Result<Option<(Signature, Decision)>>,
    is_known: bool,
}

pub(super) async fn run(settings: Arc<Settings>, session: Session) -> Result<(), LinkError> {
    let mut folder = Folder::start(settings, session.clone()).await?;
    session.ready();
    let mut stopped = pin!(session.stopped());
    loop {
        let due = folder.next_turn();
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            () = tokio::time::sleep_until(due) => folder.turn().await?,
            signal = folder.watching.next() => folder.told(signal),
        }
    }
}

impl Folder {
    /// Watches before it looks, so that nothing comes in between.
    async fn start(settings: Arc<Settings>, session: Session) -> Result<Self, LinkError> {
        let reader = Reader::new(Arc::clone(&settings), session);
        let watching = watch(&reader).await;
        let patience = Patience { settle: settings.settle, stalled: settings.stalled };
        let pending = Pending::default();
        let mut folder =
            Self { reader, watching, pending, patience, next_look: Instant::now(), held_until: None };
        folder.look().await?;
        Ok(folder)
    }

    fn next_turn(&self) -> Instant {
        let due = self.pending.next_due(self.patience);
        let due = due.map(|due| self.held_until.map_or(due, |held| due.max(held)));
        due.map_or(self.next_look, |due| due.min(self.next_look))
    }

    fn told(&mut self, signal: Signal) {
        let mut next = Some(signal);
        while let Some(signal) = next {
            match signal {
                Signal::Changed(path, change) => {
                    if let Some(key) = self.reader.settings.place.key_of(&path) {
                        self.pending.change(&key, &path, change, Instant::now());
                    }
                }
                Signal::Look => self.next_look = Instant::now(),
                Signal::Missed => {
                    self.pending.distrust();
                    self.next_look = Instant::now();
                }
                Signal::Failed(reason) => {
                    self.watching.give_up();
                    self.pending.distrust();
                    self.next_look = Instant::now();
                    say_that_it_looks(&self.reader, &reason);
                    return;
                }
            }
            next = self.watching.ready();
        }
    }

    async fn turn(&mut self) -> Result<(), LinkError> {
        let now = Instant::now();
        if self.next_look <= now || self.pending.takes_forgotten() {
            self.look().await?;
        }
        if self.held_until.is_some_and(|held| held > Instant::now()) {
            return Ok(());
        }
        self.held_until = None;
        let due = self.pending.due(self.patience, now, TURN_MAX);
        if !due.is_empty() {
            self.deal_with(due).await;
        }
        Ok(())
    }

    /// Finds what is to be dealt with, however it came to be so.
    async fn look(&mut self) -> Result<(), LinkError> {
        let reader = &self.reader;
        let (settings, session, switches) =
            (Arc::clone(&reader.settings), reader.session.clone(), reader.switches());
        let surveyed = blocking(move || survey(&settings, &session, switches)).await;
        let (scan, keep) = surveyed.map_err(|error| reader.failed(error))?;
        if let Some(error) = &scan.unread {
            reader.complain("unreadable", &reader.settings.place.folder, error);
        }
        let (now, clock) = (Instant::now(), reader.session.now());
        for found in scan.found {
            let age = found.signature.age(clock);
            self.pending.found(&found.key, &found.path, found.signature, age, now);
        }
        if !keep.is_empty() {
            let kept = self.reader.keep(keep).await;
            self.hold(kept);
        }
        self.next_look = Instant::now() + self.watching.look_every();
        Ok(())
    }

    async fn deal_with(&mut self, due: Vec<(Box<str>, PathBuf)>) {
        let reader = &self.reader;
        let (settings, session, switches) =
            (Arc::clone(&reader.settings), reader.session.clone(), reader.switches());
        let examined = blocking(move || examine(due, &settings, &session, switches)).await;
        let examined = match examined {
            Ok(examined) => examined,
            Err(error) => {
                reader.complain("unreadable", &reader.settings.place.folder, &error);
                self.held_until =
                    Some(Instant::now() + self.watching.look_every().min(Duration::from_secs(5)));
                return;
            }
        };
        let (mut keep, mut kept, mut go, mut jobs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for Examined { key, path, found, is_known } in examined {
            let (signature, decision) = match found {
                Ok(Some(found)) => found,
                Ok(None) => {
                    keep.extend(is_known.then(|| seen::forget(&key)));
                    kept.push(key);
                    continue;
                }
                // The next look finds it again, once it can be looked at.
                Err(error) => {
                    self.reader.complain("unreadable", &path, &error);
                    self.pending.done(&key);
                    continue;
                }
            };
            if !self.pending.is_settled(&key, signature, Instant::now()) {
                continue;
            }
            match decision {
                Decision::Leave => self.pending.done(&key),
                Decision::Pass => {
                    keep.push(Entry { signature, standing: Standing::Passed }.write(&key));
                    kept.push(key);
                }
                Decision::Tidy(event) => {
                    self.pending.done(&key);
                    go.push(Read { key, path, signature, event });
                }
                Decision::Read { event, offset } => jobs.push(Job { key, path, signature, event, offset }),
            }
        }
        let outcome = if keep.is_empty() { Outcome::Done } else { self.reader.keep(keep).await };
        if outcome == Outcome::Done {
            kept.iter().for_each(|key| self.pending.done(key));
        }
        self.hold(outcome);
        self.reader.remove(go).await;
        self.read(&jobs).await;
    }

    async fn read(&mut self, mut jobs: &[Job]) {
        while !jobs.is_empty() && self.held_until.is_none() && !self.reader.session.is_stopped() {
            let (batch, rest) = jobs.split_at(self.reader.batch(jobs));
            for (job, outcome) in batch.iter().zip(self.reader.read(batch).await) {
                match outcome {
                    // What could not be read is found again by the next look.
                    Outcome::Done | Outcome::Unread => self.pending.done(&job.key),
                    Outcome::Unsettled => {
                        let change = super::pending::Change::Touched;
                        self.pending.change(&job.key, &job.path, change, Instant::now());
                    }
                    Outcome::Later(_) | Outcome::Stopping => self.hold(outcome),
                }
            }
            jobs = rest;
        }
    }

    fn hold(&mut self, outcome: Outcome) {
        if let Outcome::Later(wait) = outcome {
            let until = Instant::now() + wait;
            self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        }
    }
}

pub(super) async fn watch(reader: &Reader) -> Watching {
    let settings = Arc::clone(&reader.settings);
    if settings.watch == Watch::Poll {
        return Watching::by_looking(settings.poll);
    }
    let started = blocking(move || {
        let place = &settings.place;
        Ok(Watching::start(&place.folder, place.recursive, place.follow_links, settings.poll))
    })
    .await;
    match started {
        Ok((watching, None)) => watching,
        Ok((watching, Some(reason))) => {
            // That the folder is not there is said by who looks at it.
            if reader.settings.place.folder.is_dir() {
                say_that_it_looks(reader, &reason);
            }
            watching
        }
        Err(_) => Watching::by_looking(reader.settings.poll),
    }
}

pub(super) fn say_that_it_looks(reader: &Reader, reason: &str) {
    let millis = reader.settings.poll.as_millis();
    let about = format!("the folder is looked at every {millis} ms instead: {reason}");
    reader.complain("not watched", &reader.settings.place.folder, &about);
}

/// What is to be dealt with, and what is to be forgotten or passed over.
fn survey(settings: &Settings, session: &Session, switches: Switches) -> io::Result<(Scan, Vec<StateWrite>)> {
    let mut scan = settings.place.scan()?;
    let mut keep = Vec::new();
    let begun = session.kept(BEGUN).map_err(io::Error::other)?.is_some();
    if !begun {
        keep.push(StateWrite {
            name: BEGUN.into(),
            value: Some(bytes::Bytes::from_static(b"1")),
            expires: None,
        });
    }
    if !begun && settings.existing == Existing::Skip {
        let passed = scan.found.drain(..);
        keep.extend(
            passed.map(|found| {
                Entry { signature: found.signature, standing: Standing::Passed }.write(&found.key)
            }),
        );
        return Ok((scan, keep));
    }
    let folder = bytes::Bytes::from(scan.inode.to_string());
    let before = session.kept(FOLDER).map_err(io::Error::other)?;
    let is_same = before.as_ref() == Some(&folder);
    if scan.found.is_empty() && before.is_some() && !is_same {
        return Ok((scan, keep));
    }
    if !scan.found.is_empty() && !is_same {
        keep.push(StateWrite { name: FOLDER.into(), value: Some(folder), expires: None });
    }
    let there: HashSet<Box<str>> = scan.found.iter().map(|found| found.key.clone()).collect();
    let gone = |name: &str| {
        let key = &name[PREFIX.len()..];
        !there.contains(key) && !scan.may_have(key)
    };
    let names = session.kept_names(PREFIX).map_err(io::Error::other)?;
    // Also of those that do not count any more.
    keep.extend(names.into_iter().filter(|name| gone(name)).map(|name| StateWrite {
        name,
        value: None,
        expires: None,
    }));
    let mut failed = None;
    scan.found.retain(|found| match entry(session, &found.key) {
        Ok(entry) => decide(entry.as_ref(), &found.signature, switches, &settings.tidy) != Decision::Leave,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((scan, keep)),
    }
}

/// In the order in which they were written. An error is of what was kept.
fn examine(
    due: Vec<(Box<str>, PathBuf)>,
    settings: &Settings,
    session: &Session,
    switches: Switches,
) -> io::Result<Vec<Examined>> {
    let mut examined = Vec::with_capacity(due.len());
    for (key, path) in due {
        let entry = entry(session, &key)?;
        let decided = |signature| (signature, decide(entry.as_ref(), &signature, switches, &settings.tidy));
        let found = file::look(&path, settings.place.follow_links).map(|found| found.map(decided));
        examined.push(Examined { key, path, found, is_known: entry.is_some() });
    }
    let written = |of: &Examined| match of.found {
        Ok(Some((signature, _))) => signature.modified,
        Ok(None) | Err(_) => 0,
    };
    examined.sort_by(|a, b| (written(a), &a.key).cmp(&(written(b), &b.key)));
    Ok(examined)
}

fn entry(session: &Session, key: &str) -> io::Result<Option<Entry>> {
    let kept = session.kept(&seen::name(key)).map_err(io::Error::other)?;
    Ok(kept.and_then(|bytes| Entry::read(&bytes)))
}
