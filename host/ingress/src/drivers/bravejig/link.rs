//! The line to the router: what modules measure comes in all the while, also while something is asked.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use sandbar_reading::{Inbound, Message, Refused};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::Settings;
use super::decode::decode;
use super::parser::Parser;
use super::uplink::MAIN_UNIT;
use super::wire::{Frame, Id, Uplink};
use crate::complaints::Complaints;
use crate::devices::{Devices, Joined, Order};
use crate::exchange::{Exchange, Manner, Say};
use crate::{Connection, LinkError, PeerInfo, Session};

/// How many modules commands are brought to.
const MODULES_MAX: usize = 256;

/// Replies that wait to be carried out.
const REPLIES_MAX: usize = 16;

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Ended {
    Stopped,
    Lost(LinkError),
}

pub(super) struct Link<S> {
    pub(super) settings: Arc<Settings>,
    pub(super) session: Session,
    stream: S,
    name: String,
    parser: Parser,
    last_read: Instant,
    exchange: Exchange<Option<Id>>,
    devices: Arc<Devices>,
    orders: mpsc::Sender<Order>,
    modules: HashMap<Id, Module>,
    _router: Joined,
    pub(super) complaints: Complaints,
    listed: Connection,
    /// Handlers' replies, and whose reading they are to.
    pub(super) replies: VecDeque<(Option<Id>, Message)>,
    /// When a module was heard last, or could have been.
    pub(super) heard: Instant,
    /// Of the last request to a module.
    pub(super) order: u16,
    /// When the last command was done with.
    pub(super) acted: Option<Instant>,
}

struct Module {
    /// That it was heard with.
    sensor: Option<u16>,
    _joined: Joined,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link<S> {
    pub(super) fn new(
        settings: Arc<Settings>,
        session: Session,
        stream: S,
        devices: Arc<Devices>,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        let name = settings.port.name();
        let router = settings.router_device.clone();
        let peer = PeerInfo {
            device: Some(router.clone()),
            client: Some(name.as_str().into()),
            ..PeerInfo::default()
        };
        Self {
            exchange: Exchange::new(session.clone(), Manner::Hold, settings.reply_timeout),
            _router: devices.join(&router, orders.clone()),
            complaints: Complaints::new(session.ingress().clone()),
            listed: session.connected(peer),
            settings,
            session,
            stream,
            name,
            parser: Parser::default(),
            last_read: Instant::now(),
            devices,
            orders,
            modules: HashMap::new(),
            replies: VecDeque::new(),
            heard: Instant::now(),
            order: 0,
            acted: None,
        }
    }

    /// The next frame that is not of a module's own accord; `None` at `deadline`. May be dropped and called again.
    pub(super) async fn answer(&mut self, deadline: Instant) -> Result<Option<Frame>, Ended> {
        let session = self.session.clone();
        let mut stopped = pin!(session.stopped());
        let mut buffer = BytesMut::with_capacity(4096);
        loop {
            while let Some(frame) = self.parser.next(self.last_read.elapsed()) {
                match frame {
                    Frame::Uplink(uplink) => self.take(&uplink),
                    answer => return Ok(Some(answer)),
                }
            }
            self.note_garbage();
            let reads = self.exchange.has_room();
            if !reads {
                // It is this side that is silent.
                (self.last_read, self.heard) = (Instant::now(), Instant::now());
            }
            let silent = self.parser.waits().filter(|_| reads).map(|silence| self.last_read + silence);
            let wake = silent.map_or(deadline, |silent| silent.min(deadline));
            tokio::select! {
                () = &mut stopped => return Err(Ended::Stopped),
                (from, say) = self.exchange.next() => self.say(from, say),
                read = self.stream.read_buf(&mut buffer), if reads => match read {
                    Ok(0) => return Err(self.lost("the port is gone")),
                    Ok(_) => {
                        self.last_read = Instant::now();
                        self.parser.push(&buffer);
                        buffer.clear();
                    }
                    Err(error) => {
                        let reading = format!("reading from {}", self.name);
                        return Err(Ended::Lost(LinkError::new(reading, error)));
                    }
                },
                () = tokio::time::sleep_until(wake) => if wake >= deadline {
                    return Ok(None);
                },
            }
        }
    }

    /// What comes meanwhile is taken.
    pub(super) async fn wait(&mut self, wait: Duration) -> Result<(), Ended> {
        let until = Instant::now() + wait;
        while self.answer(until).await?.is_some() {}
        Ok(())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
            Ok(Ok(())) => {
                self.listed.sent(bytes.len(), self.session.now());
                Ok(())
            }
            Ok(Err(error)) => Err(Ended::Lost(LinkError::new(format!("writing to {}", self.name), error))),
            Err(_) => Err(self.lost("it takes nothing that is written to it")),
        }
    }

    pub(super) fn lost(&self, why: &str) -> Ended {
        Ended::Lost(LinkError::ended(format!("{}: {why}", self.name)))
    }

    pub(super) fn hand_over(&mut self, inbound: Inbound) {
        self.exchange.add(None, inbound);
    }

    /// Which of a module's sensors it was heard with.
    pub(super) fn sensor_of(&self, device: Id) -> Option<u16> {
        self.modules.get(&device)?.sensor
    }

    /// Seconds since 1970, as the router counts them.
    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.session.now().millis() / 1000).unwrap_or(u32::MAX)
    }

    fn take(&mut self, uplink: &Uplink) {
        self.heard = Instant::now();
        self.listed.received(uplink.raw.len(), self.session.now());
        self.know(uplink.device, uplink.sensor);
        for inbound in decode(&self.settings, uplink) {
            self.exchange.add(Some(uplink.device), inbound);
        }
    }

    fn know(&mut self, device: Id, sensor: u16) {
        let sensor = Some(sensor).filter(|sensor| *sensor != MAIN_UNIT);
        if let Some(module) = self.modules.get_mut(&device) {
            module.sensor = sensor.or(module.sensor);
        } else if self.modules.len() < MODULES_MAX {
            let joined = self.devices.join(&device.to_string(), self.orders.clone());
            self.modules.insert(device, Module { sensor, _joined: joined });
        }
    }

    fn say(&mut self, from: Option<Id>, say: Say) {
        match say {
            // The line has no word for it.
            Say::Acknowledge(_) | Say::Refuse(Refused::Stopping) => {}
            Say::Refuse(refused) => self.complain("refused", &refused),
            Say::Reply(_) if self.replies.len() >= REPLIES_MAX => {
                self.complain("reply", &"there are too many commands that wait");
            }
            Say::Reply(message) => self.replies.push_back((from, message)),
        }
    }

    fn note_garbage(&mut self) {
        let skipped = self.parser.take_skipped();
        if skipped > 0 {
            self.complain("garbage", &format!("{skipped} bytes belong to no frame"));
        }
    }

    pub(super) fn complain(&self, kind: &'static str, about: &dyn std::fmt::Display) {
        self.complaints.note(kind, &self.name, about, self.session.now());
    }

    /// What is on its way gets to where it goes, unless the session stops.
    pub(super) async fn settle(&mut self) {
        let session = self.session.clone();
        while !self.exchange.is_settled() {
            tokio::select! {
                _ = self.exchange.next() => {}
                () = session.stopped() => break,
            }
        }
        self.exchange.abandon();
        while !self.exchange.is_settled() {
            self.exchange.next().await;
        }
    }
}
