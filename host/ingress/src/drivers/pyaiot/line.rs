//! One WebSocket connection of texts, with signs of life.

use std::pin::pin;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::Session;

/// Between two pings.
const PING: Duration = Duration::from_secs(30);

/// Without a sign of life.
const IDLE: Duration = Duration::from_secs(75);

/// How long a peer may take to take what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same when it is told farewell.
const FAREWELL: Duration = Duration::from_millis(250);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer is gone, with a closing handshake or without a word.
    Gone {
        farewell: bool,
    },
    Unsupported,
    Forbidden,
    TooLarge,
    /// It does not take what it is sent, or gives no sign of life.
    Slow,
    Stopping,
}

pub(super) struct Line<S> {
    socket: WebSocketStream<S>,
    session: Session,
    heard: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line<S> {
    pub(super) fn new(socket: WebSocketStream<S>, session: Session) -> Self {
        Self { socket, session, heard: Instant::now() }
    }

    /// The next text of the peer; what is to be sent meanwhile is sent.
    pub(super) async fn next(&mut self, messages: &mut mpsc::Receiver<Utf8Bytes>) -> Result<Utf8Bytes, End> {
        let session = self.session.clone();
        let mut stopped = pin!(session.stopped());
        let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
        loop {
            tokio::select! {
                () = &mut stopped => return Err(End::Stopping),
                message = messages.recv() => match message {
                    Some(text) => self.send(Message::Text(text)).await?,
                    // Nothing is sent any more to who does not take it.
                    None => return Err(End::Slow),
                },
                received = self.socket.next() => match received {
                    Some(Ok(Message::Text(text))) => {
                        self.heard = Instant::now();
                        return Ok(text);
                    }
                    Some(Ok(Message::Binary(_))) => return Err(End::Unsupported),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                        self.heard = Instant::now();
                    }
                    Some(Err(Error::Capacity(_))) => return Err(End::TooLarge),
                    Some(Err(Error::Utf8(_))) => return Err(End::Unsupported),
                    Some(Ok(Message::Close(_))) => return Err(End::Gone { farewell: true }),
                    Some(Err(_)) | None => return Err(End::Gone { farewell: false }),
                },
                _ = pings.tick() => {
                    if self.heard.elapsed() >= IDLE {
                        return Err(End::Slow);
                    }
                    self.send(Message::Ping(<_>::default())).await?;
                }
            }
        }
    }

    pub(super) async fn send_all(&mut self, messages: Vec<Utf8Bytes>) -> Result<(), End> {
        for message in messages {
            self.send(Message::Text(message)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(WRITE_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone { farewell: false }),
            Err(_) => Err(End::Slow),
        }
    }

    /// Says why, and waits a little for the answer.
    pub(super) async fn close(mut self, end: End) {
        let (code, reason) = match end {
            End::Gone { .. } => (CloseCode::Normal, ""),
            End::Unsupported => (CloseCode::Unsupported, "invalid message"),
            End::Forbidden => (CloseCode::Policy, "not permitted"),
            End::TooLarge => (CloseCode::Size, "oversized"),
            End::Slow => (CloseCode::Again, "too slow"),
            End::Stopping => (CloseCode::Away, "shutting down"),
        };
        let farewell = async {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        drop(tokio::time::timeout(FAREWELL, farewell).await);
    }
}
