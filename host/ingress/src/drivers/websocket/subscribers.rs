//! Who gets what sinks publish.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{DeliveryId, Message, TopicFilter};
use tokio::sync::mpsc;

use crate::Session;

/// How many messages may wait for one subscriber; one that is slower is cut off.
const WAITING_MAX: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) id: DeliveryId,
    pub(super) message: Arc<Message>,
}

#[derive(Default)]
pub(super) struct Subscribers(Mutex<Vec<Subscriber>>);

struct Subscriber {
    filter: TopicFilter,
    messages: mpsc::Sender<Publication>,
}

impl Subscribers {
    /// Ends when this side finds the subscriber too slow.
    pub(super) fn join(&self, filter: TopicFilter) -> mpsc::Receiver<Publication> {
        let (messages, arriving) = mpsc::channel(WAITING_MAX);
        let mut subscribers = self.0.lock();
        subscribers.retain(|subscriber| !subscriber.messages.is_closed());
        subscribers.push(Subscriber { filter, messages });
        arriving
    }

    /// Who is not here now does not get it.
    fn publish(&self, publication: &Publication) {
        self.0.lock().retain(|subscriber| {
            !subscriber.filter.matches(&publication.message.topic)
                || subscriber.messages.try_send(publication.clone()).is_ok()
        });
    }

    /// Brings what sinks publish to the subscribers, until the session stops.
    pub(super) async fn serve(&self, session: &Session) {
        let mut publications = session.publications();
        loop {
            let offer = tokio::select! {
                () = session.stopped() => return,
                offer = publications.next() => offer,
            };
            let Some(offer) = offer else { break };
            self.publish(&Publication { id: offer.id, message: Arc::new(offer.message.clone()) });
            offer.acknowledge();
        }
        // Another session has the place.
        session.stopped().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sandbar_reading::{Attributes, ContentType};

    use super::*;

    fn publication(topic: &str) -> Publication {
        let message = Message {
            topic: topic.parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: Bytes::new(),
        };
        Publication { id: DeliveryId::from_u128(1), message: Arc::new(message) }
    }

    #[test]
    fn everybody_gets_what_they_asked_for_and_the_slow_one_is_cut_off() {
        let subscribers = Subscribers::default();
        let mut all = subscribers.join("#".parse().unwrap());
        let mut some = subscribers.join("a/+".parse().unwrap());
        for topic in ["a/1", "b/1", "a/2"] {
            subscribers.publish(&publication(topic));
        }
        assert_eq!((all.len(), some.len()), (3, 2));
        for _ in 0..3 {
            all.try_recv().unwrap();
        }
        for _ in 0..WAITING_MAX {
            subscribers.publish(&publication("a/3"));
            all.try_recv().unwrap();
        }
        while some.try_recv().is_ok() {}
        assert_eq!(some.try_recv().err(), Some(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(subscribers.0.lock().len(), 1);
        drop(all);
        drop(subscribers.join("#".parse().unwrap()));
        assert_eq!(subscribers.0.lock().len(), 1);
    }
}
