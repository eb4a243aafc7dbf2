//! BraveJIG sensor modules, by way of their USB router.

mod actions;
mod command;
mod config;
mod decode;
mod firmware;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod link;
mod parameters;
mod parser;
#[cfg(test)]
mod tests;
mod uplink;
mod watch;
mod wire;

use std::sync::Arc;

use sandbar_reading::ConfigError;

pub(crate) use self::config::Config;
use self::config::Settings;
use self::link::{Ended, Link};
use crate::devices::{Devices, orders};
use crate::{Driver, LinkError, Session};

pub(crate) struct BraveJig {
    settings: Arc<Settings>,
}

impl Driver for BraveJig {
    const NAME: &'static str = "bravejig";
    const EXAMPLE: &'static str = r#"
port = "/dev/ttyACM0"
topic = "plant/{device}/{sensor}"
data_timeout_ms = 300000
cooldown_ms = 30000
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { settings: Arc::new(config.settings()?) })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let stream = self.settings.port.open()?;
        let devices = Devices::new(session.clone());
        let (sender, arriving) = orders();
        let mut link = Link::new(Arc::clone(&self.settings), session, stream, Arc::clone(&devices), sender);
        let ended = link.run(arriving).await;
        drop(link);
        devices.closed().await;
        match ended {
            Ended::Stopped => Ok(()),
            Ended::Lost(error) => Err(error),
        }
    }
}
