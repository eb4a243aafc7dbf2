//! Versions on trial, tries on journaled readings, and replays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::module::{FaultView, LogView, OutputView, StateWriteView};
use super::reading::ReadingView;

/// A version to put on trial.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCandidate {
    #[schemars(range(min = 1))]
    pub version: u32,
    pub mode: CandidateMode,
    /// Canary: hundredths of the keys whose readings it handles; 10 unless said otherwise.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: f64,
    /// It is given up on when it alone fails at more than this many hundredths of its readings …
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 100))]
    pub errors_percent: f64,
    /// … but not before it has had so many.
    #[serde(default = "twenty")]
    pub errors_after: u64,
}

const fn ten() -> f64 {
    10.0
}

const fn five() -> f64 {
    5.0
}

const fn twenty() -> u64 {
    20
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateMode {
    /// It sees every reading beside the active version; nothing comes of it.
    Shadow,
    /// It handles a share of the keys in place of the active version.
    Canary,
}

/// A version on trial, and how it does.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CandidateView {
    pub version: u32,
    pub mode: CandidateMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    pub errors_percent: f64,
    pub errors_after: u64,
    /// RFC 3339.
    pub since: String,
    pub routes: Vec<ComparedView>,
}

/// Since the trial or the host began.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComparedView {
    pub route: String,
    /// Of the version on trial.
    pub calls: u64,
    /// Those at which it failed and the active version did not.
    pub errors: u64,
    /// Shadow: both put out and wrote the same.
    pub same: u64,
    pub different: u64,
    /// Microseconds that a call took, on average.
    pub mean_us: u64,
    /// Of the active version, meanwhile.
    pub active_calls: u64,
    pub active_errors: u64,
    pub active_mean_us: u64,
    /// The newest.
    pub differences: Vec<DifferenceView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceView {
    pub reading: String,
    pub what: String,
}

/// A trial that ended without the version having become the active one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrialEndedView {
    pub version: u32,
    /// RFC 3339.
    pub time: String,
    pub why: String,
}

/// An import that does not do what its name says, for want of a permission.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NotGrantedView {
    pub import: String,
    /// What would grant it; absent if no route can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// What happens instead.
    pub instead: String,
    /// The routes that use the module without it; empty while none uses it.
    pub routes: Vec<String>,
}

/// What a try on journaled readings came to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TryView {
    /// Readings that there were.
    pub readings: u64,
    /// Fewer, if it took too long, or there is too much to tell.
    pub tried: u64,
    pub same: u64,
    pub different: u64,
    /// Those that the candidate failed at.
    pub failed: u64,
    /// Oldest first: those that differ; without a version to compare with, all.
    pub items: Vec<TriedView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TriedView {
    pub reading: ReadingView,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<SideView>,
    pub candidate: SideView,
}

/// What one version made of a reading: outputs, or a fault.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SideView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<OutputView>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<StateWriteView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultView>,
    pub logs: Vec<LogView>,
    pub elapsed_us: u64,
}

/// Readings to handle once more, for real.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReplay {
    pub route: String,
    /// Of the route's module; the active one unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<u32>,
    /// Readings accepted then or later. RFC 3339. Needed, unless `dead_letters` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Readings accepted before; now, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Only readings whose topic matches this filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The readings that the route could not handle; handled now, they are dead letters no more.
    #[serde(default)]
    pub dead_letters: bool,
    /// Whether devices get what the handler commands.
    #[serde(default)]
    pub commands: bool,
}

/// A replay, and how far it has come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplayView {
    pub id: String,
    pub route: String,
    pub version: u32,
    pub state: ReplayStateView,
    /// Why it could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// RFC 3339.
    pub begun: String,
    pub dead_letters: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    pub commands: bool,
    /// Readings.
    pub handled: u64,
    /// Deliveries and chained readings.
    pub outputs: u64,
    pub failed: u64,
    /// The first of those that failed.
    pub failures: Vec<ReplayFailureView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayStateView {
    Running,
    Done,
    Cancelled,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplayFailureView {
    pub reading: String,
    pub cause: String,
}
