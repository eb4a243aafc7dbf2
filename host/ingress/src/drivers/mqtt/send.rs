//! From an entry of the queue to a PUBLISH in the connection's buffer.

use sandbar_reading::Timestamp;

use super::codec::{self, Outgoing, Qos, Version};
use super::connection::Connection;
use super::message::Entry;
use crate::CommandError;

impl Connection {
    /// Gives the entry back if the client is to acknowledge it. `now` is the broker's time.
    pub(super) fn send(&mut self, entry: Entry, now: Timestamp) -> Option<Entry> {
        if entry.command.as_ref().is_some_and(|command| !command.is_awaited()) {
            // It comes again: carried out now, it would be so twice.
            return None;
        }
        let message = &entry.message;
        let name = message.topic.as_str();
        let (topic, alias, is_new) = self.alias(name);
        let packet = Outgoing {
            qos: entry.qos,
            retain: entry.retain,
            again: entry.again && entry.qos != Qos::AtMostOnce,
            topic: if topic { name } else { "" },
            id: entry.packet_id(),
            alias,
            expiry: message.seconds_left(now),
            subscription_ids: &entry.subscription_ids,
            properties: &message.properties,
            payload_length: message.payload.len(),
        };
        let size = packet.size(self.version);
        if size > self.limits.packet_max || size > codec::LARGEST {
            // MQTT 5.0, section 3.1.2.11.4: as if it had been sent.
            let (ingress, client) = (self.broker.session.ingress(), &*self.by.client);
            tracing::debug!(%ingress, client, topic = name, size, "larger than the client takes: not sent");
            let problem = format!("it would take {size} bytes, more than the client takes at once");
            self.done_with(Some(entry), Err(CommandError::Reject(problem)));
            return None;
        }
        if is_new && let Some(alias) = alias {
            self.aliases_out.insert(name.into(), alias);
        }
        let version = self.version;
        self.output.head(|out| codec::publish(out, version, &packet));
        self.output.payload(&message.payload);
        self.listed.sent(message.payload.len(), self.broker.session.now());
        if entry.qos == Qos::AtMostOnce {
            self.done_with(Some(entry), Ok(()));
            return None;
        }
        if let Some(command) = &entry.command {
            command.sent();
        }
        Some(entry)
    }

    /// Whether to send the topic, the alias to send, and whether it is a new one. The first topics get one,
    /// for as long as there are some.
    fn alias(&self, topic: &str) -> (bool, Option<u16>, bool) {
        if self.version == Version::V3 || self.limits.topic_aliases == 0 {
            return (true, None, false);
        }
        match self.aliases_out.get(topic) {
            Some(alias) => (false, Some(*alias), false),
            None if self.aliases_out.len() < self.limits.topic_aliases.into() => {
                // Below the number of aliases, which is a `u16`.
                (true, Some(self.aliases_out.len() as u16 + 1), true)
            }
            None => (true, None, false),
        }
    }
}
