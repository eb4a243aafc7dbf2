//! Readings over HTTP: who sends gets 202 and the reading's id once it is on disk, or what a handler replies.

mod body;
mod config;
mod decode;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod once;
mod paths;
mod problem;
mod reply;
mod request;
mod serve;
#[cfg(test)]
mod tests;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::ConfigError;
use tokio::net::TcpListener;

use self::body::{Budget, Limits};
pub(crate) use self::config::Config;
use self::once::Once;
use self::paths::Path;
use self::request::{Requests, Site};
use self::serve::Server;
use self::verify::Guard;
use crate::{Driver, LinkError, Session};

/// What hyper needs at least.
const HEAD_MAX_LEAST: usize = 8192;

pub(crate) struct Webhook {
    listen: SocketAddr,
    body_max: Option<usize>,
    bodies_max: usize,
    head_max: usize,
    connections_max: usize,
    timeout: Duration,
    site: Arc<Site>,
}

impl Driver for Webhook {
    const NAME: &'static str = "webhook";
    const EXAMPLE: &'static str = r#"
listen = "127.0.0.1:8080"

[[paths]]
path = "/hooks/{device}/{sensor}"
topic = "sensors/{device}/{sensor}"
content_types = ["application/json"]
headers = ["User-Agent"]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        for (setting, value, least) in [
            ("bodies_max", config.bodies_max, 1),
            ("body_max", config.body_max.unwrap_or(1), 1),
            ("connections_max", config.connections_max, 1),
            ("head_max", config.head_max, HEAD_MAX_LEAST),
            ("paths", config.paths.len(), 1),
            ("reply_timeout_ms", usize::from(config.reply_timeout_ms > 0), 1),
            ("timeout_ms", usize::from(config.timeout_ms > 0), 1),
        ] {
            if value < least {
                return Err(ConfigError::at(setting, format!("must be at least {least}")));
            }
        }
        let path = |(index, path)| Path::new(path).map_err(|error| error.within(&format!("paths[{index}]")));
        let header = |name: &String| {
            name.parse().map_err(|_| ConfigError::at("idempotency_header", "is not a header's name"))
        };
        let site = Site {
            paths: config.paths.iter().enumerate().map(path).collect::<Result<_, _>>()?,
            guard: Guard::new(&config)?,
            idempotency_header: config.idempotency_header.as_ref().map(header).transpose()?,
            reply_timeout: Duration::from_millis(config.reply_timeout_ms),
            once: Arc::new(Once::default()),
        };
        Ok(Self {
            listen: config.listen,
            body_max: config.body_max,
            bodies_max: config.bodies_max,
            head_max: config.head_max,
            connections_max: config.connections_max,
            timeout: Duration::from_millis(config.timeout_ms),
            site: Arc::new(site),
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", self.listen), error);
        let listener = TcpListener::bind(self.listen).await.map_err(listening)?;
        session.bound(listener.local_addr().map_err(listening)?);
        let reading_max = session.reading_max();
        let limits = Limits {
            bytes: self.body_max.map_or(reading_max, |max| max.min(reading_max)),
            time: self.timeout,
            budget: Budget::new(self.bodies_max),
        };
        let server = Server {
            requests: Arc::new(Requests { site: Arc::clone(&self.site), limits, session }),
            connections_max: self.connections_max,
            idle_max: self.timeout,
            head_max: self.head_max,
        };
        server.run(listener).await;
        Ok(())
    }
}
