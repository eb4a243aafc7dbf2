//! The host as a whole: its status, its configuration, what it was built with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::{DevicesStatus, TrafficTotals};
use super::module::ModuleView;
use super::table::{IngressStatus, RouteStatus, SinkStatus};

/// How the host is doing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    pub version: String,
    /// RFC 3339.
    pub started: String,
    pub uptime_seconds: u64,
    /// False while the storage fails; `problems` says why.
    pub ready: bool,
    pub problems: Vec<String>,
    pub store: StoreStatus,
    pub modules: Vec<ModuleView>,
    pub routes: Vec<Named<RouteStatus>>,
    pub ingresses: Vec<Named<IngressStatus>>,
    pub sinks: Vec<Named<SinkStatus>>,
    /// Devices that commands were, or are, on their way to.
    pub commands: Vec<Named<SinkStatus>>,
    /// How many devices there are.
    pub devices: DevicesStatus,
    /// How many connections drivers have open now.
    pub connections: u64,
    /// How many there were since the start.
    pub connections_opened: u64,
    /// What went over connections.
    pub traffic: TrafficTotals,
}

/// How something of this name is doing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Named<S> {
    pub name: String,
    #[serde(flatten)]
    pub status: S,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStatus {
    /// Readings in the journal.
    pub journal_readings: u64,
    /// What `host.journal_mib` counts of them.
    pub journal_bytes: u64,
    /// Bytes of what is kept for traces of readings.
    #[serde(default)]
    pub trace_bytes: u64,
    /// About when the oldest of them was accepted. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_since: Option<String>,
    /// Readings that wait for a route.
    pub waiting: u64,
    /// Deliveries that wait for a sink or device.
    pub outbox: u64,
    pub dead_letters: u64,
    /// What `host.dead_letters_mib` counts of them.
    #[serde(default)]
    pub dead_letter_bytes: u64,
    /// Discarded since the start: they were too many.
    #[serde(default)]
    pub dead_letters_discarded: u64,
    /// Payloads that have files of their own.
    #[serde(default)]
    pub payload_files: u64,
    /// Of the store's file.
    pub file_bytes: u64,
    /// Transactions since the start.
    pub commits: u64,
    /// Readings journaled since the start.
    pub readings: u64,
    /// Microseconds that the last transaction took.
    pub last_commit_us: u64,
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
    /// Settings that changed and take effect at the next start: `host.depth_max`.
    pub at_next_start: Vec<String>,
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
