//! What a log is called once it was rotated, and finding it again.

use std::fs::File;
use std::io;
use std::path::Path;

use super::position::Position;
use crate::drivers::files::file::{self, Signature};

/// By so many bytes a copy is told from a log that only begins like another.
const COMPARED_BYTES: usize = 64 << 10;

/// What `key` may have been called before: `a.log` for `a.log.1`, `a.log-20261127` and `a-20261127.log`.
pub(super) fn originals(key: &str) -> impl Iterator<Item = String> {
    let (folder, name) =
        key.rsplit_once('/').map_or(("", key), |(_, name)| (&key[..key.len() - name.len()], name));
    let whole = base(name).map(|base| format!("{folder}{base}"));
    let with_extension = name.rsplit_once('.').and_then(|(stem, extension)| {
        let is_extension = !extension.is_empty() && extension.chars().all(char::is_alphabetic);
        is_extension.then(|| base(stem).map(|base| format!("{folder}{base}.{extension}")))?
    });
    whole.into_iter().chain(with_extension)
}

/// Without a number or date at the end.
fn base(name: &str) -> Option<&str> {
    let end = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | ':' | 'T'));
    let suffix = &name[end.len()..];
    let counts = suffix.starts_with(['.', '-', '_']) && suffix.contains(|c: char| c.is_ascii_digit());
    (counts && !end.is_empty()).then_some(end)
}

/// A file that a log was renamed or copied to.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) file: File,
    pub(super) signature: Signature,
}

/// In the order in which they were written. Compressed ones cannot be read.
pub(super) fn older(path: &Path) -> io::Result<Vec<Older>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut older = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(other) = entry.file_name().into_string() else { continue };
        if originals(&other).any(|original| original == name)
            && let Some((file, signature)) = file::open(&entry.path(), false)?
        {
            older.push(Older { file, signature });
        }
    }
    older.sort_by_key(|older| older.signature.modified);
    Ok(older)
}

/// Where the rest of what was read up to `position` is. The same file under another name goes before a copy.
pub(super) fn find(path: &Path, position: &Position) -> io::Result<Option<Older>> {
    let mut copy = None;
    for older in older(path)? {
        if !position.is_of(&older.file, &older.signature)? {
            continue;
        }
        if older.signature.inode == position.inode {
            return Ok(Some(older));
        }
        // Of nothing, every file is a copy.
        if position.offset > 0 {
            copy = Some(older);
        }
    }
    Ok(copy)
}

/// What was written after `done`, and rotated, too: the first of them. A copy of what `named` has now is none: that
/// will be cut.
pub(super) fn next_after(path: &Path, done: &Signature, named: Option<&File>) -> io::Result<Option<Older>> {
    for older in older(path)? {
        let is_later = older.signature.modified > done.modified && older.signature.inode != done.inode;
        let is_copy = || named.map_or(Ok(false), |named| begins_with(named, &older));
        if is_later && !is_copy()? {
            return Ok(Some(older));
        }
    }
    Ok(None)
}

/// Whether `file` begins with all of what is in `older`, as far as is worth a look.
fn begins_with(file: &File, older: &Older) -> io::Result<bool> {
    let size = older.signature.size;
    let looked_at = usize::try_from(size).unwrap_or(usize::MAX).min(COMPARED_BYTES);
    let is_as_long = file.metadata()?.len() >= size;
    Ok(is_as_long && file::bytes_at(file, 0, looked_at)? == file::bytes_at(&older.file, 0, looked_at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_logs_are_rotated_to() {
        let originals = |key: &str| originals(key).collect::<Vec<_>>();
        assert_eq!(originals("app.log.1"), ["app.log"]);
        assert_eq!(originals("in/app.log-20261127"), ["in/app.log"]);
        assert_eq!(originals("app-20261127.log"), ["app.log"]);
        assert_eq!(originals("app.2026-11-27T08:00.log"), ["app.log"]);
        assert_eq!(originals("app.log"), Vec::<String>::new());
        assert_eq!(originals("app1.log"), Vec::<String>::new());
        assert_eq!(originals("1.2"), Vec::<String>::new());
        assert_eq!(originals("app.log.1.gz"), ["app.log.gz"], "a compressed log is no log");
    }
}
