//! Readings from a serial port, in frames of many kinds.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sandbar_reading::ConfigError;

pub(crate) use self::config::Config;
use crate::complaints::Complaints;
use crate::devices::Devices;
use crate::serial_port::SerialPort;
use crate::stream::{Ended, Far, Settings, Shared, serve};
use crate::{Driver, LinkError, Session};

pub(crate) struct Serial {
    port: SerialPort,
    settings: Arc<Settings>,
}

impl Driver for Serial {
    const NAME: &'static str = "serial";
    const EXAMPLE: &'static str = r#"
port = "0403:6001"
baud = 19200
mode = "7E1"
framing = { kind = "delimiter", end = "\u0003" }
read_timeout_ms = 200
topic = "scales/{device}"
device = "scale-1"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { port: config.port()?, settings: Arc::new(config.settings()?) })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let port = self.port.open()?;
        session.ready();
        let shared = Shared {
            settings: Arc::clone(&self.settings),
            devices: Devices::new(session.clone()),
            complaints: Complaints::new(session.ingress().clone()),
            session,
        };
        let far = Far::on(&port.path().display().to_string());
        let ended = serve(&shared, port, far).await;
        shared.devices.closed().await;
        match ended {
            Ended::Stopped => Ok(()),
            Ended::ByPeer => {
                Err(LinkError::ended(format!("{} was unplugged, or takes nothing", self.port.name())))
            }
            Ended::Closed(reason) => Err(LinkError::ended(format!("closed {}: {reason}", self.port.name()))),
        }
    }
}
