//! Compiled code on disk, by the component's digest and the engine's settings.
//!
//! Loading compiled code runs it, so nothing is loaded that another user could have written, or that is not
//! byte for byte what was stored: the directory is 0700, files are ours and 0600, and a checksum lies beside the
//! code. Whatever is wrong with an entry, the component is compiled anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twox_hash::XxHash3_64;
use wasmtime::Engine;
use wasmtime::component::Component;

pub(crate) struct Cache {
    dir: PathBuf,
    engine: u64,
    bytes_max: u64,
}

impl Cache {
    /// Makes the directory, or takes it over if it is ours.
    pub(crate) fn open(dir: PathBuf, engine: &Engine, bytes_max: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let mut hasher = XxHash3_64::with_seed(0);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { dir, engine: hasher.finish(), bytes_max };
        cache.shrink();
        Ok(cache)
    }

    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.code_path(digest);
        match self.read(engine, &path) {
            Ok(component) => Some(component),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "compiled code is not usable, compiling again");
                }
                None
            }
        }
    }

    #[allow(unsafe_code, reason = "the code was written by this user and is what the checksum says")]
    fn read(&self, engine: &Engine, path: &Path) -> io::Result<Component> {
        let mut file = open_own(path)?;
        let mut expected = String::new();
        open_own(&sum_path(path))?.take(64).read_to_string(&mut expected)?;
        if checksum(&mut file)? != expected {
            return Err(io::Error::other("its checksum does not match"));
        }
        // What was used last is kept longest.
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        rustix::fs::futimens(&file, &rustix::fs::Timestamps { last_access: now, last_modification: now })?;
        // SAFETY: only this user can have written the file, and it is unchanged since `store` wrote what
        // wasmtime had serialized. Mapped, not read: its pages are shared and can be dropped.
        unsafe { Component::deserialize_file(engine, path) }
            .map_err(|error| io::Error::other(format!("{error:#}")))
    }

    /// A cache that cannot be written costs time at the next start, nothing else.
    pub(crate) fn store(&self, component: &Component, digest: &str) {
        let path = self.code_path(digest);
        let stored =
            component.serialize().map_err(|error| io::Error::other(format!("{error:#}"))).and_then(|code| {
                replace(&path, &code)?;
                replace(&sum_path(&path), checksum(&mut code.as_slice())?.as_bytes())
            });
        match stored {
            Ok(()) => self.shrink(),
            Err(error) => tracing::warn!(path = %path.display(), %error, "compiled code cannot be kept"),
        }
    }

    fn code_path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.code", self.engine))
    }

    /// Removes what was not used for longest, until the rest fits.
    fn shrink(&self) {
        let mut files = self.code_files().unwrap_or_default();
        files.sort_unstable_by_key(|file| std::cmp::Reverse(file.used));
        let mut total = 0;
        for file in files {
            total += file.bytes;
            if total > self.bytes_max {
                // If it cannot be removed now, the next start tries again.
                let _ = fs::remove_file(sum_path(&file.path));
                let _ = fs::remove_file(&file.path);
            }
        }
    }

    fn code_files(&self) -> io::Result<Vec<CodeFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "code") {
                let metadata = entry.metadata()?;
                files.push(CodeFile { path, bytes: metadata.len(), used: metadata.modified()? });
            }
        }
        Ok(files)
    }
}

struct CodeFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

fn sum_path(code: &Path) -> PathBuf {
    code.with_extension("sum")
}

/// Opens a plain file that this user owns and no other can write.
fn open_own(path: &Path) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(no_follow).unwrap_or_default())
        .open(path)?;
    let metadata = file.metadata()?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    match metadata.is_file() && own && metadata.mode() & 0o077 == 0 {
        true => Ok(file),
        false => Err(io::Error::other("it is another user's, or others can write it")),
    }
}

/// Whole, or as it was.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

/// Against damage, not against an attacker, who could write the checksum too.
fn checksum(content: &mut impl Read) -> io::Result<String> {
    let mut hasher = XxHash3_64::with_seed(0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(format!("{:016x}", hasher.finish())),
            read => hasher.write(&buffer[..read]),
        }
    }
}
