//! A UDP socket (and one with DTLS) that serves requests and makes them.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::call::{Note, Order, Waiter};
use super::dtls::Sockets;
use super::layer::{Event, Failure, Layer, Parameters, Ticket, Token};
use super::packet::{self, Code, MessageClass, Opt, Packet};
use crate::LinkError;

/// Who messages come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Over DTLS.
    pub(crate) is_secure: bool,
}

/// A request that arrived.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) peer: Peer,
    /// Whom its key belongs to.
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) token: (Token, u8),
    pub(crate) packet: Packet,
}

/// What answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Is called in the order of arrival; what it does before it first waits happens in that order, too.
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Packet>;

    /// Whether a datagram from there is looked at.
    fn admits(&self, _peer: SocketAddr) -> bool {
        true
    }
}

/// Requests that are answered at once; further ones are told that there is no room.
const SERVING_MAX: usize = 1024;

/// The seconds after which who found no room may come again.
const AGAIN_S: u32 = 2;

type Serving = Pin<Box<dyn Future<Output = (Ticket<Peer>, Option<u32>, Packet)> + Send>>;
type Taking = Pin<Box<dyn Future<Output = (Ticket<Peer>, bool)> + Send>>;

pub(crate) struct Endpoint<S> {
    sockets: Sockets,
    layer: Layer<Peer>,
    service: Arc<S>,
    orders: mpsc::Receiver<Order>,
    waiters: HashMap<(Peer, Token), Waiter>,
    notified: HashMap<(Peer, Token), oneshot::Sender<Result<(), Failure>>>,
    serving: FuturesUnordered<Serving>,
    taking: FuturesUnordered<Taking>,
}

impl<S: Service> Endpoint<S> {
    pub(crate) fn new(
        sockets: Sockets,
        parameters: Parameters,
        service: Arc<S>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self {
            sockets,
            layer: Layer::new(parameters, rand::random(), rand::random),
            service,
            orders,
            waiters: HashMap::new(),
            notified: HashMap::new(),
            serving: FuturesUnordered::new(),
            taking: FuturesUnordered::new(),
        }
    }

    /// Until `stopped`; then what is being answered is answered to its end.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()> + Send) -> Result<(), LinkError> {
        let mut stopped = pin!(stopped);
        loop {
            self.flush().await;
            let due = self.next_due();
            tokio::select! {
                () = &mut stopped => break,
                Some(answered) = self.serving.next() => self.answered(answered),
                Some((ticket, is_taken)) = self.taking.next() => self.taken(&ticket, is_taken),
                received = self.sockets.receive() => {
                    if let Some((peer, datagram)) = received? {
                        self.receive(peer, &datagram);
                    }
                }
                Some(order) = self.orders.recv() => self.carry_out(order),
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    self.tick();
                }
            }
        }
        while let Some(answered) = self.serving.next().await {
            self.answered(answered);
            self.flush().await;
        }
        while let Some((ticket, is_taken)) = self.taking.next().await {
            self.taken(&ticket, is_taken);
            self.flush().await;
        }
        self.sockets.close().await;
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        [self.layer.next_due(), self.sockets.next_due()].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.sockets.tick(now);
        for event in self.layer.tick(now) {
            self.happened(event);
        }
    }

    /// What is lost on the way is sent again, or is the peer's to ask for again.
    async fn flush(&mut self) {
        for (peer, bytes) in self.layer.take_outgoing() {
            self.sockets.send(peer, &bytes).await;
        }
        self.sockets.flush().await;
    }

    fn receive(&mut self, peer: Peer, datagram: &[u8]) {
        if !self.service.admits(peer.address) {
            return;
        }
        if let Some(event) = self.layer.receive(peer, datagram, Instant::now()) {
            self.happened(event);
        }
    }

    fn happened(&mut self, event: Event<Peer>) {
        match event {
            Event::Request(ticket, packet) => self.serve(ticket, packet),
            Event::Response(peer, token, packet, ticket) => self.pass_on(peer, token, packet, ticket),
            Event::Failed(peer, token, failure) => {
                if failure == Failure::Timeout {
                    self.sockets.lost(peer);
                }
                if let Some(notified) = self.notified.remove(&(peer, token)) {
                    let _ = notified.send(Err(failure));
                } else if let Some(waiter) = self.waiters.remove(&(peer, token)) {
                    waiter.fail(failure);
                }
            }
            Event::Acknowledged(peer, token) => {
                if let Some(notified) = self.notified.remove(&(peer, token)) {
                    let _ = notified.send(Ok(()));
                }
            }
        }
    }

    fn serve(&mut self, ticket: Ticket<Peer>, packet: Packet) {
        let no_response = packet::uint(&packet, Opt::NoResponse);
        if self.serving.len() >= SERVING_MAX {
            let mut answer = packet::problem(Code::ServiceUnavailable, "too many requests at once");
            packet::set_uint(&mut answer, Opt::MaxAge, AGAIN_S);
            self.answered((ticket, no_response, answer));
            return;
        }
        let identity = self.sockets.identity(ticket.peer);
        let request = Request { peer: ticket.peer, identity, token: ticket.token(), packet };
        let mut serving = Arc::clone(&self.service).serve(request);
        // Begun here, so that readings get their place in the order of arrival.
        match (&mut serving).now_or_never() {
            Some(answer) => self.answered((ticket, no_response, answer)),
            None => self.serving.push(serving.map(move |answer| (ticket, no_response, answer)).boxed()),
        }
    }

    fn answered(&mut self, (ticket, no_response, answer): (Ticket<Peer>, Option<u32>, Packet)) {
        match answer.header.code {
            MessageClass::Response(code) if Ticket::<Peer>::is_unwanted(no_response, code) => {
                self.layer.acknowledge(&ticket);
            }
            _ => self.layer.answer(&ticket, answer, Instant::now()),
        }
    }

    fn taken(&mut self, ticket: &Ticket<Peer>, is_taken: bool) {
        match is_taken {
            true => self.layer.acknowledge(ticket),
            false => self.layer.forget(ticket),
        }
    }

    fn pass_on(&mut self, peer: Peer, token: Token, packet: Packet, ticket: Option<Ticket<Peer>>) {
        let goes_on = packet::class(&packet) == 2
            && packet.get_option(Opt::Observe).is_some_and(|values| !values.is_empty());
        let Some(waiter) = self.waiters.remove(&(peer, token)) else { return };
        let waiter = match waiter {
            Waiter::Once(answer) => {
                drop(answer.send(Ok(packet)));
                return;
            }
            Waiter::Each(notes) => notes,
        };
        let (done, is_taken) = oneshot::channel();
        let sent = waiter.try_send(Ok(Note { packet, done }));
        let is_gone = waiter.is_closed();
        if let Some(ticket) = ticket {
            match sent {
                Ok(()) => self.taking.push(is_taken.map(move |result| (ticket, result.is_ok())).boxed()),
                // The node repeats it.
                Err(_) => self.layer.forget(&ticket),
            }
        }
        if is_gone {
            self.layer.give_up(peer, token, Instant::now());
        } else if goes_on {
            self.waiters.insert((peer, token), Waiter::Each(waiter));
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Ask { peer, token, packet, patience, waiter } => {
                match self.layer.request(peer, token, packet, patience, now) {
                    Ok(()) => drop(self.waiters.insert((peer, token), waiter)),
                    Err(failure) => waiter.fail(failure),
                }
            }
            Order::Leave { peer, token } => {
                self.waiters.remove(&(peer, token));
                self.layer.give_up(peer, token, now);
            }
            Order::Notify { peer, token: (token, length), packet, done } => {
                self.notified.insert((peer, token), done);
                self.layer.notify(peer, token, length, packet, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::super::packet::{MessageType, Method};
    use super::*;

    struct Silent;

    impl Service for Silent {
        fn serve(self: Arc<Self>, _request: Request) -> BoxFuture<'static, Packet> {
            futures::future::pending().boxed()
        }
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_observation_that_nobody_follows() {
        let sockets = Sockets::new(UdpSocket::bind("127.0.0.1:0").await.unwrap(), None);
        let (_orders, asked) = super::super::call::orders();
        let mut endpoint = Endpoint::new(sockets, Parameters::default(), Arc::new(Silent), asked);
        let (peer, token) = (Peer { address: "127.0.0.1:9".parse().unwrap(), is_secure: false }, [7; 8]);
        let note = |sequence: u16| {
            let mut note = packet::response(Code::Content);
            note.header.set_type(MessageType::Confirmable);
            note.header.message_id = sequence;
            note.set_token(token.to_vec());
            packet::set_uint(&mut note, Opt::Observe, sequence.into());
            packet::bytes(&note)
        };
        let refused = |bytes: &[u8]| bytes[0] & 0x30 == 0x30;
        for sequence in 1..=3 {
            let (notes, mut arriving) = mpsc::channel(9);
            let mut packet = packet::request(Method::Get, "/a", &[]);
            packet::set_uint(&mut packet, Opt::Observe, 0);
            let (patience, waiter) = (Duration::from_secs(9), Waiter::Each(notes));
            endpoint.carry_out(Order::Ask { peer, token, packet, patience, waiter });
            endpoint.receive(peer, &note(2 * sequence));
            assert!(arriving.recv().await.unwrap().is_ok());
            // The resource is quiet for too long, and is registered for again.
            endpoint.carry_out(Order::Leave { peer, token });
            assert!(endpoint.waiters.is_empty());
            endpoint.layer.take_outgoing();
            endpoint.receive(peer, &note(2 * sequence + 1));
            let told = endpoint.layer.take_outgoing();
            assert!(told.iter().all(|(_, bytes)| refused(bytes)) && told.len() == 1, "{told:?}");
        }
    }
}
