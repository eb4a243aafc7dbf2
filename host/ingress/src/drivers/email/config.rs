//! Settings of an e-mail ingress, and what is refused of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::ServerTls;

/// Takes readings by e-mail: an SMTP server (RFC 5321), with SIZE, PIPELINING, 8BITMIME, SMTPUTF8, STARTTLS, AUTH and
/// ENHANCEDSTATUSCODES. A message is answered with 250 once its reading is on disk. It passes nothing on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one.
    #[serde(default = "default::listen")]
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// The name that the server calls itself.
    #[serde(default = "default::domain")]
    pub(super) domain: String,
    /// Who may be written to: addresses, or domains. Without any, everybody.
    #[serde(default)]
    pub(super) recipients: Vec<String>,
    /// Who may write (the envelope's sender): addresses, or domains. Without any, everybody.
    #[serde(default)]
    pub(super) allowed_senders: Vec<String>,
    /// Names and passwords of who may log in: `[ingress.NAME.users]`, `scanner = { env = "SCANNER_PASSWORD" }`.
    #[serde(default)]
    pub(super) users: BTreeMap<String, Secret>,
    /// Takes messages only of those who have logged in. The default is whether there are users.
    #[serde(default)]
    pub(super) auth_required: Option<bool>,
    /// Lets users log in, and so send their password, over a connection that is not encrypted.
    #[serde(default)]
    pub(super) auth_without_tls: bool,
    /// Certificate and key, for encrypted connections.
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
    /// Whether a connection is encrypted from its beginning, or once the peer asks for it.
    #[serde(default)]
    pub(super) tls_mode: TlsMode,
    /// Takes messages only over encrypted connections.
    #[serde(default)]
    pub(super) tls_required: bool,
    /// What the reading's payload is.
    #[serde(default)]
    pub(super) payload: PayloadForm,
    /// Topic of the readings. `{sender}` and `{recipient}` (the first one) are addresses, `{sender_user}`,
    /// `{sender_domain}`, `{recipient_user}` and `{recipient_domain}` their parts, `{header}` is the value of
    /// `device_header`, `{device}` the reading's device. What a topic cannot hold becomes `_`.
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// Device of the readings, of the same parts: `{sender}`, `{recipient_user}`, `{header}`.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// The header that `{header}` stands for, such as `X-Device`. A message without it is refused.
    #[serde(default)]
    pub(super) device_header: Option<String>,
    /// Headers that become attributes `email.header.<name>`.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// The most bytes of one message, which SIZE tells the peer.
    #[serde(default = "default::message_max")]
    pub(super) message_max: usize,
    /// Larger attachments are left out of the JSON; `email.attachments_skipped` says how many were.
    #[serde(default = "default::attachment_max")]
    pub(super) attachment_max: usize,
    /// The most bytes of all messages that are being taken at once; beyond it the answer is 452.
    #[serde(default = "default::messages_max")]
    pub(super) messages_max: usize,
    /// The most recipients of one message; further ones are answered with 452.
    #[serde(default = "default::recipients_max")]
    pub(super) recipients_max: usize,
    /// Connections at once; further ones are answered with 421.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Milliseconds that a peer may take from one command to the next.
    #[serde(default = "default::command_timeout_ms")]
    pub(super) command_timeout_ms: u64,
    /// Milliseconds without a byte of a message that is being sent.
    #[serde(default = "default::data_timeout_ms")]
    pub(super) data_timeout_ms: u64,
    /// Milliseconds that a whole message may take.
    #[serde(default = "default::message_timeout_ms")]
    pub(super) message_timeout_ms: u64,
    /// Milliseconds to wait for a handler's answer, where a route replies; then the answer is 250.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsMode {
    /// STARTTLS (RFC 3207), usual at ports 25 and 587.
    #[default]
    Starttls,
    /// From the beginning (RFC 8314), usual at port 465.
    Implicit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadForm {
    /// A JSON object: ipaddr, from, to, cc, bcc, subject, body, html_body, timestamp, message_id, attachments (name,
    /// mime_type, size, data in base64). cc, bcc, html_body and attachments are not there when they are empty.
    #[default]
    Json,
    /// The message as it came, `message/rfc822`.
    Raw,
    /// The message's text, or what else it consists of, decoded, with its own content type.
    Body,
}

mod default {
    use std::net::{Ipv4Addr, SocketAddr};

    pub(super) fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 2525).into()
    }

    pub(super) fn domain() -> String {
        "localhost".to_owned()
    }

    pub(super) fn topic() -> String {
        "email".to_owned()
    }

    pub(super) const fn message_max() -> usize {
        10 << 20
    }

    pub(super) const fn attachment_max() -> usize {
        5 << 20
    }

    pub(super) const fn messages_max() -> usize {
        64 << 20
    }

    /// At least 100 (RFC 5321, section 4.5.3.1.8).
    pub(super) const fn recipients_max() -> usize {
        100
    }

    pub(super) const fn connections_max() -> usize {
        64
    }

    /// RFC 5321, section 4.5.3.2.7.
    pub(super) const fn command_timeout_ms() -> u64 {
        300_000
    }

    /// RFC 5321, section 4.5.3.2.5.
    pub(super) const fn data_timeout_ms() -> u64 {
        180_000
    }

    /// RFC 5321, section 4.5.3.2.6.
    pub(super) const fn message_timeout_ms() -> u64 {
        600_000
    }

    pub(super) const fn reply_timeout_ms() -> u64 {
        30_000
    }
}
