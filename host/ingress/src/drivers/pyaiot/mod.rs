//! In the place of Pyaiot's broker and gateways (docs/guides/from-pyaiot.md).

mod coap;
mod config;
pub(crate) mod decode;
mod fernet;
mod hub;
mod line;
mod mqtt;
#[cfg(test)]
mod tests;
mod web;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sandbar_mqtt_client::Broker;
use sandbar_reading::{ConfigError, Topic};
use serde_json::Value;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::config::Config;
use self::config::{CoapConfig, MqttConfig};
use self::fernet::Keys;
use self::hub::{Hub, Writes};
use crate::bearer::Bearer;
use crate::coap::dtls::Sockets;
use crate::coap::layer::Parameters;
use crate::coap::{Caller, Endpoint, call};
use crate::devices::{Devices, Order, orders};
use crate::pattern::Template;
use crate::tls::Acceptor;
use crate::{Driver, LinkError, Session, listener};

pub(crate) struct Pyaiot {
    listen: Vec<SocketAddr>,
    web: Arc<Web>,
    connections_max: usize,
    nodes_max: usize,
    topic: Template,
    coap: Option<CoapConfig>,
    mqtt: Option<(Broker, MqttConfig)>,
}

/// What WebSocket connections are let in by.
struct Web {
    tls: Option<Acceptor>,
    keys: Option<Keys>,
    control_token: Option<Bearer>,
    node_token: Option<Bearer>,
}

impl Driver for Pyaiot {
    const NAME: &'static str = "pyaiot";
    const EXAMPLE: &'static str = r#"
listen = "0.0.0.0:8000"
listen_nodes = "0.0.0.0:8001"

[coap]
listen = "0.0.0.0:5683"

[mqtt]
broker = { url = "mqtt://127.0.0.1:1883", client_id = "pyaiot-gateway" }
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let names = ["device", "resource"].map(Box::<str>::from);
        let topic = Template::parse(&config.topic, &names)
            .map_err(|error| ConfigError::at("topic", error.to_string()))?;
        let example = topic.fill(&["u".into(), "led".into()]).parse::<Topic>();
        example.map_err(|error| ConfigError::at("topic", error.to_string()))?;
        for (setting, value) in [
            ("connections_max", config.connections_max as u64),
            ("nodes_max", config.nodes_max as u64),
            ("coap.lost_after_s", config.coap.as_ref().map_or(1, |coap| coap.lost_after_s)),
            ("coap.answer_timeout_ms", config.coap.as_ref().map_or(1, |coap| coap.answer_timeout_ms)),
            ("mqtt.lost_after_s", config.mqtt.as_ref().map_or(1, |mqtt| mqtt.lost_after_s)),
            ("mqtt.check_interval_s", config.mqtt.as_ref().map_or(1, |mqtt| mqtt.check_interval_s)),
        ] {
            if value == 0 {
                return Err(ConfigError::at(setting, "must be above 0"));
            }
        }
        let token = |setting: &str, token: &Option<sandbar_reading::Secret>| {
            let bearer = token.as_ref().map(Bearer::new).transpose();
            bearer.map_err(|error| ConfigError::at(setting, error.problem))
        };
        let web = Web {
            keys: config.keys_file.as_deref().map(Keys::read).transpose()?,
            control_token: token("control_token", &config.control_token)?,
            node_token: token("node_token", &config.node_token)?,
            tls: config.tls.map(Acceptor::new).transpose().map_err(|error| error.within("tls"))?,
        };
        let broker = |mqtt: MqttConfig| {
            let broker = Broker::new(&mqtt.broker).map_err(|error| error.within("mqtt.broker"))?;
            Ok((broker, mqtt))
        };
        Ok(Self {
            listen: [Some(config.listen), config.listen_nodes].into_iter().flatten().collect(),
            web: Arc::new(web),
            connections_max: config.connections_max,
            nodes_max: config.nodes_max,
            topic,
            coap: config.coap,
            mqtt: config.mqtt.map(broker).transpose()?,
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let devices = Devices::new(session.clone());
        let (commands, commanded) = orders();
        let (hub, Writes { coap, mqtt }) =
            Hub::new(session.clone(), self.topic.clone(), self.nodes_max, Arc::clone(&devices), commands);
        let hub = Arc::new(hub);
        let gateway = match &self.coap {
            Some(config) => self.coap(config, &hub, coap).await?,
            None => pending().boxed(),
        };
        let mut listeners = Vec::new();
        // The last one is the one whose address the ingress shows.
        for address in self.listen.iter().rev() {
            listeners.push(listener::listen(*address, &session).await?);
        }
        let webs = listeners.into_iter().map(|listener| {
            let serve = |stream, peer| self.serve(&hub, stream, peer);
            listener::serve(listener, &session, self.connections_max, serve)
        });
        let nodes = async {
            if let Some((broker, config)) = &self.mqtt {
                let interval = Duration::from_secs(config.check_interval_s);
                let lost_after = Duration::from_secs(config.lost_after_s);
                mqtt::Gateway::new(&hub, broker, interval, lost_after).run(mqtt).await;
            }
        };
        let all = async {
            tokio::join!(futures::future::join_all(webs), nodes, command(&hub, commanded));
        };
        let ended = match &self.coap {
            // Its socket may fail; then the others end, too.
            Some(_) => {
                let mut gateway = gateway;
                tokio::select! {
                    ended = &mut gateway => match session.is_stopped() {
                        true => ended,
                        false => return ended,
                    },
                    () = all => gateway.await,
                }
            }
            None => {
                all.await;
                Ok(())
            }
        };
        hub.close();
        devices.closed().await;
        ended
    }
}

impl Pyaiot {
    fn serve(&self, hub: &Arc<Hub>, stream: TcpStream, peer: SocketAddr) -> BoxFuture<'static, ()> {
        let (web, hub) = (Arc::clone(&self.web), Arc::clone(hub));
        async move {
            let Some(tls) = web.tls.as_ref().map(|tls| tls.at(hub.session().now())) else {
                return web::serve(web, hub, stream, peer).await;
            };
            let shaken = tokio::select! {
                () = hub.session().stopped() => return,
                shaken = tokio::time::timeout(Duration::from_secs(10), tls.accept(stream)) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => web::serve(web, hub, stream, peer).await,
                Ok(Err(error)) => hub.complaints.note("tls", peer, error, hub.session().now()),
                Err(_) => hub.complaints.note("slow", peer, "no TLS in time", hub.session().now()),
            }
        }
        .boxed()
    }

    /// Binds, and returns what is to be done until the session stops.
    async fn coap(
        &self,
        config: &CoapConfig,
        hub: &Arc<Hub>,
        writes: mpsc::Receiver<hub::Write>,
    ) -> Result<BoxFuture<'static, Result<(), LinkError>>, LinkError> {
        let listening = |error| LinkError::new(format!("listening on {}", config.listen), error);
        let socket = UdpSocket::bind(config.listen).await.map_err(listening)?;
        let (gateway, discoveries) =
            coap::Gateway::new(Arc::clone(hub), config.node_port, Duration::from_secs(config.lost_after_s));
        let gateway = Arc::new(gateway);
        let (asking, asked) = call::orders();
        let caller = Caller {
            orders: asking,
            patience: Duration::from_millis(config.answer_timeout_ms),
            body_max: hub.session().reading_max(),
            exponent: crate::coap::blocks::Block::EXPONENT_MAX,
        };
        let service = Arc::clone(&gateway);
        let endpoint = Endpoint::new(Sockets::new(socket, None), Parameters::default(), service, asked);
        let session = hub.session().clone();
        Ok(async move {
            let rest = async {
                gateway.run(&caller, discoveries, writes).await;
                pending::<()>().await;
            };
            tokio::select! {
                ended = endpoint.run(session.stopped()) => ended,
                () = rest => Ok(()),
            }
        }
        .boxed())
    }
}

/// Brings commands to nodes: the command's name is the resource.
async fn command(hub: &Hub, mut commands: mpsc::Receiver<Order>) {
    loop {
        let order = tokio::select! {
            () = hub.session().stopped() => return,
            Some(order) = commands.recv() => order,
        };
        let command = &order.command;
        let text = String::from_utf8_lossy(&command.payload);
        let payload = match serde_json::from_str::<Value>(&text) {
            Ok(value) if command.content_type.is_json() => value,
            _ => Value::String(text.into_owned()),
        };
        let (done, told) = oneshot::channel();
        hub.write(&command.device, &command.name, payload, "sandbar", Some(done));
        order.sent();
        tokio::spawn(async move {
            // Without an answer it is offered again.
            if let Ok(result) = told.await {
                order.done(result);
            }
        });
    }
}

/// Garbage for who tests what reads it.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decodes(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let taken = [
        decode::client(&text).is_ok(),
        decode::gateway(&text).is_ok(),
        decode::node(&text).is_ok(),
        decode::beacon(&text).is_some(),
        decode::posted(bytes).is_some(),
        decode::mqtt("node/check", bytes).is_some(),
        decode::mqtt("node/n/led", bytes).is_some(),
    ];
    taken.contains(&true)
}
