//! How far a file was read, and whether what is there now is still that file.

use std::fs::File;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{StateWrite, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drivers::files::file::{self, Signature};

/// What was read last of it, up to so many bytes, is how it is recognised.
pub(super) const MARK_BYTES: usize = 256;

/// Of a file that is not seen for so long, nothing is known any more.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// Kept with every line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) inode: u64,
    /// Where the next line begins.
    pub(super) offset: u64,
    /// Of the bytes before it.
    pub(super) mark: u64,
}

/// Of what is kept of a file.
pub(super) fn name(key: &str) -> Box<str> {
    format!("tail/{key}").into()
}

impl Position {
    pub(super) fn write(&self, key: &str, now: Timestamp) -> StateWrite {
        let value = postcard::to_stdvec(self).expect("numbers, written to memory");
        StateWrite { name: name(key), value: Some(Bytes::from(value)), expires: Some(now.after(KEPT_FOR)) }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// Whether `file` still has what was read of it. An inode may be another file's by now, and a file that was cut
    /// to nothing may have grown again.
    pub(super) fn is_of(&self, file: &File, signature: &Signature) -> io::Result<bool> {
        Ok(signature.size >= self.offset && mark_before(file, self.offset)? == self.mark)
    }
}

/// Whether a position is to be kept, or to be kept again so that it does not expire while its file is there.
pub(super) fn is_due(kept_at: Option<Timestamp>, now: Timestamp) -> bool {
    kept_at.is_none_or(|kept| now.since(kept) > KEPT_FOR / 3)
}

pub(super) fn mark_before(file: &File, offset: u64) -> io::Result<u64> {
    let from = offset.saturating_sub(MARK_BYTES as u64);
    let bytes = file::bytes_at(file, from, usize::try_from(offset - from).unwrap_or_default())?;
    Ok(mark_of(&bytes))
}

/// Of the last bytes of these.
pub(super) fn mark_of(bytes: &[u8]) -> u64 {
    let from = bytes.len().saturating_sub(MARK_BYTES);
    let digest = Sha256::digest(&bytes[from..]);
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_again_long_before_it_expires() {
        let now = Timestamp::default().after(KEPT_FOR * 100);
        let before = |parts: u32| Some(now.before(KEPT_FOR / 90 * parts));
        assert!(is_due(None, Timestamp::default()) && is_due(Some(Timestamp::default()), now));
        assert!(is_due(before(31), now) && !is_due(before(29), now));
    }

    #[test]
    fn a_file_is_recognised_by_what_was_read_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let is_of = |position: Position| {
            let (file, signature) = file::open(&path, false).unwrap().unwrap();
            position.is_of(&file, &signature).unwrap()
        };
        let text = "x".repeat(300) + "end\n";
        std::fs::write(&path, &text).unwrap();
        let position = Position { inode: 1, offset: 304, mark: mark_of(text.as_bytes()) };
        assert!(is_of(position));
        std::fs::write(&path, format!("{text}more")).unwrap();
        assert!(is_of(position));
        std::fs::write(&path, "new").unwrap();
        assert!(!is_of(position));
        std::fs::write(&path, "y".repeat(400)).unwrap();
        assert!(!is_of(position), "cut to nothing, and longer than before");
        assert_eq!(Position::read(&position.write("a", Timestamp::default()).value.unwrap()), Some(position));
    }
}
