//! One log that is followed: what is appended to it, and where it goes on when it is rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::Timestamp;
use tokio::time::Instant;

use super::position::{MARK_BYTES, Position, mark_before, mark_of};
use super::rotated::{self, Older};
use crate::drivers::files::config::Settings;
use crate::drivers::files::file::{self, Signature};
use crate::drivers::files::lines;

/// Bytes that are read at once, at least.
const READ_BYTES: usize = 64 << 10;

/// Lines that are on their way at once; they share commits.
pub(super) const LINES_MAX: usize = 64;

/// A log that was renamed may be written to for a while: it is left once it was quiet for so long, and another file has
/// its name.
const QUIET: Duration = Duration::from_secs(1);

/// The same, where no file has its name.
const OVER: Duration = Duration::from_secs(60);

/// How soon a file that was rotated is looked at again.
const ROTATING: Duration = Duration::from_millis(250);

/// A file that was read to its end is closed once it was quiet for so long: there may be more than can be open.
const RESTS: Duration = Duration::from_secs(60);

/// A file that is read from, which may not be the one that has the log's name.
pub(super) struct Follower {
    /// The log's.
    pub(super) path: PathBuf,
    file: File,
    inode: u64,
    offset: u64,
    mark: u64,
    /// Up to where it was read, if no line ends between that and `offset`.
    seen: Option<u64>,
    /// When its position was kept last, if it was; in 1970 where that is not known.
    pub(super) kept_at: Option<Timestamp>,
    /// When something of it was read last.
    read_at: Option<Instant>,
    /// The log's name is another file's, or none's: since when nothing came any more.
    rotated: Option<Rotated>,
    /// The file that was read before this one.
    left: Option<Signature>,
    follow_links: bool,
    lost: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
struct Rotated {
    quiet_since: Instant,
    /// For so long it must be quiet until nobody is waited for who ends its last line.
    patience: Duration,
    /// Another file has the name.
    is_replaced: bool,
    /// Nobody writes to it any more: another was written and rotated after it, or it is a copy.
    is_closed: bool,
}

/// What one step along the file gave.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) lines: Vec<Taken>,
    pub(super) more: bool,
    pub(super) lost: Option<&'static str>,
}

/// A line, with where it was and where the next one is.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) offset: u64,
    pub(super) text: Bytes,
    before: Position,
    pub(super) after: Position,
}

const LOST: &str =
    "it was replaced or cut, and what it had since it was read last was not found: lines may be missing";

impl Follower {
    /// Goes on where `kept` says, if that is found. `at_end`: a file of which nothing is kept is read from its end.
    pub(super) fn begin(
        path: &Path,
        kept: Option<Position>,
        at_end: bool,
        follow_links: bool,
    ) -> io::Result<Option<Self>> {
        let Some((file, signature)) = file::open(path, follow_links)? else { return Ok(None) };
        let mut follower = Self::new(path, file, &signature, follow_links);
        follower.kept_at = kept.map(|_| Timestamp::default());
        match kept {
            None if at_end => {
                follower.offset = signature.size;
                follower.mark = mark_before(&follower.file, signature.size)?;
            }
            None => {}
            Some(kept) if kept.inode == signature.inode && kept.is_of(&follower.file, &signature)? => {
                (follower.offset, follower.mark) = (kept.offset, kept.mark);
            }
            Some(kept) => follower.resume(&kept)?,
        }
        Ok(Some(follower))
    }

    /// Goes on with a log whose name is no file's any more, if it has another one.
    pub(super) fn renamed(path: &Path, position: &Position, follow_links: bool) -> io::Result<Option<Self>> {
        let Some(Older { file, signature }) = rotated::find(path, position)? else { return Ok(None) };
        let mut follower = Self::new(path, file, &signature, follow_links);
        (follower.offset, follower.mark) = (position.offset, position.mark);
        let is_closed = signature.inode != position.inode;
        let quiet_since = Instant::now();
        follower.rotated = Some(Rotated { quiet_since, patience: OVER, is_replaced: false, is_closed });
        Ok(Some(follower))
    }

    fn new(path: &Path, file: File, signature: &Signature, follow_links: bool) -> Self {
        Self {
            path: path.to_owned(),
            file,
            inode: signature.inode,
            offset: 0,
            mark: mark_of(b""),
            seen: None,
            kept_at: None,
            read_at: None,
            rotated: None,
            left: None,
            follow_links,
            lost: None,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { inode: self.inode, offset: self.offset, mark: self.mark }
    }

    /// The line was not taken: it is read again.
    pub(super) fn go_back(&mut self, line: &Taken) {
        (self.offset, self.mark) = (line.before.offset, line.before.mark);
        self.seen = None;
    }

    /// Whether the line is still in it, and will be read once it has an end.
    pub(super) fn has(&self, line: &Taken) -> io::Result<bool> {
        line.after.is_of(&self.file, &Signature::of(&self.file.metadata()?))
    }

    /// When it is to be looked at again, even if nothing is told of it.
    pub(super) fn turn(&self) -> Option<Instant> {
        let rotated = self.rotated?;
        let soon = Instant::now() + ROTATING;
        match rotated.is_replaced {
            true => Some(soon),
            false => (!self.is_read()).then(|| soon.max(rotated.quiet_since + rotated.patience)),
        }
    }

    /// Nothing has the log's name, and nothing more came.
    pub(super) fn is_over(&self) -> bool {
        let has_grown = || self.file.metadata().is_ok_and(|now| self.seen != Some(now.len()));
        let is_quiet = self.rotated.is_some_and(|rotated| rotated.quiet_since.elapsed() > OVER);
        is_quiet && self.is_read() && !has_grown()
    }

    /// With what has no line break at its end.
    fn is_read(&self) -> bool {
        self.seen == Some(self.offset)
    }

    /// Whether all lines of it were read, as it is `now`, and for a while it need not be open.
    pub(super) fn rests(&self, now: &Signature) -> bool {
        self.read_at.is_none_or(|read| read.elapsed() >= RESTS)
            && self.inode == now.inode
            && (self.offset == now.size || self.seen == Some(now.size))
            && self.rotated.is_none()
            && self.lost.is_none()
            && self.position().is_of(&self.file, now).unwrap_or_default()
    }

    /// How much it has without a line break at its end.
    pub(super) fn unfinished(&self) -> usize {
        let bytes = self.seen.map_or(0, |seen| seen.saturating_sub(self.offset));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What it has without a line break at its end.
    pub(super) fn end(&mut self, settings: &Settings) -> io::Result<Option<Taken>> {
        Ok(self.read(settings, true)?.and_then(|step| step.lines.into_iter().next()))
    }

    /// Finds what `position` was of: the file under another name, or a copy. Else the file that has the name is
    /// read from its beginning.
    fn resume(&mut self, position: &Position) -> io::Result<()> {
        match rotated::find(&self.path, position)? {
            Some(older) => {
                let is_closed = older.signature.inode != position.inode;
                (self.offset, self.mark) = (position.offset, position.mark);
                self.change_to(older, is_closed);
            }
            // Nothing was read of what is not there any more.
            None if position.offset == 0 => self.restart(),
            None => {
                self.lost = Some(LOST);
                self.restart();
            }
        }
        Ok(())
    }

    fn restart(&mut self) {
        (self.offset, self.mark, self.seen) = (0, mark_of(b""), None);
    }

    fn change_to(&mut self, older: Older, is_closed: bool) {
        self.file = older.file;
        self.inode = older.signature.inode;
        (self.seen, self.left) = (None, None);
        let quiet_since = Instant::now();
        self.rotated = Some(Rotated { quiet_since, patience: QUIET, is_replaced: true, is_closed });
    }

    /// The next lines, up to so many.
    pub(super) fn step(&mut self, settings: &Settings) -> io::Result<Step> {
        self.look_at_name()?;
        let is_new = self.offset == 0;
        let Some(mut step) = self.read(settings, false)? else { return self.find_again() };
        step.lost = self.lost.take();
        if is_new && let Some(older) = self.passed_over()? {
            self.restart();
            self.change_to(older, true);
            return Ok(Step { more: true, lost: step.lost, ..Step::default() });
        }
        match self.rotated {
            Some(rotated) if step.lines.is_empty() && !step.more && rotated.was_waited_for() => {
                let Some(last) = self.read(settings, true)? else { return self.find_again() };
                let last = Step { lost: step.lost, ..last };
                if rotated.is_replaced { self.leave(last) } else { Ok(last) }
            }
            _ => Ok(step),
        }
    }

    /// It was copied and cut: what was not read yet is in the copy.
    fn find_again(&mut self) -> io::Result<Step> {
        let position = self.position();
        self.resume(&position)?;
        Ok(Step { more: true, lost: self.lost.take(), ..Step::default() })
    }

    /// Whether the log's name is still this file's.
    fn look_at_name(&mut self) -> io::Result<()> {
        let is_removed = self.file.metadata()?.nlink() == 0;
        let named = file::look(&self.path, self.follow_links)?;
        let is_this = named.is_some_and(|named| named.inode == self.inode);
        let is_replaced = named.is_some();
        // What was removed is nowhere once it is closed, also by the end of this process.
        let patience = if is_replaced || is_removed { QUIET } else { OVER };
        self.rotated = match (is_this, self.rotated) {
            (true, _) => None,
            (false, Some(rotated)) => Some(Rotated { patience, is_replaced, ..rotated }),
            (false, None) => {
                Some(Rotated { quiet_since: Instant::now(), patience, is_replaced, is_closed: false })
            }
        };
        Ok(())
    }

    /// Goes on to the file that was written after it once its `last` line was read.
    fn leave(&mut self, last: Step) -> io::Result<Step> {
        let left = Step { more: true, ..last };
        if !left.lines.is_empty() {
            return Ok(left);
        }
        let done = Signature::of(&self.file.metadata()?);
        // Opened before others are looked for: if it is rotated meanwhile, it is still the next.
        let named = file::open(&self.path, self.follow_links)?;
        let now = named.as_ref().map(|(file, _)| file);
        if let Some(next) = rotated::next_after(&self.path, &done, now)? {
            self.restart();
            self.change_to(next, true);
        } else if let Some((file, signature)) = named {
            self.restart();
            (self.file, self.inode, self.rotated) = (file, signature.inode, None);
            self.left = Some(done);
        }
        Ok(left)
    }

    /// What was written, copied and cut since the file before this was left, before any of it was read.
    fn passed_over(&self) -> io::Result<Option<Older>> {
        match &self.left {
            Some(left) => rotated::next_after(&self.path, left, Some(&self.file)),
            None => Ok(None),
        }
    }

    /// `None` if it has not what was read of it any more. That is seen, and new marks are made, by what was read at
    /// once: it may be cut at any time.
    fn read(&mut self, settings: &Settings, is_end: bool) -> io::Result<Option<Step>> {
        let most = READ_BYTES.max(settings.line_max.saturating_add(2));
        let marked = self.offset.min(MARK_BYTES as u64) as usize;
        let all = file::bytes_at(&self.file, self.offset - marked as u64, marked.saturating_add(most))?;
        let all = Bytes::from(all);
        if all.get(..marked).is_none_or(|marked| mark_of(marked) != self.mark) {
            return Ok(None);
        }
        let bytes = all.slice(marked..);
        let is_full = bytes.len() == most;
        let mut lines = lines::cut(&bytes, settings.line_max, is_end && !is_full);
        let more = is_full || lines.len() > LINES_MAX;
        lines.truncate(LINES_MAX);
        let mut step = Step { more: more && !lines.is_empty(), ..Step::default() };
        let begin = self.offset;
        let at = |end: usize| Position {
            inode: self.inode,
            offset: begin + end as u64,
            mark: mark_of(&all[..marked + end]),
        };
        let mut before = self.position();
        for line in lines {
            let after = at(line.end);
            let text = bytes.slice_ref(line.text);
            step.lines.push(Taken { offset: begin + line.at as u64, text, before, after });
            before = after;
        }
        if step.lines.is_empty() && (is_full || is_end) {
            // Nothing but line breaks.
            before = at(bytes.len());
            step.more = is_full;
        }
        let seen = (!more).then(|| begin + bytes.len() as u64);
        let has_grown = self.seen.map_or(!bytes.is_empty(), |before| seen != Some(before));
        if !is_end && (has_grown || !step.lines.is_empty()) {
            let now = Instant::now();
            self.read_at = Some(now);
            self.rotated = self.rotated.map(|rotated| Rotated { quiet_since: now, ..rotated });
        }
        (self.offset, self.mark, self.seen) = (before.offset, before.mark, seen);
        Ok(Some(step))
    }
}

impl Rotated {
    /// Nobody ends its last line any more.
    fn was_waited_for(&self) -> bool {
        self.is_closed || self.quiet_since.elapsed() >= self.patience
    }
}
