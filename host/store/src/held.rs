//! Keeps a file as it is until it has proved to be ours.
//!
//! redb writes as soon as it opens a file. A file that turns out to be damaged, or of a newer format, must
//! not be touched: writes are held back in memory until they are released.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// What redb is given. Until [`Release::release`] nothing is written; if that is never called, never.
#[derive(Debug)]
pub(crate) struct Held(Arc<Shared>);

/// The other end of a [`Held`].
#[derive(Debug)]
pub(crate) struct Release(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Box<dyn StorageBackend>,
    holding: AtomicBool,
    held: Mutex<Overlay>,
    len: AtomicU64,
}

#[derive(Debug, Default)]
struct Overlay {
    len: u64,
    writes: Vec<Write>,
}

#[derive(Debug)]
enum Write {
    Bytes { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

pub(crate) fn hold(inner: Box<dyn StorageBackend>) -> io::Result<(Held, Release)> {
    let len = inner.len()?;
    let held = Mutex::new(Overlay { len, writes: Vec::new() });
    let shared = Shared { inner, holding: AtomicBool::new(true), held, len: AtomicU64::new(len) };
    let shared = Arc::new(shared);
    Ok((Held(shared.clone()), Release(shared)))
}

impl Release {
    /// Writes what was held back, as it was ordered; from now on writes go through.
    pub(crate) fn release(&self) -> io::Result<()> {
        let mut held = self.0.held.lock();
        for write in held.writes.drain(..) {
            match write {
                Write::Bytes { offset, data } => self.0.inner.write(offset, &data)?,
                Write::SetLen(len) => self.0.inner.set_len(len)?,
                Write::Sync => self.0.inner.sync_data()?,
            }
        }
        self.0.holding.store(false, Ordering::Release);
        Ok(())
    }

    /// Bytes of the file.
    pub(crate) fn file_len(&self) -> u64 {
        self.0.len.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The overlay, if writes are being held back.
    fn overlay(&self) -> Option<parking_lot::MutexGuard<'_, Overlay>> {
        if !self.holding.load(Ordering::Acquire) {
            return None;
        }
        let overlay = self.held.lock();
        self.holding.load(Ordering::Acquire).then_some(overlay)
    }
}

impl Overlay {
    fn read(&self, inner: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What lies behind the real end reads as zeros.
        let there = inner.len()?.clamp(offset, end);
        let (real, zeros) = out.split_at_mut((there - offset) as usize);
        if !real.is_empty() {
            inner.read(offset, real)?;
        }
        zeros.fill(0);
        for write in &self.writes {
            match write {
                Write::Bytes { offset: at, data } => overlap(out, offset, *at, data),
                // What is cut off and grown back reads as zeros.
                Write::SetLen(len) if *len < end => out[len.saturating_sub(offset) as usize..].fill(0),
                Write::SetLen(_) | Write::Sync => {}
            }
        }
        Ok(())
    }
}

/// Copies the part of `data`, which lies at `at`, that falls into `out`, which lies at `offset`.
fn overlap(out: &mut [u8], offset: u64, at: u64, data: &[u8]) {
    let from = at.max(offset);
    let to = (at + data.len() as u64).min(offset + out.len() as u64);
    if from < to {
        let length = (to - from) as usize;
        let (target, origin) = ((from - offset) as usize, (from - at) as usize);
        out[target..target + length].copy_from_slice(&data[origin..origin + length]);
    }
}

type Edge = Bound<u64>;

impl StorageBackend for Held {
    fn len(&self) -> io::Result<u64> {
        match self.0.overlay() {
            Some(overlay) => Ok(overlay.len),
            None => self.0.inner.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.overlay() {
            Some(overlay) => overlay.read(&*self.0.inner, offset, out),
            None => self.0.inner.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.0.overlay() {
            Some(mut overlay) => {
                overlay.len = len;
                overlay.writes.push(Write::SetLen(len));
            }
            None => self.0.inner.set_len(len)?,
        }
        self.0.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.0.overlay() {
            Some(mut overlay) => overlay.writes.push(Write::Sync),
            None => self.0.inner.sync_data()?,
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.0.overlay() {
            Some(mut overlay) => {
                overlay.len = overlay.len.max(offset + data.len() as u64);
                overlay.writes.push(Write::Bytes { offset, data: data.to_vec() });
                Ok(())
            }
            None => self.0.inner.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }

    fn try_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn nothing_is_written_before_the_release_and_everything_after_it() {
        let inner = InMemoryBackend::new();
        inner.set_len(8).unwrap();
        inner.write(0, b"original").unwrap();
        let (held, release) = hold(Box::new(inner)).unwrap();
        held.write(2, b"XY").unwrap();
        held.set_len(4).unwrap();
        held.set_len(10).unwrap();
        held.write(8, b"Z").unwrap();
        let mut out = [9; 10];
        held.read(0, &mut out).unwrap();
        assert_eq!(&out, b"orXY\0\0\0\0Z\0");
        assert!(held.read(1, &mut out).is_err());
        let mut below = [0; 8];
        held.0.inner.read(0, &mut below).unwrap();
        assert_eq!(&below, b"original");

        release.release().unwrap();
        held.write(0, b"O").unwrap();
        held.0.inner.read(0, &mut out).unwrap();
        assert_eq!(&out, b"OrXY\0\0\0\0Z\0");
        assert_eq!(release.file_len(), 10);
    }
}
