//! Messages and exchanges (RFC 7252, sections 4 and 5): who repeated what, what has to be sent again, which response
//! belongs to which request. Waits for nothing: the time is passed in, and what is to be sent is taken out.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::packet::{self, Code, MessageClass, MessageType, Opt, Packet, Parsed};
use super::timers::Timers;

/// An address that messages come from and go to.
pub(crate) trait Address: Copy + Eq + Hash + Ord {}

impl<T: Copy + Eq + Hash + Ord> Address for T {}

/// Times and bounds (RFC 7252, section 4.8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    /// `ACK_TIMEOUT`; each time is up to half as long again, at random.
    pub(crate) ack_timeout: Duration,
    /// `MAX_RETRANSMIT`.
    pub(crate) retransmit_max: u32,
    /// A request that is not answered by then is acknowledged by itself, so that it is not repeated.
    pub(crate) separate_after: Duration,
    /// How many messages are remembered, to tell repetitions; the oldest go first.
    pub(crate) heard_max: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            retransmit_max: 4,
            separate_after: Duration::from_secs(1),
            heard_max: 65_536,
        }
    }
}

/// `EXCHANGE_LIFETIME`: for so long a message may be repeated.
const REPEATABLE: Duration = Duration::from_secs(247);

/// Bytes of answers that are kept in case that they have to be repeated.
const HEARD_BYTES_MAX: usize = 8 << 20;

/// `NSTART`: how many confirmable messages one peer may have to acknowledge at once.
const STARTED_MAX: usize = 1;

pub(crate) type Token = [u8; 8];

/// A message that waits for what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket<P> {
    pub(crate) peer: P,
    id: u16,
    print: Print,
    token: ([u8; 8], u8),
    confirmable: bool,
}

/// What came of what arrived, or of the time.
#[derive(Debug)]
pub(crate) enum Event<P> {
    /// To be [answered](Layer::answer) or [forgotten](Layer::forget).
    Request(Ticket<P>, Packet),
    /// An answer to a request of ours. With a ticket it is a notification that waits to be
    /// [acknowledged](Layer::acknowledge) or forgotten.
    Response(P, Token, Packet, Option<Ticket<P>>),
    /// Nothing more will come for this request, or the notification was not taken.
    Failed(P, Token, Failure),
    /// A notification of ours was acknowledged.
    Acknowledged(P, Token),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("it was not understood (RST)")]
    Reset,
    #[error("more wait for this node than may wait")]
    Full,
}

/// Of a message's bytes. A repetition has those of the first (section 4.2); a node that was switched off and counts
/// from the beginning again uses the same message ids for others, which are not to be lost.
type Print = u64;

struct Heard {
    print: Print,
    since: Instant,
    state: HeardState,
}

enum HeardState {
    /// It is being answered; an acknowledgement of its own was sent or not.
    Open { acknowledged: bool },
    /// What was said to it; nothing to who does not want to hear anything again.
    Done(Bytes),
}

/// A confirmable message of ours that was not acknowledged.
struct Sent {
    bytes: Bytes,
    timeout: Duration,
    tries: u32,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Request(Token),
    Notification(Token),
    Response,
}

/// A request of ours whose answer, or next answer, is to come.
struct Awaited {
    observing: bool,
    until: Option<Instant>,
    /// The message that asks for it, while that is being sent.
    asking: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due<P> {
    Separate(P, u16),
    Again(P, u16),
    Answer(P, Token),
}

/// How many confirmable messages may wait for a peer's acknowledgement of those before.
const WAITING_MAX: usize = 64;

pub(crate) struct Layer<P> {
    parameters: Parameters,
    heard: HashMap<(P, u16), Heard>,
    heard_order: VecDeque<(Instant, P, u16)>,
    /// Of what was said, in `heard`.
    heard_bytes: usize,
    printer: RandomState,
    sent: HashMap<(P, u16), Sent>,
    /// How many of a peer's are in `sent`, and what goes out after them.
    starting: HashMap<P, (usize, VecDeque<(Packet, What)>)>,
    awaited: HashMap<(P, Token), Awaited>,
    timers: Timers<Due<P>>,
    outgoing: Vec<(P, Bytes)>,
    next_id: u16,
    jitter: fn() -> f64,
}

impl<P: Address> Layer<P> {
    /// `jitter` gives a number from 0 to 1.
    pub(crate) fn new(parameters: Parameters, first_id: u16, jitter: fn() -> f64) -> Self {
        Self {
            parameters,
            heard: HashMap::new(),
            heard_order: VecDeque::new(),
            heard_bytes: 0,
            printer: RandomState::new(),
            sent: HashMap::new(),
            starting: HashMap::new(),
            awaited: HashMap::new(),
            timers: Timers::new(),
            outgoing: Vec::new(),
            next_id: first_id,
            jitter,
        }
    }

    /// What is to be sent, in order.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(P, Bytes)> {
        std::mem::take(&mut self.outgoing)
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(crate) fn receive(&mut self, peer: P, datagram: &[u8], now: Instant) -> Option<Event<P>> {
        let packet = match packet::parse(datagram) {
            Parsed::Message(packet) => packet,
            Parsed::Broken { id, confirmable } => {
                if confirmable {
                    self.say(peer, MessageType::Reset, id);
                }
                return None;
            }
            Parsed::Foreign => return None,
        };
        let print = self.printer.hash_one(datagram);
        let (kind, id) = (packet.header.get_type(), packet.header.message_id);
        match (packet.header.code, kind) {
            // A ping (section 4.3), or nothing that has a meaning.
            (MessageClass::Empty, MessageType::Confirmable | MessageType::NonConfirmable) => {
                if kind == MessageType::Confirmable {
                    self.say(peer, MessageType::Reset, id);
                }
                None
            }
            (MessageClass::Empty, kind) => self.settled(peer, id, kind, now),
            (_, MessageType::Reset) => None,
            _ if packet::class(&packet) == 0 => match kind {
                MessageType::Acknowledgement => None,
                _ => self.requested(peer, packet, print, now),
            },
            _ => self.responded(peer, packet, print, now),
        }
    }

    /// Our message was acknowledged or refused.
    fn settled(&mut self, peer: P, id: u16, kind: MessageType, now: Instant) -> Option<Event<P>> {
        let what = self.finish(peer, id, now)?;
        match (what, kind) {
            (What::Request(token), MessageType::Reset) => {
                self.awaited.remove(&(peer, token));
                Some(Event::Failed(peer, token, Failure::Reset))
            }
            (What::Notification(token), MessageType::Reset) => {
                Some(Event::Failed(peer, token, Failure::Reset))
            }
            (What::Notification(token), _) => Some(Event::Acknowledged(peer, token)),
            // The response comes by itself.
            (What::Request(_) | What::Response, _) => None,
        }
    }

    fn requested(&mut self, peer: P, packet: Packet, print: Print, now: Instant) -> Option<Event<P>> {
        let id = packet.header.message_id;
        let confirmable = packet.header.get_type() == MessageType::Confirmable;
        if self.is_repeated(peer, id, print, confirmable) {
            return None;
        }
        self.hear(peer, id, print, now);
        if confirmable {
            self.timers.add(now + self.parameters.separate_after, Due::Separate(peer, id));
        }
        let ticket = Ticket { peer, id, print, token: fixed(packet.get_token()), confirmable };
        Some(Event::Request(ticket, packet))
    }

    fn responded(&mut self, peer: P, packet: Packet, print: Print, now: Instant) -> Option<Event<P>> {
        let (kind, id) = (packet.header.get_type(), packet.header.message_id);
        let token = Token::try_from(packet.get_token()).ok();
        if kind == MessageType::Acknowledgement {
            // Piggybacked: it must be of the message and of the request.
            let Some(What::Request(own)) = self.sent.get(&(peer, id)).map(|sent| sent.what) else {
                return None;
            };
            if token != Some(own) {
                return None;
            }
            self.finish(peer, id, now);
        } else if self.is_repeated(peer, id, print, kind == MessageType::Confirmable) {
            return None;
        }
        let known = token.and_then(|token| Some((token, self.awaited.get_mut(&(peer, token))?)));
        let Some((token, awaited)) = known else {
            // Also how an observation that nobody wants any more ends (RFC 7641, section 3.6).
            if kind != MessageType::Acknowledgement {
                self.say(peer, MessageType::Reset, id);
            }
            return None;
        };
        let goes_on = awaited.observing
            && packet::class(&packet) == 2
            && packet.get_option(Opt::Observe).is_some_and(|values| !values.is_empty());
        awaited.until = None;
        // A separate response says that the request arrived.
        self.stop_sending(peer, token, now);
        if !goes_on {
            self.awaited.remove(&(peer, token));
        }
        let confirmable = kind == MessageType::Confirmable;
        let ticket = Ticket { peer, id, print, token: fixed(&token), confirmable };
        if goes_on && kind != MessageType::Acknowledgement {
            self.hear(peer, id, print, now);
            return Some(Event::Response(peer, token, packet, Some(ticket)));
        }
        if kind != MessageType::Acknowledgement {
            self.hear(peer, id, print, now);
            self.acknowledge(&ticket);
        }
        Some(Event::Response(peer, token, packet, None))
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, ticket: &Ticket<P>, mut packet: Packet, now: Instant) {
        let Ticket { peer, id, token: (token, length), confirmable, .. } = *ticket;
        packet.set_token(token[..usize::from(length)].to_vec());
        // It may be forgotten, when there were too many after it.
        let acknowledged = self
            .heard_as(ticket)
            .is_some_and(|heard| matches!(heard, HeardState::Open { acknowledged: true }));
        if confirmable && !acknowledged {
            packet.header.set_type(MessageType::Acknowledgement);
            packet.header.message_id = id;
            let bytes: Bytes = packet::bytes(&packet).into();
            self.done(ticket, bytes.clone());
            self.outgoing.push((peer, bytes));
        } else if confirmable {
            let said = packet::bytes(&packet::empty(MessageType::Acknowledgement, id));
            self.done(ticket, said.into());
            self.send(peer, packet, What::Response, now);
        } else {
            self.done(ticket, Bytes::new());
            self.say_once(peer, packet);
        }
    }

    /// Acknowledges a notification, or a request whose sender wants no answer (RFC 7967).
    pub(crate) fn acknowledge(&mut self, ticket: &Ticket<P>) {
        let Ticket { peer, id, confirmable, .. } = *ticket;
        if !confirmable {
            self.done(ticket, Bytes::new());
            return;
        }
        let bytes: Bytes = packet::bytes(&packet::empty(MessageType::Acknowledgement, id)).into();
        self.done(ticket, bytes.clone());
        self.outgoing.push((peer, bytes));
    }

    /// It was not taken, and is as if it had not come: a repetition counts.
    pub(crate) fn forget(&mut self, ticket: &Ticket<P>) {
        if self.heard_as(ticket).is_some() {
            self.unhear(ticket.peer, ticket.id);
        }
    }

    /// Sends a request; its answer is to come within `patience` after it was acknowledged.
    pub(crate) fn request(
        &mut self,
        peer: P,
        token: Token,
        mut packet: Packet,
        patience: Duration,
        now: Instant,
    ) -> Result<(), Failure> {
        let waiting = self.starting.get(&peer).map_or(0, |(_, waiting)| waiting.len());
        if waiting >= WAITING_MAX {
            return Err(Failure::Full);
        }
        packet.set_token(token.to_vec());
        let observing = packet::uint(&packet, Opt::Observe) == Some(0);
        let until = now + patience;
        self.awaited.insert((peer, token), Awaited { observing, until: Some(until), asking: None });
        self.timers.add(until, Due::Answer(peer, token));
        self.send(peer, packet, What::Request(token), now);
        Ok(())
    }

    /// Nobody waits for the answer any more; notifications are refused from now on.
    pub(crate) fn give_up(&mut self, peer: P, token: Token, now: Instant) {
        self.stop_sending(peer, token, now);
        self.awaited.remove(&(peer, token));
    }

    /// Sends a notification that is to be acknowledged.
    pub(crate) fn notify(&mut self, peer: P, token: Token, length: u8, mut packet: Packet, now: Instant) {
        packet.set_token(token[..usize::from(length)].to_vec());
        self.send(peer, packet, What::Notification(token), now);
    }

    /// What is due by now.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Event<P>> {
        let mut events = Vec::new();
        while let Some(due) = self.timers.take_due(now) {
            match due {
                Due::Separate(peer, id) => {
                    if let Some(heard) = self.heard.get_mut(&(peer, id))
                        && let HeardState::Open { acknowledged: acknowledged @ false } = &mut heard.state
                    {
                        *acknowledged = true;
                        self.say(peer, MessageType::Acknowledgement, id);
                    }
                }
                Due::Again(peer, id) => events.extend(self.send_again(peer, id, now)),
                Due::Answer(peer, token) => {
                    let awaited = self.awaited.get(&(peer, token)).and_then(|awaited| awaited.until);
                    if awaited.is_some_and(|until| until <= now) {
                        self.give_up(peer, token, now);
                        events.push(Event::Failed(peer, token, Failure::Timeout));
                    }
                }
            }
        }
        events
    }

    fn send_again(&mut self, peer: P, id: u16, now: Instant) -> Option<Event<P>> {
        let sent = self.sent.get_mut(&(peer, id))?;
        if sent.tries < self.parameters.retransmit_max {
            sent.tries += 1;
            sent.timeout *= 2;
            self.timers.add(now + sent.timeout, Due::Again(peer, id));
            self.outgoing.push((peer, sent.bytes.clone()));
            return None;
        }
        match self.finish(peer, id, now)? {
            What::Request(token) => {
                self.awaited.remove(&(peer, token));
                Some(Event::Failed(peer, token, Failure::Timeout))
            }
            What::Notification(token) => Some(Event::Failed(peer, token, Failure::Timeout)),
            What::Response => None,
        }
    }

    /// Sends a confirmable message, after those before it.
    fn send(&mut self, peer: P, packet: Packet, what: What, now: Instant) {
        let (count, waiting) = self.starting.entry(peer).or_default();
        // What somebody waits for does not wait for what nobody acknowledges.
        if *count >= STARTED_MAX && what != What::Response {
            waiting.push_back((packet, what));
            return;
        }
        *count += 1;
        self.start(peer, packet, what, now);
    }

    fn start(&mut self, peer: P, mut packet: Packet, what: What, now: Instant) {
        let id = self.id();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.message_id = id;
        let bytes: Bytes = packet::bytes(&packet).into();
        if let What::Request(token) = what
            && let Some(awaited) = self.awaited.get_mut(&(peer, token))
        {
            awaited.asking = Some(id);
        }
        let timeout = self.parameters.ack_timeout.mul_f64(1.0 + (self.jitter)() / 2.0);
        self.timers.add(now + timeout, Due::Again(peer, id));
        self.sent.insert((peer, id), Sent { bytes: bytes.clone(), timeout, tries: 0, what });
        self.outgoing.push((peer, bytes));
    }

    /// The message needs not be sent again; the next one for its peer may go.
    fn finish(&mut self, peer: P, id: u16, now: Instant) -> Option<What> {
        let what = self.sent.remove(&(peer, id))?.what;
        if let Some((count, waiting)) = self.starting.get_mut(&peer) {
            *count -= 1;
            let next = if *count < STARTED_MAX { waiting.pop_front() } else { None };
            if next.is_some() {
                *count += 1;
            } else if *count == 0 {
                self.starting.remove(&peer);
            }
            if let Some((packet, what)) = next {
                self.start(peer, packet, what, now);
            }
        }
        Some(what)
    }

    fn stop_sending(&mut self, peer: P, token: Token, now: Instant) {
        let what = What::Request(token);
        if let Some((_, waiting)) = self.starting.get_mut(&peer) {
            waiting.retain(|(_, waiting)| *waiting != what);
        }
        let awaited = self.awaited.get_mut(&(peer, token));
        if let Some(id) = awaited.and_then(|awaited| awaited.asking.take()) {
            self.finish(peer, id, now);
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Whether this message came before. If so, what was said to it is said again.
    fn is_repeated(&mut self, peer: P, id: u16, print: Print, confirmable: bool) -> bool {
        let Some(heard) = self.heard.get(&(peer, id)).filter(|heard| heard.print == print) else {
            return false;
        };
        match &heard.state {
            HeardState::Done(said) if confirmable && !said.is_empty() => {
                self.outgoing.push((peer, said.clone()));
            }
            HeardState::Open { acknowledged: true } if confirmable => {
                self.say(peer, MessageType::Acknowledgement, id);
            }
            HeardState::Done(_) | HeardState::Open { .. } => {}
        }
        true
    }

    fn hear(&mut self, peer: P, id: u16, print: Print, now: Instant) {
        while let Some((since, from, first)) = self.heard_order.front().copied()
            && (now.duration_since(since) >= REPEATABLE
                || self.heard_order.len() >= self.parameters.heard_max
                || self.heard_bytes > HEARD_BYTES_MAX)
        {
            self.heard_order.pop_front();
            // Unless the id was used for another message since.
            if self.heard.get(&(from, first)).is_some_and(|heard| heard.since == since) {
                self.unhear(from, first);
            }
        }
        self.unhear(peer, id);
        self.heard_order.push_back((now, peer, id));
        let state = HeardState::Open { acknowledged: false };
        self.heard.insert((peer, id), Heard { print, since: now, state });
    }

    fn unhear(&mut self, peer: P, id: u16) {
        if let Some(Heard { state: HeardState::Done(said), .. }) = self.heard.remove(&(peer, id)) {
            self.heard_bytes -= said.len();
        }
    }

    /// What came of the ticket's message; nothing if it is forgotten.
    fn heard_as(&mut self, ticket: &Ticket<P>) -> Option<&mut HeardState> {
        let heard = self.heard.get_mut(&(ticket.peer, ticket.id))?;
        (heard.print == ticket.print).then_some(&mut heard.state)
    }

    fn done(&mut self, ticket: &Ticket<P>, said: Bytes) {
        let length = said.len();
        if let Some(state @ HeardState::Open { .. }) = self.heard_as(ticket) {
            *state = HeardState::Done(said);
            self.heard_bytes += length;
        }
    }

    fn say(&mut self, peer: P, kind: MessageType, id: u16) {
        self.outgoing.push((peer, packet::bytes(&packet::empty(kind, id)).into()));
    }

    fn say_once(&mut self, peer: P, mut packet: Packet) {
        packet.header.set_type(MessageType::NonConfirmable);
        packet.header.message_id = self.id();
        self.outgoing.push((peer, packet::bytes(&packet).into()));
    }
}

impl<P> Ticket<P> {
    /// As the peer chose it: its bytes and their number.
    pub(crate) const fn token(&self) -> (Token, u8) {
        self.token
    }

    /// Whether its sender wants no answer of this kind (RFC 7967).
    pub(crate) fn is_unwanted(no_response: Option<u32>, code: Code) -> bool {
        let class = u8::from(MessageClass::Response(code)) >> 5;
        no_response.is_some_and(|kinds| kinds & 1 << (class - 1) != 0)
    }
}

fn fixed(token: &[u8]) -> (Token, u8) {
    let mut bytes = Token::default();
    let length = token.len().min(bytes.len());
    bytes[..length].copy_from_slice(&token[..length]);
    (bytes, length as u8)
}
