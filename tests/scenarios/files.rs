//! Files that are dropped into a folder: one that is gone was taken.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::protocol::{Client, Protocol, Told};

struct Files {
    folder: tempfile::TempDir,
    count: AtomicU64,
}

/// Who writes to a name that is not looked at, and renames it then.
struct Dropping {
    folder: PathBuf,
    name: String,
    count: u64,
}

impl Protocol for Files {
    const DRIVER: &'static str = "files";
    type Client = Dropping;

    async fn start() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, count: AtomicU64::new(0) })
    }

    fn settings(&self) -> String {
        format!(
            "path = \"{}\"\nrecursive = true\nsettle_ms = 20\nremove_all_folders = true\nchunk_bytes = 65536\n",
            self.folder.path().display()
        )
    }

    async fn connect(&self, _address: &str) -> Result<Dropping> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Dropping { folder: self.folder.path().to_owned(), name: format!("client-{number}"), count: 0 })
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        vec![b"21.5\n22.5\r\n".to_vec(), b"{\"temperature\":71.5,\"unit\":\"F\"}\n".repeat(20)]
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![Vec::new(), vec![b'x'; 200_000], b"\xff\xfe\xc3\x28\n".to_vec(), vec![b'\n'; 70_000]]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[b"\n", b"\0", b"/", b"..", b"\xff", b"%", b"\x1b"]
    }

    /// The bytes are content and name: written over, made again, removed while they may be read.
    async fn throw(&self, _address: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let plain = |byte: &u8| if matches!(byte, b'/' | 0) { b'_' } else { *byte };
        let mut name = format!("thrown-{number}-").into_bytes();
        name.extend(bytes.iter().take(100).map(plain));
        let mut path = self.folder.path().to_owned();
        if number.is_multiple_of(3) {
            path.push(format!("folder-{number}"));
            std::fs::create_dir(&path)?;
        }
        path.push(std::ffi::OsStr::from_bytes(&name));
        std::fs::write(&path, &bytes)?;
        tokio::time::sleep(Duration::from_millis(number % 40)).await;
        match number % 4 {
            // It may have been taken by now, with the folder that it was in.
            0 => drop(std::fs::remove_file(&path)),
            1 => drop(std::fs::write(&path, &bytes[..bytes.len() / 2])),
            2 => drop(std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(3))),
            _ => {}
        }
        Ok(Vec::new())
    }

    /// A writer that crashes leaves the name that it had not renamed yet.
    async fn lose(&self, _address: &str, bytes: Vec<u8>) -> Result<()> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Ok(std::fs::write(self.folder.path().join(format!("lost-{number}.part")), bytes)?)
    }

    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        ensure!(answer.is_empty(), "nothing is answered");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        Some(marker.into())
    }
}

impl Client for Dropping {
    async fn send(&mut self, text: &str) -> Result<Told> {
        self.count += 1;
        let path = self.folder.join(format!("{}-{}.txt", self.name, self.count));
        let part = path.with_extension("part");
        std::fs::write(&part, text)?;
        std::fs::rename(part, &path)?;
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Told::Acknowledged)
    }
}

crate::scenarios!(Files);
