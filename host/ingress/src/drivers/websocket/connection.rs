//! One open connection: messages in; acknowledgements, replies, commands and publications out.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sandbar_reading::{ContentType, Refused};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};

use super::config::PublicationForm;
use super::decode::{Kind, decode};
use super::paths::Opened;
use super::subscribers::Publication;
use super::{Shaken, Shared};
use crate::devices::{Joined, Order, orders};
use crate::exchange::{Exchange, Manner, Say};
use crate::patience::{DRAIN, in_time};
use crate::written::{CommandForm, publication};
use crate::{CommandError, Connection as Listed, Device};

/// How long the end of a closing handshake is waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many devices one connection may speak for; further ones' readings are taken, their commands not brought.
const DEVICES_MAX: usize = 1024;

struct Connection<'a, S> {
    shared: &'a Shared,
    socket: WebSocketStream<S>,
    opened: Opened,
    listed: Listed,
    exchange: Exchange,
    orders: mpsc::Sender<Order>,
    joined: HashMap<Box<str>, Joined>,
    /// When the peer was heard of last.
    heard: Instant,
    /// The peer sends no more.
    is_over: bool,
    /// The peer takes no more.
    is_mute: bool,
}

/// Why this side closes.
struct Close {
    code: CloseCode,
    reason: &'static str,
    /// What comes after it cannot be read.
    broken: bool,
}

const fn close(code: CloseCode, reason: &'static str) -> Close {
    Close { code, reason, broken: false }
}

/// Serves a connection to its end. What it is made of is put together before the future is, which would have room for
/// both.
pub(super) fn serve<S>(shared: &Shared, shaken: Shaken<S>) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Shaken { socket, opened, listed } = shaken;
    let manner = if shared.settings.refuse.is_some() { Manner::Tell } else { Manner::Hold };
    let (sender, arriving) = orders();
    let mut connection = Connection {
        shared,
        socket,
        exchange: Exchange::new(shared.session.clone(), manner, shared.settings.reply_timeout),
        orders: sender,
        joined: HashMap::new(),
        heard: Instant::now(),
        is_over: false,
        is_mute: false,
        opened,
        listed,
    };
    if let Some(device) = connection.opened.device.clone() {
        connection.join(&device);
    }
    async move { connection.run(arriving).await }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<'_, S> {
    async fn run(&mut self, mut arriving: mpsc::Receiver<Order>) {
        let session = self.shared.session.clone();
        let settings = Arc::clone(&self.shared.settings);
        let mut subscribed = self.opened.filter.clone().map(|filter| self.shared.subscribers.join(filter));
        if let Some(greeting) = &settings.greeting {
            self.send(Frame::Text(greeting.clone())).await;
        }
        let mut stopped = pin!(session.stopped());
        let mut ping =
            tokio::time::interval_at(Instant::now() + settings.ping_interval, settings.ping_interval);
        loop {
            if self.is_mute {
                self.joined.clear();
            }
            if self.is_over && (self.exchange.is_done() || self.is_mute && self.exchange.is_settled()) {
                return;
            }
            let reads = !self.is_over && self.exchange.has_room();
            if !reads {
                self.heard = Instant::now();
            }
            let ending = tokio::select! {
                () = &mut stopped => Err(close(CloseCode::Away, "shutting down")),
                Some(order) = arriving.recv() => self.carry_out(order).await,
                ((), say) = self.exchange.next() => self.say(say).await,
                published = next(&mut subscribed) => match published {
                    Some(publication) => self.publish(publication).await,
                    None => Err(close(CloseCode::Again, "too slow for what is published")),
                },
                frame = self.socket.next(), if reads => {
                    self.heard = Instant::now();
                    self.take(frame).await
                }
                _ = ping.tick() => self.ping().await,
            };
            if let Err(ending) = ending {
                // In a box: it needs more room than all that goes before.
                return Box::pin(self.close(ending)).await;
            }
        }
    }

    async fn take(&mut self, frame: Option<Result<Frame, Error>>) -> Result<(), Close> {
        match frame {
            Some(Ok(Frame::Text(text))) => self.take_message(Kind::Text, text.into()).await,
            Some(Ok(Frame::Binary(bytes))) => self.take_message(Kind::Binary, bytes).await,
            Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => Ok(()),
            Some(Ok(Frame::Close(_))) => {
                self.part(|device| device.left());
                // The answer to it is on its way with the next flush, after which nothing more may be sent.
                let _ = in_time(&self.shared.session, self.socket.flush()).await;
                (self.is_over, self.is_mute) = (true, true);
                Ok(())
            }
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_))) => self.lost(),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => self.lost(),
            Some(Err(error)) => {
                let (code, kind) = match &error {
                    Error::Capacity(_) => (CloseCode::Size, "oversized"),
                    Error::Utf8(_) => (CloseCode::Invalid, "not UTF-8"),
                    _ => (CloseCode::Protocol, "malformed"),
                };
                self.complain(kind, &error);
                Err(Close { code, reason: kind, broken: true })
            }
        }
    }

    /// Says why the devices go that it speaks for.
    fn part(&self, why: impl Fn(Device<'_>)) {
        self.joined.keys().for_each(|device| why(self.shared.session.device(device)));
    }

    fn lost(&mut self) -> Result<(), Close> {
        self.part(|device| device.lost());
        (self.is_over, self.is_mute) = (true, true);
        Ok(())
    }

    async fn take_message(&mut self, kind: Kind, payload: Bytes) -> Result<(), Close> {
        if !self.opened.readings {
            return Err(close(CloseCode::Unsupported, "this path takes no messages"));
        }
        self.listed.received(payload.len(), self.shared.session.now());
        match decode(&self.opened, kind, payload) {
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
        Ok(())
    }

    fn join(&mut self, device: &str) {
        if !self.joined.contains_key(device) && self.joined.len() < DEVICES_MAX {
            if self.joined.is_empty() {
                self.listed.name_device(device);
            }
            self.joined.insert(device.into(), self.shared.devices.join(device, self.orders.clone()));
        }
    }

    async fn say(&mut self, say: Say) -> Result<(), Close> {
        match say {
            Say::Acknowledge(receipt) => {
                if let Some(phrase) = &self.shared.settings.acknowledge {
                    let said = phrase.of_id(receipt.id().encode(&mut [0; 26]));
                    self.send(text_or_binary(&ContentType::TEXT, said)).await;
                }
            }
            Say::Refuse(Refused::Stopping) => {}
            Say::Refuse(refused) => self.refuse(&refused.to_string()).await,
            Say::Reply(message) => self.send(text_or_binary(&message.content_type, message.payload)).await,
        }
        Ok(())
    }

    async fn refuse(&mut self, reason: &str) {
        if let Some(phrase) = &self.shared.settings.refuse {
            // A reason may hold what would end a text in JSON.
            let said = phrase.of_reason(&reason.replace(['"', '\\'], "'"));
            self.send(text_or_binary(&ContentType::TEXT, said)).await;
        }
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), Close> {
        let form = self.shared.settings.commands;
        let content_type = match form {
            CommandForm::Payload => order.command.content_type.clone(),
            CommandForm::Json => ContentType::JSON,
        };
        self.send(text_or_binary(&content_type, form.write(order.id, &order.command))).await;
        let lost = || CommandError::Retry("the connection is lost".to_owned());
        order.done(if self.is_mute { Err(lost()) } else { Ok(()) });
        Ok(())
    }

    async fn publish(&mut self, Publication { id, message }: Publication) -> Result<(), Close> {
        let frame = match self.shared.settings.publications {
            PublicationForm::Json => text_or_binary(&ContentType::JSON, publication(id, &message)),
            PublicationForm::Payload => text_or_binary(&message.content_type, message.payload.clone()),
        };
        self.send(frame).await;
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Close> {
        if self.heard.elapsed() >= self.shared.settings.idle_timeout {
            self.part(|device| device.lost());
            return Err(close(CloseCode::Away, "no sign of life"));
        }
        self.send(Frame::Ping(Bytes::new())).await;
        Ok(())
    }

    async fn send(&mut self, frame: Frame) {
        if self.is_mute {
            return;
        }
        let size = frame.len();
        let is_message = frame.is_text() || frame.is_binary();
        match in_time(&self.shared.session, self.socket.send(frame)).await {
            true if is_message => self.listed.sent(size, self.shared.session.now()),
            true => {}
            // Who does not take what it is sent gets nothing more; what it sent is taken all the same.
            false => {
                self.part(|device| device.lost());
                (self.is_over, self.is_mute) = (true, true);
            }
        }
    }

    /// Says what becomes of the readings that are on their way, and then farewell (RFC 6455, section 7).
    async fn close(&mut self, ending: Close) {
        let session = &self.shared.session;
        if session.is_stopped() {
            self.exchange.abandon();
        }
        while !self.exchange.is_settled() {
            let ((), say) = self.exchange.next().await;
            // Saying it does not end it once more.
            drop(self.say(say).await);
            if self.shared.session.is_stopped() {
                self.exchange.abandon();
            }
        }
        if self.is_mute {
            return;
        }
        let frame = CloseFrame { code: ending.code, reason: Utf8Bytes::from_static(ending.reason) };
        if !in_time(&self.shared.session, self.socket.close(Some(frame))).await {
            return;
        }
        // What is unread when it ends would make the farewell a reset.
        let last = async {
            match ending.broken {
                true => {
                    // The server is the one to hang up (section 7.1.1).
                    let _ = self.socket.get_mut().shutdown().await;
                    drain(self.socket.get_mut()).await;
                }
                false => while let Some(Ok(_)) = self.socket.next().await {},
            }
        };
        let patience = if self.shared.session.is_stopped() { DRAIN } else { FAREWELL };
        let _ = tokio::time::timeout(patience, last).await;
    }

    fn complain(&self, kind: &'static str, about: &dyn Display) {
        let peer = self.opened.attributes().get("peer").unwrap_or_default();
        self.shared.complaints.note(kind, peer, about, self.shared.session.now());
    }
}

/// JSON, text and HTML are text messages if they are UTF-8.
fn text_or_binary(content_type: &ContentType, payload: Bytes) -> Frame {
    if (content_type.is_json() || content_type.is_in("text/*"))
        && let Ok(text) = Utf8Bytes::try_from(payload.clone())
    {
        return Frame::Text(text);
    }
    Frame::Binary(payload)
}

/// Never resolves for who has not subscribed.
async fn next(subscribed: &mut Option<mpsc::Receiver<Publication>>) -> Option<Publication> {
    match subscribed {
        Some(arriving) => arriving.recv().await,
        None => std::future::pending().await,
    }
}

async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|size| size > 0) {}
}
