//! Modules, their versions, and trials of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload::{AttributesView, PayloadView};
use super::reading::NewReading;
use super::trial::{CandidateView, NotGrantedView, TrialEndedView};

/// A version of a module.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Counts from 1.
    pub version: u32,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The interfaces that it asks of the host.
    pub imports: Vec<String>,
    /// RFC 3339.
    pub uploaded: String,
    /// The trusted key that has signed it, in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// It has not been the one that routes use so far.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_active: bool,
}

/// What an upload became.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UploadedView {
    pub name: String,
    pub version: u32,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The interfaces that it asks of the host.
    pub imports: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Whether this version is the one that routes use.
    pub active: bool,
    /// What this version imports and the module's routes do not grant.
    #[serde(default)]
    pub not_granted: Vec<NotGrantedView>,
}

/// A module.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModuleView {
    pub name: String,
    /// Declared in the configuration file, and so read-only here.
    pub declared: bool,
    /// The version that routes use.
    pub active: u32,
    /// Oldest first.
    pub versions: Vec<VersionView>,
    /// The routes that use it.
    pub routes: Vec<String>,
    /// The version that is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateView>,
    /// How the last trial ended, if the version did not become the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_trial: Option<TrialEndedView>,
    /// What the active version imports and its routes do not grant.
    pub not_granted: Vec<NotGrantedView>,
}

/// Which version to use from now on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    #[schemars(range(min = 1))]
    pub version: u32,
}

/// A call of a module with nothing kept of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTrial {
    /// By default the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<u32>,
    /// With this route's configuration, limits, permissions and state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Instead of the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<String, ConfigValue>>,
    pub reading: NewReading,
}

/// A text, a number or a boolean; the handler sees it as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a text, a number or a boolean")]
pub enum ConfigValue {
    Text(String),
    Number(serde_json::Number),
    Boolean(bool),
}

/// What came of a trial: outputs, or a fault.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrialView {
    /// What would have been put out; absent after a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<OutputView>>,
    /// What would have been written to the route's state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<StateWriteView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultView>,
    pub logs: Vec<LogView>,
    /// Microseconds that the call took.
    pub elapsed_us: u64,
}

/// One thing that a handler put out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OutputView {
    /// To the route's sinks, and to the routes whose filter it matches.
    Message(MessageView),
    /// To the reading's sender.
    Reply(MessageView),
    /// To a device.
    Command(CommandView),
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MessageView {
    pub topic: String,
    pub device: Option<String>,
    pub content_type: String,
    #[serde(default, skip_serializing_if = "AttributesView::is_empty")]
    pub attributes: AttributesView,
    #[serde(flatten)]
    pub payload: PayloadView,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandView {
    pub device: String,
    pub name: String,
    pub content_type: String,
    #[serde(flatten)]
    pub payload: PayloadView,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StateWriteView {
    pub name: String,
    /// True when the value would have been deleted.
    pub deleted: bool,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The value; absent when it would have been deleted.
    #[serde(flatten)]
    pub value: PayloadView,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FaultView {
    /// `rejected`, `retry`, `trap`, `timed_out`, `out_of_memory` …: what kind of end the call came to.
    pub code: String,
    pub cause: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    pub level: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    pub message: String,
}
