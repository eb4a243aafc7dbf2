//! Settings of the `kraken` driver.

use std::net::SocketAddr;

use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Session;
use crate::tls::ServerTls;

/// Takes what existing Kraken Collectors send: point their `KRKNC_BROKER_HOST` here. A call is answered once its
/// reading is on disk. Where a route gives replies, the handler's reply is the answer; else the answer is empty,
/// which no collector takes for a reply.
///
/// What is not taken is told with gRPC's codes: `UNAVAILABLE` and `RESOURCE_EXHAUSTED` (try again),
/// `INVALID_ARGUMENT` (never), `FAILED_PRECONDITION` (the handler refused it), `DEADLINE_EXCEEDED` (taken, but
/// the handler has not replied in time).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where it listens. Port 0 takes a free one.
    #[serde(default = "default::listen")]
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Topic of the readings; `{collector}` is the collector's name: `webhook`, `serial` …
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// Keys of the metadata that may name the device; the first that does is taken.
    #[serde(default = "default::devices")]
    pub(super) devices: Vec<String>,
    /// Encrypts connections. Collectors speak plain text.
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
    /// The most bytes of one message, 16 MiB by default, as with Kraken's broker; not more than the host's
    /// limit of a reading.
    #[serde(default = "default::message_max")]
    pub(super) message_max: usize,
    /// The most bytes of all messages that are arriving at once; beyond it the answer is `UNAVAILABLE`.
    #[serde(default = "default::messages_max")]
    pub(super) messages_max: usize,
    /// Calls of one connection at once; further ones wait.
    #[serde(default = "default::calls_max")]
    pub(super) calls_max: u32,
    /// Connections at once; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Milliseconds that a message may take to arrive, and after which a far end that does not answer is taken
    /// for gone.
    #[serde(default = "default::idle_timeout_ms")]
    pub(super) idle_timeout_ms: u64,
    /// Milliseconds to wait for a handler's reply, where a route gives one. Collectors wait for 30 s.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let above = |setting: &str, value: u64| match value {
            0 => Err(ConfigError::at(setting, "must be above 0")),
            _ => Ok(()),
        };
        above("message_max", self.message_max as u64)?;
        above("messages_max", self.messages_max as u64)?;
        above("calls_max", self.calls_max.into())?;
        above("connections_max", self.connections_max as u64)?;
        above("idle_timeout_ms", self.idle_timeout_ms)?;
        above("reply_timeout_ms", self.reply_timeout_ms)
    }

    /// Of a whole message: what stands beside the payload has room too.
    pub(super) fn message_max(&self, session: &Session) -> usize {
        const BESIDE: usize = 64 << 10;
        self.message_max.min(session.reading_max().saturating_add(BESIDE))
    }
}

mod default {
    use std::net::{Ipv4Addr, SocketAddr};

    /// Kraken Brokers listen on this port.
    pub(super) fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 50_051).into()
    }

    pub(super) fn topic() -> String {
        "kraken/{collector}".to_owned()
    }

    pub(super) fn devices() -> Vec<String> {
        ["device_name", "camera_name"].map(str::to_owned).into()
    }

    pub(super) fn message_max() -> usize {
        16 << 20
    }

    pub(super) fn messages_max() -> usize {
        64 << 20
    }

    pub(super) fn calls_max() -> u32 {
        64
    }

    pub(super) fn connections_max() -> usize {
        256
    }

    pub(super) fn idle_timeout_ms() -> u64 {
        60_000
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        25_000
    }
}
