//! What drivers have open.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A connection of a peer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionView {
    /// Unique since the start of the host, counting up.
    pub id: u64,
    pub ingress: String,
    /// The peer's address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The device that it speaks for, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The type of that device, if that is known.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What it calls itself in its protocol: an MQTT client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Its program, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// When it began. RFC 3339.
    pub created: String,
    pub received: TrafficView,
    pub sent: TrafficView,
    /// Messages that wait to be sent to it.
    pub queued: u64,
}

/// What went one way over a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrafficView {
    pub messages: u64,
    /// Of payload.
    pub bytes: u64,
    /// When the last message went. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}
