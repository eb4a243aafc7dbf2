//! One connection to one of the databases, and what their errors mean.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::ConfigError;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgSslMode, PgTypeInfo, Postgres,
};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Encode, MySql, Sqlite, Type as SqlType};

use super::statement::Dialect;
use super::value::{Type, Value};
use crate::Cause;
use crate::file_id::FileId;

/// Where to, without having been there.
pub(super) enum Target {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
}

pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql {
        link: MySqlConnection,
        /// The server ends a connection over which a longer one comes.
        packet_max: usize,
    },
}

/// Why rows were not written: none of them.
#[derive(Debug)]
pub(super) enum Failed {
    /// This row can never be written.
    Row {
        index: usize,
        cause: Cause,
    },
    /// One of them, or all together, can never be.
    Commit {
        cause: Cause,
    },
    Later {
        cause: Cause,
    },
}

impl Failed {
    pub(super) fn later(doing: &str, error: &sqlx::Error) -> Self {
        Self::Later { cause: cause(doing, error) }
    }
}

/// Another process may hold a SQLite file's lock for so long.
const SQLITE_BUSY: Duration = Duration::from_secs(5);

impl Target {
    /// `tls`: `None` for whatever is right for the host. `ca`: certificates, as PEM.
    pub(super) fn new(url: &str, tls: Option<bool>, ca: Option<Vec<u8>>) -> Result<Self, ConfigError> {
        let scheme = url.split(':').next().unwrap_or_default();
        if url.contains("ssl-mode=") || url.contains("sslmode=") {
            return Err(ConfigError::at("url", "has an SSL mode of its own: set `tls` instead"));
        }
        // The URL has a password in it: errors say what is wrong with it, not what it is.
        let refused =
            |error: &dyn StdError| ConfigError::at("url", Cause::of("cannot be read", error).to_string());
        match scheme {
            "sqlite" => {
                let options = SqliteConnectOptions::from_str(url).map_err(|error| refused(&error))?;
                if tls == Some(true) {
                    return Err(ConfigError::at("tls", "a SQLite file has no connection to encrypt"));
                }
                let options = options
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // What was committed is on the disk.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(SQLITE_BUSY)
                    .disable_statement_logging();
                Ok(Self::Sqlite(Box::new(options)))
            }
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(url).map_err(|error| refused(&error))?;
                let is_near = options.get_socket().is_some() || is_near(options.get_host());
                let mut options = options
                    .application_name("sandbar")
                    .ssl_mode(if tls.unwrap_or(!is_near) {
                        PgSslMode::VerifyFull
                    } else {
                        PgSslMode::Disable
                    })
                    .disable_statement_logging();
                if let Some(pem) = ca {
                    options = options.ssl_root_cert_from_pem(pem);
                }
                Ok(Self::Postgres(Box::new(options)))
            }
            "mysql" | "mariadb" => {
                let options = MySqlConnectOptions::from_str(url).map_err(|error| refused(&error))?;
                let is_near = options.get_socket().is_some() || is_near(options.get_host());
                let verified = tls.unwrap_or(!is_near);
                let mode = if verified { MySqlSslMode::VerifyIdentity } else { MySqlSslMode::Disabled };
                let mut options = options.ssl_mode(mode).disable_statement_logging();
                if let Some(pem) = ca {
                    options = options.ssl_ca_from_pem(pem);
                }
                Ok(Self::MySql(Box::new(options)))
            }
            _ => Err(ConfigError::at("url", "must begin with sqlite:, postgres:// or mysql://")),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// The file that is there now, if the database is one.
    pub(super) fn file(&self) -> Option<FileId> {
        let Self::Sqlite(options) = self else { return None };
        std::fs::metadata(options.get_filename()).ok().map(|metadata| FileId::of(&metadata))
    }

    pub(super) async fn connect(&self) -> Result<Link, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(options) => {
                if let Some(folder) = options.get_filename().parent() {
                    std::fs::create_dir_all(folder)?;
                }
                Link::Sqlite(options.connect().await?)
            }
            Self::Postgres(options) => Link::Postgres(Box::pin(options.connect()).await?),
            Self::MySql(options) => {
                let mut link = Box::pin(options.connect()).await?;
                let asked = sqlx::query_scalar::<MySql, i64>("SELECT CAST(@@max_allowed_packet AS SIGNED)");
                let packet_max = Box::pin(asked.fetch_one(&mut link)).await?;
                Link::MySql { link, packet_max: usize::try_from(packet_max).unwrap_or(usize::MAX) }
            }
        })
    }
}

/// Without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "sqlite:{}", options.get_filename().display()),
            Self::Postgres(options) => match options.get_socket() {
                Some(socket) => write!(f, "postgres at {}", socket.display()),
                None => write!(f, "postgres://{}:{}", options.get_host(), options.get_port()),
            },
            Self::MySql(options) => match options.get_socket() {
                Some(socket) => write!(f, "mysql at {}", socket.display()),
                None => write!(f, "mysql://{}:{}", options.get_host(), options.get_port()),
            },
        }
    }
}

fn is_near(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.starts_with('/')
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Every row of `$rows` in one transaction.
macro_rules! write_rows {
    ($link:expr, $text:expr, $rows:expr, $bind:path, $dialect:expr) => {{
        let text: Arc<str> = Arc::from($text);
        let mut transaction =
            $link.begin().await.map_err(|error| Failed::later("beginning a transaction", &error))?;
        for (index, row) in $rows.iter().enumerate() {
            let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&text)));
            for value in row {
                query = $bind(query, value);
            }
            if let Err(error) = query.execute(&mut *transaction).await {
                if !is_of_the_row(&error, $dialect) {
                    return Err(Failed::later("writing a row", &error));
                }
                let refused = cause("the database refused the row", &error);
                // If the connection is gone, the database undoes it by itself.
                drop(transaction.rollback().await);
                return Err(Failed::Row { index, cause: refused });
            }
        }
        match transaction.commit().await {
            Ok(()) => Ok(()),
            Err(error) if is_of_the_row(&error, $dialect) => {
                Err(Failed::Commit { cause: cause("the database refused the row", &error) })
            }
            Err(error) => Err(Failed::later("committing", &error)),
        }
    }};
}

impl Link {
    pub(super) async fn run(&mut self, text: &str, rows: &[Vec<Value>]) -> Result<(), Failed> {
        match self {
            Self::Sqlite(link) => write_rows!(link, text, rows, bind_sqlite, Dialect::Sqlite),
            Self::Postgres(link) => write_rows!(link, text, rows, bind_postgres, Dialect::Postgres),
            Self::MySql { link, packet_max } => {
                let sizes = rows.iter().map(|row| packet_size(row));
                if let Some((index, size)) = sizes.enumerate().find(|(_, size)| *size > *packet_max) {
                    let text =
                        format!("a row of {size} bytes, and the server takes {packet_max} in a packet");
                    return Err(Failed::Row { index, cause: Cause::new(text) });
                }
                write_rows!(link, text, rows, bind_mysql, Dialect::MySql)
            }
        }
    }

    /// Runs statements without parameters.
    pub(super) async fn create(&mut self, text: &str) -> Result<(), Failed> {
        let sql = AssertSqlSafe(text.to_owned());
        let result = match self {
            Self::Sqlite(link) => sqlx::raw_sql(sql).execute(link).await.map(drop),
            Self::Postgres(link) => sqlx::raw_sql(sql).execute(link).await.map(drop),
            Self::MySql { link, .. } => sqlx::raw_sql(sql).execute(link).await.map(drop),
        };
        result.map_err(|error| Failed::later("running `create`", &error))
    }

    pub(super) async fn is_alive(&mut self, patience: Duration) -> bool {
        let asked = async {
            match self {
                Self::Sqlite(link) => link.ping().await,
                Self::Postgres(link) => link.ping().await,
                Self::MySql { link, .. } => link.ping().await,
            }
        };
        tokio::time::timeout(patience, asked).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Returns once nothing of it is in use, as far as it can be told so.
    pub(super) async fn close(self) {
        drop(match self {
            Self::Sqlite(link) => link.close().await,
            Self::Postgres(link) => link.close().await,
            Self::MySql { link, .. } => link.close().await,
        });
    }
}

/// The packet that brings a row to MySQL, at the most (COM_STMT_EXECUTE).
fn packet_size(row: &[Value]) -> usize {
    const HEAD: usize = 16;
    /// Its type, its length, and a bit for whether it is there.
    const BESIDE: usize = 12;
    let size = |value: &Value| match value {
        Value::Null(_) => 0,
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => 8,
        Value::Time(_) => 32,
    };
    HEAD + row.iter().map(|value| BESIDE + size(value)).sum::<usize>()
}

fn bind_sqlite<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    value: &Value,
) -> Query<'q, Sqlite, SqliteArguments> {
    match value.clone() {
        Value::Null(_) => query.bind(None::<String>),
        Value::Text(text) | Value::Json(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Float(number) => query.bind(number),
        Value::Boolean(truth) => query.bind(truth),
        Value::Time(time) => query.bind(time.to_string()),
        Value::Bytes(bytes) => query.bind(Vec::from(bytes)),
    }
}

fn bind_mysql<'q>(
    query: Query<'q, MySql, MySqlArguments>,
    value: &Value,
) -> Query<'q, MySql, MySqlArguments> {
    match value.clone() {
        Value::Null(_) => query.bind(None::<String>),
        Value::Text(text) | Value::Json(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Float(number) => query.bind(number),
        Value::Boolean(truth) => query.bind(truth),
        // 2026-11-20 21:40:00.000250, which is what DATETIME and TIMESTAMP take; the session is in UTC.
        Value::Time(time) => query.bind(time.to_string().replace('T', " ").trim_end_matches('Z').to_owned()),
        Value::Bytes(bytes) => query.bind(Vec::from(bytes)),
    }
}

fn bind_postgres<'q>(
    query: Query<'q, Postgres, PgArguments>,
    value: &Value,
) -> Query<'q, Postgres, PgArguments> {
    match value.clone() {
        Value::Null(Type::Text) => query.bind(None::<String>),
        Value::Null(Type::Integer) => query.bind(None::<i64>),
        Value::Null(Type::Float) => query.bind(None::<f64>),
        Value::Null(Type::Boolean) => query.bind(None::<bool>),
        Value::Null(Type::Json) => query.bind(None::<PgJson>),
        Value::Null(Type::Time) => query.bind(None::<PgTime>),
        Value::Null(Type::Bytes) => query.bind(None::<Vec<u8>>),
        Value::Text(text) => query.bind(text),
        Value::Json(json) => query.bind(PgJson(json)),
        Value::Integer(number) => query.bind(number),
        Value::Float(number) => query.bind(number),
        Value::Boolean(truth) => query.bind(truth),
        // Microseconds since 2000.
        Value::Time(time) => {
            query.bind(PgTime(i64::try_from(time.nanos() / 1000).unwrap_or(i64::MAX) - PG_EPOCH))
        }
        Value::Bytes(bytes) => query.bind(Vec::from(bytes)),
    }
}

/// 2000-01-01 in microseconds since 1970.
const PG_EPOCH: i64 = 946_684_800_000_000;

/// `jsonb`, from its text.
struct PgJson(String);

impl SqlType<Postgres> for PgJson {
    fn type_info() -> PgTypeInfo {
        const JSONB: Oid = Oid(3802);
        PgTypeInfo::with_oid(JSONB)
    }
}

impl Encode<'_, Postgres> for PgJson {
    fn encode_by_ref(
        &self,
        buffer: &mut PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        const VERSION: u8 = 1;
        buffer.push(VERSION);
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(sqlx::encode::IsNull::No)
    }
}

/// `timestamptz`, in its binary form.
struct PgTime(i64);

impl SqlType<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        const TIMESTAMPTZ: Oid = Oid(1184);
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for PgTime {
    fn encode_by_ref(
        &self,
        buffer: &mut PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        buffer.extend_from_slice(&self.0.to_be_bytes());
        Ok(sqlx::encode::IsNull::No)
    }
}

/// Whether it is this row that the database will never take, and not the statement, the table or the server
/// that is at fault.
fn is_of_the_row(error: &sqlx::Error, dialect: Dialect) -> bool {
    let sqlx::Error::Database(error) = error else { return matches!(error, sqlx::Error::Encode(_)) };
    let code = error.code().unwrap_or_default();
    match dialect {
        // https://www.sqlite.org/rescode.html: TOOBIG, CONSTRAINT, MISMATCH; the rest of the code is detail.
        Dialect::Sqlite => code.parse().is_ok_and(|code: u32| matches!(code & 0xff, 18..=20)),
        // https://www.postgresql.org/docs/current/errcodes-appendix.html: data exception, integrity constraint,
        // WITH CHECK OPTION, program limit (an index row too large), and what triggers raise.
        Dialect::Postgres => {
            ["22", "23", "44", "54"].iter().any(|class| code.starts_with(class)) || code == "P0001"
        }
        // The same classes, triggers' SIGNAL, and what has no class of its own: incorrect values (1366, 1265),
        // a failed CHECK (3819 in MySQL, 4025 in MariaDB), a packet above max_allowed_packet (1153).
        Dialect::MySql => {
            let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
            ["22", "23", "45"].iter().any(|class| code.starts_with(class))
                || matches!(number, 1265 | 1366 | 3819 | 4025 | 1153)
        }
    }
}

/// In a line: what the database says, not how the library reports it.
fn cause(doing: &str, error: &sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Database(error) => Cause::new(format!("{doing}: {}", error.message())),
        error => Cause::of(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, tls: Option<bool>) -> Result<Target, String> {
        Target::new(url, tls, None).map_err(|error| error.to_string())
    }

    #[test]
    fn connections_that_leave_the_machine_are_verified_unless_told_otherwise() {
        for (url, tls, verified) in [
            ("postgres://u:p@db.example.com/x", None, true),
            ("postgres://u:p@db.example.com/x", Some(false), false),
            ("postgres://u:p@127.0.0.1/x", None, false),
            ("postgres://u:p@[::1]/x", None, false),
            ("postgres://u:p@localhost/x", Some(true), true),
            ("mysql://u:p@10.0.0.1/x", None, true),
            ("mysql://u:p@localhost/x", None, false),
        ] {
            let is_verified = match target(url, tls).unwrap() {
                Target::Postgres(options) => matches!(options.get_ssl_mode(), PgSslMode::VerifyFull),
                Target::MySql(options) => matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity),
                Target::Sqlite(_) => false,
            };
            assert_eq!(is_verified, verified, "{url} {tls:?}");
        }
    }

    #[test]
    fn a_url_that_cannot_work_is_refused_without_its_password() {
        for url in [
            "oracle://u:hunter2@x",
            "hunter2",
            "postgres://u:hunter2@x:port/y",
            "mysql://u:hunter2@x?sslmode=disable",
        ] {
            let error = target(url, None).err().expect(url);
            assert!(error.starts_with("url: ") && !error.contains("hunter2"), "{error}");
        }
        assert!(target("sqlite:/x.db", Some(true)).is_err());
        assert_eq!(target("postgres://u:hunter2@db:5/x", None).unwrap().to_string(), "postgres://db:5");
    }
}
