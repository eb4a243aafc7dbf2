//! One connection to a broker: bytes to packets and back, and signs of life.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::codec::{
    self, ConnAck, Connect, Disconnect, Malformed, Packet, Properties, Qos, Version, decode, encode,
};
use crate::{Broker, reason};

/// What we ask of the broker for one connection.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Begin anew, or go on with the session that the broker kept.
    pub clean_start: bool,
    /// How long the broker keeps the session once the link is lost, in seconds (MQTT 5.0; with 3.1.1 a session
    /// that is not clean has no end).
    pub expiry_s: u32,
    /// How many messages of QoS 1 and 2 the broker may send before the first is acknowledged (MQTT 5.0).
    pub receive_maximum: u16,
    /// A larger packet ends the link; with MQTT 5.0 the broker knows, and sends none.
    pub packet_max: u32,
}

/// What the broker said to it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where the broker is.
    pub remote: SocketAddr,
    /// The broker had kept our session.
    pub session_present: bool,
    /// How many messages of QoS 1 and 2 may be on their way to it.
    pub receive_maximum: u16,
    pub packet_max: usize,
    pub qos_max: Qos,
    pub retains: bool,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("connecting to {address}")]
    Unreachable {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("{address} refuses the connection: {reason}")]
    Refused { address: String, reason: String },
    #[error("connecting to {address}")]
    Lost {
        address: String,
        #[source]
        source: LinkLost,
    },
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkLost {
    #[error("the broker ended the connection")]
    Ended,
    #[error("the broker ended the connection: {0}")]
    Farewell(String),
    #[error("the broker gave no sign of life")]
    Silent,
    #[error("the broker sent what is no MQTT")]
    Malformed(#[from] Malformed),
    #[error("the broker sent {0}, which has no place there")]
    Unexpected(&'static str),
    #[error("the connection was lost")]
    Io(#[from] io::Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a broker. Nothing is sent or received but while it is driven.
pub struct Link {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    /// The socket may hold back some of what it took.
    unflushed: bool,
    scratch: Vec<u8>,
    version: Version,
    packet_max: usize,
    keep_alive: Duration,
    patience: Duration,
    /// When something was last given to the socket.
    sent: Instant,
    /// Until when a sign of life is waited for.
    awaited: Option<Instant>,
}

/// Beyond this, reading waits until some of it was written: a broker that does not read gets no more answers.
const OUTPUT_MAX: usize = 1 << 20;

/// What is read at once, about.
const READ: usize = 8 << 10;

/// With less room than that there is to be more before something is read.
const READ_MIN: usize = 1 << 10;

impl Link {
    /// Connects, within the time that the settings allow.
    pub async fn open(broker: &Broker, session: Session) -> Result<(Self, Opened), OpenError> {
        let late =
            || OpenError::Unreachable { address: broker.address(), source: io::ErrorKind::TimedOut.into() };
        timeout(broker.timeout, Self::connect(broker, session)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(broker: &Broker, session: Session) -> Result<(Self, Opened), OpenError> {
        let unreachable = |source| OpenError::Unreachable { address: broker.address(), source };
        let (stream, remote) = stream(broker).await.map_err(unreachable)?;
        let mut link = Self::new(broker, session, stream);
        link.send(&Packet::Connect(Box::new(connect(broker, session))));
        let lost = |source| OpenError::Lost { address: broker.address(), source };
        let ConnAck { session_present, code, properties } = match link.next().await.map_err(lost)? {
            Packet::ConnAck(answer) => *answer,
            other => return Err(lost(LinkLost::Unexpected(name(&other)))),
        };
        if code != 0 {
            let reason = reason::of_connack(code, broker.version, properties.reason.as_deref());
            return Err(OpenError::Refused { address: broker.address(), reason });
        }
        if session_present && session.clean_start {
            // MQTT 5.0, section 3.2.2.1.1.
            return Err(lost(LinkLost::Unexpected("a session of before after a clean start")));
        }
        if let Some(seconds) = properties.server_keep_alive {
            link.keep_alive = Duration::from_secs(seconds.into());
        }
        let opened = Opened {
            remote,
            session_present,
            receive_maximum: properties.receive_maximum.unwrap_or(match broker.version {
                Version::V3 => RECEIVE_MAXIMUM_V3,
                Version::V5 => u16::MAX,
            }),
            packet_max: properties.maximum_packet_size.map_or(PACKET_MAX, |size| size as usize),
            qos_max: properties.maximum_qos.and_then(Qos::from_bits).unwrap_or(Qos::ExactlyOnce),
            retains: properties.retain_available.unwrap_or(true),
        };
        Ok((link, opened))
    }

    fn new(broker: &Broker, session: Session, stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            scratch: Vec::new(),
            version: broker.version,
            packet_max: session.packet_max as usize,
            keep_alive: broker.keep_alive,
            patience: broker.timeout,
            sent: Instant::now(),
            awaited: None,
        }
    }

    /// Puts a packet behind those that are yet to be sent.
    pub fn send(&mut self, packet: &Packet) {
        encode(packet, self.version, &mut self.scratch);
        self.output.extend_from_slice(&self.scratch);
        self.scratch.clear();
    }

    /// How many bytes are yet to be given to the socket.
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// The next packet; sends what is to be sent, and answers for our being alive. May be dropped and called
    /// again: nothing is lost.
    pub async fn next(&mut self) -> Result<Packet, LinkLost> {
        loop {
            if let Some(packet) = decode(&mut self.input, self.version, self.packet_max)? {
                match packet {
                    Packet::PingResp => self.awaited = None,
                    Packet::Disconnect(farewell) => {
                        let Disconnect { code, properties } = *farewell;
                        return Err(LinkLost::Farewell(reason::text(code, properties.reason.as_deref())));
                    }
                    packet => return Ok(packet),
                }
                continue;
            }
            self.drive(true).await?;
        }
    }

    /// As `next`, but takes nothing in: for when no more can be taken. Does not return but with an error.
    pub async fn stay(&mut self) -> LinkLost {
        loop {
            // What the broker says is not read, thus not waited for either.
            self.awaited = None;
            if let Err(lost) = self.drive(false).await {
                return lost;
            }
        }
    }

    /// Returns once all that was to be sent was given to the socket.
    pub async fn flush(&mut self) -> Result<(), LinkLost> {
        while !self.output.is_empty() || self.unflushed {
            self.drive(false).await?;
        }
        Ok(())
    }

    /// Says farewell: the broker publishes no will, and keeps the session as agreed.
    pub async fn close(mut self) {
        self.send(&Packet::Disconnect(Box::default()));
        // It was a courtesy.
        drop(timeout(Duration::from_millis(300), self.flush()).await);
        drop(timeout(Duration::from_millis(100), self.writer.shutdown()).await);
    }

    /// One step: something was read or written, or a sign of life became due.
    async fn drive(&mut self, reads: bool) -> Result<(), LinkLost> {
        let reads = reads && self.output.len() < OUTPUT_MAX;
        let ping_at = self.sent + self.keep_alive;
        if reads && self.input.capacity() - self.input.len() < READ_MIN {
            self.input.reserve(READ);
        }
        tokio::select! {
            read = self.reader.read_buf(&mut self.input), if reads => match read? {
                0 => Err(LinkLost::Ended),
                _ => Ok(()),
            },
            wrote = write(&mut self.writer, &mut self.output, &mut self.unflushed),
                if !self.output.is_empty() || self.unflushed =>
            {
                wrote?;
                self.sent = Instant::now();
                Ok(())
            }
            () = sleep_until(ping_at), if !self.keep_alive.is_zero() && self.awaited.is_none() => {
                self.send(&Packet::PingReq);
                self.sent = Instant::now();
                self.awaited = Some(self.sent + self.patience);
                Ok(())
            }
            () = sleep_until(self.awaited.unwrap_or(ping_at)), if self.awaited.is_some() => {
                Err(LinkLost::Silent)
            }
            // Nothing is taken in, there is nothing to say, and no sign of life was agreed on.
            else => std::future::pending().await,
        }
    }
}

/// A broker cannot say it with 3.1.1. Mosquitto 2.0 takes 20 unless configured, and of what comes beyond that with
/// QoS 2 it completes the exchange and passes nothing on.
const RECEIVE_MAXIMUM_V3: u16 = 20;

/// The protocol's own limit (2.1.4).
const PACKET_MAX: usize = 268_435_460;

/// Gives to the socket what it takes, and flushes once that was all: a TLS session keeps records back.
async fn write(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
        return Ok(());
    }
    let count = writer.write(output).await?;
    if count == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    output.advance(count);
    *unflushed = true;
    Ok(())
}

/// Small writes go out at once. A broker that vanished is noticed after about five minutes, also where no sign of life
/// was agreed on.
async fn socket(broker: &Broker) -> io::Result<TcpStream> {
    const KEEPALIVE: Duration = Duration::from_secs(60);
    let socket = TcpStream::connect((&*broker.host, broker.port)).await?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(4);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

async fn stream(broker: &Broker) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
    let socket = socket(broker).await?;
    let remote = socket.peer_addr()?;
    let stream: Box<dyn Stream> = match &broker.tls {
        None => Box::new(socket),
        Some(tls) => {
            let (connector, name) = tls.current();
            Box::new(connector.connect(name, socket).await?)
        }
    };
    Ok((stream, remote))
}

fn connect(broker: &Broker, session: Session) -> Connect {
    let properties = Properties {
        session_expiry: Some(session.expiry_s).filter(|seconds| *seconds > 0),
        receive_maximum: Some(session.receive_maximum).filter(|count| *count > 0),
        maximum_packet_size: Some(session.packet_max),
        ..Properties::default()
    };
    Connect {
        version: broker.version,
        clean_start: session.clean_start,
        keep_alive: u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX),
        client_id: broker.client_id.clone(),
        user: broker.user.clone(),
        password: broker.password.as_ref().map(|password| Bytes::clone(&password.current())),
        properties,
    }
}

/// For an error about a packet.
pub const fn name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::Ack(codec::Ack { kind, .. }) => match kind {
            codec::AckKind::PubAck => "PUBACK",
            codec::AckKind::PubRec => "PUBREC",
            codec::AckKind::PubRel => "PUBREL",
            codec::AckKind::PubComp => "PUBCOMP",
        },
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_renewed_password_is_shown_with_the_next_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "one\n").unwrap();
        let settings = json!({
            "url": "mqtt://localhost", "client_id": "c", "user": "u", "password": { "file": path },
        });
        let broker = sandbar_reading::settings(settings).and_then(|config| Broker::new(&config)).unwrap();
        let session = Session { clean_start: true, expiry_s: 0, receive_maximum: 1, packet_max: 1 << 20 };
        let shown = || connect(&broker, session).password.unwrap();
        assert_eq!(shown(), "one");
        std::fs::write(&path, "another one\n").unwrap();
        assert_eq!(shown(), "another one");
    }

    const SESSION: Session =
        Session { clean_start: true, expiry_s: 0, receive_maximum: 1, packet_max: 1 << 20 };

    fn silent_broker(port: u16) -> Broker {
        let url = format!("mqtt://127.0.0.1:{port}");
        let settings = json!({ "url": url, "client_id": "c", "keep_alive_s": 0 });
        sandbar_reading::settings(settings).and_then(|config| Broker::new(&config)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn without_signs_of_life_it_may_have_nothing_to_do() {
        let (near, far) = tokio::io::duplex(64);
        let mut link = Link::new(&silent_broker(1), SESSION, Box::new(near));
        assert!(timeout(Duration::from_secs(3600), link.stay()).await.is_err(), "its window is full");
        drop(far);
        assert!(matches!(link.next().await, Err(LinkLost::Ended)));
    }

    #[tokio::test]
    async fn a_broker_that_vanished_is_noticed_without_signs_of_life() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = silent_broker(listener.local_addr().unwrap().port());
        let socket = socket(&broker).await.unwrap();
        let link = SockRef::from(&socket);
        assert!(link.keepalive().unwrap());
        let (time, interval) = (link.tcp_keepalive_time().unwrap(), link.tcp_keepalive_interval().unwrap());
        let noticed_after = time + interval * link.tcp_keepalive_retries().unwrap();
        assert_eq!((time, noticed_after), (Duration::from_secs(60), Duration::from_secs(5 * 60)));
    }

    #[tokio::test]
    async fn what_has_come_is_read_at_once() {
        let (near, mut far) = tokio::io::duplex(16 << 10);
        let mut link = Link::new(&silent_broker(1), SESSION, Box::new(near));
        far.write_all(&[0; 5000]).await.unwrap();
        link.drive(true).await.unwrap();
        assert_eq!(link.input.len(), 5000);
    }
}
