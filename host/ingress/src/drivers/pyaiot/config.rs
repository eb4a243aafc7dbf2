//! Settings of a Pyaiot ingress.

use std::net::SocketAddr;
use std::path::PathBuf;

use sandbar_mqtt_client::BrokerConfig;
use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::ServerTls;

/// Takes the place of Pyaiot's broker and of its gateways: its dashboard connects to `/ws`, its gateways to `/gw`, its
/// WebSocket nodes to `/node`; its CoAP nodes send to the UDP port, and its MQTT nodes over a broker, which may be this
/// host's own. What a node says of a resource is a reading, and a command to a node writes the resource that the
/// command is named after.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port for WebSocket connections: dashboards at `/ws`, gateways at `/gw`, nodes at `/node`. Port 0
    /// takes a free one; Pyaiot's broker has 8000.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// A further one: Pyaiot's WebSocket nodes connect to a port of their own, 8001.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) listen_nodes: Option<SocketAddr>,
    /// Encrypts (`wss:`).
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
    /// A file with the keys of Pyaiot's gateways, as `sandbar keys generate` or Pyaiot's own program makes it. Without
    /// it, no gateway may connect.
    #[serde(default)]
    pub(super) keys_file: Option<PathBuf>,
    /// With it, only who bears it may write resources from a dashboard: `Authorization: Bearer <token>`, or the query
    /// parameter `access_token`. Everybody else may watch.
    #[serde(default)]
    pub(super) control_token: Option<Secret>,
    /// Asks it of nodes at `/node`, likewise.
    #[serde(default)]
    pub(super) node_token: Option<Secret>,
    /// Topic of the readings, with `{device}`, the node's uid, and `{resource}`.
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// Connections at once; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Nodes at once, however they speak; further ones are refused.
    #[serde(default = "default::nodes_max")]
    pub(super) nodes_max: usize,
    /// For nodes that speak CoAP.
    #[serde(default)]
    pub(super) coap: Option<CoapConfig>,
    /// For nodes that speak MQTT, and MQTT-SN.
    #[serde(default)]
    pub(super) mqtt: Option<MqttConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoapConfig {
    /// Address and port that nodes send their beacons to. Port 0 takes a free one; Pyaiot's gateway has 5683.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// The port at which nodes have their resources.
    #[serde(default = "default::node_port")]
    pub(super) node_port: u16,
    /// Seconds after its last beacon at which a node is out.
    #[serde(default = "default::lost_after_s")]
    pub(super) lost_after_s: u64,
    /// Milliseconds that a node may take to answer.
    #[serde(default = "default::answer_timeout_ms")]
    pub(super) answer_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MqttConfig {
    /// Where the broker is.
    pub(super) broker: BrokerConfig,
    /// Seconds between two `gateway/check`, which nodes answer with `node/check`.
    #[serde(default = "default::check_interval_s")]
    pub(super) check_interval_s: u64,
    /// Seconds after its last `node/check` at which a node is out.
    #[serde(default = "default::lost_after_s")]
    pub(super) lost_after_s: u64,
}

mod default {
    pub(super) fn topic() -> String {
        "pyaiot/{device}/{resource}".to_owned()
    }

    pub(super) const fn connections_max() -> usize {
        1024
    }

    pub(super) const fn nodes_max() -> usize {
        4096
    }

    pub(super) const fn node_port() -> u16 {
        5683
    }

    pub(super) const fn lost_after_s() -> u64 {
        120
    }

    pub(super) const fn answer_timeout_ms() -> u64 {
        20_000
    }

    pub(super) const fn check_interval_s() -> u64 {
        30
    }
}
