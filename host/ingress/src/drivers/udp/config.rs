//! Settings of a UDP ingress.

use std::net::SocketAddr;

use sandbar_reading::Octets;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::written::CommandForm;

/// Takes every UDP datagram as a reading; replies and commands are datagrams to where it came from. UDP may lose
/// datagrams on the way: with `acknowledge`, a peer learns that its reading is on disk, and can repeat it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// Who may send: addresses and networks, such as `["10.0.0.0/8", "fd00::/8"]`. Without any, everybody.
    #[serde(default)]
    pub(super) allow: Vec<String>,
    /// The most bytes of a datagram's payload; not more than the host's limit of a reading, which is the default.
    #[serde(default)]
    pub(super) datagram_max: Option<usize>,
    /// Topic of the readings. `{ip}` and `{port}` are the peer's, `{device}` is the reading's.
    #[serde(default = "topic")]
    pub(super) topic: String,
    /// Device of the readings, which is also where its commands go: to where it sent from last. `{ip}` and
    /// `{port}` are the peer's.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Where JSON payloads name the device, as a JSON pointer: `/id`.
    #[serde(default)]
    pub(super) device_pointer: Option<String>,
    /// Content type of the readings; `application/octet-stream` by default.
    #[serde(default)]
    pub(super) content_type: Option<String>,
    /// A datagram back for every reading that is on disk; `{id}` is the reading's id. A text such as `"OK {id}"`,
    /// or bytes such as `{ hex = "06" }`.
    #[serde(default)]
    pub(super) acknowledge: Option<Octets>,
    /// A datagram back for every one that is not taken; `{reason}` says why. Without it, one that is refused for a
    /// time is held back until it is taken; meanwhile the system's buffer fills, and then loses datagrams.
    #[serde(default)]
    pub(super) refuse: Option<Octets>,
    /// What is sent of a command.
    #[serde(default)]
    pub(super) commands: CommandForm,
    /// Milliseconds after which a handler's reply is not waited for any more.
    #[serde(default = "reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
    /// Bytes that the system may keep of datagrams that were not read yet; it may allow less.
    #[serde(default = "receive_buffer")]
    pub(super) receive_buffer: usize,
}

fn topic() -> String {
    "udp".to_owned()
}

fn reply_timeout_ms() -> u64 {
    10_000
}

fn receive_buffer() -> usize {
    1 << 20
}
