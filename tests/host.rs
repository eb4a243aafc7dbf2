//! The real binary as a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The binary under test: `SANDBAR_BIN`, or the one that was built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SANDBAR_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let path =
        test.ancestors().nth(2).expect("tests are in a folder of the target directory").join("sandbar");
    assert!(path.exists(), "{} is not there: `cargo build -p sandbar` first", path.display());
    path
}

/// A component built from this repository's sources by `make guests`.
pub fn guest(name: &str) -> PathBuf {
    let folder = std::env::var_os("SANDBAR_GUESTS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("SANDBAR_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/sandbar")
        });
        cache.join("guests")
    });
    let path = folder.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is not there: `make guests` first", path.display());
    path
}

/// A running host, killed when dropped.
pub struct Host {
    child: Child,
    pub folder: PathBuf,
    pub api: String,
    token: String,
    pub http: reqwest::Client,
}

impl Host {
    /// Starts a host on `folder`, which holds `sandbar.toml`; returns once it is ready.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, Command::new(binary())).await
    }

    /// The same by way of another program (`prlimit … sandbar`, `strace … sandbar`).
    pub async fn start_with(folder: &Path, mut command: Command) -> Result<Self> {
        command.args(["run", "--config"]).arg(folder.join("sandbar.toml"));
        Self::launch(folder, command).await
    }

    /// Starts a host in `folder`, which holds no `sandbar.toml`, with these environment variables.
    pub async fn start_without_file(folder: &Path, variables: &[(&str, String)]) -> Result<Self> {
        let mut command = Command::new(binary());
        command.args(["run", "--api-listen", "127.0.0.1:0"]).envs(variables.iter().cloned());
        Self::launch(folder, command).await
    }

    async fn launch(folder: &Path, mut command: Command) -> Result<Self> {
        // A new process has a new address: what the last one wrote must not be read.
        let out = folder.join("stdout");
        let child = command
            .current_dir(folder)
            .env("SANDBAR_LOG", std::env::var("SANDBAR_LOG").unwrap_or_else(|_| "warn".into()))
            .stdout(std::fs::File::create(&out)?)
            .stderr(std::fs::File::options().create(true).append(true).open(folder.join("stderr"))?)
            .stdin(Stdio::null())
            .spawn()
            .context("starting the host")?;
        // An error says that there is one already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut host = Self {
            child,
            folder: folder.to_owned(),
            api: String::new(),
            token: String::new(),
            http: reqwest::Client::builder().pool_max_idle_per_host(64).build()?,
        };
        for _ in 0..1500 {
            let text = std::fs::read_to_string(&out)?;
            let ready = text.lines().find_map(|line| line.strip_prefix("sandbar: ready api="));
            if let Some(api) = ready.filter(|_| text.ends_with('\n')) {
                host.api = api.trim_end_matches('/').to_owned();
                host.token = std::fs::read_to_string(host.data("token"))?.trim().to_owned();
                return Ok(host);
            }
            if let Some(status) = host.child.try_wait()? {
                bail!("the host ended with {status}:\n{}", host.stderr());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the host was not ready within 15 s:\n{}", host.stderr())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A file of the data directory, also where a disk is mounted there that only the host sees.
    pub fn data(&self, file: &str) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/{}/root", self.child.id())).into_os_string();
        path.push(self.folder.join("sandbar-data").join(file));
        path.into()
    }

    /// This program again, as a client of this host.
    pub fn cli(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(binary());
        command.args(arguments).args(["--url", &self.api]).current_dir(&self.folder).kill_on_drop(true);
        command
    }

    /// Everything that this and earlier hosts on the same folder had to complain of.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM; returns the exit code.
    pub async fn terminate(mut self) -> Result<Option<i32>> {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(done.success(), "kill -TERM failed");
        for _ in 0..2000 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("still running 20 s after SIGTERM")
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.api)).bearer_auth(&self.token)
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.request(reqwest::Method::GET, path).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.is_success(), "GET {path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Every item of a listing, page by page.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => self.get(&format!("{path}{separator}limit=1000")).await?,
                Some(cursor) => self.get(&format!("{path}{separator}limit=1000&cursor={cursor}")).await?,
            };
            items.extend(page["items"].as_array().context("no items")?.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// The address that an ingress listens on.
    pub async fn ingress(&self, name: &str) -> Result<String> {
        for _ in 0..500 {
            let ingress = self.get(&format!("/v1/ingresses/{name}")).await?;
            if let Some(address) = ingress["status"]["address"].as_str() {
                return Ok(format!("http://{address}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("ingress {name} has no address after 5 s")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
