//! Appending whole lines, durably, or nothing.

use std::fs::File;
use std::io::{self, Write};

/// What is appended to: a file, or a test's.
pub(super) trait Medium {
    fn len(&self) -> io::Result<u64>;
    /// May have written a part when it fails.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

impl Medium for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

#[derive(Debug)]
pub(super) struct AppendError {
    pub source: io::Error,
    /// The length to cut the file to before it is used again: what lies beyond may be half a line, or lines
    /// that only seem to be on the disk. `None` if that is done.
    pub cut_to: Option<u64>,
}

/// Appends `bytes` and syncs them. After an error the medium is to be opened anew.
pub(super) fn append(medium: &mut impl Medium, bytes: &[u8]) -> Result<(), AppendError> {
    let before = medium.len().map_err(|source| AppendError { source, cut_to: None })?;
    medium.write_all(bytes).and_then(|()| medium.sync()).map_err(|source| {
        // A failed sync may drop what was written and succeed the next time: nothing of it can be relied on.
        let cut = medium.set_len(before).and_then(|()| medium.sync());
        AppendError { source, cut_to: cut.err().map(|_| before) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for `room` bytes.
    #[derive(Default)]
    struct Disk {
        content: Vec<u8>,
        room: usize,
        sync_fails: bool,
        cut_fails: bool,
    }

    impl Medium for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.content.len() as u64)
        }

        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.room - self.content.len());
            self.content.extend_from_slice(&bytes[..fits]);
            if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.sync_fails { Err(io::Error::other("EIO")) } else { Ok(()) }
        }

        fn set_len(&mut self, len: u64) -> io::Result<()> {
            if self.cut_fails {
                return Err(io::Error::other("EIO"));
            }
            self.content.truncate(len as usize);
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_keeps_no_half_line() {
        let mut disk = Disk { content: b"one\n".to_vec(), room: 10, ..Disk::default() };
        let error = append(&mut disk, b"two\nthree\n").unwrap_err();
        assert_eq!((error.source.kind(), error.cut_to), (io::ErrorKind::StorageFull, None));
        assert_eq!(disk.content, b"one\n");

        disk.room = 100;
        append(&mut disk, b"two\nthree\n").unwrap();
        assert_eq!(disk.content, b"one\ntwo\nthree\n");
    }

    #[test]
    fn what_could_not_be_synced_or_cut_is_to_be_cut_later() {
        let mut disk = Disk { room: 100, sync_fails: true, ..Disk::default() };
        assert_eq!(append(&mut disk, b"one\n").unwrap_err().cut_to, Some(0));
        assert_eq!(disk.content, b"");

        disk = Disk { content: b"one\n".to_vec(), room: 6, cut_fails: true, ..Disk::default() };
        assert_eq!(append(&mut disk, b"two\n").unwrap_err().cut_to, Some(4));
        assert_eq!(disk.content, b"one\ntw");
    }
}
