//! How devices are kept.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use sandbar_pipeline::DeviceOptions;
use sandbar_reading::{ConfigError, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The registry of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesTable {
    /// How many devices are listed. Readings of further ones are taken like any other; they are counted as
    /// `unlisted` in the status, and a device is listed once there is room, at its next reading.
    pub max: usize,
    /// Seconds without a word after which a device is lost that is not connected; 0 for never. What an ingress
    /// (`silence_s` of its table), a type or a driver says of its devices goes before it.
    pub silence_s: u64,
    /// The same by type of device, also while they are connected: `{ robot = 30 }`.
    pub silence_s_by_type: BTreeMap<String, NonZeroU64>,
}

impl Default for DevicesTable {
    fn default() -> Self {
        Self { max: 50_000, silence_s: 900, silence_s_by_type: BTreeMap::new() }
    }
}

impl DevicesTable {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.max {
            0 => Err(ConfigError::at("max", "must be above 0")),
            _ => Ok(()),
        }
    }

    pub(crate) fn options(&self) -> DeviceOptions {
        let by_type = |(kind, seconds): (&String, &NonZeroU64)| {
            (kind.as_str().into(), Duration::from_secs(seconds.get()))
        };
        DeviceOptions {
            max: self.max,
            silence: (self.silence_s > 0).then(|| Duration::from_secs(self.silence_s)),
            silence_by_type: self.silence_s_by_type.iter().map(by_type).collect::<HashMap<_, _>>(),
        }
    }
}

/// Faces of other programs, for what was made to speak to those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompatTable {
    /// IoT Cloud Connector's; without it there is none.
    pub cloud_connector: Option<CloudConnectorTable>,
}

/// The paths of IoT Cloud Connector: devices connect to the WebSocket `/connect`; `/devices` and
/// `/cloud-connector/status` tell of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudConnectorTable {
    /// Where it listens.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// What devices and clients must present, as `Authorization: Bearer <token>` or in the header
    /// `Authentication`; without it anybody may who reaches `listen`, but no page of another site in a browser.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Milliseconds that a device has for its answer to a query; then it is 408.
    #[serde(default = "query_timeout_ms")]
    pub query_timeout_ms: NonZeroU64,
    /// Connections at once; further ones are refused with 503.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Milliseconds between pings; a device that is silent for two and a half times as long is lost.
    #[serde(default = "ping_interval_ms")]
    pub ping_interval_ms: NonZeroU64,
}

fn query_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(8_000).expect("it is not zero")
}

fn connections_max() -> usize {
    20_000
}

fn ping_interval_ms() -> NonZeroU64 {
    NonZeroU64::new(30_000).expect("it is not zero")
}
