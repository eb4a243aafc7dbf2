//! Pictures: of cameras on this machine, and of those in the network.

mod auth;
mod config;
mod frames;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod http;
mod jpeg;
mod multipart;
#[cfg(test)]
mod tests;
mod v4l;
mod yuyv;

use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Refused};
use tokio::time::{Interval, MissedTickBehavior, interval};

pub(crate) use self::config::Config;
use self::config::{Place, Plan};
use self::frames::Frames;
use self::http::{Connected, Pictures};
use self::jpeg::Picture;
use crate::hand_over::hand_over;
use crate::{CommandError, CommandOffer, Driver, LinkError, Session};

pub(crate) struct Camera {
    plan: Plan,
}

/// The command that it knows.
const CAPTURE: &str = "capture";

impl Driver for Camera {
    const NAME: &'static str = "camera";
    const EXAMPLE: &'static str = r#"
url = "http://camera.example.com/video.mjpg"
device = "gate"
interval_ms = 60000
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { plan: Plan::new(&config)? })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let mut source = tokio::select! {
            () = session.stopped() => return Ok(()),
            opened = Source::open(&self.plan, &session) => opened?,
        };
        session.ready();
        let ended = tokio::select! {
            () = session.stopped() => Ok(()),
            ended = self.take_pictures(&mut source, &session) => ended,
        };
        source.close().await;
        ended
    }
}

impl Camera {
    async fn take_pictures(&self, source: &mut Source, session: &Session) -> Result<(), LinkError> {
        let mut commands = session.attach(&self.plan.device);
        let mut ticks = self.plan.interval.map(|length| {
            let mut ticks = interval(length);
            // What was missed is over: nobody can take a picture of it.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        loop {
            tokio::select! {
                lost = source.lost() => return Err(lost),
                Some(offer) = commands.next() => self.carry_out(offer, source, session).await?,
                () = next(&mut ticks) => {
                    let picture = source.picture().await?;
                    let inbound = self.inbound(picture, "interval");
                    if !hand_over(session, &[], |_| inbound.clone()).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Acknowledges once the picture is on disk.
    async fn carry_out(
        &self,
        offer: CommandOffer,
        source: &mut Source,
        session: &Session,
    ) -> Result<(), LinkError> {
        if &*offer.command.name != CAPTURE {
            let problem = format!("a camera knows the command `{CAPTURE}`, not `{}`", offer.command.name);
            offer.fail(CommandError::Reject(problem));
            return Ok(());
        }
        let picture = match source.picture().await {
            Ok(picture) => picture,
            Err(lost) => {
                offer.fail(CommandError::Retry(lost.to_string()));
                return Err(lost);
            }
        };
        match session.accept(self.inbound(picture, "command")).await {
            Ok(_) => offer.acknowledge(),
            Err(refused @ Refused::TooLarge { .. }) => offer.fail(CommandError::Reject(refused.to_string())),
            Err(refused) => offer.fail(CommandError::Retry(refused.to_string())),
        }
        Ok(())
    }

    fn inbound(&self, picture: Picture, trigger: &'static str) -> Inbound {
        let Picture { jpeg, width, height } = picture;
        let attributes = Attributes::new()
            .with("camera", self.plan.device.clone())
            .with("width", width.to_string())
            .with("height", height.to_string())
            .with("trigger", trigger);
        Inbound {
            device: Some(self.plan.device.clone()),
            attributes,
            ..Inbound::new(self.plan.topic.clone(), ContentType::JPEG, jpeg)
        }
    }
}

/// Never resolves without an interval.
async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Where pictures come from.
enum Source {
    /// It makes them all the time.
    Frames(Frames),
    /// It makes one when it is asked.
    Pictures(Box<Pictures>),
}

impl Source {
    async fn open(plan: &Plan, session: &Session) -> Result<Self, LinkError> {
        match &plan.place {
            Place::Path(local) => v4l::open(local, plan.timeout).await.map(Self::Frames),
            Place::Url(remote) => Ok(match http::connect(remote, plan.timeout, session).await? {
                Connected::Stream(frames) => Self::Frames(frames),
                Connected::Pictures(pictures) => Self::Pictures(Box::new(pictures)),
            }),
        }
    }

    /// Taken after this was asked.
    async fn picture(&mut self) -> Result<Picture, LinkError> {
        match self {
            Self::Frames(frames) => frames.next().await,
            Self::Pictures(pictures) => pictures.next().await,
        }
    }

    /// Resolves when it is known that there are no more.
    async fn lost(&mut self) -> LinkError {
        match self {
            Self::Frames(frames) => frames.lost().await,
            Self::Pictures(_) => std::future::pending().await,
        }
    }

    async fn close(self) {
        if let Self::Frames(frames) = self {
            frames.close().await;
        }
    }
}
