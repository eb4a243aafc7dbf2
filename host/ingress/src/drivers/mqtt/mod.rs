//! An MQTT broker whose acknowledgement means that the message is on disk (docs/decisions/0009-mqtt-broker.md).

mod access;
mod broker;
mod client;
mod codec;
mod commands;
mod config;
mod connection;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod handshake;
mod inbound;
mod io;
mod keeper;
mod listener;
mod load;
mod message;
mod outgoing;
mod output;
mod packets;
mod publications;
mod publish;
mod rate;
mod replies;
mod retained;
mod rows;
mod rumqttd;
mod send;
mod sessions;
mod settings;
pub(crate) mod sn;
mod subscribe;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timers;
mod users;
mod will;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::future::join_all;
use sandbar_reading::ConfigError;
use tokio::sync::Semaphore;

use self::broker::Broker;
pub(crate) use self::config::Config;
use self::listener::Listen;
use self::settings::Settings;
use crate::{Driver, LinkError, Session};

/// Where brokers are.
const PORT: u16 = 1883;

pub(crate) struct Mqtt {
    listeners: Vec<Arc<Listen>>,
    sn: Option<Arc<sn::Listen>>,
    settings: Arc<Settings>,
}

impl Driver for Mqtt {
    const NAME: &'static str = "mqtt";
    const EXAMPLE: &'static str = r#"
listen = "127.0.0.1:1883"
device_topics = ["sensors/{device}/#"]
command_topic = "devices/{device}/commands/{command}"

[[allow]]
publish = ["sensors/%c/#"]
subscribe = ["devices/%c/#"]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let listener = |(index, listener)| {
            Listen::new(listener).map_err(|error: ConfigError| error.within(&format!("listeners[{index}]")))
        };
        let mut listeners: Vec<Listen> =
            config.listeners.iter().enumerate().map(listener).collect::<Result<_, _>>()?;
        if let Some(path) = &config.rumqttd_config {
            listeners.extend(rumqttd::listeners(path).map_err(|error| error.within("rumqttd_config"))?);
        }
        let sn = config.mqtt_sn.as_ref().map(sn::Listen::new).transpose();
        let default = || SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let plain = config.listen.or_else(|| listeners.is_empty().then(default));
        // The first is the one whose address the ingress shows.
        listeners.splice(0..0, plain.map(Listen::tcp));
        Ok(Self {
            listeners: listeners.into_iter().map(Arc::new).collect(),
            sn: sn.map_err(|error| error.within("mqtt_sn"))?.map(Arc::new),
            settings: Arc::new(Settings::new(config)?),
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let mut listeners = Vec::new();
        for listen in &self.listeners {
            listeners.push(Arc::clone(listen).bind().await?);
        }
        let sn = match &self.sn {
            Some(listen) => Some(Arc::clone(listen).bind().await?),
            None => None,
        };
        let broker = Arc::new(Broker::new(Arc::clone(&self.settings), session.clone()));
        broker.load().await.map_err(|refused| LinkError::new("reading what the broker kept", refused))?;
        let shown = Arc::downgrade(&broker);
        session.show(move || shown.upgrade().map(|broker| broker.figures()).unwrap_or_default());
        if let Some(first) = listeners.first() {
            session.bound(first.address()?);
        }
        let places = Arc::new(Semaphore::new(self.settings.connections_max));
        let keeper = Arc::clone(&broker.keeper);
        let serving = async {
            let serve = listeners.into_iter().map(|one| one.run(Arc::clone(&broker), Arc::clone(&places)));
            let serve_sn = async {
                if let Some(gateway) = sn {
                    gateway.run(Arc::clone(&broker)).await;
                }
            };
            tokio::select! {
                _ = futures::future::join(join_all(serve), serve_sn) => {}
                () = broker.timers.run(&broker) => {}
                () = broker.publish_for_sinks() => {}
            }
            keeper.close();
        };
        tokio::join!(serving, keeper.run(&session));
        Ok(())
    }
}
