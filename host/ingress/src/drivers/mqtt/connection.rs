//! One connection: reads, acts, writes. One task, which waits for whatever happens first; nothing in it
//! waits for one thing alone.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::{BoxFuture, poll_fn};
use sandbar_reading::{Refused, Topic};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::broker::Broker;
use super::codec::{self, Publish, Version, Wrong, reason};
use super::commands::Devices;
use super::inbound::{By, Published};
use super::io::Io;
use super::output::Output;
use super::publish::Plan;
use super::rate::Rate;
use super::sessions::Hold;
use super::will::Will;
use crate::{CommandOffer, Connection as Listed, Replies};

/// What is read at once, at most.
const READ: usize = 16 << 10;

/// While more waits to be written, nothing further is taken from the queue.
const WRITE_AHEAD: usize = 64 << 10;

/// What was taken and not committed, beyond the Receive Maximum, before reading pauses: messages at quality
/// of service 0, and small packets.
const AHEAD: usize = 64;

/// Packets from this size on are gathered only when all connections together do not gather too much.
const LARGE: usize = 64 << 10;

/// Of a large packet so many bytes a second must have come, after this time: others wait for its room.
const GATHER: Duration = Duration::from_secs(30);
const GATHER_RATE: u64 = 16 << 10;

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(250);

pub(super) struct Connection {
    pub(super) broker: Arc<Broker>,
    pub(super) hold: Hold,
    pub(super) by: By,
    pub(super) version: Version,
    io: Box<dyn Io>,
    input: BytesMut,
    pub(super) output: Output,
    /// What waits for a commit, in order.
    pub(super) under_way: VecDeque<UnderWay>,
    /// A message for which there is no room yet, with its packet identifier, and the wait for it.
    parked: Option<(Published, u16, BoxFuture<'static, Option<OwnedSemaphorePermit>>)>,
    large: Large,
    /// Messages of the client above quality of service 0 that were not acknowledged to their end.
    pub(super) unacknowledged: usize,
    pub(super) aliases_in: HashMap<u16, Topic>,
    pub(super) aliases_out: HashMap<Box<str>, u16>,
    pub(super) limits: Limits,
    pub(super) will: Option<Will>,
    pub(super) had_will: bool,
    /// Places of the queue whose rows can go.
    pub(super) gone: Vec<u64>,
    pub(super) devices: Devices,
    pub(super) listed: Listed,
    /// If there is a limit.
    rate: Option<Rate>,
    heard: Instant,
    /// When the client last took something of what waits for it.
    took: Instant,
    timer: Pin<Box<Sleep>>,
}

/// Room for a large packet, among those of all connections.
#[derive(Default)]
enum Large {
    #[default]
    None,
    /// Until there is some, the client is not read.
    Awaited(BoxFuture<'static, Option<OwnedSemaphorePermit>>),
    Given {
        _room: Option<OwnedSemaphorePermit>,
        /// When it was given; later by what the client was held back since.
        since: Instant,
    },
}

/// What the client asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages that it may have been sent and not have acknowledged.
    pub(super) window: usize,
    /// Bytes of one packet.
    pub(super) packet_max: usize,
    pub(super) topic_aliases: u16,
    pub(super) keep_alive: Option<Duration>,
}

/// Something that is acknowledged, in its turn, once it is on disk.
pub(super) struct UnderWay {
    pub(super) done: BoxFuture<'static, Result<Option<Replies>, Refused>>,
    pub(super) then: Then,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

pub(super) enum Then {
    /// A message: to its subscribers, and PUBACK or PUBREC.
    Published {
        plan: Plan,
        qos: codec::Qos,
        id: u16,
        question: Option<Box<super::replies::Question>>,
    },
    PubComp {
        id: u16,
    },
    PubRel {
        place: u64,
    },
    SubAck {
        id: u16,
        granted: Vec<super::subscribe::Granted>,
    },
    UnsubAck {
        id: u16,
        reasons: Vec<u8>,
        gone: Vec<Box<str>>,
    },
    /// Only an acknowledgement's turn: `first` is the packet's first byte.
    Ack {
        first: u8,
        id: u16,
        reason: u8,
    },
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// DISCONNECT in good order, with its reason.
    Left(u8),
    /// The link failed, or the client was gone.
    Lost(String),
    /// The broker ends it, for this reason code.
    Told(u8, Option<String>),
}

impl From<Wrong> for End {
    fn from(wrong: Wrong) -> Self {
        Self::Told(wrong.reason(), Some(wrong.to_string()))
    }
}

enum Event {
    Read,
    Room(Option<OwnedSemaphorePermit>),
    Gather(Option<OwnedSemaphorePermit>),
    Command(CommandOffer),
    Timer,
    /// More may be taken, of the client or of its queue.
    More,
    End(End),
}

pub(super) struct Begin {
    pub(super) broker: Arc<Broker>,
    pub(super) hold: Hold,
    pub(super) by: By,
    pub(super) version: Version,
    pub(super) io: Box<dyn Io>,
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) limits: Limits,
    pub(super) will: Option<Will>,
    pub(super) listed: Listed,
}

impl Connection {
    pub(super) fn new(begin: Begin) -> Self {
        let Begin { broker, hold, by, version, io, input, output, limits, will, listed } = begin;
        let heard = Instant::now();
        let until = limits.keep_alive.map_or(heard + Duration::from_secs(86_400), |wait| heard + wait);
        let rate = broker.settings.rate_max.map(Rate::new);
        Self {
            broker,
            hold,
            by,
            version,
            io,
            input,
            output,
            under_way: VecDeque::new(),
            parked: None,
            large: Large::None,
            unacknowledged: 0,
            aliases_in: HashMap::new(),
            aliases_out: HashMap::new(),
            limits,
            had_will: will.is_some(),
            will,
            gone: Vec::new(),
            devices: Devices::default(),
            listed,
            rate,
            heard,
            took: heard,
            timer: Box::pin(tokio::time::sleep_until(until)),
        }
    }

    /// Until the connection ends; the session is let go of then.
    pub(super) async fn run(mut self) {
        self.begin();
        let end = loop {
            if let Err(end) = self.take_packets() {
                break end;
            }
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            if let Err(end) = self.act(event) {
                break end;
            }
        };
        self.finish(end).await;
    }

    fn begin(&mut self) {
        if self.broker.session.is_stopped() {
            self.hold.link.kick(reason::SHUTTING_DOWN);
        }
        self.hold.client.state().serve();
        for (place, unwritten) in std::mem::take(&mut self.hold.released) {
            self.release(place, unwritten);
        }
        if let Some(device) = self.broker.settings.mapping.device_of_client(&self.by) {
            self.listed.name_device(device);
            self.devices.attach(&self.broker, device);
        }
    }

    fn act(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Read => self.heard = Instant::now(),
            Event::Room(permit) => {
                if let (Some((published, id, _)), Some(permit)) = (self.parked.take(), permit) {
                    self.large = Large::None;
                    return self.publish(published, id, permit);
                }
            }
            Event::Gather(room) => self.gather(room),
            Event::Command(offer) => self.command(offer),
            Event::Timer => return self.timer(),
            Event::More => {}
            Event::End(end) => return Err(end),
        }
        Ok(())
    }

    /// Whether the next packet may be taken; if not, TCP holds the client back.
    fn may_take(&self) -> bool {
        !self.is_held_back() && !self.is_behind()
    }

    /// It has sent more than the host takes of it now.
    fn is_held_back(&self) -> bool {
        self.parked.is_some()
            || matches!(self.large, Large::Awaited(_))
            || self.under_way.len() >= usize::from(self.broker.settings.receive_maximum) + AHEAD
            || self.rate.as_ref().is_some_and(|rate| rate.is_exceeded(Instant::now()))
    }

    /// It does not read what waits for it.
    pub(super) fn is_behind(&self) -> bool {
        self.output.waiting() >= WRITE_AHEAD
    }

    fn take_packets(&mut self) -> Result<(), End> {
        while self.may_take() && self.may_gather()? {
            let Some(frame) = codec::frame(&mut self.input, self.broker.packet_max)? else { break };
            let packet = codec::decode(frame, self.version)?;
            self.packet(packet)?;
            if self.parked.is_none() {
                self.large = Large::None;
            }
        }
        if self.input.is_empty() {
            // A quiet connection has no buffer.
            self.input = BytesMut::new();
        }
        Ok(())
    }

    /// Whether there is room for the packet that has begun.
    fn may_gather(&mut self) -> Result<bool, End> {
        let size = codec::size(&self.input, self.broker.packet_max)?.map_or(0, |(_, whole)| whole);
        if size < LARGE || size <= self.input.len() || !matches!(self.large, Large::None) {
            return Ok(true);
        }
        let units = Broker::units(size);
        match Arc::clone(&self.broker.large).try_acquire_many_owned(units) {
            Ok(room) => self.gather(Some(room)),
            Err(_) => {
                let large = Arc::clone(&self.broker.large);
                let room = async move { large.acquire_many_owned(units).await.ok() }.boxed();
                self.large = Large::Awaited(room);
            }
        }
        Ok(!matches!(self.large, Large::Awaited(_)))
    }

    fn gather(&mut self, room: Option<OwnedSemaphorePermit>) {
        self.large = Large::Given { _room: room, since: Instant::now() };
        if let Some(until) = self.gathers_until().filter(|until| *until < self.timer.deadline()) {
            self.timer.as_mut().reset(until);
        }
    }

    /// Until when the rest of the large packet may come, if no more of it does.
    fn gathers_until(&self) -> Option<Instant> {
        let Large::Given { since, .. } = self.large else { return None };
        let earned = Duration::from_millis(self.input.len() as u64 * 1000 / GATHER_RATE);
        Some(since + GATHER + earned)
    }

    /// A PUBLISH, as soon as there is room for it. What may be lost is shed instead.
    pub(super) fn admit(&mut self, publish: Publish) -> Result<(), End> {
        if let Some(rate) = &mut self.rate {
            rate.count(Instant::now());
        }
        let Publish { qos, retain, topic, id, properties, payload } = publish;
        let alias = properties.as_ref().and_then(|properties| properties.topic_alias);
        // Also of what is shed: the alias that it gives its topic stands for it from now on.
        let topic = self.topic(topic, alias)?;
        let published = Published { topic, payload, qos, retain, properties };
        let weight = Broker::weight(published.payload.len());
        match Arc::clone(&self.broker.under_way).try_acquire_many_owned(weight) {
            Ok(permit) => self.publish(published, id, permit),
            Err(_) if qos == codec::Qos::AtMostOnce => {
                self.broker.count_shed("too many messages wait for their commit");
                Ok(())
            }
            Err(_) => {
                let permits = Arc::clone(&self.broker.under_way);
                let room = async move { permits.acquire_many_owned(weight).await.ok() };
                self.parked = Some((published, id, room.boxed()));
                Ok(())
            }
        }
    }

    /// The timer is set to what comes first when it was looked at; what was heard since puts it off.
    fn timer(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let mut next = now + Duration::from_secs(86_400);
        if let Some(keep_alive) = self.limits.keep_alive {
            // Who is not read cannot be heard: that it reads is a sign of life then (MQTT 5.0, section 3.1.2.10).
            let alive = if self.is_behind() { self.heard.max(self.took) } else { self.heard };
            let until = alive + keep_alive;
            if until <= now && !self.is_held_back() {
                return Err(End::Told(reason::KEEP_ALIVE, None));
            }
            next = next.min(until.max(now + Duration::from_millis(100)));
        }
        if let Some(until) = self.rate.as_ref().and_then(|rate| rate.exceeded_until(now)) {
            next = next.min(until);
        }
        // Who does not read what waits for it is not held back: others would wait for its room without end.
        let is_held_back = self.is_held_back();
        if let (Some(mut until), Large::Given { since, .. }) = (self.gathers_until(), &mut self.large) {
            if is_held_back {
                let put_off = (now + Duration::from_secs(1)).saturating_duration_since(until);
                *since += put_off;
                until += put_off;
            } else if until <= now {
                return Err(End::Told(reason::QUOTA, Some("a large packet comes too slowly".to_owned())));
            }
            next = next.min(until);
        }
        self.timer.as_mut().reset(next);
        Ok(())
    }

    /// All that one commit took is acknowledged, and what is queued taken, before it is written: in one write.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let committed = match self.take_commits(cx) {
            Ok(committed) => committed,
            Err(end) => return Poll::Ready(Event::End(end)),
        };
        self.hold.link.waker.register(cx.waker());
        if let Some(reason) = self.hold.link.kicked() {
            return Poll::Ready(Event::End(End::Told(reason, None)));
        }
        self.pump();
        self.forget_gone();
        let was_behind = self.is_behind();
        let waited = self.output.waiting();
        let written = self.output.poll_write(&mut *self.io, cx);
        if self.output.waiting() < waited {
            self.took = Instant::now();
        }
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Event::End(lost(&error)));
        }
        if committed {
            return Poll::Ready(Event::More);
        }
        if let Some((_, _, room)) = &mut self.parked
            && let Poll::Ready(permit) = room.poll_unpin(cx)
        {
            return Poll::Ready(Event::Room(permit));
        }
        if let Large::Awaited(room) = &mut self.large
            && let Poll::Ready(room) = room.poll_unpin(cx)
        {
            return Poll::Ready(Event::Gather(room));
        }
        if let Poll::Ready(offer) = self.devices.poll(cx) {
            return Poll::Ready(Event::Command(offer));
        }
        if was_behind && !self.is_behind() {
            return Poll::Ready(Event::More);
        }
        if self.may_take()
            && let Poll::Ready(event) = self.poll_read(cx)
        {
            return Poll::Ready(event);
        }
        if let Some(rate) = &self.rate
            && let Some(until) = rate.exceeded_until(Instant::now())
            && until < self.timer.deadline()
        {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(cx).map(|()| Event::Timer)
    }

    /// Takes note of what is committed, in order; whether anything was.
    fn take_commits(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let before = self.under_way.len();
        // Given back together: each time takes a lock that all connections share.
        let mut permits: Option<OwnedSemaphorePermit> = None;
        while let Some(first) = self.under_way.front_mut()
            && let Poll::Ready(result) = first.done.poll_unpin(cx)
        {
            if let Some(permit) = first.permit.take() {
                match &mut permits {
                    Some(permits) => permits.merge(permit),
                    None => permits = Some(permit),
                }
            }
            self.committed(result)?;
        }
        Ok(self.under_way.len() < before)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let read = if self.input.capacity() - self.input.len() < READ {
            // By way of the stack: who waits needs no buffer for it, and what comes gets one that fits.
            let mut stack = [MaybeUninit::<u8>::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut stack);
            let read = Pin::new(&mut *self.io).poll_read(cx, &mut buffer);
            self.input.extend_from_slice(buffer.filled());
            read.map_ok(|()| buffer.filled().len())
        } else {
            // The rest of a large packet, for which there is room.
            pin!(self.io.read_buf(&mut self.input)).poll(cx)
        };
        read.map(|result| match result {
            Ok(0) => Event::End(End::Lost("the client closed the connection".to_owned())),
            Ok(_) => Event::Read,
            Err(error) => Event::End(lost(&error)),
        })
    }

    fn has_queued(&self) -> bool {
        let state = self.hold.client.state();
        // Also while nothing goes out: who is slow is to be seen.
        self.listed.queued(state.outgoing.waiting());
        state.outgoing.has_next(self.limits.window)
    }

    /// From the queue to the buffer, as far as the client and the buffer let it.
    fn pump(&mut self) {
        while self.has_queued() && !self.is_behind() {
            self.send_some();
        }
    }

    /// All at once: it takes a lock that all connections share.
    fn forget_gone(&mut self) {
        if !self.gone.is_empty() {
            self.broker.forget(&self.hold.client, std::mem::take(&mut self.gone));
        }
    }

    async fn finish(mut self, end: End) {
        let text = match &end {
            End::Left(_) => None,
            End::Lost(cause) => Some(cause.clone()),
            End::Told(code, cause) => Some(cause.clone().unwrap_or_else(|| format!("reason {code:#04x}"))),
        };
        if let Some(cause) = text {
            let (ingress, client) = (self.broker.session.ingress(), &*self.by.client);
            tracing::debug!(%ingress, client, cause, "a client's connection ended");
        }
        let farewell = tokio::time::sleep(FAREWELL);
        tokio::pin!(farewell);
        if matches!(end, End::Told(reason::SHUTTING_DOWN, _)) {
            // What is on its way to the disk is acknowledged first.
            while let Some(first) = self.under_way.front_mut() {
                tokio::select! {
                    result = &mut first.done => if self.committed(result).is_err() { break },
                    () = &mut farewell => break,
                }
            }
        }
        if let End::Told(code, text) = &end {
            let version = self.version;
            self.output.head(|out| codec::disconnect(out, version, *code, text.as_deref()));
        }
        if !matches!(end, End::Lost(_)) {
            let (output, io) = (&mut self.output, &mut self.io);
            let last = poll_fn(|cx| output.poll_write(&mut **io, cx));
            tokio::select! {
                _ = last => {}
                () = &mut farewell => {}
            }
            let closed = poll_fn(|cx| Pin::new(&mut **io).poll_shutdown(cx));
            drop(tokio::time::timeout(FAREWELL, closed).await);
        }
        self.part(&end);
        self.drop_link();
        self.settle().await;
        self.forget_gone();
        let will = match end {
            // Only this takes it back (MQTT 5.0, section 3.1.2.5).
            End::Left(reason::SUCCESS) => None,
            _ => self.will.take(),
        };
        self.broker.close(&self.hold, will, self.had_will);
    }

    /// Says why its devices go.
    fn part(&self, end: &End) {
        let session = &self.broker.session;
        match end {
            End::Left(_) => {
                self.listed.left();
                self.devices.names().for_each(|device| session.device(device).left());
            }
            End::Lost(_) | End::Told(reason::KEEP_ALIVE, _) => {
                self.listed.lost();
                self.devices.names().for_each(|device| session.device(device).lost());
            }
            End::Told(..) => {}
        }
    }

    fn drop_link(&mut self) {
        self.io = Box::new(tokio::io::empty());
        self.devices = Devices::default();
    }

    /// What is on its way to the disk gets there without the client; its subscribers must have it.
    async fn settle(&mut self) {
        while let Some(UnderWay { done, then, .. }) = self.under_way.pop_front() {
            let result = done.await;
            self.settled(then, result.is_ok());
        }
    }
}

fn lost(error: &io::Error) -> End {
    End::Lost(error.to_string())
}

#[cfg(test)]
mod tests;
