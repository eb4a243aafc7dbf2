//! One connection: commands and messages in, replies out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::decode::Envelope;
use super::dialogue::{Dialogue, Mail, Step};
use super::reply::{self, Reply};
use super::rules::Rules;
use super::wire::{Data, Line, Lines, Unstuffer};
use crate::complaints::Complaints;
use crate::tls::Acceptor;
use crate::{Answer, Connection as Listed, PeerInfo, Replies, Session};

/// What all connections of a session share.
pub(super) struct Shared {
    pub(super) session: Session,
    pub(super) rules: Arc<Rules>,
    pub(super) message_max: usize,
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) is_implicit: bool,
    pub(super) budget: Budget,
    pub(super) complaints: Complaints,
}

const READ_MAX: usize = 16 << 10;
/// Replies are kept back while further commands are there (RFC 2920), but no more than this.
const WRITE_MAX: usize = 4 << 10;
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the peer may take to read the last reply, and to stop sending.
const FAREWELL: Duration = Duration::from_millis(200);
/// What a password that was wrong costs who sent it.
const GUESS_PAUSE: Duration = Duration::from_secs(1);

/// Why a conversation is over.
enum End {
    /// The connection is lost.
    Lost,
    /// To be said before hanging up.
    Say(Reply),
    StartTls,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    let listed = shared.session.connected(PeerInfo { remote: Some(peer), ..PeerInfo::default() });
    let mut dialogue = Dialogue::new(Arc::clone(&shared.rules), shared.message_max, shared.is_implicit);
    if shared.is_implicit {
        return secure(shared, &mut dialogue, stream, peer, &listed, true).await;
    }
    let mut plain = Conversation::new(shared, &mut dialogue, stream, peer, &listed);
    if !plain.run(true).await {
        return;
    }
    // What was sent before the handshake is dropped with the buffer: nobody can have meant it to be encrypted.
    let stream = plain.stream;
    dialogue.secured();
    secure(shared, &mut dialogue, stream, peer, &listed, false).await;
}

async fn secure(
    shared: &Shared,
    dialogue: &mut Dialogue,
    stream: TcpStream,
    peer: SocketAddr,
    listed: &Listed,
    greets: bool,
) {
    let Some(tls) = &shared.tls else { return };
    let handshake = timeout(HANDSHAKE_TIMEOUT, tls.at(shared.session.now()).accept(stream));
    let stream = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                shared.complaints.note("tls", peer, format_args!("no TLS: {error}"), shared.session.now());
                return;
            }
            Err(_) => return,
        },
        () = shared.session.stopped() => return,
    };
    Box::pin(Conversation::new(shared, dialogue, stream, peer, listed).run(greets)).await;
}

/// Says that there are too many connections.
pub(super) async fn turn_away(shared: &Shared, mut stream: TcpStream) {
    // A peer that begins with TLS would not understand it.
    if !shared.is_implicit {
        let mut said = Vec::new();
        reply::TOO_MANY_CONNECTIONS.write(&mut said);
        hang_up(&mut stream, &said).await;
    }
}

/// Writes the last reply, and reads for a moment what is still coming: closing with something unread would take the
/// reply away from the peer.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, said: &[u8]) {
    let farewell = async {
        stream.write_all(said).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever becomes of it, the connection is over.
    let _ = timeout(FAREWELL, farewell).await;
}

struct Conversation<'a, S> {
    shared: &'a Shared,
    dialogue: &'a mut Dialogue,
    stream: S,
    peer: SocketAddr,
    listed: &'a Listed,
    lines: Lines,
    /// Read, and not looked at.
    buffer: BytesMut,
    /// To be written.
    said: Vec<u8>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    fn new(
        shared: &'a Shared,
        dialogue: &'a mut Dialogue,
        stream: S,
        peer: SocketAddr,
        listed: &'a Listed,
    ) -> Self {
        let (lines, buffer, said) = (Lines::default(), BytesMut::new(), Vec::new());
        Self { shared, dialogue, stream, peer, listed, lines, buffer, said }
    }

    /// Whether TLS is to be started; else the connection is over.
    async fn run(&mut self, greets: bool) -> bool {
        if greets {
            let greeting = self.dialogue.greeting();
            greeting.write(&mut self.said);
        }
        match self.talk().await {
            Ok(never) => match never {},
            Err(End::StartTls) => true,
            Err(End::Lost) => false,
            Err(End::Say(reply)) => {
                reply.write(&mut self.said);
                hang_up(&mut self.stream, &std::mem::take(&mut self.said)).await;
                false
            }
        }
    }

    async fn talk(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            let line = self.line().await?;
            let step = match line {
                Line::Whole(line) => self.dialogue.command(&line),
                Line::TooLong => self.dialogue.fault(reply::LINE_TOO_LONG),
                Line::Bare => self.dialogue.fault(reply::BARE_IN_COMMAND),
            };
            match step {
                Step::Say(reply) => reply.write(&mut self.said),
                Step::SayLines(lines) => self.said.extend_from_slice(&lines),
                Step::SayLater(reply) => {
                    self.complain("login", "name or password is wrong");
                    tokio::select! {
                        () = tokio::time::sleep(GUESS_PAUSE) => {}
                        () = self.shared.session.stopped() => return Err(End::Say(reply::SHUTTING_DOWN)),
                    }
                    reply.write(&mut self.said);
                }
                Step::End(reply) => return Err(End::Say(reply)),
                Step::StartTls => {
                    reply::START_TLS.write(&mut self.said);
                    self.flush().await?;
                    return Err(End::StartTls);
                }
                Step::TakeMessage => {
                    reply::GO_AHEAD.write(&mut self.said);
                    self.flush().await?;
                    let reply = self.message().await?;
                    if reply.code == reply::SHUTTING_DOWN.code {
                        return Err(End::Say(reply));
                    }
                    reply.write(&mut self.said);
                }
            }
            if self.said.len() > WRITE_MAX {
                self.flush().await?;
            }
        }
    }

    /// The next line of commands.
    async fn line(&mut self) -> Result<Line, End> {
        let deadline = Instant::now() + self.shared.rules.command_timeout;
        loop {
            if self.shared.session.is_stopped() {
                return Err(End::Say(reply::SHUTTING_DOWN));
            }
            if let Some(line) = self.lines.next(&mut self.buffer, self.dialogue.is_logging_in()) {
                return Ok(line);
            }
            // Who waits for an answer before sending more gets it now.
            self.flush().await?;
            self.read(deadline).await?;
        }
    }

    /// Takes a message to its end, and says what became of it.
    async fn message(&mut self) -> Result<Reply, End> {
        let Some(mail) = self.dialogue.take_mail() else { return Err(End::Lost) };
        let received = self.receive().await?;
        match received {
            Ok((raw, _share)) => self.accept(mail, raw).await,
            Err(reply) => Ok(reply),
        }
    }

    /// The message, or why it is not taken: that is said at its end.
    async fn receive(&mut self) -> Result<Result<(Vec<u8>, Share<'a>), Reply>, End> {
        let whole = Instant::now() + self.shared.rules.message_timeout;
        let (mut unstuffer, mut message) = (Unstuffer::default(), Vec::new());
        let mut taken = Ok(self.shared.budget.share());
        loop {
            if !self.buffer.is_empty() {
                let data = unstuffer.push(&self.buffer, &mut message);
                match data {
                    Data::More => self.buffer.clear(),
                    Data::End(size) => self.buffer.advance(size),
                    Data::Bare => {
                        self.complain("bare", "a message with a CR or LF that stands alone was refused");
                        return Err(End::Say(reply::BARE_IN_MESSAGE));
                    }
                }
                taken = match taken {
                    Ok(_) if message.len() > self.shared.message_max => Err(reply::TOO_LARGE),
                    Ok(mut share) => match share.grow(message.len()) {
                        true => Ok(share),
                        false => Err(reply::BUSY),
                    },
                    Err(reply) => Err(reply),
                };
                if taken.is_err() {
                    message = Vec::new();
                }
                if matches!(data, Data::End(_)) {
                    return Ok(taken.map(|share| (message, share)));
                }
            }
            let deadline = whole.min(Instant::now() + self.shared.rules.data_timeout);
            self.read(deadline).await?;
        }
    }

    /// Says 250 once the reading is on disk.
    async fn accept(&mut self, mail: Mail, raw: Vec<u8>) -> Result<Reply, End> {
        let session = &self.shared.session;
        let sender = self.dialogue.sender();
        self.listed.received(raw.len(), session.now());
        let envelope = Envelope { peer: self.peer.ip().to_canonical(), sender, mail, time: session.now() };
        let inbound = match self.shared.rules.form.decode(&envelope, &raw.into()) {
            Ok(inbound) => inbound,
            Err(error) => {
                self.complain("unnamed", &error.to_string());
                return Ok(Reply::saying(554, "5.6.0", error.to_string()));
            }
        };
        if let Some(device) = &inbound.device {
            self.listed.mention_device(device);
        }
        let accepted = match session.accept(inbound).await {
            Ok(accepted) => accepted,
            Err(refused) => return Ok(Reply::refused(&refused)),
        };
        let answer = match accepted.replies {
            Some(replies) => self.answer(replies).await,
            None => None,
        };
        let id = accepted.receipt.id();
        Ok(Reply::answered(answer.as_ref(), id.encode(&mut [0; 26])))
    }

    /// What a handler says in time, if a route replies.
    async fn answer(&self, mut replies: Replies) -> Option<Answer> {
        tokio::select! {
            biased;
            answer = replies.settled() => answer,
            () = tokio::time::sleep(self.shared.rules.reply_timeout) => None,
            () = self.shared.session.stopped() => None,
        }
    }

    async fn read(&mut self, deadline: Instant) -> Result<(), End> {
        self.buffer.reserve(READ_MAX);
        let read = tokio::select! {
            read = timeout_at(deadline, self.stream.read_buf(&mut self.buffer)) => read,
            () = self.shared.session.stopped() => return Err(End::Say(reply::SHUTTING_DOWN)),
        };
        match read {
            Ok(Ok(0)) => Err(End::Lost),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.complain("slow", "a connection was closed, as its peer was too slow");
                Err(End::Say(reply::TOO_SLOW))
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.said.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.said).await?;
            self.stream.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await.map_err(|_| End::Lost)??;
        self.said.clear();
        Ok(())
    }

    fn complain(&self, kind: &'static str, about: &str) {
        self.shared.complaints.note(kind, self.peer, about, self.shared.session.now());
    }
}

/// The bytes that messages which are being taken may have together.
#[derive(Debug)]
pub(super) struct Budget {
    free: AtomicUsize,
}

/// What one message has of it, until it is dropped.
#[derive(Debug)]
struct Share<'a> {
    budget: &'a Budget,
    size: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { free: AtomicUsize::new(bytes) }
    }

    fn share(&self) -> Share<'_> {
        Share { budget: self, size: 0 }
    }
}

impl Share<'_> {
    /// Whether there was enough for it to become `size`.
    fn grow(&mut self, size: usize) -> bool {
        let more = size.saturating_sub(self.size);
        let free = &self.budget.free;
        let took =
            free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more)).is_ok();
        if took {
            self.size += more;
        }
        took
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.size, Ordering::Relaxed);
    }
}
