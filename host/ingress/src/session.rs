//! What a driver sees of the host: a place to hand readings over, and where replies and commands come from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use sandbar_reading::{Inbound, Message, Name, Receipt, Refused, StateWrite, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::connections::{Connection, Connections, PeerInfo};
use crate::notes::{DeviceNote, Hold};
use crate::offers::{Attachment, Publications};

/// What takes readings over for an ingress: the pipeline, or a test's stand-in.
pub trait Intake: Send + Sync + 'static {
    /// Returns once the reading is on disk, together with `keep`, the driver's own state.
    fn accept(
        &self,
        ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> BoxFuture<'_, Result<Accepted, Refused>>;

    /// Writes a driver's state without a reading; returns once it is on disk.
    fn keep(&self, ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>>;

    /// The same, of what nobody waits for: it may take a moment longer, and share a commit for it.
    fn keep_patiently(&self, ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>>;

    /// A value of the driver's state, as last committed.
    fn kept(&self, ingress: &Name, name: &str) -> Result<Option<Bytes>, Refused>;

    /// The names of the driver's state that begin with `prefix`, sorted.
    fn kept_names(&self, ingress: &Name, prefix: &str) -> Result<Vec<Box<str>>, Refused>;

    /// Calls `each` with name and value of all of the driver's state whose name begins with `prefix`, sorted.
    fn each_kept(
        &self,
        ingress: &Name,
        prefix: &str,
        each: &mut dyn FnMut(&str, &[u8]),
    ) -> Result<(), Refused>;

    /// From now on commands for `device` go to the returned attachment; the last one attached gets them.
    fn attach(&self, ingress: &Name, device: &str) -> Attachment;

    /// The device is connected through `ingress` until the returned value is dropped. An attachment and a
    /// connection that speaks for a device hold it by themselves.
    fn hold(&self, ingress: &Name, device: &str) -> Hold;

    /// Takes down what a driver says of a device; never waits.
    fn note(&self, ingress: &Name, device: &str, note: DeviceNote);

    /// From now on what sinks send out through `ingress` goes to the returned stream; the last one asked for
    /// gets it.
    fn publications(&self, ingress: &Name) -> Publications;

    /// Where connections are listed.
    fn connections(&self) -> &Connections;

    fn now(&self) -> Timestamp;

    /// The most bytes of payload that a reading may have.
    fn reading_max(&self) -> usize;
}

/// One run of a driver. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    ingress: Name,
    intake: Arc<dyn Intake>,
    stop: CancellationToken,
    link: Arc<watch::Sender<Link>>,
    /// Of this session and those before it.
    counts: Arc<Counts>,
    accepted_before: u64,
}

/// What the sessions of an ingress count.
#[derive(Default)]
pub(crate) struct Counts {
    /// Readings.
    accepted: AtomicU64,
    figures: RwLock<Option<Box<dyn Fn() -> Figures + Send + Sync>>>,
}

/// What a driver counts of its own, by name.
pub type Figures = Vec<(&'static str, u64)>;

impl Counts {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures.read().as_ref().map(|figures| figures()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Down,
    Up {
        /// Where a driver that listens can be reached.
        address: Option<SocketAddr>,
    },
}

impl Session {
    pub fn new(ingress: Name, intake: Arc<dyn Intake>, stop: CancellationToken) -> Self {
        Self::counting(ingress, intake, stop, Arc::default())
    }

    /// A session after others, whose readings `counts` has counted.
    pub(crate) fn counting(
        ingress: Name,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
        counts: Arc<Counts>,
    ) -> Self {
        let accepted_before = counts.accepted();
        Self { ingress, intake, stop, link: Arc::default(), counts, accepted_before }
    }

    /// The driver says that it is connected, or does what it does; an accepted reading says it too.
    pub fn ready(&self) {
        self.link.send_if_modified(|link| {
            let came_up = *link == Link::Down;
            if came_up {
                *link = Link::Up { address: None };
            }
            came_up
        });
    }

    /// The driver says that it listens at `address`: the real one, also if it asked for port 0.
    pub fn bound(&self, address: SocketAddr) {
        self.link.send_replace(Link::Up { address: Some(address) });
    }

    /// How far the session has come, for those who watch it.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The ingress that this is a session of.
    pub fn ingress(&self) -> &Name {
        &self.ingress
    }

    /// Takes a reading over. The peer may be acknowledged once this returned a receipt, not before.
    /// Many may be in flight at once: they share a commit, and are journaled in the order of the calls.
    pub async fn accept(&self, inbound: Inbound) -> Result<Accepted, Refused> {
        self.accept_keeping(inbound, Vec::new()).await
    }

    /// The same, and writes the driver's own state in the same transaction.
    pub async fn accept_keeping(&self, inbound: Inbound, keep: Vec<StateWrite>) -> Result<Accepted, Refused> {
        let limit = self.intake.reading_max();
        if inbound.payload.len() > limit {
            return Err(Refused::TooLarge { size: inbound.payload.len(), limit });
        }
        if self.stop.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let accepted = self.intake.accept(self.ingress.clone(), inbound, keep).await?;
        if self.counts.accepted.fetch_add(1, Ordering::Relaxed) == self.accepted_before {
            self.ready();
        }
        Ok(accepted)
    }

    /// Writes the driver's own state; returns once it is on disk.
    pub async fn keep(&self, keep: Vec<StateWrite>) -> Result<(), Refused> {
        self.intake.keep(self.ingress.clone(), keep).await
    }

    /// The same, of what nobody waits for: it may take a moment longer, and share a commit for it.
    pub async fn keep_patiently(&self, keep: Vec<StateWrite>) -> Result<(), Refused> {
        self.intake.keep_patiently(self.ingress.clone(), keep).await
    }

    /// A value of the driver's own state, as last committed.
    pub fn kept(&self, name: &str) -> Result<Option<Bytes>, Refused> {
        self.intake.kept(&self.ingress, name)
    }

    /// The names of the driver's own state that begin with `prefix`, sorted.
    pub fn kept_names(&self, prefix: &str) -> Result<Vec<Box<str>>, Refused> {
        self.intake.kept_names(&self.ingress, prefix)
    }

    /// Calls `each` with name and value of all of the driver's own state whose name begins with `prefix`, sorted.
    pub fn each_kept(&self, prefix: &str, each: &mut dyn FnMut(&str, &[u8])) -> Result<(), Refused> {
        self.intake.each_kept(&self.ingress, prefix, each)
    }

    /// Says that `device` can be reached through this session, until the attachment is dropped.
    pub fn attach(&self, device: &str) -> Attachment {
        self.intake.attach(&self.ingress, device)
    }

    /// What sinks send out through this ingress: `local-mqtt`, `websocket`. The last session to ask gets it.
    pub fn publications(&self) -> Publications {
        self.intake.publications(&self.ingress)
    }

    /// Lists a connection until the returned value is dropped. As long as it speaks for a device, that is connected.
    pub fn connected(&self, peer: PeerInfo) -> Connection {
        self.intake.connections().add(&self.ingress, peer, Arc::clone(&self.intake))
    }

    /// The device is connected until the returned value is dropped, though no connection speaks for it.
    pub fn hold(&self, device: &str) -> Hold {
        self.intake.hold(&self.ingress, device)
    }

    pub(crate) fn note(&self, device: &str, note: DeviceNote) {
        self.intake.note(&self.ingress, device, note);
    }

    /// Resolves when the session is to end: stop accepting, finish what is in flight, return.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub fn now(&self) -> Timestamp {
        self.intake.now()
    }

    /// The most bytes of payload that a reading may have: larger ones need not be read to their end.
    pub fn reading_max(&self) -> usize {
        self.intake.reading_max()
    }

    /// How many readings this session has had accepted.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted() - self.accepted_before
    }

    /// What the driver counts of its own is asked for there, whenever somebody wants to see it: it must be quick.
    pub fn show(&self, figures: impl Fn() -> Figures + Send + Sync + 'static) {
        *self.counts.figures.write() = Some(Box::new(figures));
    }
}

/// What a driver gets for an inbound that was taken.
#[derive(Debug)]
pub struct Accepted {
    pub receipt: Receipt,
    /// There if a route that matched says `reply = true`.
    pub replies: Option<Replies>,
}

/// The handlers' answers to one reading. Ends when no more can come.
#[derive(Debug)]
pub struct Replies(mpsc::Receiver<Answer>);

/// What a handler has to say to the sender of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Message),
    /// The handler refused the reading for good, or it was given up on.
    Rejected(String),
    /// The handler failed, and will be called again.
    Retrying(String),
}

impl Replies {
    /// How many answers may wait for a sender that is slow to take them; more are dropped.
    const WAITING_MAX: usize = 16;

    pub fn channel() -> (mpsc::Sender<Answer>, Self) {
        let (answers, replies) = mpsc::channel(Self::WAITING_MAX);
        (answers, Self(replies))
    }

    pub async fn next(&mut self) -> Option<Answer> {
        self.0.recv().await
    }

    /// The first reply or rejection, for senders that get one answer: that a handler is called again is none.
    pub async fn settled(&mut self) -> Option<Answer> {
        loop {
            match self.next().await {
                Some(Answer::Retrying(_)) => {}
                answer => return answer,
            }
        }
    }
}
