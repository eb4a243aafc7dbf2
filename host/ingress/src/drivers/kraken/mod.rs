//! What Kraken Collectors send: a gRPC server in the place of a Kraken Broker.

mod answer;
mod body;
mod config;
pub(crate) mod decode;
mod serve;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::ConfigError;

use crate::listener::listen;
use crate::tls::Acceptor;
use crate::{Driver, LinkError, Session};
use body::Room;
pub(crate) use config::Config;
use decode::Naming;
use service::Collectors;

/// Made from `host/proto/kraken.proto`.
pub(crate) mod proto {
    #![allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
    tonic::include_proto!("kraken");
}

pub(crate) struct Kraken {
    config: Config,
    naming: Arc<Naming>,
    acceptor: Option<Arc<Acceptor>>,
}

impl Driver for Kraken {
    const NAME: &'static str = "kraken";
    const EXAMPLE: &'static str = r#"listen = "0.0.0.0:50051"
topic = "kraken/{collector}"
devices = ["device_name", "camera_name"]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let naming = Arc::new(Naming::new(&config.topic, &config.devices)?);
        let acceptor = match &config.tls {
            Some(tls) => {
                let acceptor =
                    Acceptor::speaking(tls.clone(), &[b"h2"]).map_err(|error| error.within("tls"))?;
                Some(Arc::new(acceptor))
            }
            None => None,
        };
        Ok(Self { config, naming, acceptor })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listener = listen(self.config.listen, &session).await?;
        let collectors = Collectors {
            session: session.clone(),
            naming: Arc::clone(&self.naming),
            reply_timeout: Duration::from_millis(self.config.reply_timeout_ms),
        };
        let server = serve::Server {
            collectors,
            acceptor: self.acceptor.clone(),
            message_max: self.config.message_max(&session),
            room: Room::new(self.config.messages_max),
            calls_max: self.config.calls_max,
            idle_max: Duration::from_millis(self.config.idle_timeout_ms),
        };
        server.run(listener, &session, self.config.connections_max).await;
        Ok(())
    }
}
