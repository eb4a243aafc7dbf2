//! What one connection has under way: readings on their way to the disk, in order, and replies to come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, FuturesOrdered, SelectAll, StreamExt, unfold};
use sandbar_reading::{Inbound, Message, Receipt, Refused, StateWrite};
use tokio::time::Instant;

use crate::{Accepted, Answer, Session};

/// How many readings of one connection may be on their way at once; they share commits.
const OFFERED_MAX: usize = 64;

/// How many may have been decoded before those.
const WAITING_MAX: usize = 64;

/// How many may wait for the replies to them.
const UNANSWERED_MAX: usize = 256;

/// How long a refusal that names no time is waited out.
const WAIT: Duration = Duration::from_secs(1);

/// What is to be said to the peer.
#[derive(Debug)]
pub(crate) enum Say {
    Acknowledge(Receipt),
    Refuse(Refused),
    Reply(Message),
}

/// What becomes of a reading that is refused for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The peer is told, and may send it again.
    Tell,
    /// It is offered again until it is taken. Meanwhile there is no room for more: the peer feels it as
    /// back-pressure.
    Hold,
}

/// What is offered: a reading, and what the driver writes to its own state with it.
type Offered = (Inbound, Vec<StateWrite>);

type Outcome<T> = (T, Option<Offered>, Result<Accepted, Refused>);

/// `T` tells whose a reading is, where one link has many peers.
pub(crate) struct Exchange<T = ()> {
    session: Session,
    manner: Manner,
    reply_timeout: Duration,
    waiting: VecDeque<(T, Offered)>,
    offered: FuturesOrdered<BoxFuture<'static, Outcome<T>>>,
    /// What became of the first of those that were offered, where that is known already.
    ended: VecDeque<Outcome<T>>,
    /// One of them was refused for a time, and is to be held: nothing more is offered before it.
    is_refused: Arc<AtomicBool>,
    /// Refused for a time, in order; they go before those that wait.
    held: VecDeque<(T, Offered)>,
    held_until: Option<Instant>,
    replies: SelectAll<BoxStream<'static, (T, Message)>>,
}

impl<T: Clone + Send + 'static> Exchange<T> {
    pub(crate) fn new(session: Session, manner: Manner, reply_timeout: Duration) -> Self {
        Self {
            session,
            manner,
            reply_timeout,
            waiting: VecDeque::new(),
            offered: FuturesOrdered::new(),
            ended: VecDeque::new(),
            is_refused: Arc::default(),
            held: VecDeque::new(),
            held_until: None,
            replies: SelectAll::new(),
        }
    }

    /// Whether more may be read from the peer.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.replies.len() < UNANSWERED_MAX && !self.holds()
    }

    fn holds(&self) -> bool {
        self.held_until.is_some() || self.is_refused.load(Ordering::Relaxed)
    }

    /// Whether no reading is on its way; replies may be.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.offered.is_empty() && self.ended.is_empty() && self.held.is_empty()
    }

    /// Whether nothing is to come.
    pub(crate) fn is_done(&self) -> bool {
        self.is_settled() && self.replies.is_empty()
    }

    /// Readings are offered in the order of these calls, while [`Self::next`] is waited for.
    pub(crate) fn add(&mut self, from: T, inbound: Inbound) {
        self.add_keeping(from, inbound, Vec::new());
    }

    /// The same, with what is written to the driver's own state in the same transaction.
    pub(crate) fn add_keeping(&mut self, from: T, inbound: Inbound, keep: Vec<StateWrite>) {
        self.waiting.push_back((from, (inbound, keep)));
    }

    /// Forgets what was not offered yet: the session stops.
    pub(crate) fn abandon(&mut self) {
        self.waiting.clear();
        self.held.clear();
        self.held_until = None;
        self.is_refused.store(false, Ordering::Relaxed);
    }

    /// Never resolves while there is nothing to say. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> (T, Say) {
        loop {
            self.offer().await;
            if let Some((from, offered, result)) = self.ended.pop_front() {
                if let Some(say) = self.settle(from.clone(), offered, result) {
                    return (from, say);
                }
                continue;
            }
            let held_until = self.held_until;
            tokio::select! {
                Some((from, offered, result)) = self.offered.next() => {
                    if let Some(say) = self.settle(from.clone(), offered, result) {
                        return (from, say);
                    }
                }
                Some((from, message)) = self.replies.next() => return (from, Say::Reply(message)),
                () = async { tokio::time::sleep_until(held_until.unwrap_or_else(Instant::now)).await },
                    if held_until.is_some() && self.offered.is_empty() => self.release(),
                else => std::future::pending().await,
            }
        }
    }

    /// Begins to hand over what waits; stops once one that is to be held was refused, so that none overtakes it.
    async fn offer(&mut self) {
        while !self.waiting.is_empty() && self.offered.len() + self.ended.len() < OFFERED_MAX {
            // A file that could not be written refuses one long after it was offered.
            while let Poll::Ready(Some(outcome)) = futures::poll!(self.offered.next()) {
                self.ended.push_back(outcome);
            }
            if self.holds() {
                return;
            }
            let Some((from, offered)) = self.waiting.pop_front() else { return };
            let again = (self.manner == Manner::Hold).then(|| offered.clone());
            let (inbound, keep) = offered;
            let (session, is_refused) = (self.session.clone(), Arc::clone(&self.is_refused));
            let accepting = async move {
                let result = session.accept_keeping(inbound, keep).await;
                if again.is_some() && result.as_ref().err().and_then(wait).is_some() {
                    is_refused.store(true, Ordering::Relaxed);
                }
                (from, again, result)
            };
            let mut accepting = accepting.boxed();
            match futures::poll!(&mut accepting) {
                Poll::Pending => self.offered.push_back(accepting),
                // Held in its turn: those before it may be refused, too.
                Poll::Ready(outcome) => self.offered.push_back(std::future::ready(outcome).boxed()),
            }
        }
    }

    fn settle(
        &mut self,
        from: T,
        offered: Option<Offered>,
        result: Result<Accepted, Refused>,
    ) -> Option<Say> {
        match (result, offered) {
            (Ok(Accepted { receipt, replies }), _) => {
                if let Some(replies) = replies {
                    let until = Instant::now() + self.reply_timeout;
                    let replies = until_ended(replies, until).map(move |message| (from.clone(), message));
                    self.replies.push(replies.boxed());
                }
                Some(Say::Acknowledge(receipt))
            }
            (Err(refused), Some(offered)) if let Some(wait) = wait(&refused) => {
                self.hold(from, offered, wait);
                None
            }
            (Err(refused), _) => Some(Say::Refuse(refused)),
        }
    }

    fn hold(&mut self, from: T, offered: Offered, wait: Duration) {
        self.held.push_back((from, offered));
        self.held_until = Some(Instant::now() + wait);
    }

    fn release(&mut self) {
        self.held_until = None;
        self.is_refused.store(false, Ordering::Relaxed);
        while let Some(held) = self.held.pop_back() {
            self.waiting.push_front(held);
        }
    }
}

/// For how long to wait before it is offered again; `None` if it never will be taken.
pub(crate) fn wait(refused: &Refused) -> Option<Duration> {
    match refused {
        Refused::Busy { retry_after } => Some(*retry_after),
        Refused::DiskFull | Refused::Storage { .. } => Some(WAIT),
        Refused::TooLarge { .. } | Refused::Stopping => None,
    }
}

fn until_ended(replies: crate::Replies, until: Instant) -> impl futures::Stream<Item = Message> + Send {
    unfold(replies, move |mut replies| async move {
        loop {
            match tokio::time::timeout_at(until, replies.next()).await.ok()?? {
                Answer::Reply(message) => return Some((message, replies)),
                // A stream has no place for these: who waits for a reply gets none in time.
                Answer::Rejected(_) | Answer::Retrying(_) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sandbar_reading::ContentType;

    use super::*;
    use crate::contract::{Ending, StandIn, in_time};

    fn inbound(number: usize) -> Inbound {
        Inbound::new("a".parse().unwrap(), ContentType::TEXT, number.to_string().into())
    }

    fn exchange(host: &Arc<StandIn>, manner: Manner) -> Exchange {
        let session = Session::new("tested".parse().unwrap(), Arc::clone(host) as _, <_>::default());
        Exchange::new(session, manner, Duration::from_secs(5))
    }

    fn payloads(host: &StandIn) -> Vec<Bytes> {
        host.taken().into_iter().map(|taken| taken.inbound.payload).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_not_overtaken() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Hold);
        host.refuse(Refused::Busy { retry_after: Duration::from_secs(3) });
        host.refuse(Refused::DiskFull);
        (0..40).for_each(|number| exchange.add((), inbound(number)));
        for _ in 0..40 {
            assert!(matches!(in_time(exchange.next()).await, (_, Say::Acknowledge(_))));
        }
        assert!(exchange.is_done() && exchange.has_room());
        let expected: Vec<Bytes> = (0..40).map(|number: usize| number.to_string().into()).collect();
        assert_eq!(payloads(&host), expected);
    }

    /// The first one's commit fails when the second one was refused already.
    #[tokio::test(start_paused = true)]
    async fn what_is_refused_before_those_ahead_of_it_keeps_its_place() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Hold);
        host.hold();
        host.doubt(Refused::Storage { cause: "scripted".to_owned() });
        exchange.add((), inbound(1));
        assert!(futures::poll!(std::pin::pin!(exchange.next())).is_pending());
        host.refuse(Refused::DiskFull);
        exchange.add((), inbound(2));
        exchange.add((), inbound(3));
        assert!(futures::poll!(std::pin::pin!(exchange.next())).is_pending());
        host.release();
        for _ in 0..3 {
            assert!(matches!(in_time(exchange.next()).await, (_, Say::Acknowledge(_))));
        }
        assert_eq!(payloads(&host), ["1", "1", "2", "3"], "the first one was in doubt");
    }

    /// A picture whose file could not be written, and a reading that came before that was looked at.
    #[tokio::test(start_paused = true)]
    async fn what_is_refused_after_a_while_is_not_overtaken() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Hold);
        host.hold();
        host.refuse_late(Refused::DiskFull);
        exchange.add((), inbound(1));
        assert!(futures::poll!(std::pin::pin!(exchange.next())).is_pending());
        host.release();
        exchange.add((), inbound(2));
        for _ in 0..2 {
            assert!(matches!(in_time(exchange.next()).await, (_, Say::Acknowledge(_))));
        }
        assert_eq!(payloads(&host), ["1", "2"]);
        assert!(exchange.is_done() && exchange.has_room());
    }

    #[tokio::test]
    async fn who_is_told_decides_what_comes_next() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Tell);
        host.refuse(Refused::DiskFull);
        exchange.add((), inbound(1));
        exchange.add((), inbound(2));
        assert!(matches!(in_time(exchange.next()).await, (_, Say::Refuse(Refused::DiskFull))));
        assert!(matches!(in_time(exchange.next()).await, (_, Say::Acknowledge(_))));
        assert_eq!(payloads(&host), ["2"]);
    }

    #[tokio::test]
    async fn there_is_room_for_so_much_only() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Hold);
        host.hold();
        let mut added = 0;
        while exchange.has_room() && added < 1000 {
            exchange.add((), inbound(added));
            added += 1;
            let _ = futures::poll!(std::pin::pin!(exchange.next()));
        }
        assert_eq!(added, OFFERED_MAX + WAITING_MAX);
        host.release();
        for _ in 0..added {
            in_time(exchange.next()).await;
        }
        assert!(exchange.is_done());
    }

    #[tokio::test(start_paused = true)]
    async fn replies_come_as_they_are_given_until_their_time_is_over() {
        let host = StandIn::new();
        let mut exchange = exchange(&host, Manner::Hold);
        let message = Message {
            topic: "r".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes: <_>::default(),
            payload: "hello".into(),
        };
        host.answer(vec![Answer::Retrying("again".to_owned()), Answer::Reply(message)], Ending::Open);
        exchange.add((), inbound(1));
        assert!(matches!(in_time(exchange.next()).await, (_, Say::Acknowledge(_))));
        assert!(matches!(in_time(exchange.next()).await, (_, Say::Reply(reply)) if reply.payload == "hello"));
        assert!(!exchange.is_done());
        let more = tokio::time::timeout(Duration::from_secs(6), exchange.next()).await;
        assert!(more.is_err() && exchange.is_done());
    }
}
