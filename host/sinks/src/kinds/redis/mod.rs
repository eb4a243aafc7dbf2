//! Messages into Redis (or Valkey, KeyDB): streams, channels, lists, keys.

#[cfg(test)]
mod far_end;
mod placing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError,
    ServerErrorKind, TlsCertificates, Value,
};
use sandbar_reading::{ConfigError, Delivery, DeliveryId, Secret};
use sandbar_tls::Renewed;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{Cause, DeliveryError, Progress, Sink, tls};
use placing::Placing;

/// One connection, opened when it is needed and kept, until a file that it depends on changes.
pub(crate) struct Redis {
    far: Renewed<Far>,
    timeout: Duration,
    placing: Placing,
    state: Mutex<State>,
}

/// What depends on files that settings name: certificates, and the URL.
struct Far {
    client: Client,
    /// Without user and password.
    address: String,
}

#[derive(Default)]
struct State {
    link: Option<(Arc<Far>, MultiplexedConnection)>,
    /// Those of the last batch that were taken after one that was not.
    ahead: HashSet<DeliveryId>,
}

/// Sends everything that waits in one pipeline, and counts a message as delivered once Redis has answered its
/// command. Redis has no place for an idempotency id but in what is written: streams have it as the field `id`,
/// `json` values as `id`; a message that is offered again is there twice, but for `set`, which is then the same.
///
/// What Redis refuses for the key's sake (it holds something of another type) becomes a dead letter if the key
/// depends on the message, and waits if it does not: then it is the configuration that is wrong.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The server: `redis://user:password@host:6379/0`, `rediss://…` for TLS, which verifies the server's
    /// certificate and name, or `unix:///run/redis.sock`. May be a secret by reference: `{ env = "NAME" }` or
    /// `{ file = "/path" }`, which is read again when it changes.
    url: Secret,
    /// What becomes of a message: `stream`, `publish`, `list` or `set`.
    #[serde(default)]
    pub(super) r#as: As,
    /// The stream, channel, list or key: a template, such as `readings:{{ topic }}`.
    pub(super) key: String,
    /// What is written: `payload` or `json`. Of streams: the value of the field `payload`, beside the fields
    /// `id`, `time`, `topic`, `device`, `content_type`, `attributes`, `reading` and `route`; or all of it as
    /// one field `json`.
    #[serde(default)]
    pub(super) value: Written,
    /// Streams and lists keep about so many of the newest entries (streams) or exactly so many (lists);
    /// without it they grow for ever.
    #[serde(default)]
    pub(super) max_length: Option<NonZeroU64>,
    /// Keys of `set` are gone after so many seconds; without it they stay.
    #[serde(default)]
    pub(super) expire_s: Option<NonZeroU64>,
    /// Connecting, and the answer to a pipeline, may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
    /// A PEM file with the certificates to trust, in place of the system's. It is read again when it changes.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum As {
    /// An entry of a stream (`XADD`).
    #[default]
    Stream,
    /// To whoever listens to a channel at the moment (`PUBLISH`); with nobody there it is gone.
    Publish,
    /// The last element of a list (`RPUSH`).
    List,
    /// The value of a key, in place of what it was (`SET`).
    Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Written {
    /// The payload as it is.
    #[default]
    Payload,
    /// A JSON object: time, topic, device, content_type, attributes, payload (or payload_base64), route,
    /// reading, id.
    Json,
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

impl Sink for Redis {
    const NAME: &'static str = "redis";
    const EXAMPLE: &'static str = r#"url = "redis://127.0.0.1:6379/0"
as = "stream"
key = "readings:{{ route }}"
max_length = 100000
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        tls::install_provider();
        let placing = Placing::new(&config)?;
        let timeout = Duration::from_millis(config.timeout_ms.get());
        let files: Vec<PathBuf> = config.url.file().into_iter().chain(config.ca_file.clone()).collect();
        let far = Renewed::new(files, move || {
            let url = config.url.resolve("url", |path| std::fs::read_to_string(path))?;
            Far::new(&url, config.ca_file.as_deref())
        })?;
        Ok(Self { far, timeout, placing, state: Mutex::default() })
    }

    async fn deliver(&self, batch: &[Delivery], _: &Progress) -> Result<(), DeliveryError> {
        let mut state = self.state.lock().await;
        let ahead = std::mem::take(&mut state.ahead);
        let mut commands = Commands::default();
        let mut unfit = None;
        for (index, delivery) in batch.iter().enumerate() {
            if ahead.contains(&delivery.id) {
                continue;
            }
            match self.placing.command(delivery) {
                Ok(command) => commands.add(index, command),
                Err(cause) => {
                    unfit = Some(DeliveryError::Reject { rejected: index, cause });
                    break;
                }
            }
        }
        let sent = match commands.places.is_empty() {
            true => Ok(()),
            false => self.send(&mut state, commands, batch).await,
        };
        // What is ahead is offered again only if something before it was not taken.
        if sent.is_err() || unfit.is_some() {
            state.ahead.extend(ahead);
        }
        sent.and(unfit.map_or(Ok(()), Err))
    }
}

impl Redis {
    /// The answers come in order. Those before the first that is an error were taken; those after it may have
    /// been, and are remembered, as they will be offered again.
    async fn send(
        &self,
        state: &mut State,
        commands: Commands,
        batch: &[Delivery],
    ) -> Result<(), DeliveryError> {
        let retry = |delivered, cause| DeliveryError::Retry { delivered, after: None, cause };
        let first = commands.places.first().copied().unwrap_or_default();
        let far = self.far.current();
        // One whose use was given up half-way is not used again.
        let kept = state.link.take().filter(|(of, _)| Arc::ptr_eq(of, &far));
        let mut link = match kept {
            Some((_, link)) => link,
            None => {
                let connected = self.connect(&far.client).await;
                connected.map_err(|error| retry(first, far.cause("connecting to", &error)))?
            }
        };
        let mut pipeline = commands.pipeline;
        self.placing.trim(&commands.keys, &mut pipeline);
        let answers: Result<Vec<Result<Value, RedisError>>, RedisError> =
            pipeline.ignore_errors().query_async(&mut link).await;
        let answers = answers.map_err(|error| retry(first, far.cause("sending to", &error)))?;
        let mut failed = None;
        for (index, answer) in commands.places.into_iter().zip(answers) {
            match (answer, &failed) {
                (Ok(_), None) | (Err(_), Some(_)) => {}
                (Ok(_), Some(_)) => drop(state.ahead.insert(batch[index].id)),
                (Err(error), None) => failed = Some((index, error)),
            }
        }
        let Some((index, error)) = failed else {
            state.link = Some((far, link));
            return Ok(());
        };
        let cause = Cause::of(&far.address, &error);
        match self.placing.depends_on_message() && is_of_the_key(&error) {
            true => {
                state.link = Some((far, link));
                Err(DeliveryError::Reject { rejected: index, cause })
            }
            // Another connection may lead to a server that is well.
            false => Err(retry(index, cause)),
        }
    }

    async fn connect(&self, client: &Client) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// Of one batch, on its way.
#[derive(Default)]
struct Commands {
    pipeline: redis::Pipeline,
    /// Which delivery each command is for.
    places: Vec<usize>,
    /// Each once.
    keys: BTreeSet<String>,
}

impl Commands {
    fn add(&mut self, index: usize, (key, command): (String, redis::Cmd)) {
        self.pipeline.add_command(command);
        self.places.push(index);
        self.keys.insert(key);
    }
}

impl Far {
    fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, ConfigError> {
        // The URL has a password in it: errors say what is wrong with it, not what it is.
        let refused = |error: &RedisError| ConfigError::at("url", error.to_string());
        let info = url.into_connection_info().map_err(|error| refused(&error))?;
        let address = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                let problem = "`#insecure` would verify nothing: set ca_file instead";
                return Err(ConfigError::at("url", problem));
            }
            ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{host}:{port}"),
            ConnectionAddr::Tcp(host, port) => format!("redis://{host}:{port}"),
            ConnectionAddr::Unix(path) => format!("unix:{}", path.display()),
            _ => "redis".to_owned(),
        };
        let client = match ca_file {
            Some(path) => {
                let pem = tls::read_pem("ca_file", path)?;
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(info, certificates)
                    .map_err(|_| ConfigError::at("ca_file", "is for a url that begins with rediss://"))?
            }
            None => Client::open(info).map_err(|error| refused(&error))?,
        };
        Ok(Self { client, address })
    }

    fn cause(&self, doing: &str, error: &RedisError) -> Cause {
        Cause::of(&format!("{doing} {}", self.address), error)
    }
}

/// The key holds something else than what is to be added to it.
fn is_of_the_key(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
        || error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
            && error.detail().is_some_and(|detail| detail.contains("string exceeds maximum allowed size"))
}
