//! Messages as rows of a SQL database.

mod link;
mod parameter;
mod statement;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sandbar_reading::{ConfigError, Delivery, Secret};
use sandbar_tls::Renewed;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::file_id::FileId;
use crate::{Cause, DeliveryError, Progress, Sink};
use link::{Failed, Link, Target};
use parameter::{ParameterConfig, Source};
use statement::Statement;
use value::Value;

/// One connection, opened when it is needed and kept, until a file that it depends on changes.
pub(crate) struct Sql {
    target: Renewed<Target>,
    statement: Statement<Source>,
    create: Option<String>,
    connect_timeout: Duration,
    link: Mutex<Option<Kept>>,
}

/// A connection between two transactions.
struct Kept {
    link: Link,
    target: Arc<Target>,
    used: Instant,
    /// The database's file, where it is one.
    file: Option<FileId>,
}

/// Runs one statement a message, everything that waits in one transaction.
///
/// Named parameters stand for what is in the message: `:id` (the same at every attempt), `:reading`, `:route`,
/// `:topic`, `:device`, `:time` (a timestamp of the database's own type; RFC 3339 text for SQLite), `:time_ms`
/// (milliseconds since 1970), `:content_type`, `:attributes` (a JSON object), `:payload` (bytes),
/// `:payload_text`, `:payload_json`, and those under `parameters`.
///
/// A message may be offered more than once: make `:id` the primary key, and end the statement with
/// `ON CONFLICT DO NOTHING` (SQLite, PostgreSQL) or begin it with `INSERT IGNORE` (MariaDB, MySQL; it turns
/// values that do not fit into warnings) or end it with `ON DUPLICATE KEY UPDATE id = id`.
///
/// A row that breaks a constraint, or whose values do not fit, becomes a dead letter; the others of its
/// transaction are written. Anything else (no connection, no such table, a deadlock) is tried again later.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The database: `sqlite:/var/lib/sandbar/readings.db`, `postgres://user:password@host/database` or
    /// `mysql://user:password@host/database` (MariaDB too). May be a secret by reference: `{ env = "NAME" }`
    /// or `{ file = "/path" }`, which is read again when it changes.
    url: Secret,
    /// The statement, with named parameters.
    statement: String,
    /// Statements that are run whenever a connection was made, such as `CREATE TABLE IF NOT EXISTS …`.
    #[serde(default)]
    create: Option<String>,
    /// Further parameters, by name: values in a JSON payload, and attributes.
    #[serde(default)]
    parameters: BTreeMap<String, ParameterConfig>,
    /// Whether the connection is encrypted, and the server's certificate and name are verified. The default is
    /// yes, but for a server on this machine.
    #[serde(default)]
    tls: Option<bool>,
    /// A PEM file with certificates to trust beside the system's. It is read again when it changes.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Connecting may take so long.
    #[serde(default = "default_connect_timeout_ms")]
    connect_timeout_ms: NonZeroU64,
}

const fn default_connect_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

/// A connection that was not used for longer is asked whether it still stands: servers and firewalls drop
/// idle ones.
const IDLE: Duration = Duration::from_secs(20);

impl Sink for Sql {
    const NAME: &'static str = "sql";
    const EXAMPLE: &'static str = r#"url = "sqlite:/var/lib/sandbar/readings.db"
create = """
CREATE TABLE IF NOT EXISTS temperatures
  (id TEXT PRIMARY KEY, time TEXT NOT NULL, device TEXT, celsius REAL NOT NULL, payload TEXT)"""
statement = """
INSERT INTO temperatures (id, time, device, celsius, payload)
VALUES (:id, :time, :device, :celsius, :payload_json) ON CONFLICT DO NOTHING"""
parameters.celsius = { pointer = "/temperature", type = "float", required = true }
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let files: Vec<PathBuf> = config.url.file().into_iter().chain(config.ca_file.clone()).collect();
        let first = OnceLock::new();
        let target = Renewed::new(files, move || {
            let url = config.url.resolve("url", |path| std::fs::read_to_string(path))?;
            let ca =
                config.ca_file.as_deref().map(|path| crate::tls::read_pem("ca_file", path)).transpose()?;
            let target = Target::new(&url, config.tls, ca)?;
            // The statement was read in the dialect of the first one.
            match *first.get_or_init(|| target.dialect()) == target.dialect() {
                true => Ok(target),
                false => Err(ConfigError::at("url", "leads to a database of another kind than at the start")),
            }
        })?;
        let dialect = target.current().dialect();
        let sources = parameter::sources(config.parameters)?;
        let statement = statement::parse(&config.statement, dialect, |name| sources.get(name).cloned())
            .map_err(|error| ConfigError::at("statement", error.with_known(sources.keys())))?;
        Ok(Self {
            target,
            statement,
            create: config.create.filter(|create| !create.trim().is_empty()),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms.get()),
            link: Mutex::new(None),
        })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        // A message that gives no row ends the batch; those before it are written first.
        let mut rows = Vec::with_capacity(batch.len());
        let mut unfit = None;
        for delivery in batch {
            match parameter::row(&self.statement.parameters, delivery) {
                Ok(row) => rows.push(row),
                Err(cause) => {
                    unfit = Some(cause);
                    break;
                }
            }
        }
        if !rows.is_empty() {
            Box::pin(self.write(&rows, progress)).await?;
        }
        match unfit {
            Some(cause) => Err(DeliveryError::Reject { rejected: rows.len(), cause }),
            None => Ok(()),
        }
    }
}

impl Sql {
    /// As many rows in a transaction as can be: a row that is refused ends one, and begins the next.
    async fn write(&self, rows: &[Vec<Value>], progress: &Progress) -> Result<(), DeliveryError> {
        let (mut written, mut size) = (0, rows.len());
        while written < rows.len() {
            let part = &rows[written..(written + size).min(rows.len())];
            match self.transaction(part).await {
                Ok(()) => {
                    written += part.len();
                    progress.reached(written);
                }
                Err(Failed::Row { index: 0, cause }) => {
                    return Err(DeliveryError::Reject { rejected: written, cause });
                }
                Err(Failed::Row { index, .. }) => size = index,
                // A constraint that is checked at the end of a transaction does not say whose it was.
                Err(Failed::Commit { cause }) if part.len() == 1 => {
                    return Err(DeliveryError::Reject { rejected: written, cause });
                }
                Err(Failed::Commit { .. }) => size = part.len() / 2,
                Err(Failed::Later { cause }) => {
                    return Err(DeliveryError::Retry { delivered: written, after: None, cause });
                }
            }
        }
        Ok(())
    }

    /// All rows or none. A connection that failed, or whose use was given up, is closed: the database undoes
    /// what was not committed.
    async fn transaction(&self, rows: &[Vec<Value>]) -> Result<(), Failed> {
        let target = self.target.current();
        let mut place = self.link.lock().await;
        let (mut link, file) = match place.take() {
            // What is written to a file that was moved away is not where it is looked for.
            Some(Kept { link, file, .. }) if file != target.file() => {
                link.close().await;
                self.connect(&target).await?
            }
            Some(Kept { mut link, target: of, used, file }) => {
                let is_of_it = Arc::ptr_eq(&of, &target);
                match is_of_it && (used.elapsed() < IDLE || link.is_alive(self.connect_timeout).await) {
                    true => (link, file),
                    false => self.connect(&target).await?,
                }
            }
            None => self.connect(&target).await?,
        };
        let result = link.run(&self.statement.text, rows).await;
        let stands = match &result {
            Ok(()) | Err(Failed::Commit { .. }) => true,
            // With some refusals the server ends the connection.
            Err(Failed::Row { .. }) => link.is_alive(self.connect_timeout).await,
            Err(Failed::Later { .. }) => false,
        };
        *place = stands.then(|| Kept { link, target, used: Instant::now(), file });
        result
    }

    async fn connect(&self, target: &Target) -> Result<(Link, Option<FileId>), Failed> {
        let doing = format!("connecting to {target}");
        let mut link = match timeout(self.connect_timeout, target.connect()).await {
            Ok(connected) => connected.map_err(|error| Failed::later(&doing, &error))?,
            Err(_) => {
                return Err(Failed::Later { cause: Cause::new(format!("{doing}: no answer in time")) });
            }
        };
        if let Some(create) = &self.create {
            link.create(create).await?;
        }
        Ok((link, target.file()))
    }
}
