//! `[route.NAME]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;

use sandbar_pipeline::Key;
use sandbar_reading::{ConfigError, Name, NameError, TopicFilter};
use sandbar_runtime::HttpPermission;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{List, Scalar, Text};

/// Which readings are handled, by which module, and where its messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTable {
    /// Takes readings of these ingresses only; also `route/NAME`, for the messages of that route.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub ingress: List<IngressName>,
    /// Takes readings whose topic matches one of these filters only: `sensors/+/temperature`, `sensors/#`.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub topic: List<TopicFilter>,
    /// Takes readings of these devices only.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub device: List<String>,
    /// Takes readings of these content types only, or of a range of them: `application/json`, `image/*`.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub content_type: List<ContentRange>,
    /// What keeps readings in order, and whose state a handler sees: `device` (for readings without one, the
    /// topic), `topic`, `attribute:NAME`, `pointer:/a/b` for a value in a JSON payload, or `none` for one
    /// lane through which all readings go.
    #[schemars(with = "String")]
    pub key: Key,
    /// The module that handles the readings; without one they go to the sinks as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<Text<Name>>,
    /// What the handler sees as its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Scalar>,
    /// The sinks that take the messages.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub sinks: List<Name>,
    /// Whether the handler's replies go to the sender of the reading. Or the name of one of the sinks: then it is
    /// its far end that answers the sender, if it is of a kind that gets answers.
    pub reply: Reply,
    /// How many readings may be handled at once, each of another key.
    pub concurrency: u16,
    /// How often a failing reading is tried.
    pub attempts: AttemptsTable,
    /// What a handler may use.
    pub limits: LimitsTable,
    /// What a handler may do beyond looking at its reading and its state.
    pub permissions: PermissionsTable,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            ingress: List::default(),
            topic: List::default(),
            device: List::default(),
            content_type: List::default(),
            key: Key::default(),
            module: None,
            config: BTreeMap::new(),
            sinks: List::default(),
            reply: Reply::default(),
            concurrency: 4,
            attempts: AttemptsTable::default(),
            limits: LimitsTable::default(),
            permissions: PermissionsTable::default(),
        }
    }
}

/// Who answers a sender: `false`, `true` for the handler, or the name of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "neither true or false, nor the name of a sink")]
pub enum Reply {
    Handler(bool),
    #[schemars(with = "String")]
    Sink(Text<Name>),
}

impl Default for Reply {
    fn default() -> Self {
        Self::Handler(false)
    }
}

/// How often a failing reading is tried, and how long the waits between are: they double.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttemptsTable {
    /// After so many the reading becomes a dead letter.
    pub max: NonZeroU32,
    /// The wait after the first failed attempt.
    pub first_wait_ms: u64,
    /// No wait is longer.
    pub longest_wait_ms: u64,
}

impl Default for AttemptsTable {
    fn default() -> Self {
        let max = NonZeroU32::new(5).expect("5 is not 0");
        Self { max, first_wait_ms: 500, longest_wait_ms: 60_000 }
    }
}

/// What one handler may use. One that needs more fails, and no other notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsTable {
    /// Memory of one instance: Rust and C need 2, Go 16, Python 32.
    pub memory_mib: u32,
    /// Time for one reading.
    pub time_ms: u64,
    /// Outputs for one reading.
    pub outputs: u32,
    /// Bytes of all outputs for one reading.
    pub output_bytes: u64,
    /// Bytes of the state of one key.
    pub state_bytes: u64,
    /// Bytes of one value of the state.
    pub value_bytes: u64,
    /// Time for a fresh instance: its own start-up and `configure`.
    pub init_time_ms: u64,
    /// Lines that are kept of what it logs for one reading.
    pub log_lines: u16,
    /// HTTP requests at the same time.
    pub http_at_once: u16,
    /// Time for a connection, for the beginning of an answer, and between two parts of it.
    pub http_timeout_ms: u64,
    /// Bytes of all answers to one call of the contract's `http`; what is read with `wasi:http` counts as memory only.
    pub http_answer_bytes: u64,
    /// Readings of one key that are handled before what they came to is committed.
    pub batch: u16,
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            time_ms: 1000,
            outputs: 1000,
            output_bytes: 4 << 20,
            state_bytes: 1 << 20,
            value_bytes: 256 << 10,
            init_time_ms: 10_000,
            log_lines: 100,
            http_at_once: 8,
            http_timeout_ms: 10_000,
            http_answer_bytes: 1 << 20,
            batch: 64,
        }
    }
}

/// What a handler may do beyond looking at its reading and its state. Nothing, unless it is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PermissionsTable {
    /// See the real time; else clocks show the time of the reading.
    pub clock: bool,
    /// Have real randomness; else random numbers depend on the reading alone.
    pub random: bool,
    /// Ask others over HTTP: only what is listed here, and only addresses of the world unless others are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTable>,
    /// Know these secrets of the file's `[secret]`, as the setting `secret.NAME`.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub secrets: List<String>,
}

/// Requests that a handler may make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTable {
    /// Where to: `https://api.example.com/v1` and what is below it; `https://*.example.com/` for every host of a
    /// domain. An address as the host names itself; a name must not stand for one of this machine or its
    /// networks, unless `addresses` has it.
    pub url: String,
    /// These methods only.
    #[serde(default, skip_serializing_if = "List::is_empty")]
    pub methods: List<String>,
    /// Loopback, link-local and private addresses that may be reached: `127.0.0.1`, `192.168.0.0/16`.
    #[serde(default, skip_serializing_if = "List::is_empty")]
    pub addresses: List<String>,
}

impl PermissionsTable {
    pub(crate) fn http(&self) -> Result<Vec<HttpPermission>, ConfigError> {
        let read = |(index, table): (usize, &HttpTable)| {
            let permission = HttpPermission::parse(&table.url, &table.methods.0, &table.addresses.0);
            permission.map_err(|error| error.within(&format!("http[{index}]")))
        };
        self.http.iter().enumerate().map(read).collect()
    }
}

impl RouteTable {
    /// What a type cannot say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let between = |setting: &str, value: u64, most: u64| match value {
            0 => Err(ConfigError::at(setting, "must be above 0")),
            value if value > most => Err(ConfigError::at(setting, format!("must be at most {most}"))),
            _ => Ok(()),
        };
        const DAY_MS: u64 = 24 * 3600 * 1000;
        const GIB: u64 = 1 << 30;
        between("concurrency", self.concurrency.into(), 256)?;
        between("attempts.first_wait_ms", self.attempts.first_wait_ms, DAY_MS)?;
        between("attempts.longest_wait_ms", self.attempts.longest_wait_ms, DAY_MS)?;
        between("limits.memory_mib", self.limits.memory_mib.into(), 4096)?;
        between("limits.time_ms", self.limits.time_ms, 3_600_000)?;
        between("limits.outputs", self.limits.outputs.into(), 1_000_000)?;
        between("limits.output_bytes", self.limits.output_bytes, GIB)?;
        between("limits.state_bytes", self.limits.state_bytes, GIB)?;
        between("limits.value_bytes", self.limits.value_bytes, GIB)?;
        if let Reply::Sink(sink) = &self.reply
            && !self.sinks.0.contains(&sink.0)
        {
            return Err(ConfigError::at("reply", format!("`{}` is none of the route's sinks", sink.0)));
        }
        between("limits.init_time_ms", self.limits.init_time_ms, 600_000)?;
        between("limits.log_lines", self.limits.log_lines.into(), 10_000)?;
        between("limits.http_at_once", self.limits.http_at_once.into(), 256)?;
        between("limits.http_timeout_ms", self.limits.http_timeout_ms, 3_600_000)?;
        between("limits.http_answer_bytes", self.limits.http_answer_bytes, GIB)?;
        between("limits.batch", self.limits.batch.into(), 1024)?;
        self.permissions.http().map_err(|error| error.within("permissions"))?;
        match (&self.module, self.config.is_empty()) {
            (None, false) => Err(ConfigError::at("config", "is for a module, and this route has none")),
            _ => Ok(()),
        }
    }
}

/// The name of an ingress, or `route/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressName(pub Name);

impl FromStr for IngressName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::parse_ingress(text).map(Self)
    }
}

impl std::fmt::Display for IngressName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A content type, or a range of them: `image/*`, `*/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRange(pub Box<str>);

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a content type or a range of them, such as application/json or image/*")]
pub struct ContentRangeError {
    text: String,
}

impl FromStr for ContentRange {
    type Err = ContentRangeError;

    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        // `*` is a legal character of a type: what is left to refuse are parameters, which never match.
        match text.parse::<sandbar_reading::ContentType>() {
            Ok(_) if !text.contains(';') => Ok(Self(text.into())),
            _ => Err(ContentRangeError { text: text.to_owned() }),
        }
    }
}

impl std::fmt::Display for ContentRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}
