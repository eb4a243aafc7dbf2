//! Readings by e-mail: an SMTP server that says 250 once the reading is on disk.

mod config;
mod connection;
pub(crate) mod decode;
mod dialogue;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod payload;
mod reply;
mod rules;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandbar_reading::ConfigError;

pub(crate) use self::config::Config;
use self::config::TlsMode;
use self::connection::{Budget, Shared};
use self::rules::Rules;
use crate::complaints::Complaints;
use crate::tls::Acceptor;
use crate::{Driver, LinkError, Session, listener};

/// So many connections more are accepted, to be told that there are too many.
const TURNED_AWAY_MAX: usize = 16;

pub(crate) struct Email {
    listen: SocketAddr,
    connections_max: usize,
    messages_max: usize,
    rules: Arc<Rules>,
    tls: Option<Arc<Acceptor>>,
    is_implicit: bool,
}

impl Driver for Email {
    const NAME: &'static str = "email";
    const EXAMPLE: &'static str = r#"
listen = "127.0.0.1:2525"
domain = "box.example.com"
recipients = ["box.example.com"]
allowed_senders = ["scanner@example.com", "lab.example.com"]
auth_without_tls = true
topic = "email/{recipient_user}"
device = "{sender}"

[users]
scanner = "change-me"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let rules = Arc::new(Rules::new(&config)?);
        let tls = config.tls.map(Acceptor::new).transpose().map_err(|error| error.within("tls"))?;
        Ok(Self {
            listen: config.listen,
            connections_max: config.connections_max,
            messages_max: config.messages_max,
            rules,
            tls: tls.map(Arc::new),
            is_implicit: config.tls_mode == TlsMode::Implicit,
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let listener = listener::listen(self.listen, &session).await?;
        let shared = Arc::new(Shared {
            message_max: self.rules.message_max.min(session.reading_max()),
            rules: Arc::clone(&self.rules),
            tls: self.tls.clone(),
            is_implicit: self.is_implicit,
            budget: Budget::new(self.messages_max),
            complaints: Complaints::new(session.ingress().clone()),
            session: session.clone(),
        });
        let connected = Arc::new(AtomicUsize::new(0));
        let connections_max = self.connections_max;
        let enough = connections_max.saturating_add(TURNED_AWAY_MAX);
        let serve = |stream, peer| {
            let shared = Arc::clone(&shared);
            let connection = Counted::new(&connected);
            let is_one_too_many = connection.before >= connections_max;
            async move {
                let _counted = connection;
                match is_one_too_many {
                    false => connection::serve(&shared, stream, peer).await,
                    true => connection::turn_away(&shared, stream).await,
                }
            }
        };
        listener::serve(listener, &session, enough, serve).await;
        Ok(())
    }
}

/// One of the connections there are, until it is dropped.
struct Counted {
    connected: Arc<AtomicUsize>,
    before: usize,
}

impl Counted {
    fn new(connected: &Arc<AtomicUsize>) -> Self {
        let before = connected.fetch_add(1, Ordering::Relaxed);
        Self { connected: Arc::clone(connected), before }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }
}
