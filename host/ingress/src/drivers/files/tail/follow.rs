//! One log that is followed: what is appended to it, and where it goes on when it is rotated.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::Timestamp;
use tokio::time::Instant;

use super::position::{Position, mark_before, mark_of};
use super::rotated::{self, Older};
use crate::drivers::files::config::Settings;
use crate::drivers::files::file::{self, Signature};
use crate::drivers::files::lines;

/// Bytes that are read at once, at least.
const READ_BYTES: usize = 64 << 10;

/// Lines that are on their way at once; they share commits.
const LINES_MAX: usize = 64;

/// A log that was renamed may be written to for a while: it is left once it was quiet for so long.
const QUIET: Duration = Duration::from_secs(1);

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
    /// When its position was kept last, if it was; in 1970 where that is not known.
    pub(super) kept_at: Option<Timestamp>,
    /// When lines of it were read last.
    read_at: Option<Instant>,
    /// The log's name is another file's, or none's: since when nothing came any more.
    rotated: Option<Rotated>,
    follow_links: bool,
    lost: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
struct Rotated {
    quiet_since: Instant,
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
        let mut follower = Self {
            path: path.to_owned(),
            file,
            inode: signature.inode,
            offset: 0,
            mark: mark_of(b""),
            kept_at: kept.map(|_| Timestamp::default()),
            read_at: None,
            rotated: None,
            follow_links,
            lost: None,
        };
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

    pub(super) fn position(&self) -> Position {
        Position { inode: self.inode, offset: self.offset, mark: self.mark }
    }

    /// The line was not taken: it is read again.
    pub(super) fn go_back(&mut self, line: &Taken) {
        (self.offset, self.mark) = (line.before.offset, line.before.mark);
    }

    pub(super) fn is_rotating(&self) -> bool {
        self.rotated.is_some_and(|rotated| rotated.is_replaced)
    }

    /// Nothing has the log's name, and nothing more came.
    pub(super) fn is_over(&self) -> bool {
        self.rotated.is_some_and(|rotated| rotated.quiet_since.elapsed() > QUIET * 60)
    }

    /// Whether all of it was read, as it is `now`, and for a while it need not be open.
    pub(super) fn rests(&self, now: &Signature) -> bool {
        self.read_at.is_none_or(|read| read.elapsed() >= RESTS)
            && (self.inode, self.offset) == (now.inode, now.size)
            && self.rotated.is_none()
            && self.lost.is_none()
            && self.position().is_of(&self.file, now).unwrap_or_default()
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
        (self.offset, self.mark) = (0, mark_of(b""));
    }

    fn change_to(&mut self, older: Older, is_closed: bool) {
        self.file = older.file;
        self.inode = older.signature.inode;
        self.rotated = Some(Rotated { quiet_since: Instant::now(), is_replaced: true, is_closed });
    }

    /// The next lines, up to so many.
    pub(super) fn step(&mut self, settings: &Settings) -> io::Result<Step> {
        let signature = Signature::of(&self.file.metadata()?);
        if !self.position().is_of(&self.file, &signature)? {
            // Copied and cut: what was not read yet is in the copy.
            let position = self.position();
            self.resume(&position)?;
            return Ok(Step { more: true, lost: self.lost.take(), ..Step::default() });
        }
        self.look_at_name()?;
        let mut step = self.read(settings, false)?;
        step.lost = self.lost.take();
        if !step.lines.is_empty() {
            if let Some(rotated) = &mut self.rotated {
                rotated.quiet_since = Instant::now();
            }
            return Ok(step);
        }
        if let Some(rotated) = self.rotated
            && rotated.is_replaced
            && (rotated.is_closed || rotated.quiet_since.elapsed() >= QUIET)
        {
            return self.leave(settings, step.lost);
        }
        Ok(step)
    }

    /// Whether the log's name is still this file's.
    fn look_at_name(&mut self) -> io::Result<()> {
        let named = file::look(&self.path, self.follow_links)?;
        let is_this = named.is_some_and(|named| named.inode == self.inode);
        self.rotated = match (is_this, self.rotated) {
            (true, _) => None,
            (false, Some(rotated)) => Some(Rotated { is_replaced: named.is_some(), ..rotated }),
            (false, None) => {
                Some(Rotated { quiet_since: Instant::now(), is_replaced: named.is_some(), is_closed: false })
            }
        };
        Ok(())
    }

    /// What it has without a line break at its end, and then on to the file that was written after it.
    fn leave(&mut self, settings: &Settings, lost: Option<&'static str>) -> io::Result<Step> {
        let mut step = self.read(settings, true)?;
        step.lost = lost;
        if !step.lines.is_empty() {
            return Ok(Step { more: true, ..step });
        }
        let done = Signature::of(&self.file.metadata()?);
        if let Some(next) = rotated::next_after(&self.path, &done)? {
            self.restart();
            self.change_to(next, true);
        } else if let Some((file, signature)) = file::open(&self.path, self.follow_links)? {
            self.restart();
            (self.file, self.inode, self.rotated) = (file, signature.inode, None);
        }
        Ok(Step { more: true, ..step })
    }

    fn read(&mut self, settings: &Settings, is_end: bool) -> io::Result<Step> {
        let most = READ_BYTES.max(settings.line_max.saturating_add(2));
        let bytes = Bytes::from(file::bytes_at(&self.file, self.offset, most)?);
        let is_full = bytes.len() == most;
        let mut lines = lines::cut(&bytes, settings.line_max, is_end && !is_full);
        let more = is_full || lines.len() > LINES_MAX;
        lines.truncate(LINES_MAX);
        let mut step = Step { more: more && !lines.is_empty(), ..Step::default() };
        let (begin, mark) = (self.offset, self.mark);
        let mut before = Position { inode: self.inode, offset: begin, mark };
        for line in lines {
            let mark = match line.end as u64 >= 256 {
                true => mark_of(&bytes[..line.end]),
                false => mark_before(&self.file, begin + line.end as u64)?,
            };
            let after = Position { inode: self.inode, offset: begin + line.end as u64, mark };
            let text = bytes.slice_ref(line.text);
            step.lines.push(Taken { offset: begin + line.at as u64, text, before, after });
            before = after;
        }
        if step.lines.is_empty() && is_full {
            // Nothing but line breaks.
            before.offset += bytes.len() as u64;
            before.mark = mark_before(&self.file, before.offset)?;
            step.more = true;
        }
        (self.offset, self.mark) = (before.offset, before.mark);
        if !step.lines.is_empty() {
            self.read_at = Some(Instant::now());
        }
        Ok(step)
    }
}
