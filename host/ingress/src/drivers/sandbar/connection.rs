//! One host's connection: its readings in, what became of them and commands out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use sandbar_reading::relay::{Down, Relayed, Told, Up};
use sandbar_reading::{DeliveryId, Inbound, Name, Refused, StateWrite};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Shared;
use super::seen::{Arrival, Place, Seen};
use crate::devices::{Joined, Order, orders};
use crate::exchange::{Exchange, Manner, Say};
use crate::{CommandError, Connection as Listed, LinkError, PeerInfo};

/// How many frames may wait to be sent. Answers are far smaller than readings.
const WAITING_MAX: usize = 256;

/// How many devices of one host commands are brought to.
const DEVICES_MAX: usize = 10_000;

/// How long the last answers may take when the connection ends.
const DRAIN: Duration = Duration::from_millis(250);

const PING_EVERY: Duration = Duration::from_secs(15);

/// A host that says nothing for so long, not even to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

struct Connection<'a> {
    shared: &'a Shared,
    host: Name,
    peer: SocketAddr,
    seen: Seen,
    exchange: Exchange<(DeliveryId, Place)>,
    sending: mpsc::Sender<Frame>,
    orders: mpsc::Sender<Order>,
    /// By the name that it has here: the one that it has there, and its place.
    devices: HashMap<Box<str>, (Box<str>, Joined)>,
    /// Sent down, and not answered.
    ordered: HashMap<DeliveryId, Order>,
    listed: Listed,
}

/// Serves a connection to its end, once the host's connection before it has ended.
pub(super) async fn serve<S>(shared: &Shared, socket: WebSocketStream<S>, host: Name, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (replaced, _place) = shared.replace(&host).await;
    let seen = match Seen::load(&shared.session, &host) {
        Ok(seen) => seen,
        Err(error) => return shared.complain("storage", peer, &error),
    };
    let (sink, stream) = socket.split();
    let (sending, frames) = mpsc::channel(WAITING_MAX);
    let writer = tokio::spawn(write(sink, frames));
    let (orders, arriving) = orders();
    let info = PeerInfo { remote: Some(peer), client: Some(host.as_str().into()), ..PeerInfo::default() };
    let connection = Connection {
        shared,
        host,
        peer,
        seen,
        exchange: Exchange::new(shared.session.clone(), Manner::Hold, Duration::ZERO),
        sending,
        orders,
        devices: HashMap::new(),
        ordered: HashMap::new(),
        listed: shared.session.connected(info),
    };
    let stopped = async {
        tokio::select! {
            () = shared.session.stopped() => {}
            () = replaced.cancelled() => {}
        }
    };
    connection.run(stream, arriving, stopped).await;
    let abort = writer.abort_handle();
    if tokio::time::timeout(DRAIN, writer).await.is_err() {
        abort.abort();
    }
}

/// Never waited for while reading: the host may send before it reads.
async fn write<S>(mut sink: SplitSink<WebSocketStream<S>, Frame>, mut frames: mpsc::Receiver<Frame>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

impl Connection<'_> {
    async fn run<S>(
        mut self,
        mut stream: SplitStream<WebSocketStream<S>>,
        mut arriving: mpsc::Receiver<Order>,
        stopped: impl Future<Output = ()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stopped = pin!(stopped);
        if let Err(error) = self.join_known() {
            return self.shared.complain("storage", self.peer, &error);
        }
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let reads = self.exchange.has_room();
            let is_alive = tokio::select! {
                () = &mut stopped => false,
                Some(order) = arriving.recv() => self.send_down(order),
                ((id, place), say) = self.exchange.next() => self.say(id, place, say),
                frame = stream.next(), if reads => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Frame::Binary(bytes))) => self.take(&bytes),
                        Some(Ok(Frame::Close(_)) | Err(_)) | None => false,
                        Some(Ok(_)) => true,
                    }
                }
                _ = pings.tick() => {
                    // What is not read is not heard.
                    if !reads {
                        heard = Instant::now();
                    }
                    heard.elapsed() < SILENCE_MAX && self.send(Frame::Ping(Bytes::new()))
                }
            };
            if !is_alive {
                break;
            }
        }
        self.settle().await;
    }

    /// Devices that the host sent readings of before.
    fn join_known(&mut self) -> Result<(), LinkError> {
        let prefix = device_row(&self.host, "");
        let mut known = Vec::new();
        self.shared
            .session
            .each_kept(&prefix, &mut |name, value| {
                if let (Some(here), Ok(there)) = (name.strip_prefix(&prefix), std::str::from_utf8(value)) {
                    known.push((Box::<str>::from(here), Box::<str>::from(there)));
                }
            })
            .map_err(|refused| LinkError::new("reading what was kept", refused))?;
        for (here, there) in known {
            self.join(here, there);
        }
        Ok(())
    }

    fn join(&mut self, here: Box<str>, there: Box<str>) {
        let joined = self.shared.devices.join(&here, self.orders.clone());
        self.devices.insert(here, (there, joined));
    }

    /// Each of these is false if the connection is to end.
    fn take(&mut self, bytes: &Bytes) -> bool {
        match Up::decode(bytes) {
            Ok(Up::Reading(relayed)) => self.take_reading(relayed),
            Ok(Up::Told { id, told }) => {
                if let Some(order) = self.ordered.remove(&id) {
                    order.done(match told {
                        Told::Done => Ok(()),
                        Told::Retry(cause) => Err(CommandError::Retry(cause)),
                        Told::Reject(cause) => Err(CommandError::Reject(cause)),
                    });
                }
                true
            }
            Err(error) => {
                self.shared.complain("garbled", self.peer, &error);
                false
            }
        }
    }

    fn take_reading(&mut self, relayed: Relayed) -> bool {
        let Relayed { id, time, message } = relayed;
        self.listed.received(message.payload.len(), self.shared.session.now());
        let place = match self.seen.arrives(id) {
            Arrival::New(place) => place,
            Arrival::Known => return self.tell(&Down::Taken { id }),
            Arrival::OnItsWay => return true,
        };
        let settings = &self.shared.settings;
        let Some(topic) = settings.topic(&self.host, &message.topic) else {
            self.seen.refused(place, id);
            let cause = format!("its topic here would be no topic: `{}`", message.topic);
            return self.tell(&Down::Refused { id, cause });
        };
        let mut keep = vec![self.seen.write(place, id)];
        let device = message.device.map(|there| self.name_device(there, &mut keep));
        let mut attributes = message.attributes;
        if attributes.get(ORIGIN_HOST).is_none() {
            attributes.add(ORIGIN_HOST, self.host.as_str());
        }
        let inbound = Inbound {
            topic,
            device,
            time: Some(time),
            content_type: message.content_type,
            attributes,
            payload: message.payload,
        };
        self.exchange.add_keeping((id, place), inbound, keep);
        true
    }

    /// What a device is called here. One that is new is kept with its reading.
    fn name_device(&mut self, there: Box<str>, keep: &mut Vec<StateWrite>) -> Box<str> {
        let here = self.shared.settings.device(&self.host, &there);
        if !self.devices.contains_key(&here) && self.devices.len() < DEVICES_MAX {
            let name = device_row(&self.host, &here).into();
            let value = Some(Bytes::copy_from_slice(there.as_bytes()));
            keep.push(StateWrite { name, value, expires: None });
            self.join(here.clone(), there);
        }
        here
    }

    fn say(&mut self, id: DeliveryId, place: Place, say: Say) -> bool {
        match say {
            Say::Acknowledge(_) => {
                self.seen.taken(place, id);
                self.tell(&Down::Taken { id })
            }
            Say::Refuse(Refused::Stopping) => false,
            Say::Refuse(refused) => {
                self.seen.refused(place, id);
                self.tell(&Down::Refused { id, cause: refused.to_string() })
            }
            // The host that asks has forgotten the reading by then.
            Say::Reply(_) => true,
        }
    }

    fn send_down(&mut self, order: Order) -> bool {
        let Some((there, _)) = self.devices.get(&order.command.device) else { return true };
        let mut command = order.command.clone();
        command.device = there.clone();
        let (id, size) = (order.id, command.payload.len());
        order.sent();
        self.ordered.insert(id, order);
        self.listed.sent(size, self.shared.session.now());
        self.tell(&Down::Command { id, command })
    }

    fn tell(&self, down: &Down) -> bool {
        self.send(Frame::Binary(down.encode()))
    }

    /// A host that takes no answers for so long that this is full is at fault.
    fn send(&self, frame: Frame) -> bool {
        self.sending.try_send(frame).is_ok()
    }

    /// Says what becomes of the readings that are on their way.
    async fn settle(mut self) {
        self.exchange.abandon();
        while !self.exchange.is_settled() {
            let ((id, place), say) = self.exchange.next().await;
            self.say(id, place, say);
        }
    }
}

/// The host that had the reading first, by its name here.
const ORIGIN_HOST: &str = "origin.host";

fn device_row(host: &Name, here: &str) -> String {
    format!("device/{host}/{here}")
}
