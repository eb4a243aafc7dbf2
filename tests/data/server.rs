//! Servers of other people, as child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;

/// Who servers run as that refuse to run as root.
const NOBODY: u32 = 65_534;

/// Ended when dropped.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it; returns once it takes connections at `port`.
    pub(crate) async fn start(mut command: Command, port: u16, log: &Path) -> Result<Self> {
        let out = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let what = format!("{:?}", command.get_program());
        let child = command.spawn().with_context(|| format!("starting {what}"))?;
        let mut server = Self(child);
        for _ in 0..3000 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.0.try_wait()? {
                bail!("{what} ended with {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{what} took no connection within 30 s: {}", std::fs::read_to_string(log).unwrap_or_default())
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program, as an unprivileged user if this test is root's.
pub(crate) fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new(sandbar_tests::tool::path("setpriv"));
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg(program);
    command
}

/// A folder that unprivileged servers can write to.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    give_away(folder.path())?;
    Ok(folder)
}

/// Lets unprivileged servers read, and only them.
pub(crate) fn give_away(path: &Path) -> Result<()> {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// Runs a command that prepares a server.
pub(crate) fn prepare(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{command:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}

/// A program that is on the path, or in a folder where Debian keeps those of servers.
pub(crate) fn program(name: &str) -> PathBuf {
    let mut folders = vec![PathBuf::from("/usr/sbin")];
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| sandbar_tests::tool::path(name))
}
