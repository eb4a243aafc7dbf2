//! The file and its rotated predecessors.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{DeliveryId, Timestamp};

use super::appender::append;
use super::csv::Columns;
use super::tail::{REMEMBERED, Records, Seen, first_time, is_torn, last_ids, records};
use crate::file_id::FileId;

/// What lines are.
#[derive(Debug)]
pub(super) enum Form {
    Json,
    Csv(Columns),
}

impl Form {
    /// What every file begins with.
    fn header(&self) -> &[u8] {
        match self {
            Self::Json => b"",
            Self::Csv(columns) => columns.header(),
        }
    }
}

/// How many rotated files may be asked for.
pub(super) const KEEP_MAX: u16 = 1000;

#[derive(Debug)]
pub(super) struct Settings {
    pub form: Arc<Form>,
    pub path: PathBuf,
    pub rotate_bytes: u64,
    pub rotate_after: Option<Duration>,
    pub keep: u16,
}

/// A delivery as it is written, with its newline.
#[derive(Debug)]
pub(super) struct Line {
    pub id: DeliveryId,
    pub text: Vec<u8>,
}

/// The first `written` lines are on the disk, and nothing of the others.
#[derive(Debug)]
pub(super) struct Failed {
    pub written: usize,
    pub doing: String,
    pub source: io::Error,
}

#[derive(Debug)]
pub(super) struct Writer {
    settings: Settings,
    open: Option<Open>,
    /// Read at the first opening.
    seen: Option<Seen>,
    /// To be done when the file is opened again.
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: FileId,
    len: u64,
    /// When its first line was put out.
    begun: Timestamp,
}

/// What is beyond `len` of that very file may not be on the disk.
#[derive(Debug)]
struct Cut {
    identity: FileId,
    len: u64,
}

/// What was being done, and why it failed.
type Step<T> = Result<T, (&'static str, io::Error)>;

impl Writer {
    pub(super) const fn new(settings: Settings) -> Self {
        Self { settings, open: None, seen: None, cut: None }
    }

    /// Returns once every line is on the disk, in order; the last [`REMEMBERED`] are not written twice.
    pub(super) fn write(&mut self, lines: &[Line], now: Timestamp) -> Result<(), Failed> {
        let mut written = 0;
        while written < lines.len() {
            written += self.write_some(&lines[written..], now).map_err(|(doing, source)| {
                let doing = format!("{doing} {}", self.settings.path.display());
                Failed { written, doing, source }
            })?;
        }
        Ok(())
    }

    /// Writes as many as go into one file, at least one, and returns how many.
    fn write_some(&mut self, lines: &[Line], now: Timestamp) -> Step<usize> {
        self.close_if_moved();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open(now).map_err(|error| ("opening", error))?,
        };
        let seen = self.seen.get_or_insert_default();
        if !seen.contains(lines[0].id) && self.settings.is_full(&open, &lines[0], now) {
            drop(open);
            self.settings.rotate().map_err(|error| ("rotating", error))?;
            return Ok(0);
        }

        let header = if open.len == 0 { self.settings.form.header() } else { b"" };
        let room = self.settings.rotate_bytes.saturating_sub(open.len + header.len() as u64);
        let (count, mut bytes) = next_part(lines, seen, room);
        if !bytes.is_empty() {
            bytes.splice(..0, header.iter().copied());
        }
        if !bytes.is_empty()
            && let Err(error) = append(&mut open.file, &bytes)
        {
            self.cut = error.cut_to.map(|len| Cut { identity: open.identity, len });
            return Err(("writing", error.source));
        }
        lines[..count].iter().for_each(|line| seen.insert(line.id));
        open.len += bytes.len() as u64;
        self.open = Some(open);
        Ok(count)
    }

    /// Somebody else may rotate or remove the file: what is written to its old self would be lost.
    fn close_if_moved(&mut self) {
        let there = fs::metadata(&self.settings.path).ok().map(|metadata| FileId::of(&metadata));
        if self.open.as_ref().is_some_and(|open| Some(open.identity) != there) {
            self.open = None;
        }
    }

    fn open(&mut self, now: Timestamp) -> io::Result<Open> {
        let path = &self.settings.path;
        let folder = folder_of(path);
        fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(io::Error::other("another sink or process writes to it"));
        }

        let identity = FileId::of(&metadata);
        if let Some(cut) =
            self.cut.as_ref().filter(|cut| cut.identity == identity && cut.len < metadata.len())
        {
            file.set_len(cut.len)?;
        }
        match &*self.settings.form {
            Form::Json if is_torn(&file)? => io::Write::write_all(&mut file, b"\n")?,
            Form::Json => {}
            form @ Form::Csv(_) => match records(&file, form, form.header())? {
                Records::Whole => {}
                Records::CutTo(len) => file.set_len(len)?,
                // Every file has one header.
                Records::Foreign => {
                    drop(file);
                    self.settings.rotate()?;
                    return self.open(now);
                }
            },
        }
        // What is there counts as delivered: it must be on the disk, and so must the file's name.
        file.sync_data()?;
        File::open(folder)?.sync_all()?;
        self.cut = None;
        if self.seen.is_none() {
            self.seen = Some(self.settings.read_seen(&file)?);
        }
        let begun = first_time(&file, &self.settings.form)?.unwrap_or(now);
        Ok(Open { len: file.metadata()?.len(), file, identity, begun })
    }
}

impl Settings {
    fn is_full(&self, open: &Open, next: &Line, now: Timestamp) -> bool {
        let too_old = self.rotate_after.is_some_and(|limit| now.since(open.begun) >= limit);
        open.len > self.form.header().len() as u64
            && (too_old || open.len + next.text.len() as u64 > self.rotate_bytes)
    }

    /// Moves every file one place on; the last one is overwritten. A crash in between leaves a gap.
    fn rotate(&self) -> io::Result<()> {
        for place in (0..self.keep).rev() {
            match fs::rename(self.rotated(place), self.rotated(place + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.remove_surplus()?;
        File::open(folder_of(&self.path))?.sync_all()
    }

    /// What was kept while `keep` was more.
    fn remove_surplus(&self) -> io::Result<()> {
        let Some(name) = self.path.file_name() else { return Ok(()) };
        for entry in fs::read_dir(folder_of(&self.path))? {
            let entry = entry?;
            let place = place_of(name, &entry.file_name());
            let is_surplus = place.is_some_and(|place| (self.keep + 1..=KEEP_MAX).contains(&place));
            if is_surplus && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// 0 is the file that is written to.
    fn rotated(&self, place: u16) -> PathBuf {
        if place == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(&self.path);
        name.push(format!(".{place}"));
        name.into()
    }

    fn read_seen(&self, file: &File) -> io::Result<Seen> {
        let mut newest_first = last_ids(file, &self.form, REMEMBERED)?;
        for place in 1..=self.keep {
            if newest_first.len() >= REMEMBERED {
                break;
            }
            match File::open(self.rotated(place)) {
                Ok(older) => {
                    newest_first.extend(last_ids(&older, &self.form, REMEMBERED - newest_first.len())?);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut seen = Seen::default();
        newest_first.into_iter().rev().for_each(|id| seen.insert(id));
        Ok(seen)
    }
}

/// How many lines are dealt with by writing those bytes: at least one, and no more than fit into `room`.
fn next_part(lines: &[Line], seen: &Seen, room: u64) -> (usize, Vec<u8>) {
    let mut bytes = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if seen.contains(line.id) {
            continue;
        }
        if index > 0 && (bytes.len() + line.text.len()) as u64 > room {
            return (index, bytes);
        }
        bytes.extend_from_slice(&line.text);
    }
    (lines.len(), bytes)
}

/// 3 for `messages.jsonl.3`.
fn place_of(name: &OsStr, rotated: &OsStr) -> Option<u16> {
    let digits = rotated.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let place = std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?;
    // Not `.03` or `.+3`.
    (place.to_string().as_bytes() == digits).then_some(place)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
