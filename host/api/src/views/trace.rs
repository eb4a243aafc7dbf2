//! What became of a reading, and what handlers logged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::module::LogView;
use super::reading::ReadingView;

/// The life of a reading, as far as it is known.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TraceView {
    pub id: String,
    /// Absent once the journal has forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<ReadingView>,
    /// Every route, by name: whether it took the reading.
    pub routes: Vec<RouteVerdictView>,
    /// In the order in which they were committed.
    pub attempts: Vec<AttemptView>,
    pub deliveries: Vec<TracedDeliveryView>,
    /// When it, or a delivery of it, was made to wait again. RFC 3339.
    pub redriven: Vec<String>,
    /// Ids of those that there are now, of it and of its deliveries.
    pub dead_letters: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RouteVerdictView {
    pub route: String,
    pub took: bool,
    /// Why it did not take it, or would not now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// It still waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WaitsView {
    /// Failed so far.
    pub attempts: u32,
    /// Not before then. RFC 3339.
    pub due: String,
    /// What the last attempt failed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_cause: Option<String>,
}

/// One attempt of a route at the reading.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    pub route: String,
    /// When it was committed. RFC 3339.
    pub time: String,
    pub outcome: OutcomeView,
    /// When it is tried again. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// Calls of the module, in their order; none on a route without one.
    pub calls: Vec<CallView>,
    /// Messages that went to other routes, as readings of their own.
    pub chained: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeView {
    /// Handled, or accepted by the target.
    Done,
    Retry,
    DeadLetter,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CallView {
    /// Of the module.
    pub version: u32,
    pub part: PartView,
    /// RFC 3339.
    pub time: String,
    pub elapsed_us: u32,
    /// What it failed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// A part of what it logged.
    pub logs: Vec<LogView>,
}

/// In which role a version was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartView {
    Active,
    Canary,
    Shadow,
    Replay,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TracedDeliveryView {
    pub id: String,
    /// `sink/NAME` or `device/ID`.
    pub target: String,
    pub route: String,
    /// When it was put out. RFC 3339.
    pub time: String,
    pub offers: Vec<OfferView>,
    /// It is still in the outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OfferView {
    /// RFC 3339.
    pub time: String,
    pub outcome: OutcomeView,
    /// Why it was not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When it is tried again. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// One line that a route's handler logged, or that the host said about it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogRecordView {
    /// Counts the route's lines.
    pub number: u64,
    /// RFC 3339.
    pub time: String,
    pub route: String,
    pub reading: String,
    /// Of the module.
    pub version: u32,
    pub part: PartView,
    #[serde(flatten)]
    pub line: LogView,
}
