//! One connection, or one serial line: frames in, acknowledgements, replies and commands out.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use sandbar_reading::{Cutter, FrameError, Framing, Refused};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decode::{decode, peer};
use super::{Far, Nature, Settings};
use crate::complaints::Complaints;
use crate::devices::{Devices, Joined, Order, orders};
use crate::exchange::{Exchange, Manner, Say};
use crate::patience::in_time;
use crate::{CommandError, Connection as Listed, PeerInfo, Session};

/// What is read at once, at most.
const READ_MAX: usize = 16 << 10;

/// How many devices one connection may speak for; further ones' readings are taken, their commands not brought.
const DEVICES_MAX: usize = 1024;

/// What all connections of a session share.
pub(crate) struct Shared {
    pub(crate) session: Session,
    pub(crate) settings: Arc<Settings>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) complaints: Complaints,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    ByPeer,
    /// By this side, with the reason.
    Closed(&'static str),
}

struct Connection<'a, S> {
    shared: &'a Shared,
    stream: S,
    far: Far,
    cutter: Cutter,
    /// The most bytes of a frame.
    limit: usize,
    exchange: Exchange,
    orders: mpsc::Sender<Order>,
    joined: HashMap<Box<str>, Joined>,
    listed: Listed,
    /// Since when a frame, or the next one, is waited for.
    since: Instant,
    /// When something arrived last.
    heard: Instant,
    /// The peer sends no more.
    is_over: bool,
    /// The peer takes no more.
    is_mute: bool,
}

/// Serves a connection to its end. What it is made of is put together before the future is, which would have room for
/// both.
pub(crate) fn serve<S>(shared: &Shared, stream: S, far: Far) -> impl Future<Output = Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let settings = &shared.settings;
    let limit = settings.frame_max.min(shared.session.reading_max());
    let manner = if settings.refuse.is_some() { Manner::Tell } else { Manner::Hold };
    let (sender, arriving) = orders();
    let mut connection = Connection {
        shared,
        stream,
        cutter: Cutter::new(settings.framing.clone(), limit),
        limit,
        exchange: Exchange::new(shared.session.clone(), manner, settings.reply_timeout),
        orders: sender,
        joined: HashMap::new(),
        listed: shared.session.connected(PeerInfo { remote: far.remote, ..PeerInfo::default() }),
        far,
        since: Instant::now(),
        heard: Instant::now(),
        is_over: false,
        is_mute: false,
    };
    if let Some(device) = settings.naming.device(peer(&connection.far)) {
        connection.join(&device);
    }
    async move { connection.run(arriving).await }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<'_, S> {
    async fn run(&mut self, mut arriving: mpsc::Receiver<Order>) -> Ended {
        let session = self.shared.session.clone();
        let mut stopped = pin!(session.stopped());
        loop {
            if let Err(reason) = self.take_frames().await {
                return Box::pin(self.close(reason)).await;
            }
            if self.is_mute {
                self.joined.clear();
            }
            if self.is_over && (self.exchange.is_done() || self.is_mute && self.exchange.is_settled()) {
                return Ended::ByPeer;
            }
            let reads = !self.is_over && self.exchange.has_room();
            if !reads {
                (self.since, self.heard) = (Instant::now(), Instant::now());
            }
            let (deadline, reason) = self.deadline();
            let (silence, was_within) = (self.silence(), self.cutter.is_within());
            tokio::select! {
                () = &mut stopped => {
                    self.settle().await;
                    return Ended::Stopped;
                }
                Some(order) = arriving.recv() => self.carry_out(order).await,
                ((), say) = self.exchange.next() => self.say(say).await,
                read = read(&mut self.stream, &mut self.cutter), if reads => {
                    // What is there to be read is taken, whatever becomes of the connection.
                    if read.is_err() {
                        self.part_lost();
                    }
                    self.is_over = read.is_err() || read.is_ok_and(|size| size == 0);
                    // A line that is gone takes no answers either.
                    if self.is_over && self.shared.settings.nature == Nature::Line {
                        self.part_lost();
                        self.is_mute = true;
                    }
                    self.heard = Instant::now();
                    if !was_within {
                        self.since = Instant::now();
                    }
                }
                () = at(silence), if reads && silence.is_some() => self.take_rest().await,
                () = at(deadline), if reads && deadline.is_some() => {
                    // In a box: it needs more room than all that goes before.
                    return Box::pin(self.close(reason)).await;
                }
            }
        }
    }

    /// Its devices go without a word.
    fn part_lost(&self) {
        self.joined.keys().for_each(|device| self.shared.session.device(device).lost());
    }

    /// When the peer has been too slow, and with what.
    fn deadline(&self) -> (Option<Instant>, &'static str) {
        let settings = &self.shared.settings;
        match settings.frame_timeout {
            Some(timeout) if self.cutter.is_within() => (Some(self.since + timeout), "slow"),
            // Where a frame may take any time, the beginning of one is no frame.
            _ => (settings.idle_timeout.map(|idle| self.since + idle), "idle"),
        }
    }

    /// When it has been silent for so long that what is there is a frame.
    fn silence(&self) -> Option<Instant> {
        let silence = self.shared.settings.silence.filter(|_| self.cutter.is_within())?;
        Some(self.heard + silence)
    }

    /// After a silence.
    async fn take_rest(&mut self) {
        match self.cutter.rest() {
            Ok(Some(frame)) => self.take(frame).await,
            Ok(None) => {}
            Err(error) => self.complain("cut off", &error),
        }
    }

    /// Whether the end of a frame is to be waited for, though its beginning could be taken.
    fn is_gathering(&self) -> bool {
        let settings = &self.shared.settings;
        settings.framing == Framing::Raw
            && settings.silence.is_some()
            && !self.is_over
            && self.cutter.held() < self.limit
    }

    /// Hands over what is whole, as far as there is room. An error is why to close.
    async fn take_frames(&mut self) -> Result<(), &'static str> {
        let settings = Arc::clone(&self.shared.settings);
        while self.exchange.has_room() && !self.is_gathering() {
            match self.cutter.next_frame() {
                Ok(Some(frame)) => {
                    self.since = Instant::now();
                    self.take(frame).await;
                }
                Ok(None) => {
                    if self.is_over && self.cutter.is_within() {
                        self.complain("cut off", &"the connection ended within a frame");
                        self.cutter.clear();
                    }
                    break;
                }
                Err(error @ FrameError::TooLong { .. }) if settings.refuse.is_some() => {
                    self.complain("oversized", &error);
                    self.refuse(&error.to_string()).await;
                }
                Err(error) => {
                    self.complain("oversized", &error);
                    if settings.nature == Nature::Connection {
                        return Err("oversized");
                    }
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, frame: Bytes) {
        let settings = &self.shared.settings;
        self.listed.received(frame.len(), self.shared.session.now());
        match decode(&settings.naming, &settings.content_type, &self.far, frame) {
            Ok(inbound) => {
                if let Some(device) = &inbound.device {
                    self.join(device);
                }
                self.exchange.add((), inbound);
            }
            Err(error) => {
                self.complain("unnamed", &error);
                self.refuse(&error.to_string()).await;
            }
        }
    }

    fn join(&mut self, device: &str) {
        if !self.joined.contains_key(device) && self.joined.len() < DEVICES_MAX {
            if self.joined.is_empty() {
                self.listed.name_device(device);
            }
            self.joined.insert(device.into(), self.shared.devices.join(device, self.orders.clone()));
        }
    }

    async fn say(&mut self, say: Say) {
        let settings = &self.shared.settings;
        match say {
            Say::Acknowledge(receipt) => {
                if let Some(phrase) = &settings.acknowledge {
                    let said = phrase.of_id(receipt.id().encode(&mut [0; 26]));
                    self.write(&said).await;
                }
            }
            Say::Refuse(Refused::Stopping) => {}
            Say::Refuse(refused) => self.refuse(&refused.to_string()).await,
            Say::Reply(message) => match settings.framing.encode(&message.payload) {
                Ok(frame) => self.write(&frame).await,
                Err(error) => self.complain("reply", &format!("a reply makes no frame: {error}")),
            },
        }
    }

    async fn refuse(&mut self, reason: &str) {
        if let Some(phrase) = &self.shared.settings.refuse {
            let said = phrase.of_reason(reason);
            self.write(&said).await;
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let settings = &self.shared.settings;
        let payload = settings.commands.write(order.id, &order.command);
        match settings.framing.encode(&payload) {
            Ok(frame) => {
                self.write(&frame).await;
                let lost = || CommandError::Retry("the connection is lost".to_owned());
                order.done(if self.is_mute { Err(lost()) } else { Ok(()) });
            }
            Err(error) => order.done(Err(CommandError::Reject(error.to_string()))),
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        if self.is_mute || bytes.is_empty() {
            return;
        }
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        self.is_mute = !in_time(&self.shared.session, writing).await;
        if !self.is_mute {
            self.listed.sent(bytes.len(), self.shared.session.now());
        }
        // Who does not take what it is told is told nothing more; what it sent is taken all the same.
        self.is_over |= self.is_mute;
        if self.is_mute {
            self.part_lost();
        }
    }

    /// Says what becomes of the readings that are on their way.
    async fn settle(&mut self) {
        self.exchange.abandon();
        while !self.exchange.is_settled() {
            let ((), say) = self.exchange.next().await;
            self.say(say).await;
        }
    }

    async fn close(&mut self, reason: &'static str) -> Ended {
        self.part_lost();
        if reason == "slow" {
            self.complain(reason, &"a frame took too long to arrive");
        }
        while !self.exchange.is_settled() && !self.shared.session.is_stopped() {
            let ((), say) = self.exchange.next().await;
            self.say(say).await;
        }
        self.settle().await;
        if !self.is_mute {
            let _ = in_time(&self.shared.session, self.stream.shutdown()).await;
        }
        Ended::Closed(reason)
    }

    fn complain(&self, kind: &'static str, about: &dyn std::fmt::Display) {
        self.shared.complaints.note(kind, &self.far.name, about, self.shared.session.now());
    }
}

/// Reads what is there, and no more than can be. It lies on the stack on its way: a buffer would be kept by every
/// connection that is silent.
fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cutter: &mut Cutter,
) -> impl Future<Output = io::Result<usize>> {
    poll_fn(move |cx| {
        let mut bytes = [MaybeUninit::uninit(); READ_MAX];
        let mut read = ReadBuf::uninit(&mut bytes);
        let received = ready!(Pin::new(&mut *stream).poll_read(cx, &mut read));
        cutter.push(read.filled());
        Poll::Ready(received.map(|()| read.filled().len()))
    })
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
