//! Settings of a webhook ingress.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use sandbar_reading::Secret;

/// Takes readings over HTTP (HTTP/1.1, and HTTP/2 without TLS).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one.
    #[serde(default = "default::listen")]
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// What may be sent where. The first path that fits a request takes it.
    pub(super) paths: Vec<PathConfig>,
    /// Asks for `Authorization: Bearer <token>`.
    #[serde(default)]
    pub(super) token: Option<Secret>,
    /// Asks for a signature of the body, as GitHub and others make it.
    #[serde(default)]
    pub(super) signature: Option<SignatureConfig>,
    /// The most bytes of one body; not more than the host's limit of a reading, which is the default.
    #[serde(default)]
    pub(super) body_max: Option<usize>,
    /// The most bytes of all bodies that are being taken at once; beyond it the answer is 503.
    #[serde(default = "default::bodies_max")]
    pub(super) bodies_max: usize,
    /// The most bytes of a request's head, at least 8192; beyond it the answer is 431.
    #[serde(default = "default::head_max")]
    pub(super) head_max: usize,
    /// Milliseconds that a body may take to arrive (then 408), and after which a connection without a
    /// whole request is closed.
    #[serde(default = "default::timeout_ms")]
    pub(super) timeout_ms: u64,
    /// Connections at once; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Milliseconds to wait for a handler's reply, where a route gives one; then 504.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
    /// Header with a key of the sender's choice: the same key at the same path within 24 hours is taken
    /// once, and answered with the same id. Example: `Idempotency-Key`.
    #[serde(default)]
    pub(super) idempotency_header: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathConfig {
    /// `/hooks/{device}/{sensor}`: a segment in braces fits any one segment, a last `{*rest}` fits all that
    /// follow. Their values become the attributes `http.path.<name>`.
    pub(super) path: String,
    /// Methods that are taken.
    #[serde(default = "default::methods")]
    pub(super) methods: Vec<String>,
    /// Topic of the readings, with the path's segments, and `{device}`: `sensors/{device}`. The default is the path
    /// without its first slash.
    #[serde(default)]
    pub(super) topic: Option<String>,
    /// Device of the readings, with the path's segments, and `{ip}`, the sender's address. The default is the
    /// segment `{device}`, if there is one.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// A header that names the device instead: `X-Device`.
    #[serde(default)]
    pub(super) device_header: Option<String>,
    /// A query parameter that names the device instead: `device`.
    #[serde(default)]
    pub(super) device_query: Option<String>,
    /// Where bodies name the device instead, as a JSON pointer: `/id`. A body that names none, of a request that does
    /// not either, is refused.
    #[serde(default)]
    pub(super) device_pointer: Option<String>,
    /// Content types that are taken, such as `application/json` or `image/*`; others are answered with
    /// 415. Without any, all are taken.
    #[serde(default)]
    pub(super) content_types: Vec<String>,
    /// Headers that become attributes `http.header.<name>`.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// Query parameters that become attributes `http.query.<name>`.
    #[serde(default)]
    pub(super) query: Vec<String>,
    /// What a sender is answered whose reading is on disk, in place of `202 {"id": "…"}`.
    #[serde(default)]
    pub(super) answer: Option<AnswerConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerConfig {
    /// From 200 to 299.
    #[serde(default = "default::answer_status")]
    pub(super) status: u16,
    /// The body; `{id}` in it is the reading's id.
    pub(super) body: String,
    /// What the body is.
    #[serde(default = "default::answer_type")]
    pub(super) content_type: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureConfig {
    /// Header that holds it: `X-Hub-Signature-256`.
    pub(super) header: String,
    /// How it is made, over the body as it came.
    #[serde(default)]
    pub(super) algorithm: Algorithm,
    /// What stands before it in the header: `sha256=`.
    #[serde(default)]
    pub(super) prefix: String,
    /// How it is written.
    #[serde(default)]
    pub(super) encoding: Encoding,
    /// The secret that both sides share.
    pub(super) secret: Secret,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    #[default]
    Hex,
    Base64,
}

mod default {
    use std::net::{Ipv4Addr, SocketAddr};

    pub(super) fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 8080).into()
    }

    pub(super) fn methods() -> Vec<String> {
        ["POST", "PUT"].map(str::to_owned).into()
    }

    pub(super) fn answer_status() -> u16 {
        200
    }

    pub(super) fn answer_type() -> String {
        "application/json".to_owned()
    }

    pub(super) fn bodies_max() -> usize {
        64 << 20
    }

    pub(super) fn head_max() -> usize {
        16 << 10
    }

    pub(super) fn timeout_ms() -> u64 {
        30_000
    }

    pub(super) fn connections_max() -> usize {
        1024
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        10_000
    }
}
