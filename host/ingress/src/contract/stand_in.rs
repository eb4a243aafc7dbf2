//! A stand-in for the host: it keeps what it takes in memory, and does as the test says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_reading::{
    Clock, Command, DeliveryId, IdGenerator, Inbound, Message, Name, ReadingId, Receipt, Refused, StateWrite,
    SystemClock, Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Accepted, Answer, Attachment, CommandError, CommandOffer, Connections, DeviceNote, Done, Hold, Intake,
    PublicationOffer, Publications, Replies,
};

/// How many commands may wait for a device.
const COMMANDS_MAX: usize = 16;

/// An [`Intake`] without a store.
pub struct StandIn {
    reading_max: usize,
    memory: Arc<Mutex<Memory>>,
    /// Whether readings are committed, or wait.
    open: watch::Sender<bool>,
    /// The same for what is kept without a reading.
    keeps: watch::Sender<bool>,
    /// How many readings were offered, and how many taken.
    counts: watch::Sender<Counts>,
    connections: Connections,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    offered: usize,
    taken: usize,
    attached: u64,
}

struct Memory {
    ids: IdGenerator,
    taken: Vec<Taken>,
    refusals: VecDeque<Refused>,
    late_refusals: VecDeque<Refused>,
    doubts: VecDeque<Refused>,
    keeps_not: Option<Refused>,
    kept: BTreeMap<Box<str>, (Bytes, Option<Timestamp>)>,
    keeps: Vec<(usize, bool)>,
    devices: HashMap<Box<str>, (u64, mpsc::Sender<Box<CommandOffer>>)>,
    attachments: u64,
    /// Of the command that was offered last.
    sent: CancellationToken,
    /// By device.
    held: HashMap<Box<str>, usize>,
    notes: Vec<(Box<str>, DeviceNote)>,
    publications: Option<mpsc::Sender<Box<PublicationOffer>>>,
    /// What the handlers answer to the readings to come, and whether that is all they say.
    script: Option<(Vec<Answer>, Ending)>,
    /// The handlers answer with what they are given.
    echoes: bool,
    forgets: bool,
    /// Of the replies that have not ended.
    unanswered: Vec<mpsc::Sender<Answer>>,
    /// What a simulated clock showed at an instant, if it is not the system's; whether it goes on from there.
    now: Option<(Timestamp, Option<Instant>)>,
}

/// Whether more answers could come after those of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Ended,
    Open,
}

/// A reading that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: ReadingId,
    pub inbound: Inbound,
    pub keep: Vec<StateWrite>,
}

impl StandIn {
    pub fn new() -> Arc<Self> {
        Self::with_reading_max(256 << 10)
    }

    pub fn with_reading_max(reading_max: usize) -> Arc<Self> {
        let memory = Memory {
            ids: IdGenerator::after(0),
            taken: Vec::new(),
            refusals: VecDeque::new(),
            late_refusals: VecDeque::new(),
            doubts: VecDeque::new(),
            keeps_not: None,
            kept: BTreeMap::new(),
            keeps: Vec::new(),
            devices: HashMap::new(),
            attachments: 0,
            sent: CancellationToken::new(),
            held: HashMap::new(),
            notes: Vec::new(),
            publications: None,
            script: None,
            echoes: false,
            forgets: false,
            unanswered: Vec::new(),
            now: None,
        };
        Arc::new(Self {
            reading_max,
            memory: Arc::new(Mutex::new(memory)),
            open: watch::Sender::new(true),
            keeps: watch::Sender::new(true),
            counts: watch::Sender::default(),
            connections: Connections::default(),
        })
    }

    /// From now on readings wait for [`Self::release`].
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    /// Commits what waits, and what comes.
    pub fn release(&self) {
        self.open.send_replace(true);
    }

    /// Lets what is kept without a reading wait, until it is not `held` any more.
    pub fn hold_keeps(&self, held: bool) {
        self.keeps.send_replace(!held);
    }

    /// Refuses the next reading so.
    pub fn refuse(&self, refused: Refused) {
        self.memory.lock().refusals.push_back(refused);
    }

    /// The same, once it has waited for [`Self::release`].
    pub fn refuse_late(&self, refused: Refused) {
        self.memory.lock().late_refusals.push_back(refused);
    }

    /// Takes the next reading, and says that it did not: as a commit does that failed too late.
    pub fn doubt(&self, refused: Refused) {
        self.memory.lock().doubts.push_back(refused);
    }

    /// From now on refuses so what the driver writes without a reading; `None` takes it.
    pub fn refuse_to_keep(&self, refused: Option<Refused>) {
        self.memory.lock().keeps_not = refused;
    }

    /// The handlers answer every reading to come with `answers`.
    pub fn answer(&self, answers: Vec<Answer>, ending: Ending) {
        self.memory.lock().script = Some((answers, ending));
    }

    /// The handlers answer every reading to come with its own payload.
    pub fn echo(&self) {
        self.memory.lock().echoes = true;
    }

    /// From now on it keeps nothing of what it takes: for much, and for measuring.
    pub fn forget(&self) {
        self.memory.lock().forgets = true;
    }

    /// The clock stops, and shows `now`.
    pub fn set_now(&self, now: Timestamp) {
        self.memory.lock().now = Some((now, None));
    }

    /// The clock shows `now`, and goes on with tokio's time, which a test may have paused.
    pub fn start_clock(&self, now: Timestamp) {
        self.memory.lock().now = Some((now, Some(Instant::now())));
    }

    /// What was taken so far, in order.
    pub fn taken(&self) -> Vec<Taken> {
        self.memory.lock().taken.clone()
    }

    /// What the driver wrote without a reading so far: how much at once, and whether somebody waited for it.
    pub fn keeps(&self) -> Vec<(usize, bool)> {
        self.memory.lock().keeps.clone()
    }

    /// Resolves once `count` readings were taken.
    pub async fn wait_taken(&self, count: usize) -> Vec<Taken> {
        self.wait(|counts| counts.taken >= count).await;
        self.taken()
    }

    /// Resolves once `count` readings were offered, taken or not.
    pub async fn wait_offered(&self, count: usize) {
        self.wait(|counts| counts.offered >= count).await;
    }

    /// Resolves once devices were attached `count` times.
    pub async fn wait_attached(&self, count: u64) {
        self.wait(|counts| counts.attached >= count).await;
    }

    async fn wait(&self, enough: impl Fn(&Counts) -> bool) {
        let mut counts = self.counts.subscribe();
        counts.wait_for(|counts| enough(counts)).await.expect("the sender is in self");
    }

    /// The devices that are attached, sorted.
    pub fn devices(&self) -> Vec<Box<str>> {
        let mut devices: Vec<_> = self.memory.lock().devices.keys().cloned().collect();
        devices.sort();
        devices
    }

    /// Offers a command to its device, and resolves with what became of it: `None` if it was dropped, or
    /// the device is not attached.
    pub async fn command(&self, command: Command) -> Option<Result<(), CommandError>> {
        let (device, offer, done) = self.offer(command)?;
        device.send(Box::new(offer)).await.ok()?;
        Some(done.await.ok()?.map(drop))
    }

    /// The same, of which somebody waits for the answer: `Ok(None)` if the driver brought none by itself.
    pub async fn query(&self, command: Command) -> Option<Done> {
        let (device, offer, done) = self.offer(command)?;
        device.send(Box::new(offer.asking())).await.ok()?;
        done.await.ok()
    }

    fn offer(
        &self,
        command: Command,
    ) -> Option<(mpsc::Sender<Box<CommandOffer>>, CommandOffer, oneshot::Receiver<Done>)> {
        let mut memory = self.memory.lock();
        let (_, device) = memory.devices.get(&command.device)?;
        let device = device.clone();
        let (offer, done) = CommandOffer::new(DeliveryId::from_u128(1), command);
        memory.sent = offer.on_its_way();
        Some((device, offer, done))
    }

    /// Whether the driver said that the command that was offered last is sent, and the device's word awaited.
    pub fn is_sent(&self) -> bool {
        self.memory.lock().sent.is_cancelled()
    }

    /// What the driver said of devices, in order.
    pub fn notes(&self) -> Vec<(Box<str>, DeviceNote)> {
        self.memory.lock().notes.clone()
    }

    /// By how many holds, those of attachments and connections included, a device is connected.
    pub fn holds(&self, device: &str) -> usize {
        self.memory.lock().held.get(device).copied().unwrap_or_default()
    }

    /// Offers a message as a sink does, and resolves with what became of it: `None` if it was dropped, or the
    /// driver has not asked for publications.
    pub async fn publish(&self, message: Message) -> Option<Result<(), CommandError>> {
        let publications = self.memory.lock().publications.clone()?;
        let (offer, done) = PublicationOffer::new(DeliveryId::from_u128(1), message);
        publications.send(Box::new(offer)).await.ok()?;
        Some(done.await.ok()?.map(drop))
    }

    async fn write_in_turn(&self, keep: &[StateWrite], prompt: bool) -> Result<(), Refused> {
        let mut keeps = self.keeps.subscribe();
        keeps.wait_for(|open| *open).await.expect("the sender is in self");
        self.write(keep, prompt)
    }

    fn write(&self, keep: &[StateWrite], prompt: bool) -> Result<(), Refused> {
        let mut memory = self.memory.lock();
        if let Some(refused) = memory.keeps_not.clone() {
            return Err(refused);
        }
        if !memory.forgets {
            memory.keeps.push((keep.len(), prompt));
        }
        memory.write(keep);
        Ok(())
    }

    async fn take(&self, inbound: Inbound, keep: Vec<StateWrite>) -> Result<Accepted, Refused> {
        let mut open = self.open.subscribe();
        self.counts.send_modify(|counts| counts.offered += 1);
        if let Some(refused) = self.memory.lock().refusals.pop_front() {
            return Err(refused);
        }
        let late = self.memory.lock().late_refusals.pop_front();
        open.wait_for(|open| *open).await.expect("the sender is in self");
        if let Some(refused) = late {
            return Err(refused);
        }
        let now = self.now();
        let accepted = {
            let mut memory = self.memory.lock();
            let id = ReadingId::from_u128(memory.ids.next(now, || 0));
            memory.write(&keep);
            let replies = memory.replies(&inbound);
            if !memory.forgets {
                memory.taken.push(Taken { id, inbound, keep });
            }
            memory.doubts.pop_front().map_or(Ok(Accepted { receipt: Receipt::issue(id), replies }), Err)
        };
        self.counts.send_modify(|counts| counts.taken += 1);
        accepted
    }
}

impl Memory {
    fn write(&mut self, keep: &[StateWrite]) {
        for StateWrite { name, value, expires } in keep {
            match value {
                Some(value) => self.kept.insert(name.clone(), (value.clone(), *expires)),
                None => self.kept.remove(name),
            };
        }
    }

    fn replies(&mut self, inbound: &Inbound) -> Option<Replies> {
        if self.echoes {
            let (answers, replies) = Replies::channel();
            answers.try_send(Answer::Reply(same(inbound))).expect("there is room for one");
            return Some(replies);
        }
        let (script, ending) = self.script.clone()?;
        let (answers, replies) = Replies::channel();
        for answer in script {
            answers.try_send(answer).expect("a script is shorter than what may wait");
        }
        if ending == Ending::Open {
            self.unanswered.push(answers);
        }
        Some(replies)
    }
}

fn same(inbound: &Inbound) -> Message {
    let Inbound { topic, device, content_type, attributes, payload, .. } = inbound.clone();
    Message { topic, device, content_type, attributes, payload }
}

impl Intake for StandIn {
    fn accept(
        &self,
        _ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> BoxFuture<'_, Result<Accepted, Refused>> {
        self.take(inbound, keep).boxed()
    }

    fn keep(&self, _ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.write_in_turn(&keep, true).await }.boxed()
    }

    fn keep_patiently(&self, _ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.write_in_turn(&keep, false).await }.boxed()
    }

    fn kept(&self, _ingress: &Name, name: &str) -> Result<Option<Bytes>, Refused> {
        let now = self.now();
        let memory = self.memory.lock();
        let kept = memory.kept.get(name).filter(|(_, expires)| expires.is_none_or(|expires| now < expires));
        Ok(kept.map(|(value, _)| value.clone()))
    }

    fn kept_names(&self, _ingress: &Name, prefix: &str) -> Result<Vec<Box<str>>, Refused> {
        let memory = self.memory.lock();
        Ok(memory.kept.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn each_kept(
        &self,
        _ingress: &Name,
        prefix: &str,
        each: &mut dyn FnMut(&str, &[u8]),
    ) -> Result<(), Refused> {
        let now = self.now();
        let kept = self.memory.lock().kept.clone();
        let there = kept.iter().filter(|(_, (_, expires))| expires.is_none_or(|expires| now < expires));
        for (name, (value, _)) in there.filter(|(name, _)| name.starts_with(prefix)) {
            each(name, value);
        }
        Ok(())
    }

    fn attach(&self, ingress: &Name, device: &str) -> Attachment {
        let hold = Intake::hold(self, ingress, device);
        let (offers, commands) = mpsc::channel(COMMANDS_MAX);
        let number = {
            let mut memory = self.memory.lock();
            memory.attachments += 1;
            let number = memory.attachments;
            memory.devices.insert(device.into(), (number, offers));
            number
        };
        self.counts.send_modify(|counts| counts.attached += 1);
        let (memory, device) = (Arc::clone(&self.memory), Box::<str>::from(device));
        Attachment::new(commands, move || {
            drop(hold);
            let mut memory = memory.lock();
            // Not another session's.
            if memory.devices.get(&device).is_some_and(|(current, _)| *current == number) {
                memory.devices.remove(&device);
            }
        })
    }

    fn hold(&self, _ingress: &Name, device: &str) -> Hold {
        *self.memory.lock().held.entry(device.into()).or_default() += 1;
        let (memory, device) = (Arc::clone(&self.memory), Box::<str>::from(device));
        Hold::new(move || {
            let mut memory = memory.lock();
            if let Some(count) = memory.held.get_mut(&device) {
                *count -= 1;
            }
        })
    }

    fn note(&self, _ingress: &Name, device: &str, note: DeviceNote) {
        self.memory.lock().notes.push((device.into(), note));
    }

    fn publications(&self, _ingress: &Name) -> Publications {
        let (offers, publications) = mpsc::channel(COMMANDS_MAX);
        self.memory.lock().publications = Some(offers);
        Publications::new(publications, || ())
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn now(&self) -> Timestamp {
        match self.memory.lock().now {
            None => SystemClock.now(),
            Some((now, None)) => now,
            Some((start, Some(began))) => start.after(began.elapsed()),
        }
    }

    fn reading_max(&self) -> usize {
        self.reading_max
    }
}
