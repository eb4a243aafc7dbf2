//! Settings of a WebSocket ingress.

use std::net::SocketAddr;

use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::ServerTls;
use crate::written::CommandForm;

/// Takes readings over WebSocket connections (RFC 6455), and sends replies, commands and what sinks publish over
/// them. WebSocket acknowledges nothing by itself: with `acknowledge`, a peer learns that its reading is on disk.
/// While the host cannot take more, nothing is read (or, with `refuse`, the peer is told).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Where to connect to, and for what. The first path that fits takes a connection.
    pub(super) paths: Vec<PathConfig>,
    /// Asks for `Authorization: Bearer <token>`, or for the token as the query parameter `access_token`, since a
    /// browser's pages cannot set headers.
    #[serde(default)]
    pub(super) token: Option<Secret>,
    /// From which sites a browser's page may connect: `["https://example.com"]`. Without any, from all; who is no
    /// browser may always.
    #[serde(default)]
    pub(super) origins: Vec<String>,
    /// Sub-protocols that are spoken, the preferred one first. A peer that offers none of them is refused.
    #[serde(default)]
    pub(super) sub_protocols: Vec<String>,
    /// Text that is sent when a connection opens: `{"kraken":"hello"}` is what Kraken's clients wait for.
    #[serde(default)]
    pub(super) greeting: Option<String>,
    /// Text that is sent for every reading that is on disk; `{id}` is the reading's id: `{"accepted":"{id}"}`.
    #[serde(default)]
    pub(super) acknowledge: Option<String>,
    /// Text that is sent for every message that is not taken; `{reason}` says why. Without it, a message that is
    /// refused for a time is held back until it is taken, and nothing more is read meanwhile.
    #[serde(default)]
    pub(super) refuse: Option<String>,
    /// What is sent of a command. With `payload`, JSON and text are text messages, the rest is binary.
    #[serde(default)]
    pub(super) commands: CommandForm,
    /// What is sent of a message that a sink publishes.
    #[serde(default)]
    pub(super) publications: PublicationForm,
    /// The most bytes of a message; not more than the host's limit of a reading, which is the default. A longer one
    /// ends the connection (1009).
    #[serde(default)]
    pub(super) message_max: Option<usize>,
    /// Connections at once; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Milliseconds between pings.
    #[serde(default = "default::ping_interval_ms")]
    pub(super) ping_interval_ms: u64,
    /// Milliseconds without a sign of life, such as an answer to a ping, after which a connection is closed. More
    /// than `ping_interval_ms`.
    #[serde(default = "default::idle_timeout_ms")]
    pub(super) idle_timeout_ms: u64,
    /// Milliseconds after which a handler's reply is not waited for any more.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
    /// Encrypts (`wss:`).
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathConfig {
    /// `/ws/{device}`: a segment in braces fits any one segment, a last `{*rest}` fits all that follow. Their values
    /// become the attributes `http.path.<name>`.
    pub(super) path: String,
    /// Topic of the readings, with the path's segments, and `{device}`. The default is the path without its first
    /// slash.
    #[serde(default)]
    pub(super) topic: Option<String>,
    /// Device of the readings, which is also where its commands go, with the path's segments, `{ip}`, the peer's address,
    /// and `{certificate}`, the common name of its certificate (also the attribute `tls.certificate`). The default is
    /// the segment `{device}`, if there is one.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// A header of the request that names the device instead: `X-Device`.
    #[serde(default)]
    pub(super) device_header: Option<String>,
    /// A query parameter that names the device instead: `device`.
    #[serde(default)]
    pub(super) device_query: Option<String>,
    /// Where messages name the device instead, as a JSON pointer: `/id`. One connection may speak for many.
    #[serde(default)]
    pub(super) device_pointer: Option<String>,
    /// Headers of the request that become attributes `http.header.<name>`.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// Whether connections get what sinks publish through this ingress. The query parameter `topic` may name a
    /// filter: `?topic=sensors/%23`.
    #[serde(default)]
    pub(super) subscribe: bool,
    /// Whether what connections send is taken as readings; else it ends the connection (1003).
    #[serde(default = "default::readings")]
    pub(super) readings: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PublicationForm {
    /// An object: `{"topic":"a/b","device":null,"id":"01…","content_type":"application/json","payload":{"t":21.5}}`;
    /// what is neither JSON nor text is `payload_base64`.
    #[default]
    Json,
    /// The payload alone.
    Payload,
}

mod default {
    pub(super) fn connections_max() -> usize {
        1024
    }

    pub(super) fn ping_interval_ms() -> u64 {
        30_000
    }

    pub(super) fn idle_timeout_ms() -> u64 {
        75_000
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        10_000
    }

    pub(super) fn readings() -> bool {
        true
    }
}
