//! A driver without hardware: plausible sensor data, the same for the same seed.

mod config;
mod signal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, SelectAll, StreamExt};
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Refused, StateWrite, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) use self::config::Config;
use self::config::Kind;
use self::signal::{Signal, scramble};
use crate::{CommandError, CommandOffer, Driver, LinkError, Session};

/// Names of what it keeps.
const SEQUENCE: &str = "sequence";
const SET: &str = "set";

/// More than this late (the host was busy, or asleep) it goes on from now, instead of catching up.
const LATE_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Simulator {
    config: Config,
    interval: Duration,
    devices: Vec<Device>,
}

struct Device {
    name: Box<str>,
    /// One for each of the kinds.
    topics: Vec<Topic>,
}

/// What commands changed; it outlives restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Set {
    interval_ms: Option<u64>,
    /// By device.
    offsets: HashMap<Box<str>, f64>,
}

/// The command `set`: the pace of all, or what is added to the device's values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetCommand {
    interval_ms: Option<u64>,
    offset: Option<f64>,
}

impl Driver for Simulator {
    const NAME: &'static str = "simulator";
    const EXAMPLE: &'static str = r#"
seed = 7
interval_ms = 1000
devices = ["boiler", "cellar"]
kinds = ["temperature", "humidity"]
unit = "F"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        config.check_kinds()?;
        let interval = config.interval()?;
        let device = |name: Box<str>| {
            let topic = |kind: &Kind| format!("sensors/{name}/{}", kind.name()).parse();
            let topics: Result<Vec<Topic>, _> = config.kinds.iter().map(topic).collect();
            topics
                .map(|topics| Device { topics, name })
                .map_err(|error| ConfigError::at("devices", error.to_string()))
        };
        let devices = config.device_names()?.into_iter().map(device).collect::<Result<_, _>>()?;
        Ok(Self { config, interval, devices })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let mut sequence: u64 = kept(&session, SEQUENCE)?.unwrap_or(0);
        let mut set: Set = kept(&session, SET)?.unwrap_or_default();
        let mut commands = self.attach(&session);
        let mut due = Instant::now();
        session.ready();
        loop {
            tokio::select! {
                biased;
                () = session.stopped() => return Ok(()),
                Some(offer) = commands.next() => self.carry_out(offer, &mut set, &session).await,
                () = tokio::time::sleep_until(due), if !self.is_done(sequence) => {
                    let inbound = self.inbound(sequence, &set);
                    match session.accept_keeping(inbound, vec![keep(SEQUENCE, sequence + 1)]).await {
                        Ok(_) => {
                            sequence += 1;
                            due = next_due(due, self.pace(&set), Instant::now());
                        }
                        Err(Refused::Busy { retry_after }) => due = Instant::now() + retry_after,
                        Err(Refused::Stopping) => return Ok(()),
                        Err(refused) => return Err(LinkError::new("handing a reading over", refused)),
                    }
                }
            }
        }
    }
}

impl Simulator {
    /// The devices and kinds take turns: all devices measure the first kind, then all the second …
    fn inbound(&self, sequence: u64, set: &Set) -> Inbound {
        let (devices, kinds) = (self.devices.len() as u64, self.config.kinds.len() as u64);
        let device_index = sequence % devices;
        let kind_index = sequence / devices % kinds;
        let device = &self.devices[device_index as usize];
        let signal = Signal {
            kind: self.config.kinds[kind_index as usize],
            unit: self.config.unit,
            seed: scramble(self.config.seed, device_index * kinds + kind_index),
            offset: set.offsets.get(&device.name).copied().unwrap_or_default(),
        };
        Inbound {
            topic: device.topics[kind_index as usize].clone(),
            device: Some(device.name.clone()),
            time: None,
            content_type: ContentType::JSON,
            attributes: Attributes::new(),
            payload: signal.payload(sequence / devices / kinds, sequence).into(),
        }
    }

    fn is_done(&self, sequence: u64) -> bool {
        self.config.count.is_some_and(|count| sequence >= count)
    }

    fn pace(&self, set: &Set) -> Duration {
        set.interval_ms.map_or(self.interval, Duration::from_millis)
    }

    fn attach(&self, session: &Session) -> SelectAll<stream::BoxStream<'static, CommandOffer>> {
        let offers = |device: &Device| {
            let attachment = session.attach(&device.name);
            stream::unfold(attachment, async |mut attachment| {
                attachment.next().await.map(|offer| (offer, attachment))
            })
            .boxed()
        };
        self.devices.iter().map(offers).collect()
    }

    /// Acknowledges once the change is on disk.
    async fn carry_out(&self, offer: CommandOffer, set: &mut Set, session: &Session) {
        let changed = match change(set, &offer.command.device, &offer.command.name, &offer.command.payload) {
            Ok(changed) => changed,
            Err(problem) => return offer.fail(CommandError::Reject(problem)),
        };
        match session.keep(vec![keep(SET, &changed)]).await {
            Ok(()) => {
                *set = changed;
                offer.acknowledge();
            }
            Err(refused) => offer.fail(CommandError::Retry(refused.to_string())),
        }
    }
}

fn change(set: &Set, device: &str, name: &str, payload: &[u8]) -> Result<Set, String> {
    if name != SET {
        return Err(format!("a simulated device knows the command `set`, not `{name}`"));
    }
    let command: SetCommand = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    if command.interval_ms == Some(0) {
        return Err("interval_ms: must be above 0".to_owned());
    }
    let mut changed = set.clone();
    changed.interval_ms = command.interval_ms.or(set.interval_ms);
    if let Some(offset) = command.offset {
        changed.offsets.insert(device.into(), offset);
    }
    Ok(changed)
}

fn next_due(due: Instant, pace: Duration, now: Instant) -> Instant {
    let next = due + pace;
    if next + LATE_MAX < now { now } else { next }
}

fn keep(name: &str, value: impl Serialize) -> StateWrite {
    let value = serde_json::to_vec(&value).expect("numbers and maps with text keys are JSON");
    StateWrite { name: name.into(), value: Some(Bytes::from(value)), expires: None }
}

fn kept<T: serde::de::DeserializeOwned>(session: &Session, name: &str) -> Result<Option<T>, LinkError> {
    let reading = || format!("reading what was kept as `{name}`");
    match session.kept(name).map_err(|refused| LinkError::new(reading(), refused))? {
        Some(value) => serde_json::from_slice(&value).map(Some).map_err(|e| LinkError::new(reading(), e)),
        None => Ok(None),
    }
}
