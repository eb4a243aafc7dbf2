//! Lines that are appended to files, through rotations and restarts.

mod follow;
mod position;
mod rotated;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::Timestamp;
use tokio::time::Instant;

use self::follow::{Follower, LINES_MAX, Step, Taken};
use self::position::{Position, is_due};
use super::config::{Existing, Settings};
use super::decode::decode_line;
use super::event::{say_that_it_looks, watch};
use super::file::{self, Signature};
use super::handing::{Handed, hand_over};
use super::place::Found;
use super::reader::{Reader, blocking};
use super::watching::{Signal, Watching};
use crate::{LinkError, Session};

/// Kept once files that were there before the ingress were dealt with.
const BEGUN: &str = "tail begun";

/// How many files are followed at once, each open; further ones are complained of.
const FILES_MAX: usize = 1000;

/// Bytes of last lines without an end that are kept of files that rest.
const UNFINISHED_MAX: usize = 4 << 20;

struct Tail {
    reader: Reader,
    watching: Watching,
    /// By key.
    followers: HashMap<Box<str>, Follower>,
    resting: HashMap<Box<str>, Resting>,
    /// Of files that are gone, by key.
    left: Vec<(Box<str>, Left)>,
    next_look: Instant,
    held_until: Option<Instant>,
}

/// A file that was read to its end. It is followed again once it is not what it was.
struct Resting {
    signature: Signature,
    position: Position,
    kept_at: Option<Timestamp>,
    /// What there is of a last line without an end: once the file is gone, it is nowhere else.
    rest: Option<Left>,
}

/// A log's last line, without an end.
struct Left {
    path: PathBuf,
    line: Taken,
}

/// What a look at the files found.
#[derive(Default)]
struct Looked {
    followers: HashMap<Box<str>, Follower>,
    resting: HashMap<Box<str>, Resting>,
    left: Vec<(Box<str>, Left)>,
    /// How many there are beyond those that are followed.
    beyond: usize,
    unread: Vec<(PathBuf, io::Error)>,
}

pub(super) async fn run(settings: Arc<Settings>, session: Session) -> Result<(), LinkError> {
    let reader = Reader::new(settings, session.clone());
    let watching = watch(&reader).await;
    let mut tail = Tail {
        reader,
        watching,
        followers: HashMap::new(),
        resting: HashMap::new(),
        left: Vec::new(),
        next_look: Instant::now(),
        held_until: None,
    };
    tail.look().await?;
    session.ready();
    let mut stopped = pin!(session.stopped());
    loop {
        while tail.held_until.is_none() && !session.is_stopped() && tail.advance().await? {}
        let due = tail.next_turn();
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            signal = tail.watching.next() => tail.told(signal),
            () = tokio::time::sleep_until(due) => {}
        }
        if tail.held_until.is_some_and(|held| held <= Instant::now()) {
            tail.held_until = None;
        }
        if tail.next_look <= Instant::now() {
            tail.look().await?;
        }
    }
}

impl Tail {
    fn next_turn(&self) -> Instant {
        let turns = self.followers.values().filter_map(Follower::turn);
        turns.chain(self.held_until).fold(self.next_look, Instant::min)
    }

    fn told(&mut self, signal: Signal) {
        let mut next = Some(signal);
        while let Some(signal) = next {
            match signal {
                Signal::Changed(path, _) => {
                    let key = self.reader.settings.place.key_of(&path);
                    if key.is_some_and(|key| !self.followers.contains_key(&key)) {
                        self.next_look = Instant::now();
                    }
                }
                Signal::Look | Signal::Missed => self.next_look = Instant::now(),
                Signal::Failed(reason) => {
                    self.watching.give_up();
                    self.next_look = Instant::now();
                    say_that_it_looks(&self.reader, &reason);
                    return;
                }
            }
            next = self.watching.ready();
        }
    }

    /// Begins to follow what is new.
    async fn look(&mut self) -> Result<(), LinkError> {
        let (settings, session) = (Arc::clone(&self.reader.settings), self.reader.session.clone());
        let (followers, resting) = (std::mem::take(&mut self.followers), std::mem::take(&mut self.resting));
        let looked = blocking(move || look(&settings, &session, followers, resting)).await;
        let Looked { followers, resting, left, beyond, unread } =
            looked.map_err(|error| self.reader.failed(error))?;
        (self.followers, self.resting) = (followers, resting);
        self.left.extend(left);
        for (path, error) in unread {
            self.reader.complain("unreadable", &path, &error);
        }
        if beyond > 0 {
            let about = format!("{beyond} files are not followed: there are more than {FILES_MAX}");
            self.reader.complain("too many", &self.reader.settings.place.folder, &about);
        }
        self.begin().await?;
        self.next_look = Instant::now() + self.watching.look_every();
        Ok(())
    }

    /// Keeps where each file is read from, before anything of it is: lines that come while the host is down are
    /// found by it. Those that are quiet are kept again now and then.
    async fn begin(&mut self) -> Result<(), LinkError> {
        let now = self.reader.session.now();
        let followed = self.followers.iter_mut();
        let followed = followed.map(|(key, follower)| (key, follower.position(), &mut follower.kept_at));
        let resting = self.resting.iter_mut();
        let resting = resting.map(|(key, resting)| (key, resting.position, &mut resting.kept_at));
        let mut keep = Vec::new();
        for (key, position, kept_at) in followed.chain(resting) {
            if is_due(*kept_at, now) {
                *kept_at = Some(now);
                keep.push(position.write(key, now));
            }
        }
        if keep.is_empty() && self.reader.session.kept(BEGUN).is_ok_and(|begun| begun.is_some()) {
            return Ok(());
        }
        keep.push(sandbar_reading::StateWrite {
            name: BEGUN.into(),
            value: Some(Bytes::from_static(b"1")),
            expires: None,
        });
        let kept = self.reader.session.keep(keep).await;
        kept.map_err(|refused| LinkError::new("keeping the positions", refused))
    }

    /// Reads some of what was appended to each; whether there may be more.
    async fn advance(&mut self) -> Result<bool, LinkError> {
        let mut more = self.take_left().await;
        let (settings, mut followers) =
            (Arc::clone(&self.reader.settings), std::mem::take(&mut self.followers));
        let stepped = blocking(move || {
            let steps = followers.iter_mut().map(|(key, follower)| (key.clone(), follower.step(&settings)));
            let steps: Vec<(Box<str>, io::Result<Step>)> = steps.collect();
            Ok((followers, steps))
        });
        let (followers, steps) = stepped.await.map_err(|error| self.reader.failed(error))?;
        self.followers = followers;
        for (key, step) in steps {
            match step {
                Ok(step) if self.held_until.is_some() || self.reader.session.is_stopped() => {
                    if let (Some(line), Some(follower)) = (step.lines.first(), self.followers.get_mut(&key)) {
                        follower.go_back(line);
                    }
                    more = false;
                }
                Ok(step) => {
                    more |= step.more;
                    self.take(&key, step).await?;
                }
                Err(error) => {
                    // It is opened again by the next look.
                    let gone = self.followers.remove(&key);
                    if let Some(gone) = gone {
                        self.reader.complain("unreadable", &gone.path, &error);
                    }
                }
            }
        }
        Ok(more)
    }

    async fn take(&mut self, key: &str, step: Step) -> Result<(), LinkError> {
        let Some(follower) = self.followers.get_mut(key) else { return Ok(()) };
        if let Some(lost) = step.lost {
            self.reader.complain("lost", &follower.path, &lost);
        }
        let (session, settings) = (&self.reader.session, &self.reader.settings);
        let now = session.now();
        let readings = step.lines.iter().map(|line| {
            let inbound = decode_line(settings, key, &follower.path, line.offset, line.text.clone());
            (inbound, vec![line.after.write(key, now)])
        });
        let told = hand_over(session, readings.collect()).await;
        let taken =
            told.iter().take_while(|told| matches!(told, Handed::Taken | Handed::TooLarge(_))).count();
        for told in &told {
            if let Handed::TooLarge(refused) = told {
                self.reader.complain("too large", &follower.path, refused);
            }
        }
        if told.contains(&Handed::Taken) {
            follower.kept_at = Some(now);
        }
        if let Some(line) = step.lines.get(taken) {
            follower.go_back(line);
            if told.iter().skip(taken).any(|told| *told == Handed::Taken) {
                // A later one is on disk: from here it is read again.
                let back = session.keep(vec![follower.position().write(key, now)]).await;
                back.map_err(|refused| LinkError::new("keeping the position", refused))?;
            }
        }
        self.hold(&told);
        Ok(())
    }

    /// Hands over what files had that are gone; whether there is more of it.
    async fn take_left(&mut self) -> bool {
        let (session, settings) = (&self.reader.session, &self.reader.settings);
        let now = session.now();
        let readings = self.left.iter().take(LINES_MAX).map(|(key, Left { path, line })| {
            let inbound = decode_line(settings, key, path, line.offset, line.text.clone());
            // Another file has the name, whose position counts.
            let is_replaced = self.followers.contains_key(key) || self.resting.contains_key(key);
            (inbound, if is_replaced { Vec::new() } else { vec![line.after.write(key, now)] })
        });
        let told = hand_over(session, readings.collect()).await;
        let mut each = told.iter();
        self.left.retain(|(_, left)| match each.next() {
            Some(Handed::Taken) => false,
            Some(Handed::TooLarge(refused)) => {
                self.reader.complain("too large", &left.path, refused);
                false
            }
            Some(Handed::Later(_) | Handed::Stopping) | None => true,
        });
        self.hold(&told);
        told.contains(&Handed::Taken) && !self.left.is_empty()
    }

    /// Nothing is read for as long as was asked for.
    fn hold(&mut self, told: &[Handed]) {
        let wait = told.iter().filter_map(|told| match told {
            Handed::Later(wait) => Some(*wait),
            _ => None,
        });
        if let Some(wait) = wait.max() {
            self.held_until = Some(Instant::now() + wait);
        }
    }
}

impl Resting {
    /// Closes it. It was found to be as `signature` says.
    fn new(mut follower: Follower, signature: Signature, settings: &Settings) -> Self {
        let (position, kept_at) = (follower.position(), follower.kept_at);
        let line = follower.end(settings).unwrap_or_default();
        Self { signature, position, kept_at, rest: line.map(|line| Left { path: follower.path, line }) }
    }

    fn unfinished(&self) -> usize {
        self.rest.as_ref().map_or(0, |left| left.line.text.len())
    }
}

fn look(
    settings: &Settings,
    session: &Session,
    mut followers: HashMap<Box<str>, Follower>,
    mut resting: HashMap<Box<str>, Resting>,
) -> io::Result<Looked> {
    let scan = settings.place.scan()?;
    let begun = session.kept(BEGUN).map_err(io::Error::other)?.is_some();
    let at_end = !begun && settings.existing == Existing::Skip;
    let names: HashSet<Box<str>> =
        scan.found.iter().map(|found| &found.key).chain(followers.keys()).cloned().collect();
    let mut looked = Looked::default();
    let mut unfinished: usize = resting.values().map(Resting::unfinished).sum();
    if let Some(error) = scan.unread {
        looked.unread.push((settings.place.folder.clone(), error));
    }
    for found in &scan.found {
        // What a log was renamed to is read as the end of that log.
        if is_rotated(&found.key, &names, session)? {
            continue;
        }
        let follower = match (followers.remove(&found.key), resting.remove(&found.key)) {
            (Some(follower), _) => follower,
            (None, Some(same)) if same.signature == found.signature => {
                looked.resting.insert(found.key.clone(), same);
                continue;
            }
            (None, rested) if looked.followers.len() + followers.len() >= FILES_MAX => {
                looked.beyond += 1;
                looked.resting.extend(rested.map(|rested| (found.key.clone(), rested)));
                continue;
            }
            (None, rested) => match begin(settings, session, found, rested.as_ref(), at_end) {
                Ok(Some(follower)) => {
                    let left = rested.and_then(|rested| rested.rest);
                    // Another file has the name.
                    let left = left.filter(|left| !follower.has(&left.line).unwrap_or(true));
                    looked.left.extend(left.map(|left| (found.key.clone(), left)));
                    follower
                }
                other => {
                    looked.unread.extend(other.err().map(|error| (found.path.clone(), error)));
                    looked.resting.extend(rested.map(|rested| (found.key.clone(), rested)));
                    continue;
                }
            },
        };
        let more = follower.unfinished();
        if follower.rests(&found.signature)
            && (more == 0 || unfinished.saturating_add(more) <= UNFINISHED_MAX)
        {
            unfinished = unfinished.saturating_add(more);
            let rested = Resting::new(follower, found.signature, settings);
            looked.resting.insert(found.key.clone(), rested);
        } else {
            looked.followers.insert(found.key.clone(), follower);
        }
    }
    // Those that are gone may still be written to, and come again.
    let still = followers.into_iter().filter(|(_, follower)| !follower.is_over());
    looked.followers.extend(still);
    for (key, rested) in resting {
        gone(settings, &mut looked, key, rested);
    }
    Ok(looked)
}

/// A file that rested was not found. What it had without an end is read on where the file was renamed to.
fn gone(settings: &Settings, looked: &mut Looked, key: Box<str>, rested: Resting) {
    let Some(left) = &rested.rest else { return };
    let follow_links = settings.place.follow_links;
    let is_gone = matches!(file::look(&left.path, follow_links), Ok(None));
    if !is_gone || looked.followers.len() >= FILES_MAX {
        looked.resting.insert(key, rested);
        return;
    }
    match Follower::renamed(&left.path, &rested.position, follow_links) {
        Ok(Some(mut follower)) => {
            follower.kept_at = rested.kept_at;
            looked.followers.insert(key, follower);
        }
        Ok(None) => looked.left.extend(rested.rest.map(|left| (key, left))),
        Err(error) => {
            looked.unread.push((left.path.clone(), error));
            looked.resting.insert(key, rested);
        }
    }
}

/// Where it rested, or where it was kept to be read from.
fn begin(
    settings: &Settings,
    session: &Session,
    found: &Found,
    rested: Option<&Resting>,
    at_end: bool,
) -> io::Result<Option<Follower>> {
    let follow_links = settings.place.follow_links;
    if let Some(rested) = rested {
        let mut follower = Follower::begin(&found.path, Some(rested.position), at_end, follow_links)?;
        if let Some(follower) = &mut follower {
            follower.kept_at = rested.kept_at;
        }
        return Ok(follower);
    }
    let kept = session.kept(&position::name(&found.key)).map_err(io::Error::other)?;
    let kept = kept.and_then(|bytes| Position::read(&bytes));
    Follower::begin(&found.path, kept, at_end, follow_links)
}

/// Whether a file has the name of another that was rotated, which is there, or was.
fn is_rotated(key: &str, names: &HashSet<Box<str>>, session: &Session) -> io::Result<bool> {
    for original in rotated::originals(key) {
        let was_there = || session.kept(&position::name(&original)).map_err(io::Error::other);
        if names.contains(&*original) || was_there()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
