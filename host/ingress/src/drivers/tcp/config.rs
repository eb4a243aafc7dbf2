//! Settings of a TCP ingress, and what is refused of them.

use std::net::SocketAddr;

use sandbar_reading::{ConfigError, Framing, Octets};
use sandbar_tls::{ClientTls, Connector};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::naming::Naming;
use crate::stream::{Nature, Options, Settings};
use crate::tls::{Acceptor, ServerTls};
use crate::written::CommandForm;

/// Takes frames from TCP connections, and writes replies and commands back over them, framed the same way.
/// TCP acknowledges nothing by itself: with `acknowledge`, a peer learns that its reading is on disk. While the
/// host cannot take more, nothing is read (or, with `refuse`, the peer is told).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen at; port 0 takes a free one. Either this or `connect`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) listen: Option<SocketAddr>,
    /// Host and port to connect to: `plc.local:9000`. Connects again when the connection is lost.
    #[serde(default)]
    pub(super) connect: Option<String>,
    /// Where a frame, which is one reading, ends: `raw`, `lines` (the default), `length`, `fixed` or
    /// `delimiter`; see the table below.
    #[serde(default)]
    pub(super) framing: Framing,
    /// The most bytes of a frame; not more than the host's limit of a reading, which is the default. Longer ones
    /// are refused if there is `refuse`, else they end the connection.
    #[serde(default)]
    pub(super) frame_max: Option<usize>,
    /// Topic of the readings. `{ip}`, `{port}` and `{certificate}` are the peer's, `{device}` is the reading's.
    #[serde(default = "default::topic")]
    pub(super) topic: String,
    /// Device of the readings, which is also where its commands go. `{ip}` and `{port}` are the peer's, and
    /// `{certificate}`, the common name of its certificate; that is the attribute `tls.certificate`, too.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Where JSON payloads name the device, as a JSON pointer: `/id`.
    #[serde(default)]
    pub(super) device_pointer: Option<String>,
    /// Content type of the readings. The default is `text/plain` for lines, else `application/octet-stream`.
    #[serde(default)]
    pub(super) content_type: Option<String>,
    /// Written back, as it is, for every reading that is on disk; `{id}` is the reading's id. A text such as
    /// `"OK {id}\n"`, or bytes such as `{ hex = "06" }`.
    #[serde(default)]
    pub(super) acknowledge: Option<Octets>,
    /// Written back, as it is, for every frame that is not taken; `{reason}` says why. Without it, a frame that
    /// is refused for a time is held back until it is taken, and nothing more is read meanwhile.
    #[serde(default)]
    pub(super) refuse: Option<Octets>,
    /// What is written of a command.
    #[serde(default)]
    pub(super) commands: CommandForm,
    /// Milliseconds after which a handler's reply is not waited for any more.
    #[serde(default = "default::reply_timeout_ms")]
    pub(super) reply_timeout_ms: u64,
    /// Milliseconds from a frame's first byte to its last; a slower peer is cut off.
    #[serde(default = "default::frame_timeout_ms")]
    pub(super) frame_timeout_ms: u64,
    /// Milliseconds without a frame after which a connection is closed. Without it, only a peer that does not
    /// answer TCP's own questions is.
    #[serde(default)]
    pub(super) idle_timeout_ms: Option<u64>,
    /// Connections at once, when listening; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Encrypts, when listening.
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
    /// Encrypts, when connecting: `connect_tls = {}` trusts the system's certificates.
    #[serde(default)]
    pub(super) connect_tls: Option<ClientTls>,
}

mod default {
    pub(super) fn topic() -> String {
        "tcp".to_owned()
    }

    pub(super) fn reply_timeout_ms() -> u64 {
        10_000
    }

    pub(super) fn frame_timeout_ms() -> u64 {
        30_000
    }

    pub(super) fn connections_max() -> usize {
        256
    }
}

/// Who connects to whom.
pub(super) enum Side {
    Listen { address: SocketAddr, tls: Option<Acceptor> },
    Connect { address: String, tls: Option<Connector> },
}

impl Config {
    pub(super) fn side(&self) -> Result<Side, ConfigError> {
        let needs =
            |setting: &str, other: &str| ConfigError::at(setting, format!("is of no use without `{other}`"));
        match (self.listen, &self.connect) {
            (Some(address), None) => {
                if self.connect_tls.is_some() {
                    return Err(needs("connect_tls", "connect"));
                }
                let tls = self.tls.clone().map(Acceptor::new).transpose();
                Ok(Side::Listen { address, tls: tls.map_err(|error| error.within("tls"))? })
            }
            (None, Some(address)) => {
                if self.tls.is_some() {
                    return Err(needs("tls", "listen"));
                }
                let host = address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
                let Some(host) = host.filter(|host| !host.is_empty()) else {
                    return Err(ConfigError::at(
                        "connect",
                        "must be a host and a port, such as plc.local:9000",
                    ));
                };
                let tls = self.connect_tls.as_ref().map(|tls| tls.connector(host)).transpose();
                let tls = tls.map_err(|error| error.within("connect_tls"))?;
                Ok(Side::Connect { address: address.clone(), tls })
            }
            _ => Err(ConfigError::at("listen", "set either this or `connect`")),
        }
    }

    fn naming(&self) -> Result<Naming, ConfigError> {
        let (device, pointer) = (self.device.as_deref(), self.device_pointer.as_deref());
        let has_certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        for (setting, text) in [("device", device.unwrap_or_default()), ("topic", &self.topic)] {
            if text.contains("{certificate}") && !has_certificates {
                return Err(ConfigError::at(setting, "`{certificate}` needs `tls.client_ca_file`"));
            }
        }
        Naming::with_certificates(&self.topic, device, pointer)
    }

    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        if self.connections_max == 0 {
            return Err(ConfigError::at("connections_max", "must be above 0"));
        }
        let options = Options {
            nature: Nature::Connection,
            framing: &self.framing,
            frame_max: self.frame_max,
            naming: self.naming()?,
            content_type: self.content_type.as_deref(),
            acknowledge: self.acknowledge.as_ref(),
            refuse: self.refuse.as_ref(),
            commands: self.commands,
            reply_timeout_ms: self.reply_timeout_ms,
            frame_timeout_ms: Some(self.frame_timeout_ms),
            idle_timeout_ms: self.idle_timeout_ms,
            read_timeout_ms: None,
        };
        options.settings()
    }
}
