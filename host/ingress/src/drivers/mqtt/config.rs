//! Settings of an MQTT ingress.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::ServerTls;

/// An MQTT broker (3.1.1 and 5.0): what clients publish is journaled before it is acknowledged, and goes to
/// their subscribers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port for plain TCP; port 0 takes a free one. The default is `127.0.0.1:1883`, unless there
    /// are `listeners`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) listen: Option<SocketAddr>,
    /// Further places to listen at, with TLS or for WebSockets.
    #[serde(default)]
    pub(super) listeners: Vec<ListenerConfig>,
    /// Speaks MQTT-SN 1.2 over UDP, too. A client that sleeps loses its oldest messages when `queue_max` of them wait
    /// for it, as an absent one does.
    #[serde(default)]
    pub(super) mqtt_sn: Option<SnConfig>,
    /// A configuration file of rumqttd (TOML), whose listeners (`[v4]`, `[v5]`, `[ws]`) are opened too.
    #[serde(default)]
    pub(super) rumqttd_config: Option<PathBuf>,
    /// Whether clients may connect without a user name. The default: only those of this machine (loopback), and no
    /// pages of other sites that a browser on it shows.
    #[serde(default)]
    pub(super) anonymous: Option<bool>,
    /// Users, with their passwords' hashes.
    #[serde(default)]
    pub(super) users: Vec<UserConfig>,
    /// A file with one `name:hash` in each line, as `sandbar users` writes it. It is read again when it changes.
    #[serde(default)]
    pub(super) users_file: Option<PathBuf>,
    /// What may be published and subscribed to. Without any, everything may; with some, only what one of them allows.
    #[serde(default)]
    pub(super) allow: Vec<AccessConfig>,
    /// What may not, whatever `allow` says.
    #[serde(default)]
    pub(super) deny: Vec<AccessConfig>,
    /// What names the device of a reading, where no pattern of `device_topics` does.
    #[serde(default)]
    pub(super) device: DeviceName,
    /// Topic patterns that name the device: `sensors/{device}/#`. The first that fits a topic is taken.
    #[serde(default)]
    pub(super) device_topics: Vec<String>,
    /// Topic that commands to a device are published to, with `{device}` and `{command}`:
    /// `devices/{device}/commands/{command}`. The device's client must have subscribed to it. Without it,
    /// commands do not go out through this ingress.
    #[serde(default)]
    pub(super) command_topic: Option<String>,
    /// Topic that handlers' replies are published to where the reading named no response topic, or one that its
    /// client may not subscribe to or is denied to publish to; with `{device}`, `{client}` and `{topic}`. Without it,
    /// such replies go nowhere.
    #[serde(default)]
    pub(super) reply_topic: Option<String>,
    /// Content type of readings whose publisher named none.
    #[serde(default = "default::content_type")]
    pub(super) content_type: String,
    /// Whether messages at quality of service 0 are journaled. If not, they only go to subscribers.
    #[serde(default = "default::yes")]
    pub(super) journal_qos0: bool,
    /// Seconds after which a session without a connection ends, at most; a client may ask for less.
    #[serde(default = "default::session_expiry_max_s")]
    pub(super) session_expiry_max_s: u32,
    /// Messages that wait for one session, at most. When there are more, those at quality of service 0 go first, and
    /// then the oldest; a connected client that takes nothing for ten seconds is then disconnected (0x97).
    #[serde(default = "default::queue_max")]
    pub(super) queue_max: usize,
    /// Bytes that wait for one session, at most; likewise.
    #[serde(default = "default::queue_bytes")]
    pub(super) queue_bytes: usize,
    /// Bytes that wait for all sessions without a connection together, at most; those of a message that several wait
    /// for count once. When there are more, those for which most waits lose their oldest.
    #[serde(default = "default::absent_bytes")]
    pub(super) absent_bytes: usize,
    /// Messages that a client may have sent and not seen acknowledged, at most (Receive Maximum).
    #[serde(default = "default::receive_maximum")]
    pub(super) receive_maximum: u16,
    /// Messages sent to a client that it has not acknowledged, at most; it may ask for fewer.
    #[serde(default = "default::send_maximum")]
    pub(super) send_maximum: u16,
    /// Topic aliases that a client may use, and that are used towards a client, at most.
    #[serde(default = "default::topic_alias_max")]
    pub(super) topic_alias_max: u16,
    /// Bytes of one packet, at most. The default is what a reading may have, and 64 KiB for the rest.
    #[serde(default)]
    pub(super) packet_max: Option<u32>,
    /// Seconds that a client may ask to be quiet for, at most; one that asks for more, or for no limit, is told
    /// this (Server Keep Alive; 5.0 only). Without it, clients choose.
    #[serde(default)]
    pub(super) keep_alive_max_s: Option<u16>,
    /// Connections at once, at most; further ones wait until one is closed.
    #[serde(default = "default::connections_max")]
    pub(super) connections_max: usize,
    /// Sessions, connected or not, at most. A further one takes the place of the one that was longest without a
    /// connection; if all have one, clients are refused.
    #[serde(default = "default::sessions_max")]
    pub(super) sessions_max: usize,
    /// Retained messages, at most; further ones are passed on and not retained.
    #[serde(default = "default::retained_max")]
    pub(super) retained_max: usize,
    /// Bytes of retained messages with their topics, at most; likewise. What finds no room takes along what it was to
    /// replace.
    #[serde(default = "default::retained_bytes")]
    pub(super) retained_bytes: usize,
    /// Subscriptions of one session, at most.
    #[serde(default = "default::subscriptions_max")]
    pub(super) subscriptions_max: usize,
    /// Bytes of the filters of one session's subscriptions, at most.
    #[serde(default = "default::subscriptions_bytes")]
    pub(super) subscriptions_bytes: usize,
    /// Messages a second that one client may publish, at most; a faster one is read more slowly.
    #[serde(default)]
    pub(super) rate_max: Option<u32>,
    /// Milliseconds that a connection may take until it has said who it is.
    #[serde(default = "default::connect_timeout_ms")]
    pub(super) connect_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerConfig {
    /// Address and port.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// What is spoken below MQTT. WebSockets are at the path `/mqtt`, sub-protocol `mqtt`.
    #[serde(default)]
    pub(super) protocol: Transport,
    /// Speaks TLS. A client that shows a certificate needs no password: its common name is the client's user name.
    #[serde(default)]
    pub(super) tls: Option<ServerTls>,
}

/// MQTT-SN has no TLS and no passwords: whoever reaches the port may speak for any client.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnConfig {
    /// Address and port; port 0 takes a free one; RIOT's nodes look for 1885.
    #[schemars(with = "String")]
    pub(super) listen: SocketAddr,
    /// User name of all that connect there, for `allow` and `deny`. Without it they are anonymous.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// Clients at once, at most; further ones are told to try again later.
    #[serde(default = "default::sn_clients_max")]
    pub(super) clients_max: usize,
    /// Topics with a number of their own: for messages without a connection (quality of service −1), and to save bytes.
    #[serde(default)]
    pub(super) topics: Vec<SnTopicConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnTopicConfig {
    /// 1 to 65534.
    pub(super) id: u16,
    /// Its name.
    pub(super) topic: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    #[default]
    Tcp,
    WebSocket,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserConfig {
    /// As the client says it.
    pub(super) name: String,
    /// As `sandbar users hash` prints it: `$argon2id$…`.
    pub(super) password_hash: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessConfig {
    /// For these users; without any, for all, also anonymous ones.
    #[serde(default)]
    pub(super) users: Vec<String>,
    /// For these client identifiers; without any, for all.
    #[serde(default)]
    pub(super) clients: Vec<String>,
    /// Topic filters to publish to. `%c` stands for the client identifier, `%u` for the user name.
    #[serde(default)]
    pub(super) publish: Vec<String>,
    /// Topic filters to subscribe to, likewise.
    #[serde(default)]
    pub(super) subscribe: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceName {
    /// The client identifier.
    #[default]
    Client,
    /// The user name; also a certificate's common name.
    User,
    /// No device.
    None,
}

mod default {
    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn content_type() -> String {
        "application/octet-stream".to_owned()
    }

    pub(super) fn session_expiry_max_s() -> u32 {
        7 * 24 * 3600
    }

    pub(super) fn queue_max() -> usize {
        1000
    }

    pub(super) fn queue_bytes() -> usize {
        4 << 20
    }

    pub(super) fn absent_bytes() -> usize {
        64 << 20
    }

    pub(super) fn receive_maximum() -> u16 {
        128
    }

    pub(super) fn send_maximum() -> u16 {
        128
    }

    pub(super) fn topic_alias_max() -> u16 {
        16
    }

    pub(super) fn connections_max() -> usize {
        10_240
    }

    pub(super) fn sessions_max() -> usize {
        20_480
    }

    pub(super) fn retained_max() -> usize {
        200_000
    }

    pub(super) fn sn_clients_max() -> usize {
        1024
    }

    pub(super) fn retained_bytes() -> usize {
        64 << 20
    }

    pub(super) fn subscriptions_max() -> usize {
        10_000
    }

    pub(super) fn subscriptions_bytes() -> usize {
        1 << 20
    }

    pub(super) fn connect_timeout_ms() -> u64 {
        10_000
    }
}
