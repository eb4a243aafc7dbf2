//! The host as a whole: its status, its configuration, what it was built with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::table::{IngressView, RouteView, SinkView};

/// How the host is doing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    pub version: String,
    pub uptime_seconds: u64,
    /// False while the storage fails; `problems` says why.
    pub ready: bool,
    pub problems: Vec<String>,
    pub store: StoreStatus,
    pub routes: Vec<RouteView>,
    pub ingresses: Vec<IngressView>,
    pub sinks: Vec<SinkView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStatus {
    /// Readings in the journal.
    pub journal_readings: u64,
    /// Their bytes.
    pub journal_bytes: u64,
    /// Readings that wait for a route.
    pub waiting: u64,
    /// Deliveries that wait for a sink or device.
    pub outbox: u64,
    pub dead_letters: u64,
    /// Of the store's file.
    pub file_bytes: u64,
    /// Transactions since the start.
    pub commits: u64,
    /// Microseconds spent committing since the start.
    pub commit_us: u64,
}

/// Whether the host can take readings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReadyView {
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// The configuration file did what these say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedView {
    /// `route/NAME`, `ingress/NAME`, `sink/NAME`, `module/NAME`.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

/// A configuration to look at without using it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The text of a `sandbar.toml`.
    pub toml: String,
}

/// What is in effect; secrets are hidden.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// The same tables as `sandbar.toml`.
    #[serde(flatten)]
    pub tables: serde_json::Map<String, Value>,
}

/// What this host was built with.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KindsView {
    pub drivers: Vec<KindView>,
    pub sinks: Vec<KindView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KindView {
    pub name: String,
    /// Working settings in TOML.
    pub example: String,
    /// The JSON schema of the settings.
    pub schema: Value,
}
