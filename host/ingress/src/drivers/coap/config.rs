//! Settings of a CoAP ingress.

use std::net::SocketAddr;

use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Serves CoAP (RFC 7252) over UDP and asks nodes for theirs. What is sent with POST or PUT is a reading, answered
/// 2.04 once it is on disk; nodes' resources are observed (RFC 7641) or asked for at intervals; a command is a PUT to
/// a resource of its device; and what sinks send out through the ingress can be read and observed at its topic.
/// Long bodies come and go in blocks (RFC 7959).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; nodes are asked from there, too. Port 0 takes a free one; CoAP's is 5683.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Who is heard: addresses and networks, such as `["10.0.0.0/8", "fd00::/8"]`. Without any, everybody.
    #[serde(default)]
    pub(super) allow: Vec<String>,
    /// Where readings are sent to. The first entry that fits takes a request. The default takes any path, and its
    /// topic is the path.
    #[serde(default = "default::resources")]
    pub(super) resources: Vec<ResourceConfig>,
    /// Nodes that are asked for what they have.
    #[serde(default)]
    pub(super) nodes: Vec<NodeConfig>,
    /// Where a command goes at its device: `{command}` is its name.
    #[serde(default = "default::command_path")]
    pub(super) command_path: String,
    /// How a command is sent.
    #[serde(default)]
    pub(super) command_method: CommandMethod,
    /// The port of a device that is known by what it sent: many nodes send from any port and listen at 5683. Without
    /// it, commands go to the port that it sent from last.
    #[serde(default)]
    pub(super) command_port: Option<u16>,
    /// Encrypts: DTLS 1.2 with pre-shared keys, beside the plain port.
    #[serde(default)]
    pub(super) secure: Option<SecureConfig>,
    /// Whether requests without DTLS are answered; nodes without it are asked all the same.
    #[serde(default = "default::yes")]
    pub(super) plain: bool,
    /// The most bytes of a body, in whatever number of blocks; not more than the host's limit of a reading, which is
    /// the default.
    #[serde(default)]
    pub(super) body_max: Option<usize>,
    /// Bytes of the blocks that long bodies are cut into: 16, 32, 64, 128, 256, 512 or 1024.
    #[serde(default = "default::block_size")]
    pub(super) block_size: usize,
    /// Milliseconds that the next block of a body may take to come, or to be asked for.
    #[serde(default = "default::block_timeout_ms")]
    pub(super) block_timeout_ms: u64,
    /// Milliseconds after which an unacknowledged message is sent again, at first; then twice as long, up to four times
    /// (`ACK_TIMEOUT`).
    #[serde(default = "default::ack_timeout_ms")]
    pub(super) ack_timeout_ms: u64,
    /// Milliseconds that a node may take to answer.
    #[serde(default = "default::answer_timeout_ms")]
    pub(super) answer_timeout_ms: u64,
    /// Milliseconds after which a handler's reply is not waited for any more.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
    /// How many of the last messages are remembered, so that repeated ones are not taken twice.
    #[serde(default = "default::remembered_max")]
    pub(super) remembered_max: usize,
    /// Topics whose latest message can be read here, at most; a message of a further one is refused.
    #[serde(default = "default::latest_max")]
    pub(super) latest_max: usize,
    /// Observers of those at once; further ones are answered, and not told of changes.
    #[serde(default = "default::observers_max")]
    pub(super) observers_max: usize,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceConfig {
    /// `/sensors/{device}`: a segment in braces fits any one segment, a last `{*rest}` fits all that follow.
    pub(super) path: String,
    /// How readings are sent: `POST`, `PUT`, `DELETE`, `FETCH`, `PATCH` or `iPATCH`.
    #[serde(default = "default::methods")]
    pub(super) methods: Vec<String>,
    /// Topic of the readings, with the path's segments, `{device}`, `{ip}`, `{port}` and `{identity}`. The default is
    /// the path without its first slash.
    #[serde(default)]
    pub(super) topic: Option<String>,
    /// Device of the readings, which is also where its commands go, with the path's segments, `{ip}`, `{port}` and
    /// `{identity}`: whose key was used with DTLS, else empty. The default is the segment `{device}`, if there is one.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Content type of readings whose sender names none; `application/octet-stream` by default.
    #[serde(default)]
    pub(super) content_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// Device of the readings, and where its commands go.
    pub(super) device: String,
    /// Name or address, and port if it is not 5683 (5684 with DTLS): `10.0.0.7`, `lamp.local:5690`. A link-local address
    /// names the interface that it is reached by: `fe80::1%eth0`, `[fe80::1%eth0]:5690`.
    pub(super) address: String,
    /// Resources to observe: `["/temperature"]`. Each notification is a reading.
    #[serde(default)]
    pub(super) observe: Vec<String>,
    /// Resources to ask for, every `poll_interval_ms`.
    #[serde(default)]
    pub(super) poll: Vec<String>,
    /// Milliseconds between two askings.
    #[serde(default = "default::poll_interval_ms")]
    pub(super) poll_interval_ms: u64,
    /// Asks for `/.well-known/core`, observes what can be observed of it, and polls the rest. Asks again until
    /// there is something, and after the node was gone.
    #[serde(default)]
    pub(super) discover: bool,
    /// Milliseconds after which a node that does not answer is tried again.
    #[serde(default = "default::again_ms")]
    pub(super) again_ms: u64,
    /// Topic of the readings, with `{device}` and `{path}`, the resource's path without its first slash.
    #[serde(default = "default::node_topic")]
    pub(super) topic: String,
    /// One of `secure.keys`: the node is spoken to with DTLS, and this identity.
    #[serde(default)]
    pub(super) identity: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecureConfig {
    /// Address and port; port 0 takes a free one; CoAP's is 5684.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Who may connect, and with what key.
    pub(super) keys: Vec<KeyConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyConfig {
    /// As the peer says it.
    pub(super) identity: String,
    /// The key: a text, or bytes as `hex:00112233…`.
    pub(super) key: Secret,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum CommandMethod {
    #[default]
    Put,
    Post,
}

mod default {
    use super::ResourceConfig;

    pub(super) fn resources() -> Vec<ResourceConfig> {
        let any = ResourceConfig {
            path: "/{*path}".to_owned(),
            methods: methods(),
            topic: None,
            device: Some("{ip}".to_owned()),
            content_type: None,
        };
        vec![any]
    }

    pub(super) fn methods() -> Vec<String> {
        vec!["POST".to_owned(), "PUT".to_owned()]
    }

    pub(super) fn command_path() -> String {
        "/{command}".to_owned()
    }

    pub(super) const fn yes() -> bool {
        true
    }

    pub(super) const fn block_size() -> usize {
        1024
    }

    pub(super) const fn block_timeout_ms() -> u64 {
        60_000
    }

    pub(super) const fn ack_timeout_ms() -> u64 {
        2000
    }

    pub(super) const fn answer_timeout_ms() -> u64 {
        100_000
    }

    pub(super) const fn reply_timeout_ms() -> u64 {
        10_000
    }

    pub(super) const fn remembered_max() -> usize {
        65_536
    }

    pub(super) const fn latest_max() -> usize {
        1024
    }

    pub(super) const fn observers_max() -> usize {
        1024
    }

    pub(super) const fn poll_interval_ms() -> u64 {
        60_000
    }

    pub(super) const fn again_ms() -> u64 {
        30_000
    }

    pub(super) fn node_topic() -> String {
        "{device}/{path}".to_owned()
    }
}
