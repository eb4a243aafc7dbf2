//! Who waits for what a device answers to a command.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sandbar_reading::{DeliveryId, Inbound, Message};
use serde::Deserialize;
use tokio::sync::oneshot;

/// Which message of a device is taken for its answer, where its protocol does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Correlation {
    /// One that has the command's id (as the JSON key `id`, or as MQTT correlation data), or else the first one
    /// after the command was sent.
    #[default]
    Next,
    /// One that has the command's id.
    Id,
}

/// Commands whose answers are awaited. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Queries(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    /// How many there are: a reading looks no further if there are none.
    count: AtomicUsize,
    by_id: Mutex<HashMap<DeliveryId, Waiter>>,
}

struct Waiter {
    device: Box<str>,
    correlation: Correlation,
    /// The device may have it.
    sent: bool,
    answer: oneshot::Sender<Message>,
}

/// Forgets who waited.
pub(crate) struct Awaiting {
    queries: Queries,
    id: DeliveryId,
    answer: oneshot::Receiver<Message>,
}

/// A reading that answers a command.
pub(crate) struct Answering {
    id: DeliveryId,
    message: Message,
}

#[derive(Deserialize)]
struct Echo<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

impl Queries {
    pub(crate) fn expect(&self, id: DeliveryId, device: &str, correlation: Correlation) -> Awaiting {
        let (answer, awaited) = oneshot::channel();
        let waiter = Waiter { device: device.into(), correlation, sent: false, answer };
        let mut by_id = self.0.by_id.lock();
        by_id.insert(id, waiter);
        self.0.count.store(by_id.len(), Ordering::Release);
        Awaiting { queries: self.clone(), id, answer: awaited }
    }

    /// Whether its answer is awaited; from now on the device may give it.
    pub(crate) fn sent(&self, id: DeliveryId) -> bool {
        if self.is_empty() {
            return false;
        }
        self.0.by_id.lock().get_mut(&id).map(|waiter| waiter.sent = true).is_some()
    }

    /// False if nobody waits for it.
    pub(crate) fn answer(&self, id: DeliveryId, message: Message) -> bool {
        let waiter = self.remove(id);
        waiter.is_some_and(|waiter| waiter.answer.send(message).is_ok())
    }

    /// Whether a reading is an answer; it is to be [`settle`](Self::settle)d once it is on disk.
    pub(crate) fn answered(&self, inbound: &Inbound) -> Option<Answering> {
        if self.is_empty() {
            return None;
        }
        let id = self.echoed(inbound).or_else(|| self.next_of(inbound.device.as_deref()?))?;
        let Inbound { topic, device, content_type, attributes, payload, .. } = inbound.clone();
        Some(Answering { id, message: Message { topic, device, content_type, attributes, payload } })
    }

    pub(crate) fn settle(&self, Answering { id, message }: Answering) {
        self.answer(id, message);
    }

    fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::Acquire) == 0
    }

    /// The awaited command whose id the reading has.
    fn echoed(&self, inbound: &Inbound) -> Option<DeliveryId> {
        let correlation = inbound.attributes.get("mqtt.correlation_data");
        let correlation = correlation.and_then(|data| STANDARD.decode(data).ok());
        let by_data = correlation.and_then(|data| std::str::from_utf8(&data).ok()?.parse().ok());
        let by_key = || {
            let echo: Echo<'_> = serde_json::from_slice(&inbound.payload).ok()?;
            echo.id.parse().ok()
        };
        let id: DeliveryId = by_data.or_else(by_key)?;
        let by_id = self.0.by_id.lock();
        let waiter = by_id.get(&id)?;
        inbound.device.as_ref().is_none_or(|device| *device == waiter.device).then_some(id)
    }

    /// The oldest command that the device's next message answers.
    fn next_of(&self, device: &str) -> Option<DeliveryId> {
        let by_id = self.0.by_id.lock();
        let awaits = |waiter: &Waiter| {
            waiter.sent && *waiter.device == *device && waiter.correlation == Correlation::Next
        };
        by_id.iter().filter(|(_, waiter)| awaits(waiter)).map(|(id, _)| *id).min()
    }

    fn remove(&self, id: DeliveryId) -> Option<Waiter> {
        let mut by_id = self.0.by_id.lock();
        let waiter = by_id.remove(&id);
        self.0.count.store(by_id.len(), Ordering::Release);
        waiter
    }
}

impl Awaiting {
    /// `None` if it will not come.
    pub(crate) async fn answer(&mut self) -> Option<Message> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.queries.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{Attributes, ContentType};

    use super::*;

    fn inbound(device: Option<&str>, payload: &str) -> Inbound {
        let inbound = Inbound::new("t".parse().unwrap(), ContentType::JSON, payload.to_owned().into());
        Inbound { device: device.map(Into::into), ..inbound }
    }

    fn id(number: u128) -> DeliveryId {
        DeliveryId::from_u128(number)
    }

    fn answered(queries: &Queries, inbound: &Inbound) -> Option<u128> {
        queries.answered(inbound).map(|answering| answering.id.as_u128())
    }

    #[tokio::test]
    async fn the_next_message_after_it_was_sent_is_the_answer() {
        let queries = Queries::default();
        let mut awaiting = queries.expect(id(7), "d1", Correlation::Next);
        assert_eq!(answered(&queries, &inbound(Some("d1"), "early")), None);
        assert!(queries.sent(id(7)) && !queries.sent(id(8)));
        assert_eq!(answered(&queries, &inbound(Some("d2"), "other")), None);
        assert_eq!(answered(&queries, &inbound(None, "nobody's")), None);
        queries.settle(queries.answered(&inbound(Some("d1"), "yes")).unwrap());
        assert_eq!(awaiting.answer().await.unwrap().payload, "yes");
        assert_eq!(answered(&queries, &inbound(Some("d1"), "late")), None);
    }

    #[test]
    fn an_echoed_id_goes_before_the_order() {
        let queries = Queries::default();
        let _first = queries.expect(id(7), "d1", Correlation::Next);
        let _second = queries.expect(id(8), "d1", Correlation::Id);
        queries.sent(id(7));
        queries.sent(id(8));
        let echo = format!(r#"{{"id":"{}","ok":true}}"#, id(8));
        assert_eq!(answered(&queries, &inbound(Some("d1"), &echo)), Some(8));
        assert_eq!(answered(&queries, &inbound(Some("d2"), &echo)), None, "it is not that device's");
        assert_eq!(answered(&queries, &inbound(Some("d1"), r#"{"id":"x"}"#)), Some(7));
        let data = STANDARD.encode(id(8).to_string());
        let by_data = Inbound {
            attributes: Attributes::new().with("mqtt.correlation_data", data),
            ..inbound(None, "raw")
        };
        assert_eq!(answered(&queries, &by_data), Some(8));
    }

    #[test]
    fn who_gave_up_is_forgotten() {
        let queries = Queries::default();
        drop(queries.expect(id(7), "d1", Correlation::Next));
        assert!(queries.is_empty() && !queries.sent(id(7)));
    }
}
