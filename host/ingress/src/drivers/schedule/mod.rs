//! Readings at times that a cron expression or an interval names.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, StateWrite, Timestamp, Topic};

pub(crate) use self::config::Config;
use self::plan::{Missed, Plan, position};
use crate::hand_over::hand_over;
use crate::{Driver, LinkError, Session};

/// The name of what it keeps: the time until which all is done, and after it the latest that ever was, if that is
/// another.
const POSITION: &str = "position";

/// The clock may be set while it waits: it is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

pub(crate) struct Schedule {
    plan: Plan,
    missed: Missed,
    topic: Topic,
    device: Option<Box<str>>,
    payload: String,
    content_type: ContentType,
}

impl Driver for Schedule {
    const NAME: &'static str = "schedule";
    const EXAMPLE: &'static str = r#"
cron = "0 7 * * MON-FRI"
time_zone = "Europe/Zurich"
missed = "catch_up"
topic = "office/opens"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&config.payload).is_ok();
        let content_type = match &config.content_type {
            Some(text) => {
                text.parse().map_err(|error| ConfigError::at("content_type", format!("{error}")))?
            }
            None if is_json => ContentType::JSON,
            None => ContentType::TEXT,
        };
        Ok(Self {
            plan: config.plan()?,
            missed: config.missed()?,
            topic: config.topic.parse().map_err(|error| ConfigError::at("topic", format!("{error}")))?,
            device: config.device.as_deref().map(Into::into),
            payload: config.payload,
            content_type,
        })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let (mut done, mut latest) = match kept(&session)? {
            Some(kept) => kept,
            // From now on a restart knows what was missed.
            None => {
                let now = session.now();
                let keeping = session.keep(vec![keep(now, now)]).await;
                keeping.map_err(|refused| LinkError::new("keeping the position", refused))?;
                (now, now)
            }
        };
        session.ready();
        let mut before = done;
        loop {
            let now = session.now();
            done = position(done, latest, before, now);
            before = now;
            for tick in self.plan.due(done, now, self.missed) {
                latest = latest.max(tick);
                if !hand_over(&session, &[keep(tick, latest)], |now| self.inbound(tick, now)).await? {
                    return Ok(());
                }
                done = tick;
            }
            let now = session.now();
            let Some(next) = self.plan.after(done.max(now)) else {
                // The expression names years, and the last of them is over.
                session.stopped().await;
                return Ok(());
            };
            tokio::select! {
                () = session.stopped() => return Ok(()),
                () = tokio::time::sleep(next.since(now).min(LOOK_EVERY)) => {}
            }
        }
    }
}

impl Schedule {
    fn inbound(&self, tick: Timestamp, now: Timestamp) -> Inbound {
        let late = now.since(tick).as_millis();
        Inbound {
            topic: self.topic.clone(),
            device: self.device.clone(),
            time: Some(tick),
            content_type: self.content_type.clone(),
            attributes: Attributes::new()
                .with("schedule.time", tick.to_string())
                .with("schedule.late_ms", late.to_string()),
            payload: self.payload.replace("{time}", &tick.to_string()).into(),
        }
    }
}

fn keep(position: Timestamp, latest: Timestamp) -> StateWrite {
    let text = if latest == position { position.to_string() } else { format!("{position} {latest}") };
    StateWrite { name: POSITION.into(), value: Some(Bytes::from(text)), expires: None }
}

/// The position, and the latest that there ever was.
fn kept(session: &Session) -> Result<Option<(Timestamp, Timestamp)>, LinkError> {
    let reading = "reading the position that was kept";
    let Some(text) = session.kept(POSITION).map_err(|refused| LinkError::new(reading, refused))? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).map_err(|error| LinkError::new(reading, error))?;
    let time = |text: &str| text.parse::<Timestamp>().map_err(|error| LinkError::new(reading, error));
    let (position, latest) = text.split_once(' ').unwrap_or((text, text));
    Ok(Some((time(position)?, time(latest)?)))
}
