//! Replies and commands on their way to the broker.

use std::collections::HashMap;

use bytes::Bytes;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use sandbar_mqtt_client::codec::{Ack, AckKind};
use sandbar_mqtt_client::{Link, Opened, Packet, Properties, Publish, Qos, Template, reason};
use sandbar_reading::{Inbound, Message, Topic};

use super::config::Plan;
use crate::{Answer, CommandError, CommandOffer, Replies, Session};

/// So many readings may have replies to come; those of further ones are dropped, as replies are not stored.
const REPLYING_MAX: usize = 10_000;

/// So many replies and commands may be on their way at once.
const UNCONFIRMED_MAX: usize = 100;

pub(super) struct Outgoing {
    commands: SelectAll<BoxStream<'static, CommandOffer>>,
    replies: SelectAll<BoxStream<'static, Publish>>,
    unconfirmed: HashMap<u16, Option<CommandOffer>>,
    unconfirmed_max: usize,
    packet_id: u16,
    command_topic: Option<Template>,
    command_qos: Qos,
}

pub(super) enum Item {
    Reply(Publish),
    Command(CommandOffer),
}

impl Item {
    pub(super) fn payload_len(&self) -> usize {
        match self {
            Self::Reply(publish) => publish.payload.len(),
            Self::Command(offer) => offer.command.payload.len(),
        }
    }
}

/// Where the replies to a reading go.
pub(super) struct ReplyTo {
    topic: Topic,
    correlation_data: Option<Bytes>,
    qos: Qos,
}

impl ReplyTo {
    /// `None` if neither the message nor the settings name a topic that can be published to.
    pub(super) fn of(publish: &Publish, inbound: &Inbound, plan: &Plan) -> Option<Self> {
        let topic: Topic = match &publish.properties.response_topic {
            Some(topic) => topic.parse().ok()?,
            None => {
                let fill = |name: &str| match name {
                    "topic" => Some(inbound.topic.as_str()),
                    _ => inbound.device.as_deref(),
                };
                plan.reply_topic.as_ref()?.fill(fill).ok()?.parse().ok()?
            }
        };
        let correlation_data = publish.properties.correlation_data.clone();
        Some(Self { topic, correlation_data, qos: publish.qos.min(Qos::AtLeastOnce) })
    }

    fn publish(&self, message: &Message) -> Publish {
        let user = message.attributes.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("mqtt.property.");
            Some((name.or((!key.starts_with("mqtt.")).then_some(key))?, value))
        });
        Publish {
            qos: self.qos,
            topic: self.topic.as_str().into(),
            properties: Properties {
                content_type: Some(message.content_type.as_str().into()),
                correlation_data: self.correlation_data.clone(),
                user: user.map(|(key, value)| (key.into(), value.into())).collect(),
                ..Properties::default()
            },
            payload: message.payload.clone(),
            ..Publish::default()
        }
    }
}

impl Outgoing {
    pub(super) fn new(opened: &Opened, plan: &Plan) -> Self {
        Self {
            commands: SelectAll::new(),
            replies: SelectAll::new(),
            unconfirmed: HashMap::new(),
            unconfirmed_max: usize::from(opened.receive_maximum).min(UNCONFIRMED_MAX),
            packet_id: 0,
            command_topic: plan.command_topic.clone(),
            command_qos: plan.command_qos.min(opened.qos_max),
        }
    }

    pub(super) fn attach(&mut self, session: &Session, device: &str) {
        let attachment = session.attach(device);
        let offers = stream::unfold(attachment, async |mut attachment| {
            attachment.next().await.map(|offer| (offer, attachment))
        });
        self.commands.push(offers.boxed());
    }

    pub(super) fn await_replies(&mut self, replies: Replies, to: ReplyTo) {
        if self.replies.len() >= REPLYING_MAX {
            return;
        }
        let publishes = stream::unfold((replies, to), async |(mut replies, to)| {
            loop {
                // A handler's failure has no word in MQTT.
                if let Answer::Reply(message) = replies.next().await? {
                    return Some((to.publish(&message), (replies, to)));
                }
            }
        });
        self.replies.push(publishes.boxed());
    }

    /// What is to be sent next; none while too many are unconfirmed.
    pub(super) async fn next(&mut self) -> Option<Item> {
        if self.unconfirmed.len() >= self.unconfirmed_max {
            return None;
        }
        tokio::select! {
            Some(publish) = self.replies.next() => Some(Item::Reply(publish)),
            Some(offer) = self.commands.next() => Some(Item::Command(offer)),
            else => None,
        }
    }

    /// Sends it. Returns a command that counts as carried out once it was sent.
    pub(super) fn give(&mut self, item: Item, link: &mut Link) -> Option<CommandOffer> {
        let (mut publish, offer) = match item {
            Item::Reply(publish) => (publish, None),
            Item::Command(offer) => match self.command(&offer) {
                Ok(publish) => (publish, Some(offer)),
                Err(problem) => {
                    offer.fail(CommandError::Reject(problem));
                    return None;
                }
            },
        };
        let is_confirmed = publish.qos > Qos::AtMostOnce;
        if is_confirmed {
            publish.packet_id = self.free_packet_id();
        }
        let packet_id = publish.packet_id;
        link.send(&Packet::Publish(publish));
        if is_confirmed {
            if let Some(offer) = &offer {
                offer.sent();
            }
            self.unconfirmed.insert(packet_id, offer);
            return None;
        }
        offer
    }

    fn command(&self, offer: &CommandOffer) -> Result<Publish, String> {
        let command = &offer.command;
        let template = self.command_topic.as_ref().ok_or("there is no `command_topic`")?;
        let fill = |name: &str| match name {
            "device" => Some(&*command.device),
            _ => Some(&*command.name),
        };
        let topic = template.fill(fill).map_err(|name| format!("the command has no {name}"))?;
        let topic: Topic = topic.parse().map_err(|error| format!("{topic}: {error}"))?;
        let key = ("id".into(), offer.id.to_string().into());
        Ok(Publish {
            qos: self.command_qos,
            topic: topic.as_str().into(),
            properties: Properties {
                content_type: Some(command.content_type.as_str().into()),
                user: vec![key],
                ..Properties::default()
            },
            payload: command.payload.clone(),
            ..Publish::default()
        })
    }

    /// There is always one below those that subscriptions use: far fewer are unconfirmed.
    fn free_packet_id(&mut self) -> u16 {
        const LAST: u16 = 60_000;
        loop {
            self.packet_id = self.packet_id % LAST + 1;
            if !self.unconfirmed.contains_key(&self.packet_id) {
                return self.packet_id;
            }
        }
    }

    /// Whether it was of something sent here.
    pub(super) fn confirm(&mut self, ack: &Ack) -> bool {
        if ack.kind != AckKind::PubAck {
            return false;
        }
        let Some(offer) = self.unconfirmed.remove(&ack.packet_id) else { return false };
        let Some(offer) = offer else { return true };
        let problem = || format!("the broker: {}", reason::text(ack.code, ack.reason.as_deref()));
        match ack.code {
            code if code < reason::FAILURE => offer.acknowledge(),
            code if reason::is_of_the_message(code) => offer.fail(CommandError::Reject(problem())),
            _ => offer.fail(CommandError::Retry(problem())),
        }
        true
    }
}
