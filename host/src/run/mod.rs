//! `sandbar run`: from a configuration to a host that runs until it is told to stop.

mod banner;
mod connector;
mod origin;
mod signals;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sandbar_control::{Applied, Control, Declared, Item, Start};
use sandbar_reading::{Secret, SystemClock};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::connector::CloudConnector;
use self::origin::Origin;
use self::signals::{Asked, Signals};
use self::watch::Watch;

/// Where a host keeps what lasts, unless its configuration says otherwise.
pub(crate) const DATA_DIR: &str = "sandbar-data";

/// Two looks at the same new content make a reload.
const LOOK_EVERY: Duration = Duration::from_millis(400);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration [default: sandbar.toml, if it is there]
    #[arg(long, env = "SANDBAR_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Runs an embedded configuration with example modules and simulated sensors, and says what to try
    #[arg(long, conflicts_with = "config")]
    demo: bool,
    /// Where the API listens; port 0 takes a free one [default: what the configuration says]
    #[arg(long, env = "SANDBAR_API_LISTEN", hide_env_values = true, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// Seconds that stopping may take; then it is forced
    #[arg(
        long,
        env = "SANDBAR_GRACE_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value_t = 10
    )]
    grace_s: u64,
    /// The folder of the demo's modules [default: where `make guests` puts them]
    #[arg(long, env = "SANDBAR_GUESTS", hide_env_values = true, value_name = "DIR")]
    guests: Option<PathBuf>,
}

/// How a host came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Gracefully,
    /// It took longer than its grace, or was told a second time.
    ByForce,
}

/// `data` and `token` take the place of what the configuration says.
pub(crate) async fn run(
    options: Options,
    data: Option<PathBuf>,
    token: Option<String>,
) -> anyhow::Result<Stopped> {
    open_many_files();
    let mut signals = Signals::listen().context("listening for signals")?;
    let origin = Origin::find(options.config, options.demo, data.as_deref(), options.guests)?;
    let overrides = Overrides { token };
    let declared = overrides.apply(origin.load()?);
    let data_dir = data.unwrap_or_else(|| declared.host().data_dir.clone());
    let listen = options.api_listen.unwrap_or(declared.api().listen);
    let files = declared.files();
    let mut watch = Watch::default();
    // A change during the start counts, but that the demo writes its file.
    if !options.demo {
        watch.set(&files);
    }

    let start =
        Start { data_dir: data_dir.clone(), declared: declared.clone(), clock: Arc::new(SystemClock) };
    let control = Control::start(start).await?;
    let grace = Duration::from_secs(options.grace_s);
    let origin = match origin.settle() {
        Ok(origin) => origin,
        Err(error) => {
            control.stop(grace).await;
            return Err(error);
        }
    };
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            control.stop(grace).await;
            return Err(error).with_context(|| {
                format!("the API cannot listen on {listen}: choose another address with [api] listen or --api-listen")
            });
        }
    };
    let stop = CancellationToken::new();
    let connector = match CloudConnector::start(control.clone(), stop.clone()).await {
        Ok(connector) => connector,
        Err(error) => {
            control.stop(grace).await;
            return Err(error);
        }
    };
    let api = listener.local_addr().context("finding the API's address")?;
    let token = sandbar_api::Token::new(control.token());
    let mut server = tokio::spawn(sandbar_api::serve(listener, control.clone(), token, stop.clone()));
    if let Err(error) = banner::print(&control, api, &data_dir, &origin, options.demo).await {
        warn!(%error, "standard output cannot be written to: the API is at http://{api}");
    }

    watch.set(&files);
    let mut host = Host { control, origin, overrides, watch, connector };
    let (ended, server) = tokio::select! {
        () = host.until_stopped(&mut signals) => (Ok(()), Some(server)),
        ended = &mut server => (Err(why_ended(ended)), None),
    };
    info!(grace_s = grace.as_secs(), "stopping");
    stop.cancel();
    let stopped = stop_within(grace, &host.control, server, host.connector, &mut signals).await;
    ended.map(|()| stopped)
}

/// As many as the system lets it, not the 1024 that suit programs which call `select`. Connections and logs that are
/// followed each take one.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%problem, soft = limit.current, hard = limit.maximum, "raising the limit of open files");
    }
}

/// What the command line and the environment say over the file.
struct Overrides {
    token: Option<String>,
}

impl Overrides {
    fn apply(&self, declared: Declared) -> Declared {
        match &self.token {
            Some(token) => declared.with_token(Secret::inline(token.trim())),
            None => declared,
        }
    }
}

struct Host {
    control: Control,
    origin: Origin,
    overrides: Overrides,
    watch: Watch,
    connector: CloudConnector,
}

impl Host {
    /// Reloads when a file changes or a signal says so, until one says to stop.
    async fn until_stopped(&mut self, signals: &mut Signals) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return,
                    Asked::Reload => self.reload().await,
                },
                _ = looks.tick() => {
                    if self.look().await {
                        self.reload().await;
                    }
                    // The API reloads, too.
                    self.connector.follow().await;
                }
            }
        }
    }

    async fn look(&mut self) -> bool {
        let mut watch = std::mem::take(&mut self.watch);
        // Disks are slow, some of them.
        let looked = tokio::task::spawn_blocking(move || {
            let changed = watch.look();
            (watch, changed)
        });
        let Ok((watch, changed)) = looked.await else { return false };
        self.watch = watch;
        changed
    }

    /// All of the new configuration, or nothing of it.
    async fn reload(&mut self) {
        let declared = match self.origin.load() {
            Ok(declared) => self.overrides.apply(declared),
            Err(problem) => return error!("the configuration stays as it was: {problem}"),
        };
        self.watch.set(&declared.files());
        match self.control.apply(declared).await {
            Ok(applied) => {
                info!("the configuration is reloaded: {}", changes(&applied));
                if !applied.at_next_start.is_empty() {
                    warn!(
                        settings = applied.at_next_start.join(", "),
                        "changed, and in effect at the next start"
                    );
                }
            }
            Err(problem) => error!("the configuration stays as it was: {problem}"),
        }
    }
}

/// `added sink out; changed route a, route b`
fn changes(applied: &Applied) -> String {
    let parts = [("added", &applied.added), ("changed", &applied.changed), ("removed", &applied.removed)];
    let part = |(what, items): (&str, &Vec<Item>)| {
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        (!items.is_empty()).then(|| format!("{what} {}", items.join(", ")))
    };
    let parts: Vec<String> = parts.into_iter().filter_map(part).collect();
    if parts.is_empty() { "nothing changed".to_owned() } else { parts.join("; ") }
}

/// Nothing ends the API but a stop, unless it fails.
fn why_ended(ended: Result<io::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the API ended"),
        Ok(Err(error)) => anyhow::Error::new(error).context("the API ended"),
        Err(error) => anyhow::Error::new(error).context("the API ended"),
    }
}

/// What was asked of the API is answered, what is in flight finished or left to the next start.
async fn stop_within(
    grace: Duration,
    control: &Control,
    server: Option<JoinHandle<io::Result<()>>>,
    connector: CloudConnector,
    signals: &mut Signals,
) -> Stopped {
    let stopped = async {
        // They are told to end: how they do changes nothing.
        let ((), (), ()) = tokio::join!(
            control.stop(grace),
            async {
                if let Some(server) = server {
                    let _ = server.await;
                }
            },
            connector.ended(),
        );
    };
    tokio::select! {
        stopped = timeout(grace, stopped) => match stopped {
            Ok(()) => Stopped::Gracefully,
            Err(_) => {
                warn!(grace_s = grace.as_secs(), "stopped by force: what was in flight is done again at the next start");
                Stopped::ByForce
            }
        },
        () = signals.stop() => {
            warn!("stopped by force, told twice");
            Stopped::ByForce
        }
    }
}
