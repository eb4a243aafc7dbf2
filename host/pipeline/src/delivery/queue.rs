//! What is in memory of a target's part of the outbox: its front. Pure.

use std::collections::VecDeque;

use sandbar_reading::{DeliveryId, Timestamp};
use sandbar_store::Queued;

/// How many bytes of what is queued for a target are held; one delivery may always be.
pub(crate) const BYTES_MAX: usize = 8 << 20;

pub(crate) struct OutletQueue {
    front: VecDeque<Queued>,
    bytes: usize,
    count_max: usize,
    /// The store has deliveries beyond `front`.
    more: bool,
    /// `front` may no longer be what the store has.
    stale: bool,
    /// Nobody looks at it any more.
    closed: bool,
}

impl OutletQueue {
    /// What was queued before the start is in the store only.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { front: VecDeque::new(), bytes: 0, count_max, more: true, stale: false, closed: false }
    }

    /// False if the queue is closed: the store has it, and a new queue will find it there.
    pub(crate) fn push(&mut self, queued: Queued) -> bool {
        if self.closed {
            return false;
        }
        let held = |held: &Queued| held.delivery.id == queued.delivery.id;
        if self.front.iter().rev().any(held) {
            return true;
        }
        if self.more || self.is_full() {
            self.more = true;
        } else {
            self.load(queued);
        }
        true
    }

    fn is_full(&self) -> bool {
        self.front.len() >= self.count_max || self.bytes >= BYTES_MAX
    }

    fn load(&mut self, queued: Queued) {
        self.bytes += queued.delivery.size();
        self.front.push_back(queued);
    }

    /// How many deliveries to load now, if any; the answer goes to [`Self::loaded`]. What is pushed in
    /// between is told by `more`.
    pub(crate) fn wanted(&mut self) -> Option<usize> {
        if std::mem::take(&mut self.stale) {
            self.front.clear();
            self.bytes = 0;
            self.more = true;
        }
        (self.more && self.front.is_empty()).then(|| {
            self.more = false;
            self.count_max
        })
    }

    pub(crate) fn loaded(&mut self, queued: Vec<Queued>, all: bool) {
        // What was pushed while the store was asked is younger, or is here twice.
        let pushed: Vec<_> = self.front.drain(..).collect();
        self.bytes = 0;
        queued.into_iter().for_each(|queued| self.load(queued));
        if all {
            for queued in pushed {
                self.push(queued);
            }
        } else {
            self.more = true;
        }
    }

    pub(crate) fn not_loaded(&mut self) {
        self.more = true;
    }

    /// The store may have what nobody told of. False if the queue is closed: a new queue will find it.
    pub(crate) fn look_again(&mut self) -> bool {
        self.stale = true;
        !self.closed
    }

    pub(crate) fn held(&self) -> usize {
        self.front.len()
    }

    pub(crate) fn batch(&self, count_max: usize, bytes_max: usize) -> Vec<Queued> {
        let mut bytes = 0;
        self.front
            .iter()
            .take(count_max.max(1))
            .take_while(|queued| {
                let first = bytes == 0;
                bytes += queued.delivery.size();
                first || bytes <= bytes_max
            })
            .cloned()
            .collect()
    }

    /// `gone` are no longer in the outbox; `head` waits on.
    pub(crate) fn settle(&mut self, gone: &[DeliveryId], head: Option<(DeliveryId, u32, Timestamp)>) {
        for id in gone {
            // They are at the front, nearly always in this order.
            let at = self.front.iter().position(|queued| queued.delivery.id == *id);
            if let Some(queued) = at.and_then(|at| self.front.remove(at)) {
                self.bytes -= queued.delivery.size();
            }
        }
        if let Some((id, attempts, due)) = head
            && let Some(queued) = self.front.iter_mut().find(|queued| queued.delivery.id == id)
        {
            (queued.attempts, queued.due) = (attempts, due);
        }
    }

    /// Nothing can be offered for now: only the head stays in memory.
    pub(crate) fn keep_head(&mut self) {
        if self.front.len() > 1 {
            self.front.truncate(1);
            self.bytes = self.front.iter().map(|queued| queued.delivery.size()).sum();
            self.more = true;
        }
    }

    /// The head need not wait any longer.
    pub(crate) fn head_is_due(&mut self) {
        if let Some(head) = self.front.front_mut() {
            head.due = Timestamp::default();
        }
    }

    /// The head, and when it is due.
    pub(crate) fn head(&self) -> Option<(DeliveryId, Timestamp)> {
        self.front.front().map(|queued| (queued.delivery.id, queued.due))
    }

    /// Closes the queue if nothing is left for its target.
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.closed = self.front.is_empty() && !self.more && !self.stale;
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sandbar_reading::{Attributes, ContentType, Delivery, Message, ReadingId, Target};

    use super::*;

    const COUNT_MAX: usize = 512;

    fn queued(id: u128) -> Queued {
        let message = Message {
            topic: "t".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: "x".into(),
        };
        let delivery = Delivery {
            id: DeliveryId::from_u128(id),
            reading: ReadingId::from_u128(1),
            route: "r".parse().unwrap(),
            time: Timestamp::default(),
            message,
        };
        Queued {
            target: Target::Sink("s".parse().unwrap()),
            delivery: Arc::new(delivery),
            attempts: 0,
            due: Timestamp::default(),
            last_cause: None,
        }
    }

    fn ids(queue: &OutletQueue) -> Vec<u128> {
        queue.batch(99, usize::MAX).iter().map(|queued| queued.delivery.id.as_u128()).collect()
    }

    fn caught_up() -> OutletQueue {
        let mut queue = OutletQueue::new(COUNT_MAX);
        assert_eq!(queue.wanted(), Some(COUNT_MAX));
        queue.loaded(Vec::new(), true);
        queue
    }

    #[test]
    fn what_the_store_has_comes_before_what_was_pushed_while_it_was_asked() {
        let mut queue = OutletQueue::new(COUNT_MAX);
        queue.push(queued(9));
        assert_eq!(queue.wanted(), Some(COUNT_MAX));
        queue.push(queued(3));
        queue.loaded(vec![queued(1), queued(2), queued(3)], true);
        assert_eq!(ids(&queue), [1, 2, 3]);
    }

    #[test]
    fn a_full_queue_goes_back_to_the_store_for_the_rest() {
        let mut queue = caught_up();
        for id in 0..COUNT_MAX as u128 + 5 {
            assert!(queue.push(queued(id)));
        }
        assert_eq!(queue.wanted(), None);
        let all: Vec<_> = (0..COUNT_MAX as u128).map(DeliveryId::from_u128).collect();
        queue.settle(&all, None);
        assert!(!queue.close_if_empty());
        assert_eq!(queue.wanted(), Some(COUNT_MAX));
    }

    #[test]
    fn closes_only_when_nothing_is_left_and_then_takes_no_more() {
        let mut queue = caught_up();
        assert!(queue.push(queued(1)));
        assert!(!queue.close_if_empty());
        queue.settle(&[DeliveryId::from_u128(1)], None);
        assert!(queue.close_if_empty());
        assert!(!queue.push(queued(2)));
    }

    #[test]
    fn of_what_cannot_be_offered_only_the_head_is_held_and_the_rest_is_loaded_again() {
        let mut queue = caught_up();
        (1..=5).for_each(|id| assert!(queue.push(queued(id))));
        queue.keep_head();
        assert!(queue.push(queued(6)));
        assert_eq!((ids(&queue), queue.bytes), (vec![1], queued(1).delivery.size()));
        assert_eq!(queue.wanted(), None);
        queue.settle(&[DeliveryId::from_u128(1)], None);
        assert!(!queue.close_if_empty());
        assert_eq!((queue.wanted(), queue.bytes), (Some(COUNT_MAX), 0));
    }

    #[test]
    fn reads_anew_what_may_be_stale() {
        let mut queue = caught_up();
        queue.push(queued(1));
        queue.look_again();
        assert_eq!(queue.wanted(), Some(COUNT_MAX));
        queue.loaded(vec![queued(2)], true);
        assert_eq!(ids(&queue), [2]);
    }
}
