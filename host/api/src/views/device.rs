//! Devices and commands for them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload::{Json, PayloadView, present};

/// A device.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeviceView {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Through which it spoke.
    pub ingresses: Vec<String>,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub last_seen: String,
    pub presence: PresenceView,
    /// Since when it is so. RFC 3339.
    pub since: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceView {
    /// It is connected, or was heard of not long ago.
    Online,
    /// It said farewell.
    Offline,
    /// It is gone without a word.
    Lost,
}

/// All that is known of a device.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeviceDetailView {
    #[serde(flatten)]
    pub device: DeviceView,
    /// The ingress that commands reach it through now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_by: Option<String>,
    /// The last values of its resources, by name.
    pub resources: BTreeMap<String, ValueView>,
    /// What they should be.
    pub desired: BTreeMap<String, DesiredView>,
}

/// The last value of a resource.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ValueView {
    pub value: Json,
    /// RFC 3339.
    pub time: String,
}

/// What a resource should be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DesiredView {
    pub value: Json,
    /// When that was said. RFC 3339.
    pub time: String,
    /// The device has reported this value.
    pub reached: bool,
}

/// What a person says of a device. What is left out is taken away, but for the type.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PutDevice {
    /// Without it the device is called what it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub kind: Option<String>,
    /// At most 32, of at most 255 bytes.
    pub labels: BTreeMap<String, String>,
}

/// A resource is to have this value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutDesired {
    #[serde(deserialize_with = "present", default)]
    #[schemars(required)]
    pub value: Option<Json>,
}

/// A command to give.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommandView {
    /// What to do, as the device understands it: `set`, `led`.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Any JSON. A text is sent as it is, unless `content_type` says that it is JSON; everything else as JSON.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Json>,
    /// Instead of `payload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("contentEncoding" = "base64"))]
    pub payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Seconds until it expires. A query has 8 by default and at most 120; a command to send is kept for a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 31_536_000))]
    pub timeout: Option<f64>,
    #[serde(default)]
    pub mode: ModeView,
    #[serde(default)]
    pub when_offline: WhenOfflineView,
    #[serde(default)]
    pub answer: AnswerView,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeView {
    /// It is in the outbox when this answers, and sent when the device can be reached.
    #[default]
    Send,
    /// This answers with what the device answers.
    Query,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenOfflineView {
    /// It waits for the device to come back.
    #[default]
    Queue,
    /// It is refused at once, as a query always is.
    Refuse,
}

/// Which message is the answer to a query, where the device's protocol has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerView {
    /// One with the command's id, or else the device's next message.
    #[default]
    Next,
    /// One with the command's id: the JSON key `id`, or MQTT correlation data.
    Id,
}

/// A command, and how far it has come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OrderedView {
    pub id: String,
    pub device: String,
    pub name: String,
    pub state: CommandStateView,
    pub mode: ModeView,
    /// The route that put it out; none if somebody asked for it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The resource whose desired value it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When `state` became what it is. RFC 3339.
    pub changed: String,
    /// Why it failed or expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the device said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<CommandAnswerView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswerView {
    pub content_type: String,
    #[serde(flatten)]
    pub payload: PayloadView,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommandStateView {
    /// In the outbox.
    Queued,
    /// The device has it, and has not said yet how it went; it is sent again if it never does.
    Sent,
    /// The device took it, as far as its protocol tells.
    Acknowledged,
    /// It was refused, or given up on; it is a dead letter.
    Failed,
    /// Its time was over before it was sent, or answered.
    Expired,
    Cancelled,
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DevicesStatus {
    pub known: u64,
    pub online: u64,
    pub offline: u64,
    pub lost: u64,
    /// As many as may be listed.
    pub max: u64,
    /// Words of devices that there was no room for, since the start.
    pub unlisted: u64,
    /// Changes of presence since the start.
    pub changes: u64,
    /// That commands reach now.
    pub reachable: u64,
}

/// What goes over connections.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrafficTotals {
    pub received: FlowView,
    pub sent: FlowView,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FlowView {
    /// Since the start.
    pub messages: u64,
    /// Of payload.
    pub bytes: u64,
    /// In the last ten seconds.
    pub messages_per_second: f64,
    pub bytes_per_second: f64,
}

/// Resources of a device that have new values.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportedView {
    pub device: String,
    pub resources: BTreeMap<String, ValueView>,
}

/// A device that was forgotten.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RemovedView {
    pub device: String,
}
