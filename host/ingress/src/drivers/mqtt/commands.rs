//! Commands to devices: as messages to the device's own client, on its topic.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::broker::Broker;
use super::codec::{Properties, Qos, forwardable};
use super::connection::Connection;
use super::message::{Entry, Message};
use crate::{Attachment, CommandError, CommandOffer};

/// A gateway may speak for many devices; for more than these, commands do not arrive.
const DEVICES: usize = 1024;

/// The devices that a connection speaks for.
#[derive(Default)]
pub(super) struct Devices {
    names: HashSet<Box<str>>,
    /// Only those are looked at that have something.
    offers: FuturesUnordered<BoxFuture<'static, Offered>>,
}

/// What came for a device; `None` once another connection speaks for it.
type Offered = (Box<str>, Attachment, Option<CommandOffer>);

fn next_offer(device: Box<str>, mut attachment: Attachment) -> BoxFuture<'static, Offered> {
    async move {
        let offer = attachment.next().await;
        (device, attachment, offer)
    }
    .boxed()
}

impl Devices {
    /// Does nothing if commands do not go out here, or the device is known.
    pub(super) fn attach(&mut self, broker: &Broker, device: &str) {
        let takes = broker.settings.command_topic.is_some() && self.names.len() < DEVICES;
        if takes && !self.names.contains(device) {
            self.names.insert(device.into());
            self.offers.push(next_offer(device.into(), broker.session.attach(device)));
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|device| &**device)
    }

    /// Ready with the next command for any of them.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CommandOffer> {
        while let Poll::Ready(Some((device, attachment, offer))) = self.offers.poll_next_unpin(cx) {
            if let Some(offer) = offer {
                self.offers.push(next_offer(device, attachment));
                return Poll::Ready(offer);
            }
            self.names.remove(&device);
        }
        Poll::Pending
    }
}

impl Connection {
    /// Carried out when the client has acknowledged it; until then the host keeps it.
    pub(super) fn command(&self, offer: CommandOffer) {
        // It waits for the client already, longer than the host did.
        let Some(offer) = self.hold.client.state().outgoing.adopt(offer) else { return };
        let command = &offer.command;
        let values = [("device", &*command.device), ("command", &*command.name)];
        let pattern = self.broker.settings.command_topic.as_ref();
        let Some(topic) = pattern.and_then(|pattern| pattern.fill(&values)) else {
            let problem = format!("{} and {} make no topic", command.device, command.name);
            return offer.fail(CommandError::Reject(problem));
        };
        let client = &self.hold.client;
        let Some(wanted) = self.broker.subscriptions.read().matches(client, &topic) else {
            let problem = format!("the client {} has not subscribed to {topic}", client.id);
            return offer.fail(CommandError::Retry(problem));
        };
        let id = offer.id.to_string();
        // Who is asked answers there (MQTT 5.0, section 4.10).
        let (response_topic, correlation_data) = match offer.asks {
            true => (Some(format!("{topic}/response").into()), Some(id.clone().into_bytes().into())),
            false => (None, None),
        };
        let properties = Properties {
            content_type: Some(command.content_type.as_str().into()),
            response_topic,
            correlation_data,
            user: vec![("id".into(), id.into())],
            ..Properties::default()
        };
        let message = Message {
            topic,
            payload: command.payload.clone(),
            properties: forwardable(&properties),
            qos: Qos::AtLeastOnce,
            retain: false,
            expires: None,
            publisher: 0,
            row: None,
        };
        let pushed = client.push(Entry {
            message: Arc::new(message),
            qos: wanted.qos.min(Qos::AtLeastOnce),
            retain: false,
            subscription_ids: Box::new([]),
            place: client.place(),
            stored: false,
            again: false,
            command: Some(offer),
            group: None,
        });
        // A command that nobody wants is offered again by the host.
        if let Ok(gone) = pushed {
            self.broker.forget(client, gone);
        }
    }
}
