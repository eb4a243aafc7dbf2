//! Routes, ingresses and sinks: the tables of the configuration, and how each is doing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A route, an ingress or a sink: its table as the configuration file would have it, and its status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TableView<S> {
    pub name: String,
    /// Declared in the configuration file, and so read-only here.
    pub declared: bool,
    pub status: S,
    /// The settings; secrets are hidden.
    #[serde(flatten)]
    pub table: Map<String, Value>,
}

pub type RouteView = TableView<RouteStatus>;
pub type IngressView = TableView<IngressStatus>;
pub type SinkView = TableView<SinkStatus>;

/// Counts are since the start of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteStatus {
    /// The module's version that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Why nothing is handled: readings wait until it is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Readings.
    pub handled: u64,
    pub failed_attempts: u64,
    pub dead_letters: u64,
    /// Deliveries and chained readings put out.
    pub outputs: u64,
    /// Milliseconds spent handling.
    pub busy_ms: u64,
    /// Of the module's instances; absent without a module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerStatus>,
}

/// Since the module or the route last changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerStatus {
    /// Instances that exist.
    pub instances: u64,
    /// Instances that wait for a call.
    pub warm: u64,
    pub calls: u64,
    /// Calls that came to nothing, by the fault's code.
    pub faults: BTreeMap<String, u64>,
    /// Writes to the state that the route's limits did not let through.
    #[serde(default)]
    pub refused_writes: u64,
    /// The most bytes that an instance held after a call.
    pub memory_peak_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IngressStatus {
    pub state: IngressState,
    /// Since when. RFC 3339. Absent when broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it could not be made when the host started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// When the next session begins, while backing off. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Where it listens, if it does: `127.0.0.1:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorView>,
    /// Sessions begun since the start.
    pub sessions: u64,
    /// Readings accepted since the start.
    pub accepted: u64,
    /// What its driver counts of its own, such as an MQTT broker's sessions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IngressState {
    Starting,
    Running,
    BackingOff,
    Stopped,
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkStatus {
    pub circuit: CircuitState,
    /// Why it could not be made when the host started: deliveries wait until it is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Since when the circuit is open. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it is tried again. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Deliveries since the start.
    pub accepted: u64,
    /// Deliveries that became dead letters since the start.
    pub given_up: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    /// It takes what is offered.
    Closed,
    /// It failed, and is left alone for a while.
    Open,
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    pub text: String,
    /// RFC 3339.
    pub time: String,
}

/// What a PUT did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PutView {
    pub name: String,
    /// False when it replaced one.
    pub created: bool,
}
