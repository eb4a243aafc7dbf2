//! What waits for a sink or device, and what was given up on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::module::MessageView;
use super::reading::ReadingView;

/// A delivery that waits in the outbox.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueuedView {
    /// The same at every attempt.
    pub id: String,
    /// `sink/NAME` or `device/ID`.
    pub target: String,
    /// The reading whose handling put it out.
    pub reading: String,
    pub route: String,
    /// When it was put out. RFC 3339.
    pub time: String,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not to be offered before. RFC 3339.
    pub due: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_cause: Option<String>,
    /// For a device the topic is the command's name.
    pub message: MessageView,
}

/// Which targets to try at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// `sink/NAME` or `device/ID`; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(sink|device)/.+$"))]
    pub target: Option<String>,
}

/// A reading or delivery that was given up on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterView {
    pub id: String,
    /// When it was given up. RFC 3339.
    pub time: String,
    pub attempts: u32,
    pub cause: String,
    pub route: String,
    /// Of a delivery: `sink/NAME` or `device/ID`. Absent when the route could not handle the reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The key of its lane, for a reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the route could not handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<ReadingView>,
    /// What the target did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    pub id: String,
    /// The reading whose handling put it out.
    pub reading: String,
    /// RFC 3339.
    pub time: String,
    pub message: MessageView,
}

/// Which dead letters to try again; without a filter all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
}

/// How many dead letters wait again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Redriven {
    pub redriven: u64,
}

/// The watcher was slower than what passed by.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    pub count: u64,
}
