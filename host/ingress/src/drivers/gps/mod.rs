//! Positions from a receiver of satellite navigation, on a serial port or through gpsd.

mod config;
pub(crate) mod decode;
mod fix;
mod gate;
mod gpsd;
mod nmea;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use sandbar_reading::{Attributes, ConfigError, ContentType, Cutter, Framing, Inbound};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use self::config::Config;
use self::config::{Place, Settings};
use self::decode::Talk;
use self::fix::Fix;
use self::gate::Gate;
use crate::complaints::Complaints;
use crate::hand_over::hand_over;
use crate::{Connection, Driver, LinkError, PeerInfo, Session, listener};

/// What is read at once, at most.
const READ_MAX: usize = 4 << 10;

/// gpsd's longest reports list dozens of satellites.
const LINE_MAX: usize = 64 << 10;

/// Receivers say all of one moment in a burst; after such a silence, it is over.
const BURST_OVER: Duration = Duration::from_millis(200);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Gps {
    settings: Settings,
    /// What was said outlives the link: a receiver that was gone for a moment is not lost twice.
    gate: Mutex<Gate>,
}

impl Driver for Gps {
    const NAME: &'static str = "gps";
    const EXAMPLE: &'static str = r#"
port = "/dev/ttyACM0"
baud = 9600
interval_ms = 10000
distance_m = 25
still_ms = 600000
topic = "truck/position"
device = "truck-7"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let settings = config.settings()?;
        Ok(Self { gate: Mutex::new(Gate::new(settings.pace, Instant::now())), settings })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let mut stopped = pin!(session.stopped());
        match &self.settings.place {
            Place::Port(port) => {
                let port = port.open()?;
                let name = port.path().display().to_string();
                self.listen(&session, port, Talk::nmea(), &name, PeerInfo::default()).await
            }
            Place::Gpsd(address) => {
                let opened = tokio::select! {
                    () = &mut stopped => return Ok(()),
                    opened = tokio::time::timeout(CONNECT_TIMEOUT, watch(address)) => opened,
                };
                let connecting = || format!("connecting to gpsd at {address}");
                let stream = opened
                    .map_err(|_| LinkError::ended(format!("{}: no answer in time", connecting())))?
                    .map_err(|error| LinkError::new(connecting(), error))?;
                let peer = PeerInfo { remote: stream.peer_addr().ok(), ..PeerInfo::default() };
                self.listen(&session, stream, Talk::gpsd(), &format!("gpsd at {address}"), peer).await
            }
        }
    }
}

async fn watch(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    listener::prepare(&stream);
    stream.write_all(gpsd::WATCH.as_bytes()).await?;
    Ok(stream)
}

/// What one session listens to.
struct Listening<'a> {
    session: &'a Session,
    name: &'a str,
    talk: Talk,
    cutter: Cutter,
    complaints: Complaints,
    listed: Connection,
}

impl Gps {
    async fn listen(
        &self,
        session: &Session,
        mut stream: impl AsyncRead + Unpin + Send,
        talk: Talk,
        name: &str,
        peer: PeerInfo,
    ) -> Result<(), LinkError> {
        session.ready();
        self.gate.lock().begin(Instant::now());
        let mut it = Listening {
            session,
            name,
            talk,
            cutter: Cutter::new(Framing::Lines, LINE_MAX),
            complaints: Complaints::new(session.ingress().clone()),
            listed: session.connected(PeerInfo { device: self.settings.device.clone(), ..peer }),
        };
        let mut stopped = pin!(session.stopped());
        let mut buffer = BytesMut::with_capacity(READ_MAX);
        loop {
            let lost = self.gate.lock().due();
            let fixes = tokio::select! {
                () = &mut stopped => return Ok(()),
                read = stream.read_buf(&mut buffer) => match read {
                    Ok(1..) => {
                        it.cutter.push(&buffer);
                        buffer.clear();
                        it.fixes()
                    }
                    ended => return self.ended(&it, ended.err()).await,
                },
                () = tokio::time::sleep(BURST_OVER), if it.talk.is_within() => it.talk.rest().into_iter().collect(),
                () = tokio::time::sleep_until(lost.unwrap_or_else(Instant::now)), if lost.is_some() => {
                    let lost = self.gate.lock().lost(Instant::now());
                    if let Some(fix) = lost
                        && !self.take(session, &fix).await?
                    {
                        return Ok(());
                    }
                    continue;
                }
            };
            for fix in fixes {
                let lets = self.gate.lock().lets(&fix, Instant::now());
                if lets && !self.take(session, &fix).await? {
                    return Ok(());
                }
            }
        }
    }

    async fn ended(&self, it: &Listening<'_>, error: Option<std::io::Error>) -> Result<(), LinkError> {
        let gone = self.gate.lock().gone();
        if let Some(fix) = gone {
            self.take(it.session, &fix).await?;
        }
        Err(match error {
            Some(error) => LinkError::new(format!("reading from {}", it.name), error),
            None => LinkError::ended(format!("{} is gone", it.name)),
        })
    }

    /// False if the session stopped first.
    async fn take(&self, session: &Session, fix: &Fix) -> Result<bool, LinkError> {
        let begun = Instant::now();
        let taken = hand_over(session, &[], |_| self.inbound(fix)).await;
        // What the receiver says meanwhile is not heard yet.
        self.gate.lock().held_up(begun.elapsed());
        taken
    }

    fn inbound(&self, fix: &Fix) -> Inbound {
        Inbound {
            topic: self.settings.topic.clone(),
            device: self.settings.device.clone(),
            time: fix.time,
            content_type: ContentType::JSON,
            attributes: Attributes::new(),
            payload: fix.json().into(),
        }
    }
}

impl Listening<'_> {
    fn fixes(&mut self) -> Vec<Fix> {
        let mut fixes = Vec::new();
        loop {
            let line = match self.cutter.next_frame() {
                Ok(Some(line)) => line,
                Ok(None) => return fixes,
                Err(error) => {
                    self.complain(&error);
                    continue;
                }
            };
            self.listed.received(line.len(), self.session.now());
            match self.talk.line(&line) {
                Ok(fix) => fixes.extend(fix),
                Err(error) => self.complain(&error),
            }
        }
    }

    fn complain(&self, about: &dyn std::fmt::Display) {
        self.complaints.note("garbled", self.name, about, self.session.now());
    }
}
