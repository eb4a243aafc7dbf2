//! Messages as documents of a MongoDB collection.

mod document;
#[cfg(test)]
mod far_end;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::raw::cstr;
use mongodb::bson::{Bson, Document, RawArrayBuf, RawBson, RawDocumentBuf, doc, serialize_to_bson};
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, HostInfo, ServerAddress, Tls, TlsOptions,
};
use sandbar_reading::{ConfigError, Delivery, Secret};
use sandbar_tls::Renewed;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::template::Template;
use crate::{Cause, DeliveryError, Progress, Sink, tls};

/// A client, made when it is needed, and anew when a file that it depends on changes.
pub(crate) struct MongoDb {
    far: Renewed<Far>,
    timeout: Duration,
    database: String,
    collection: String,
    mode: Mode,
    id: Template,
}

/// What depends on files that settings name: certificates, and the URL.
struct Far {
    options: ConnectionString,
    write_concern: RawBson,
    tls: Option<TlsOptions>,
    /// With its own pool of connections; made when it is needed, and reads the certificates then.
    client: OnceCell<Client>,
}

/// Writes a document a message, everything that waits in one ordered command: `_id` (the delivery's id, the
/// same at every attempt), `time` (a date), `topic`, `device`, `content_type`, `attributes` (an array of
/// `{ k, v }`, which one index can serve), `payload` (the value itself for JSON, a string for text, else
/// binary), `route`, `reading`.
///
/// A document that is there already counts as delivered. One that the collection's validator or another unique
/// index refuses, or that is above MongoDB's 16 MiB, becomes a dead letter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The servers: `mongodb://user:password@host:27017/?replicaSet=rs0`. May be a secret by reference:
    /// `{ env = "NAME" }` or `{ file = "/path" }`, which is read again when it changes. Its write concern is asked for;
    /// without one, `w=majority`.
    url: Secret,
    /// The database.
    database: String,
    /// The collection.
    collection: String,
    /// What is done with a document: `insert` or `upsert`.
    #[serde(default)]
    mode: Mode,
    /// The document's `_id`: a template. With `mode = "upsert"` and `{{ device }}` the collection has the last
    /// message of each device.
    #[serde(default = "default_id")]
    id: String,
    /// Whether connections are encrypted, and the servers' certificates and names are verified. The default is
    /// what the URL says, else yes, but for a server on this machine.
    #[serde(default)]
    tls: Option<bool>,
    /// A PEM file with the certificates to trust, in place of Mozilla's. It is read again when it changes.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Finding a server that takes writes may take so long.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: NonZeroU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// A new document; one with the same `_id` stays as it is.
    #[default]
    Insert,
    /// In place of the document with the same `_id`, if there is one.
    Upsert,
}

fn default_id() -> String {
    "{{ id }}".to_owned()
}

const fn default_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not 0")
}

impl Sink for MongoDb {
    const NAME: &'static str = "mongodb";
    const EXAMPLE: &'static str = r#"url = "mongodb://127.0.0.1:27017"
database = "plant"
collection = "readings"
mode = "insert"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        tls::install_provider();
        for (setting, text) in [("database", &config.database), ("collection", &config.collection)] {
            if text.is_empty() || text.contains(['\0', '$']) {
                return Err(ConfigError::at(setting, "must be a name without `$`"));
            }
        }
        let id = Template::new("id", &config.id)?;
        let url = config.url.resolve("url", |path| std::fs::read_to_string(path))?;
        let mut files = named_files(&read(&url)?);
        files.extend(config.url.file().into_iter().chain(config.ca_file.clone()));
        let far = Renewed::new(files, move || {
            let url = config.url.resolve("url", |path| std::fs::read_to_string(path))?;
            Far::new(&url, config.tls, config.ca_file.as_deref())
        })?;
        Ok(Self {
            far,
            timeout: Duration::from_millis(config.timeout_ms.get()),
            database: config.database,
            collection: config.collection,
            mode: config.mode,
            id,
        })
    }

    async fn deliver(&self, batch: &[Delivery], progress: &Progress) -> Result<(), DeliveryError> {
        let mut documents = Vec::with_capacity(batch.len());
        let mut unfit = None;
        for delivery in batch {
            match self.id.render(delivery).and_then(|id| document::of(delivery, &id)) {
                Ok(document) => documents.push(document),
                Err(cause) => {
                    unfit = Some(DeliveryError::Reject { rejected: documents.len(), cause });
                    break;
                }
            }
        }
        Box::pin(self.write(&documents, progress)).await?;
        unfit.map_or(Ok(()), Err)
    }
}

impl MongoDb {
    /// An ordered command ends at the first document that is not taken; the rest is sent with the next.
    async fn write(&self, documents: &[RawDocumentBuf], progress: &Progress) -> Result<(), DeliveryError> {
        let far = self.far.current();
        let mut written = 0;
        while written < documents.len() {
            let rest = &documents[written..];
            let part = &rest[..fitting(rest.iter().map(|document| document.as_bytes().len()))];
            let retry = |at, cause| DeliveryError::Retry { delivered: written + at, after: None, cause };
            let answer = self.run(&far, part).await.map_err(|cause| retry(0, cause))?;
            match outcome(&answer) {
                Outcome::Written => written += part.len(),
                Outcome::Doubtful { cause } => return Err(retry(0, cause)),
                Outcome::ThereAlready { at } => written += at + 1,
                Outcome::Refused { at, cause } => {
                    return Err(DeliveryError::Reject { rejected: written + at, cause });
                }
                Outcome::Failed { at, cause } => return Err(retry(at, cause)),
            }
            progress.reached(written);
        }
        Ok(())
    }

    async fn run(&self, far: &Far, documents: &[RawDocumentBuf]) -> Result<Document, Cause> {
        let explain = |error: &mongodb::error::Error| Cause::new(format!("mongodb: {}", error.kind));
        let connecting = far.client.get_or_try_init(|| far.connect(self.timeout));
        let client = connecting.await.map_err(|error| explain(&error))?;
        let mut command = RawDocumentBuf::new();
        match self.mode {
            Mode::Insert => {
                command.append(cstr!("insert"), self.collection.as_str());
                command.append(cstr!("documents"), documents.iter().collect::<RawArrayBuf>());
            }
            Mode::Upsert => {
                command.append(cstr!("update"), self.collection.as_str());
                let updates: Result<RawArrayBuf, Cause> = documents.iter().map(upsert).collect();
                command.append(cstr!("updates"), updates?);
            }
        }
        command.append(cstr!("ordered"), true);
        // The client does not add its own to a command.
        command.append(cstr!("writeConcern"), &far.write_concern);
        let database = client.database(&self.database);
        let running = database.run_raw_command(command);
        running.await.map_err(|error| explain(&error))
    }
}

/// `document` in the place of the one with its `_id`, if there is one.
fn upsert(document: &RawDocumentBuf) -> Result<RawDocumentBuf, Cause> {
    let id = document.get_str("_id").map_err(|error| Cause::of("the document", &error))?;
    let mut query = RawDocumentBuf::new();
    query.append(cstr!("_id"), id);
    let mut update = RawDocumentBuf::new();
    update.append(cstr!("q"), query);
    update.append(cstr!("u"), document);
    update.append(cstr!("upsert"), true);
    Ok(update)
}

impl Far {
    fn new(url: &str, wanted: Option<bool>, ca_file: Option<&Path>) -> Result<Self, ConfigError> {
        let options = read(url)?;
        for path in named_files(&options) {
            tls::read_pem("url", &path)?;
        }
        if let Some(path) = ca_file {
            tls::read_pem("ca_file", path)?;
        }
        let write_concern = RawBson::try_from(write_concern(&options)?);
        Ok(Self {
            write_concern: write_concern.map_err(|error| ConfigError::at("url", error.to_string()))?,
            tls: encryption(&options, wanted, ca_file)?,
            options,
            client: OnceCell::new(),
        })
    }

    async fn connect(&self, timeout: Duration) -> Result<Client, mongodb::error::Error> {
        let mut options = ClientOptions::parse(self.options.clone()).await?;
        options.app_name.get_or_insert_with(|| "sandbar".to_owned());
        options.server_selection_timeout = Some(timeout);
        options.connect_timeout = Some(timeout);
        options.tls = Some(self.tls.clone().map_or(Tls::Disabled, Tls::Enabled));
        Client::with_options(options)
    }
}

/// A command is a document of 16 MiB at most itself.
const COMMAND_MAX: usize = 15 << 20;

/// How many documents of these sizes go into one command: at least one.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = |size: &usize| {
        sum += *size;
        sum <= COMMAND_MAX
    };
    sizes.take_while(fits).count().max(1)
}

/// What became of a command that the server answered.
#[derive(Debug, PartialEq)]
enum Outcome {
    Written,
    /// Written, but not to as many servers as was asked for: it may be undone.
    Doubtful {
        cause: Cause,
    },
    ThereAlready {
        at: usize,
    },
    Refused {
        at: usize,
        cause: Cause,
    },
    Failed {
        at: usize,
        cause: Cause,
    },
}

/// The first error of an answer. Its codes: <https://www.mongodb.com/docs/manual/reference/error-codes/>.
fn outcome(answer: &Document) -> Outcome {
    const DUPLICATE_KEY: i64 = 11_000;
    // BadValue, InvalidIdField, DocumentValidationFailure, KeyTooLong, BSONObjectTooLarge.
    const OF_THE_DOCUMENT: &[i64] = &[2, 53, 121, 17_280, 10_334];
    let said = |error: &Document| error.get_str("errmsg").unwrap_or("an error without a message").to_owned();
    // That is said of those before an error, and of a document that is there already, too.
    if let Ok(error) = answer.get_document("writeConcernError") {
        return Outcome::Doubtful { cause: Cause::new(format!("mongodb: {}", said(error))) };
    }
    if let Some(Bson::Document(error)) =
        answer.get_array("writeErrors").ok().and_then(|errors| errors.first())
    {
        let at = number(error, "index").and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
        let code = number(error, "code").unwrap_or_default();
        let text = said(error);
        let cause = Cause::new(format!("mongodb: {text}"));
        return match code {
            DUPLICATE_KEY if text.contains("index: _id_") => Outcome::ThereAlready { at },
            DUPLICATE_KEY => Outcome::Refused { at, cause },
            code if OF_THE_DOCUMENT.contains(&code) => Outcome::Refused { at, cause },
            _ => Outcome::Failed { at, cause },
        };
    }
    Outcome::Written
}

fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

/// The URL has a password in it: errors say what is wrong with it, not what it is.
fn read(url: &str) -> Result<ConnectionString, ConfigError> {
    if url.starts_with("mongodb+srv:") {
        return Err(ConfigError::at(
            "url",
            "mongodb+srv:// is not looked up here: name the hosts, mongodb://a,b,c",
        ));
    }
    let mut options = ConnectionString::parse(url).map_err(|error| match *error.kind {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } if !url.contains('@') => {
            ConfigError::at("url", message)
        }
        _ => ConfigError::at("url", "is no connection string: mongodb://user:password@host:27017"),
    })?;
    options.app_name.get_or_insert_with(|| "sandbar".to_owned());
    Ok(options)
}

/// Those that the URL itself names: `tlsCAFile`, `tlsCertificateKeyFile`.
fn named_files(options: &ConnectionString) -> Vec<PathBuf> {
    match &options.tls {
        Some(Tls::Enabled(tls)) => {
            [&tls.ca_file_path, &tls.cert_key_file_path].into_iter().flatten().cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// The URL's; without one, a document is not only to be in the memory of one server.
fn write_concern(options: &ConnectionString) -> Result<Bson, ConfigError> {
    match &options.write_concern {
        None => Ok(Bson::Document(doc! { "w": "majority" })),
        Some(concern) if concern.w == Some(Acknowledgment::Nodes(0)) => {
            Err(ConfigError::at("url", "has w=0: nobody would know what was written"))
        }
        Some(concern) => {
            serialize_to_bson(concern).map_err(|error| ConfigError::at("url", error.to_string()))
        }
    }
}

fn encryption(
    options: &ConnectionString,
    wanted: Option<bool>,
    ca_file: Option<&Path>,
) -> Result<Option<TlsOptions>, ConfigError> {
    let (said, mut tls) = match &options.tls {
        Some(Tls::Enabled(tls)) => (Some(true), tls.clone()),
        Some(Tls::Disabled) => (Some(false), TlsOptions::default()),
        None => (None, TlsOptions::default()),
    };
    if tls.allow_invalid_certificates == Some(true) {
        return Err(ConfigError::at("url", "would verify no certificate: set ca_file instead"));
    }
    let is_near = match &options.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts.iter().all(is_near),
        _ => false,
    };
    if let Some(path) = ca_file {
        tls.ca_file_path = Some(path.to_owned());
    }
    Ok(wanted.or(said).unwrap_or(!is_near).then_some(tls))
}

fn is_near(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        _ => true,
    }
}
