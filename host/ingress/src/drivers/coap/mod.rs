//! CoAP, both ways: nodes that send, and nodes that are asked.

mod address;
mod commands;
pub(crate) mod config;
pub(crate) mod decode;
mod door;
mod nodes;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{FutureExt, join_all};
use futures::stream::FuturesUnordered;
use sandbar_reading::ConfigError;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use self::commands::Commanding;
pub(crate) use self::config::Config;
use self::door::Door;
use self::nodes::{Asking, Presence};
use self::settings::Settings;
use self::shelf::{KEPT, Notice, Shelf};
use crate::coap::dtls::{Identities, Secure, Sockets};
use crate::coap::{Caller, Endpoint, call};
use crate::devices::{Devices, orders};
use crate::{CommandError, Driver, LinkError, Session};

pub(crate) struct Coap {
    listen: SocketAddr,
    listen_secure: Option<SocketAddr>,
    settings: Arc<Settings>,
}

impl Driver for Coap {
    const NAME: &'static str = "coap";
    const EXAMPLE: &'static str = r#"
listen = "0.0.0.0:5683"
allow = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]

[[resources]]
path = "/sensors/{device}/{quantity}"
topic = "sensors/{device}/{quantity}"

[[nodes]]
device = "lamp-1"
address = "10.0.0.7"
observe = ["/led"]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let listen_secure = config.secure.as_ref().map(|secure| secure.listen);
        Ok(Self { listen: config.listen, listen_secure, settings: Arc::new(Settings::new(&config)?) })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let settings = &self.settings;
        let plain = bind(self.listen).await?;
        let identities = Identities::default();
        let secure = match self.listen_secure {
            Some(address) => {
                let socket = bind(address).await?;
                Some(Secure::new(socket, settings.keys.clone(), identities.clone()))
            }
            None => None,
        };
        let address = plain.local_addr().map_err(|error| LinkError::new("listening", error))?;
        let (shelf, notices) = Shelf::new(settings.latest_max, settings.observers_max);
        let loaded = session.each_kept(KEPT, &mut |name, value| {
            if shelf.load(name, value).is_none() {
                tracing::warn!(ingress = %session.ingress(), name, "what was kept of a topic cannot be read");
            }
        });
        loaded.map_err(|refused| LinkError::new("reading what was kept", refused))?;
        let (asking, asked) = call::orders();
        let limits = settings.limits(session.reading_max());
        let caller = Caller {
            orders: asking,
            patience: settings.answer_timeout,
            body_max: limits.body_max,
            exponent: limits.exponent,
        };
        let devices = Devices::new(session.clone());
        let (commands, commanded) = orders();
        let presences: Vec<_> =
            settings.nodes.iter().map(|node| Presence::new(node, &devices, &commands)).collect();
        let door =
            Arc::new(Door::new(Arc::clone(settings), session.clone(), shelf, Arc::clone(&devices), commands));
        let endpoint =
            Endpoint::new(Sockets::new(plain, secure), settings.parameters, Arc::clone(&door), asked);
        session.bound(address);
        let commanding = Commanding {
            settings: Arc::clone(settings),
            door: Arc::clone(&door),
            caller: caller.clone(),
            identities: identities.clone(),
            session: session.clone(),
        };
        let nodes = settings.nodes.iter().zip(presences).map(|(node, presence)| {
            let (node, caller) = (Arc::clone(node), caller.clone());
            Asking { presence, node, caller, identities: identities.clone(), session: session.clone() }
                .run()
                .boxed()
        });
        let rest = async {
            tokio::join!(
                join_all(nodes),
                publish(&session, &door.shelf),
                notify(&caller, &door, notices),
                commanding.run(commanded),
            );
            pending::<()>().await;
        };
        let served = tokio::select! {
            served = endpoint.run(session.stopped()) => served,
            () = rest => Ok(()),
        };
        door.close();
        devices.closed().await;
        served
    }
}

async fn bind(address: SocketAddr) -> Result<UdpSocket, LinkError> {
    let listening = |error| LinkError::new(format!("listening on {address}"), error);
    UdpSocket::bind(address).await.map_err(listening)
}

/// Puts what sinks send out onto the shelf, until the session stops.
async fn publish(session: &Session, shelf: &Shelf) {
    let mut publications = session.publications();
    loop {
        let offer = tokio::select! {
            () = session.stopped() => return,
            offer = publications.next() => offer,
        };
        // Another session has the place.
        let Some(offer) = offer else { return };
        // It is offered again: taken now, it would be told twice.
        if !offer.is_awaited() {
            continue;
        }
        let Some(write) = shelf.plan(&offer.message) else {
            offer.fail(CommandError::Reject(
                "there are messages of as many topics as latest_max says".to_owned(),
            ));
            continue;
        };
        match session.keep(vec![write]).await {
            Ok(()) => {
                shelf.put(&offer.message);
                offer.acknowledge();
            }
            Err(refused) => offer.fail(CommandError::Retry(refused.to_string())),
        }
    }
}

/// Tells observers of changes: each of one at a time.
async fn notify(caller: &Caller, door: &Door, mut notices: mpsc::Receiver<Notice>) {
    let mut under_way = FuturesUnordered::new();
    let send = |Notice { observer, path, packet }: Notice| {
        let caller = caller.clone();
        let packet = door.first_block(observer.0, &path, packet);
        async move { (observer, caller.notify(observer.0, observer.1, packet).await.is_ok()) }.boxed()
    };
    loop {
        tokio::select! {
            Some(notice) = notices.recv() => under_way.push(send(notice)),
            Some((observer, arrived)) = under_way.next() => {
                under_way.extend(door.shelf.notified(observer, arrived).map(send));
            }
            else => return,
        }
    }
}

/// Garbage for who tests what reads it: a request is decoded, with what blocks it may have.
#[cfg(any(test, feature = "contract-test"))]
pub(crate) fn decodes(datagram: &[u8]) -> bool {
    use crate::coap::blocks::{Begun, Limits, Transfers};
    use crate::coap::packet::{Parsed, parse};
    let config: config::ResourceConfig =
        serde_json::from_str(r#"{"path":"/{device}/{*rest}"}"#).expect("settings that can be read");
    let resources = [decode::Resource::new(&config).expect("settings that work")];
    let Parsed::Message(packet) = parse(datagram) else { return false };
    let limits = Limits { body_max: 1 << 20, exponent: 6, patience: std::time::Duration::from_secs(1) };
    let address: SocketAddr = ([127, 0, 0, 1], 9000).into();
    let peer = crate::coap::endpoint::Peer { address, is_secure: false };
    drop(crate::coap::links::parse(&String::from_utf8_lossy(&packet.payload)));
    match Transfers::new(limits).begin(peer, packet, tokio::time::Instant::now()) {
        Begun::Whole(packet) => {
            let from = decode::From { address, identity: None };
            decode::decode(&resources, from, &packet).is_ok()
        }
        Begun::Answered(_) => false,
    }
}
