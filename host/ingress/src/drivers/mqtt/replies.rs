//! Handlers' answers to a reading, published to the topic that its sender named (MQTT 5.0, section 4.10).

use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::Topic;

use super::access::Grants;
use super::broker::Broker;
use super::codec::Qos;
use super::inbound::{By, Published, outbound};
use super::settings::Settings;
use crate::{Answer, Replies};

/// What a message says of where its answers are to go, and so does the configuration: it is not looked at before there
/// are any.
pub(super) struct Question {
    topic: Topic,
    response_topic: Option<Box<str>>,
    correlation_data: Option<Bytes>,
    qos: Qos,
}

/// Where answers go.
pub(super) struct ReplyTo {
    topic: Topic,
    correlation_data: Option<Bytes>,
    qos: Qos,
}

impl Question {
    /// `None` if neither the message nor the configuration names a topic.
    pub(super) fn of(published: &Published, settings: &Settings) -> Option<Self> {
        let properties = published.properties.as_deref();
        let response_topic = properties.and_then(|properties| properties.response_topic.clone());
        if response_topic.is_none() && settings.reply_topic.is_none() {
            return None;
        }
        let correlation_data = properties.and_then(|properties| properties.correlation_data.clone());
        Some(Self { topic: published.topic.clone(), response_topic, correlation_data, qos: published.qos })
    }

    /// `None` if what is named is no topic, or not one for this client.
    pub(super) fn reply_to(self, by: &By, settings: &Settings, grants: &Grants) -> Option<ReplyTo> {
        let Self { topic, response_topic, correlation_data, qos } = self;
        let named = response_topic.and_then(|named| Topic::try_from(named).ok());
        let named = named.filter(|named| grants.may_be_answered(named));
        let configured = || {
            let device = settings.mapping.device(&topic, by).unwrap_or("");
            settings.reply_topic.as_ref()?.fill(&[
                ("device", device),
                ("client", &by.client),
                ("topic", topic.as_str()),
            ])
        };
        let topic = named.or_else(configured)?;
        Some(ReplyTo { topic, correlation_data, qos: qos.max(Qos::AtLeastOnce) })
    }
}

impl Broker {
    /// Publishes what comes. More than what may be awaited at once is not answered.
    pub(super) fn answer(self: &Arc<Self>, mut replies: Replies, to: ReplyTo) {
        let Ok(permit) = Arc::clone(&self.replies).try_acquire_owned() else {
            tracing::warn!(ingress = %self.session.ingress(), topic = %to.topic, "too many replies are awaited");
            return;
        };
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            loop {
                let answer = tokio::select! {
                    answer = replies.next() => answer,
                    () = broker.session.stopped() => None,
                };
                match answer {
                    Some(Answer::Reply(message)) => broker.publish_reply(&message, &to).await,
                    // The sender has been told that its message is taken, and MQTT has no word for more.
                    Some(Answer::Rejected(_) | Answer::Retrying(_)) => {}
                    None => return,
                }
            }
        });
    }

    async fn publish_reply(self: &Arc<Self>, message: &sandbar_reading::Message, to: &ReplyTo) {
        let mut published = match outbound(message) {
            Ok(published) => published,
            Err(problem) => {
                tracing::warn!(ingress = %self.session.ingress(), problem, "a reply cannot be sent");
                return;
            }
        };
        published.topic = to.topic.clone();
        published.qos = to.qos;
        if let Some(properties) = &mut published.properties
            && properties.correlation_data.is_none()
        {
            properties.correlation_data = to.correlation_data.clone();
        }
        let submitted = self.submit_own(&published);
        match submitted.accept.await {
            Ok(_) => self.deliver(submitted.plan),
            Err(refused) => {
                tracing::warn!(ingress = %self.session.ingress(), %refused, "a reply could not be sent");
                self.abandon(&submitted.plan, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::codec::Properties;
    use super::*;

    #[test]
    fn who_asks_does_not_have_others_told_at_their_topics() {
        let settings = json!({
            "reply_topic": "replies/{client}",
            "allow": [{ "publish": ["ask"], "subscribe": ["answers/%c/#", "devices/#"] }],
            "deny": [{ "publish": ["devices/+/commands/#"] }],
        });
        let settings = sandbar_reading::settings(settings).and_then(Settings::new).unwrap();
        let by = By { client: "c1".into(), user: None, number: 1 };
        let grants = settings.access.of("c1", None);
        for (named, topic) in [
            (None, "replies/c1"),
            (Some("answers/c1/7"), "answers/c1/7"),
            (Some("devices/press/state"), "devices/press/state"),
            (Some("answers/c2/7"), "replies/c1"),
            (Some("devices/press/commands/stop"), "replies/c1"),
            (Some("answers/c1/#"), "replies/c1"),
        ] {
            let response_topic = named.map(Into::into);
            let properties = Some(Box::new(Properties { response_topic, ..Properties::default() }));
            let (payload, qos) = (Bytes::new(), Qos::AtMostOnce);
            let published =
                Published { topic: "ask".parse().unwrap(), payload, qos, retain: false, properties };
            let to = Question::of(&published, &settings).unwrap().reply_to(&by, &settings, &grants).unwrap();
            assert_eq!(to.topic.as_str(), topic, "{named:?}");
        }
    }
}
