//! Wills: what the broker publishes for a client that was lost (MQTT 5.0, section 3.1.2.5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Refused, StateWrite, Topic};

use super::broker::Broker;
use super::codec::{Properties, Will as Said};
use super::inbound::{By, Published};
use super::message::Message;
use super::rows::{self, MessageRow, WillRow};
use super::timers::What;

/// After a start, clients that were connected have so long to come back before they count as lost.
pub(super) const AFTER_START: Duration = Duration::from_secs(10);

/// After a refusal.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) by: By,
    pub(super) delay_s: u32,
    pub(super) published: Published,
}

/// Those that are to be published later, by session.
#[derive(Default)]
pub(super) struct Wills(Mutex<HashMap<u32, Will>>);

impl Will {
    /// `None` if its topic is none, which the caller has checked.
    pub(super) fn new(said: Said, by: By) -> Option<Self> {
        let delay_s = said.properties.will_delay.unwrap_or(0);
        let properties = Box::new(Properties { will_delay: None, ..said.properties });
        let published = Published {
            topic: Topic::try_from(said.topic).ok()?,
            payload: said.payload,
            qos: said.qos,
            retain: said.retain,
            properties: Some(properties),
        };
        Some(Self { by, delay_s, published })
    }

    pub(super) fn row(&self) -> StateWrite {
        let none = Properties::default();
        let published = &self.published;
        let properties = published.properties.as_deref().unwrap_or(&none);
        let message = Message {
            topic: published.topic.clone(),
            payload: published.payload.clone(),
            properties: Bytes::new(),
            qos: published.qos,
            retain: published.retain,
            expires: None,
            publisher: self.by.number,
            row: None,
        };
        let user_properties = properties.user.iter().map(|(name, value)| (&**name, &**value)).collect();
        let row = WillRow {
            client: &self.by.client,
            user: self.by.user.as_deref(),
            delay_s: self.delay_s,
            expiry_s: properties.message_expiry,
            content_type: properties.content_type.as_deref(),
            user_properties,
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            payload_format: properties.payload_format,
            message: MessageRow::of(&message),
        };
        rows::write(rows::will(self.by.number), &row)
    }

    /// `None` if it cannot have been written by this broker.
    pub(super) fn read(number: u32, row: &[u8]) -> Option<Self> {
        let row: WillRow<'_> = rows::read(row)?;
        let message = row.message.message()?;
        let properties = Properties {
            message_expiry: row.expiry_s,
            content_type: row.content_type.map(Into::into),
            user: row.user_properties.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            response_topic: row.response_topic.map(Into::into),
            correlation_data: row.correlation_data.map(Bytes::copy_from_slice),
            payload_format: row.payload_format,
            ..Properties::default()
        };
        let by = By { client: row.client.into(), user: row.user.map(Into::into), number };
        let published = Published {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: Some(Box::new(properties)),
        };
        Some(Self { by, delay_s: row.delay_s, published })
    }
}

impl Wills {
    /// Withdraws it; tells whether there was one.
    pub(super) fn withdraw(&self, number: u32) -> bool {
        self.0.lock().remove(&number).is_some()
    }

    fn get(&self, number: u32) -> Option<Will> {
        self.0.lock().get(&number).cloned()
    }

    fn has(&self, number: u32) -> bool {
        self.0.lock().contains_key(&number)
    }
}

impl Broker {
    /// `will` is published after `wait`, unless its client comes back.
    pub(super) fn await_will(&self, will: Will, wait: Duration) {
        let number = will.by.number;
        self.wills.0.lock().insert(number, will);
        self.timers.add(wait, What::Will(number));
    }

    /// The session ended: its will does not wait any longer.
    pub(super) fn hasten_will(&self, number: u32) {
        if self.wills.has(number) {
            self.timers.add(Duration::ZERO, What::Will(number));
        }
    }

    /// Publishes the will of a session, if it was not withdrawn; its row goes in the same commit.
    pub(super) async fn publish_will(self: &Arc<Self>, number: u32) {
        let Some(will) = self.wills.get(number) else { return };
        let may = self.settings.access.of(&will.by.client, will.by.user.as_deref());
        if !may.may_publish(&will.published.topic) {
            self.wills.withdraw(number);
            return self.keeper.soon([rows::delete(rows::will(number))]);
        }
        let gone = vec![rows::delete(rows::will(number))];
        let submitted = self.submit(&will.published, &will.by, gone);
        match submitted.accept.await {
            Ok(_) => {
                self.wills.withdraw(number);
                self.deliver(submitted.plan);
            }
            Err(Refused::Stopping) => self.abandon(&submitted.plan, true),
            Err(refused) => {
                tracing::warn!(ingress = %self.session.ingress(), %refused, "a will could not be published yet");
                self.abandon(&submitted.plan, true);
                self.timers.add(AGAIN, What::Will(number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Qos;
    use super::*;

    #[test]
    fn comes_back_from_its_row_as_it_was() {
        let said = Said {
            topic: "gone/c1".into(),
            payload: Bytes::from_static(b"\0lost"),
            qos: Qos::ExactlyOnce,
            retain: true,
            properties: Properties {
                will_delay: Some(9),
                message_expiry: Some(60),
                user: vec![("a".into(), "b".into())],
                response_topic: Some("r".into()),
                correlation_data: Some(Bytes::from_static(b"\0")),
                content_type: Some("text/plain".into()),
                payload_format: Some(1),
                ..Properties::default()
            },
        };
        let will = Will::new(said, By { client: "c1".into(), user: Some("ann".into()), number: 7 }).unwrap();
        let row = will.row();
        assert_eq!(&*row.name, "w00000007");
        let read = Will::read(7, &row.value.unwrap()).unwrap();
        assert_eq!(format!("{will:?}"), format!("{read:?}"));
    }
}
