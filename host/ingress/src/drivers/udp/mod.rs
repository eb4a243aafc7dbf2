//! Readings from UDP datagrams.

mod config;
pub(crate) mod decode;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{ConfigError, ContentType};
use socket2::SockRef;
use tokio::net::UdpSocket;

pub(crate) use self::config::Config;
use self::serve::Server;
use crate::naming::Naming;
use crate::network::Network;
use crate::phrase::Phrase;
use crate::written::CommandForm;
use crate::{Driver, LinkError, Session};

pub(crate) struct Udp {
    listen: SocketAddr,
    receive_buffer: usize,
    settings: Arc<Settings>,
}

/// The settings, checked.
struct Settings {
    allow: Vec<Network>,
    datagram_max: usize,
    naming: Naming,
    content_type: ContentType,
    acknowledge: Option<Phrase>,
    refuse: Option<Phrase>,
    commands: CommandForm,
    reply_timeout: Duration,
}

impl Driver for Udp {
    const NAME: &'static str = "udp";
    const EXAMPLE: &'static str = r#"
listen = "0.0.0.0:9000"
allow = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]
topic = "probes/{device}"
device_pointer = "/id"
content_type = "application/json"
acknowledge = "{id}"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, is_zero) in [
            ("datagram_max", config.datagram_max == Some(0)),
            ("receive_buffer", config.receive_buffer == 0),
            ("reply_timeout_ms", config.reply_timeout_ms == 0),
        ] {
            if is_zero {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        let allowed = |(index, text): (usize, &String)| {
            text.parse::<Network>()
                .map_err(|error| ConfigError::at(format!("allow[{index}]"), error.to_string()))
        };
        let content_type = config.content_type.as_deref().map_or(Ok(ContentType::OCTETS), str::parse);
        let settings = Settings {
            allow: config.allow.iter().enumerate().map(allowed).collect::<Result<_, _>>()?,
            datagram_max: config.datagram_max.unwrap_or(usize::MAX),
            naming: Naming::new(&config.topic, config.device.as_deref(), config.device_pointer.as_deref())?,
            content_type: content_type.map_err(|error| ConfigError::at("content_type", error.to_string()))?,
            acknowledge: config.acknowledge.as_ref().map(Phrase::parse),
            refuse: config.refuse.as_ref().map(Phrase::parse),
            commands: config.commands,
            reply_timeout: Duration::from_millis(config.reply_timeout_ms),
        };
        Ok(Self {
            listen: config.listen,
            receive_buffer: config.receive_buffer,
            settings: Arc::new(settings),
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", self.listen), error);
        let socket = UdpSocket::bind(self.listen).await.map_err(listening)?;
        // What the system allows of it has to do.
        let _ = SockRef::from(&socket).set_recv_buffer_size(self.receive_buffer);
        session.bound(socket.local_addr().map_err(listening)?);
        Server::new(socket, Arc::clone(&self.settings), session).run().await
    }
}
