//! What a client does: requests with bodies of any size, and observations.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::blocks::Block;
use super::endpoint::Peer;
use super::layer::{Failure, Token};
use super::packet::{self, Code, MessageClass, Method, Opt, Packet};
use crate::CommandError;

/// What an endpoint is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    Ask {
        peer: Peer,
        token: Token,
        packet: Packet,
        patience: Duration,
        waiter: Waiter,
    },
    /// Nobody waits for what comes under this token any more.
    Leave {
        peer: Peer,
        token: Token,
    },
    Notify {
        peer: Peer,
        token: (Token, u8),
        packet: Packet,
        done: oneshot::Sender<Result<(), Failure>>,
    },
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiter {
    Once(oneshot::Sender<Result<Packet, Failure>>),
    Each(mpsc::Sender<Result<Note, Failure>>),
}

impl Waiter {
    pub(crate) fn fail(self, failure: Failure) {
        match self {
            Self::Once(answer) => drop(answer.send(Err(failure))),
            Self::Each(notes) => drop(notes.try_send(Err(failure))),
        }
    }
}

/// A notification (RFC 7641). Dropped without [`taken`](Self::taken), the node is to send it again.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) packet: Packet,
    pub(crate) done: oneshot::Sender<()>,
}

impl Note {
    /// Acknowledges it.
    pub(crate) fn taken(self) {
        let _ = self.done.send(());
    }
}

/// How many notifications of one observation may wait.
const NOTES_MAX: usize = 16;

/// How many orders may wait for an endpoint.
const ORDERS_MAX: usize = 256;

pub(crate) fn orders() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS_MAX)
}

/// Why a request has no answer that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("{}", refusal(*code, text))]
    Refused { code: MessageClass, text: String },
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the pieces of the answer do not fit together")]
    Torn,
    #[error("its name has no address")]
    Unknown,
    #[error("its setting `address` names a network interface that is not there: `{0}`")]
    NoInterface(Box<str>),
    #[error("the ingress stops")]
    Stopped,
}

/// What becomes of a command that its device did not take.
impl From<&CallError> for CommandError {
    fn from(error: &CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Refused { code: MessageClass::Response(code), .. } => match code {
                Code::RequestEntityIncomplete | Code::TooManyRequests => Self::Retry(text),
                Code::NotImplemented | Code::ProxyingNotSupported => Self::Reject(text),
                code if u8::from(MessageClass::Response(*code)) >> 5 == 4 => Self::Reject(text),
                _ => Self::Retry(text),
            },
            _ => Self::Retry(text),
        }
    }
}

fn refusal(code: MessageClass, text: &str) -> String {
    match text.is_empty() {
        true => code.to_string(),
        false => format!("{code} {text}"),
    }
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) format: Option<u16>,
    pub(crate) bytes: Bytes,
}

/// A client over an endpoint. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) orders: mpsc::Sender<Order>,
    /// For how long an answer may take.
    pub(crate) patience: Duration,
    pub(crate) body_max: usize,
    pub(crate) exponent: u8,
}

impl Caller {
    pub(crate) async fn get(&self, peer: Peer, path: &str) -> Result<Packet, CallError> {
        let first = self.ask(peer, packet::request(Method::Get, path, &[])).await?;
        self.rest(peer, Method::Get, path, first).await
    }

    /// Its answer has the whole body; a code other than 2.xx is an error.
    pub(crate) async fn send(
        &self,
        peer: Peer,
        method: Method,
        path: &str,
        body: &Body,
    ) -> Result<Packet, CallError> {
        let answer = self.upload(peer, method, path, body).await?;
        self.rest(peer, method, path, answer).await
    }

    /// Sends the body, in pieces if it is long or the peer wants it so (RFC 7959, section 2.5).
    async fn upload(&self, peer: Peer, method: Method, path: &str, body: &Body) -> Result<Packet, CallError> {
        let mut block = Block { number: 0, more: false, exponent: self.exponent };
        let mut in_pieces = body.bytes.len() > block.size();
        loop {
            let mut request = packet::request(method, path, &[]);
            if let Some(format) = body.format {
                packet::set_uint(&mut request, Opt::ContentFormat, format.into());
            }
            let end = body.bytes.len().min(block.offset() + block.size());
            block.more = end < body.bytes.len();
            request.payload = body.bytes.get(block.offset()..end).unwrap_or_default().to_vec();
            if in_pieces {
                block.set(&mut request, Opt::Block1);
            }
            let answer = self.exchange(peer, request).await?;
            let wanted = Block::of(&answer, Opt::Block1).ok().flatten().map(|block| block.exponent);
            match answer.header.code {
                MessageClass::Response(Code::Continue) if in_pieces && block.more => {
                    let exponent = wanted.unwrap_or(block.exponent).min(block.exponent);
                    // Smaller ones are counted from the beginning, too.
                    block = Block { number: (end >> (4 + exponent)) as u32, more: false, exponent };
                }
                MessageClass::Response(Code::RequestEntityTooLarge)
                    if let Some(exponent) = wanted
                        && block.number == 0
                        && (!in_pieces || exponent < block.exponent) =>
                {
                    in_pieces = true;
                    block = Block { number: 0, more: false, exponent: exponent.min(block.exponent) };
                }
                _ => return refused_or(answer),
            }
        }
    }

    /// Fetches what the first message of an answer did not hold (RFC 7959, section 2.4).
    pub(crate) async fn rest(
        &self,
        peer: Peer,
        method: Method,
        path: &str,
        mut answer: Packet,
    ) -> Result<Packet, CallError> {
        let limit = self.body_max;
        let etag = answer.get_first_option(Opt::ETag).cloned();
        let mut block = Block::of(&answer, Opt::Block2).map_err(|()| CallError::Torn)?;
        while let Some(had) = block.filter(|block| block.more) {
            if answer.payload.len() > limit {
                return Err(CallError::TooLarge { limit });
            }
            let number = u32::try_from(answer.payload.len() / had.size()).map_err(|_| CallError::Torn)?;
            let next = Block { number, more: false, exponent: had.exponent };
            let mut request = packet::request(method, path, &[]);
            next.set(&mut request, Opt::Block2);
            let piece = self.ask(peer, request).await?;
            block = Block::of(&piece, Opt::Block2).map_err(|()| CallError::Torn)?;
            let fits = block.is_some_and(|block| block.offset() == answer.payload.len());
            if !fits || piece.get_first_option(Opt::ETag) != etag.as_ref() || piece.payload.is_empty() {
                return Err(CallError::Torn);
            }
            answer.payload.extend_from_slice(&piece.payload);
        }
        match answer.payload.len() > limit {
            true => Err(CallError::TooLarge { limit }),
            false => Ok(answer),
        }
    }

    async fn ask(&self, peer: Peer, request: Packet) -> Result<Packet, CallError> {
        refused_or(self.exchange(peer, request).await?)
    }

    async fn exchange(&self, peer: Peer, packet: Packet) -> Result<Packet, CallError> {
        let (answer, answered) = oneshot::channel();
        let (token, patience, waiter) = (rand::random(), self.patience, Waiter::Once(answer));
        let order = Order::Ask { peer, token, packet, patience, waiter };
        self.orders.send(order).await.map_err(|_| CallError::Stopped)?;
        Ok(answered.await.map_err(|_| CallError::Stopped)??)
    }

    /// Registers for a resource's notifications (RFC 7641), until it is [left](Self::leave). Under the token of an earlier
    /// registration it renews that one, if the node still has it (section 3.3.1).
    pub(crate) async fn observe(
        &self,
        peer: Peer,
        path: &str,
        token: Token,
    ) -> Result<mpsc::Receiver<Result<Note, Failure>>, CallError> {
        let (notes, arriving) = mpsc::channel(NOTES_MAX);
        let mut packet = packet::request(Method::Get, path, &[]);
        packet::set_uint(&mut packet, Opt::Observe, 0);
        let (patience, waiter) = (self.patience, Waiter::Each(notes));
        let order = Order::Ask { peer, token, packet, patience, waiter };
        self.orders.send(order).await.map_err(|_| CallError::Stopped)?;
        Ok(arriving)
    }

    /// Further notifications are refused when they come: so the node forgets who asked for them.
    pub(crate) async fn leave(&self, peer: Peer, token: Token) {
        // An endpoint that is gone has left everything.
        let _ = self.orders.send(Order::Leave { peer, token }).await;
    }

    /// Resolves once the notification was acknowledged.
    pub(crate) async fn notify(
        &self,
        peer: Peer,
        token: (Token, u8),
        packet: Packet,
    ) -> Result<(), CallError> {
        let (done, acknowledged) = oneshot::channel();
        let order = Order::Notify { peer, token, packet, done };
        self.orders.send(order).await.map_err(|_| CallError::Stopped)?;
        Ok(acknowledged.await.map_err(|_| CallError::Stopped)??)
    }
}

/// What an answer that is no success means.
pub(crate) fn refused_or(answer: Packet) -> Result<Packet, CallError> {
    if packet::class(&answer) == 2 {
        return Ok(answer);
    }
    let text =
        String::from_utf8_lossy(&answer.payload).chars().filter(|c| !c.is_control()).take(200).collect();
    Err(CallError::Refused { code: answer.header.code, text })
}
