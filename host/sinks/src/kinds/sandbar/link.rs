//! Keeps the link: connects, also while there is nothing to send, and carries what is offered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures::{FutureExt, SinkExt, StreamExt};
use sandbar_reading::relay::{Down, Told, Up};
use sandbar_reading::{Command, DeliveryId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Plan;
use super::offer::Offer;
use crate::wire::Wire;
use crate::{Cause, OwnHost, Unsent};

/// A command that is longer is none.
const COMMAND_MAX: usize = 17 << 20;

/// How many frames may wait to be sent.
const SENDING_MAX: usize = 64;

/// What became of so many commands may wait to be told; before it is fewer, nothing is read.
const UNTOLD_MAX: usize = 1024;

const PING_EVERY: Duration = Duration::from_secs(15);

/// A central host that says nothing for so long, not even to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The outbox decides when something is offered again. This is for the commands alone: the link is opened again when
/// nothing is offered, too.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) struct Keeper {
    plan: Arc<Plan>,
    own: Option<Arc<dyn OwnHost>>,
}

/// Commands that this host carries out.
type Commands = FuturesUnordered<BoxFuture<'static, (DeliveryId, Told)>>;

/// Why a link ended.
enum Ended {
    /// The sink is gone.
    Dropped,
    Lost(Cause),
}

/// An open link.
struct Link<'a> {
    plan: &'a Plan,
    own: Option<&'a Arc<dyn OwnHost>>,
    sending: mpsc::Sender<Frame>,
    commands: Commands,
    /// What became of commands, on its way to the frames that wait to be sent.
    untold: VecDeque<Frame>,
    /// When an answer, or anything else, came.
    heard: Instant,
    /// Since when an answer is waited for, or the last one came.
    answered: Instant,
}

impl Keeper {
    pub(super) fn new(plan: Arc<Plan>, own: Option<Arc<dyn OwnHost>>) -> Self {
        Self { plan, own }
    }

    /// Until the sink is dropped.
    pub(super) async fn run(self, mut offers: mpsc::Receiver<Offer>) {
        let mut offer = None;
        let mut wait = WAIT_MIN;
        loop {
            let cause = match self.open().await {
                Err(cause) => cause,
                Ok(socket) => {
                    wait = WAIT_MIN;
                    match self.serve(socket, &mut offers, &mut offer).await {
                        Ended::Dropped => return,
                        Ended::Lost(cause) => cause,
                    }
                }
            };
            if let Some(offer) = offer.take() {
                Offer::end(offer, &cause);
            }
            tokio::select! {
                taken = offers.recv() => match taken {
                    Some(taken) => offer = Some(taken),
                    None => return,
                },
                () = tokio::time::sleep(wait) => wait = WAIT_MAX.min(wait * 2),
            }
        }
    }

    async fn open(&self) -> Result<WebSocketStream<Wire>, Cause> {
        let connecting = || format!("connecting to {}", self.plan.far.whom());
        match tokio::time::timeout(self.plan.timeout, self.plan.far.open(COMMAND_MAX)).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(cause)) => Err(Cause::new(format!("{}: {cause}", connecting()))),
            Err(_) => Err(Cause::new(format!("{}: no answer in time", connecting()))),
        }
    }

    async fn serve(
        &self,
        socket: WebSocketStream<Wire>,
        offers: &mut mpsc::Receiver<Offer>,
        offer: &mut Option<Offer>,
    ) -> Ended {
        let (sink, stream) = socket.split();
        let (sending, frames) = mpsc::channel(SENDING_MAX);
        let writer = tokio::spawn(write(sink, frames));
        let now = Instant::now();
        let link = Link {
            plan: &self.plan,
            own: self.own.as_ref(),
            sending,
            commands: Commands::new(),
            untold: VecDeque::new(),
            heard: now,
            answered: now,
        };
        let ended = link.run(stream, offers, offer).await;
        writer.abort();
        match ended {
            Ended::Lost(cause) => Ended::Lost(Cause::new(format!("{}: {cause}", self.plan.far.whom()))),
            Ended::Dropped => Ended::Dropped,
        }
    }
}

/// Never waited for while reading: the other side may send before it reads.
async fn write(mut sink: SplitSink<WebSocketStream<Wire>, Frame>, mut frames: mpsc::Receiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            return;
        }
    }
}

impl Link<'_> {
    async fn run(
        mut self,
        mut stream: SplitStream<WebSocketStream<Wire>>,
        offers: &mut mpsc::Receiver<Offer>,
        offer: &mut Option<Offer>,
    ) -> Ended {
        let lost = |text: &str| Ended::Lost(Cause::new(text));
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(done) = offer.take_if(|offer| offer.is_done()) {
                done.finish();
            }
            let next = offer.as_ref().and_then(|offer| offer.next(self.plan.window));
            let is_waiting = offer.as_ref().is_some_and(Offer::is_waiting);
            let sending = self.sending.clone();
            tokio::select! {
                taken = offers.recv(), if offer.is_none() => match taken {
                    Some(taken) => {
                        *offer = Some(taken);
                        self.answered = Instant::now();
                    }
                    None => return Ended::Dropped,
                },
                room = sending.reserve(), if next.is_some() || !self.untold.is_empty() => {
                    let Ok(room) = room else { return lost("the connection was lost") };
                    if let Some(told) = self.untold.pop_front() {
                        room.send(told);
                    } else if let (Some(frame), Some(offer)) = (next, offer.as_mut()) {
                        room.send(Frame::Binary(frame));
                        offer.sent();
                    }
                }
                frame = stream.next(), if self.untold.len() < UNTOLD_MAX => {
                    self.heard = Instant::now();
                    match frame {
                        Some(Ok(Frame::Binary(bytes))) => {
                            if let Err(cause) = self.take(&bytes, offer.as_mut()) {
                                return Ended::Lost(cause);
                            }
                        }
                        Some(Ok(Frame::Close(_))) | None => return lost("the connection was closed"),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Ended::Lost(Cause::of("the connection", &error)),
                    }
                }
                Some((id, told)) = self.commands.next() => {
                    self.untold.push_back(Frame::Binary(Up::Told { id, told }.encode()));
                }
                () = given_up(offer.as_mut()) => {
                    *offer = None;
                    // What was sent may be what the other side hangs on.
                    if is_waiting {
                        return lost("what was sent was not answered in time");
                    }
                }
                () = tokio::time::sleep_until(self.answered + self.plan.timeout), if is_waiting => {
                    return lost("nothing is acknowledged");
                }
                _ = pings.tick() => {
                    if self.heard.elapsed() >= SILENCE_MAX {
                        return lost("nothing was heard any more");
                    }
                    // When there is no room for it, something else is on its way.
                    drop(self.sending.try_send(Frame::Ping(Bytes::new())));
                }
            }
        }
    }

    fn take(&mut self, bytes: &Bytes, offer: Option<&mut Offer>) -> Result<(), Cause> {
        match Down::decode(bytes).map_err(|error| Cause::new(error.to_string()))? {
            Down::Taken { id } => {
                self.answered = Instant::now();
                if let Some(offer) = offer {
                    offer.taken(id);
                }
            }
            Down::Refused { id, cause } => {
                self.answered = Instant::now();
                if let Some(offer) = offer {
                    offer.refused(id, &cause);
                }
            }
            Down::Command { id, command } => self.commands.push(carry_out(self.own.cloned(), id, command)),
        }
        Ok(())
    }
}

/// Resolves when who offered it waits for it no more.
async fn given_up(offer: Option<&mut Offer>) {
    match offer {
        Some(offer) => offer.given_up().await,
        None => std::future::pending().await,
    }
}

fn carry_out(
    own: Option<Arc<dyn OwnHost>>,
    id: DeliveryId,
    command: Command,
) -> BoxFuture<'static, (DeliveryId, Told)> {
    async move {
        let carried_out = match &own {
            Some(own) => own.command(command, id).await,
            None => Err(Unsent::Unreachable),
        };
        let told = match carried_out {
            Ok(()) => Told::Done,
            Err(Unsent::Reject(cause)) => Told::Reject(cause),
            Err(unsent) => Told::Retry(unsent.to_string()),
        };
        (id, told)
    }
    .boxed()
}
