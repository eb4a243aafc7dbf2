//! Registers and coils of Modbus devices, read at an interval and written by commands.

mod command;
mod config;
pub(crate) mod decode;
mod link;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::{Attributes, ConfigError, ContentType, Inbound, Topic};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use self::command::Wanted;
pub(crate) use self::config::Config;
use self::config::{Settings, Unit};
use self::decode::Answer;
use self::link::{Failed, Link};
use self::state::State;
use crate::devices::{Devices, Joined, Order, orders};
use crate::hand_over::hand_over;
use crate::{CommandError, Driver, LinkError, Session};

pub(crate) struct Modbus {
    settings: Settings,
    /// What was said of each unit, in their order. It outlives the link.
    states: Mutex<Vec<Option<State>>>,
}

impl Driver for Modbus {
    const NAME: &'static str = "modbus";
    const EXAMPLE: &'static str = r#"
connect = "192.168.1.20:502"
interval_ms = 5000
topic = "meters/{device}"
state_topic = "meters/{device}/state"

[[units]]
unit = 1
device = "meter-1"
values = [
  { name = "voltage", function = "input", address = 0, type = "u16", scale = 0.1, unit = "V" },
  { name = "energy", function = "input", address = 1, type = "u32", word_order = "little", unit = "Wh" },
  { name = "limit", function = "holding", address = 100, type = "f32", unit = "A" },
  { name = "relay", function = "coil", address = 0 },
]
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let settings = config.settings()?;
        let states = Mutex::new(vec![None; settings.units.len()]);
        Ok(Self { settings, states })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let devices = Devices::new(session.clone());
        let ended = tokio::select! {
            () = session.stopped() => Ok(()),
            ended = self.poll(&session, &devices) => ended,
        };
        devices.closed().await;
        ended
    }
}

/// Commands on their way, and where those of each unit's device come from.
struct Orders {
    arriving: mpsc::Receiver<Order>,
    _joined: Vec<Joined>,
}

impl Modbus {
    /// Until the session stops or the link is lost.
    async fn poll(&self, session: &Session, devices: &Arc<Devices>) -> Result<(), LinkError> {
        let mut link = match Link::open(&self.settings.place, self.settings.timeout).await {
            Ok(link) => link,
            Err(error) => return self.lost(session, error).await,
        };
        session.ready();
        let (sender, arriving) = orders();
        let named = self.settings.units.iter().filter_map(|unit| unit.device.as_deref());
        let joined = named.map(|device| devices.join(device, sender.clone())).collect();
        let mut orders = Orders { arriving, _joined: joined };
        let mut ticks = tokio::time::interval_at(Instant::now(), self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if let Err(error) = self.read_all(session, &mut link, &mut orders).await {
                        break error;
                    }
                }
                Some(order) = orders.arriving.recv() => {
                    if let Err(error) = self.carry_out(session, &mut link, order).await {
                        break error;
                    }
                }
            }
        };
        drop(orders);
        self.lost(session, ended).await
    }

    async fn read_all(
        &self,
        session: &Session,
        link: &mut Link<'_>,
        orders: &mut Orders,
    ) -> Result<(), LinkError> {
        for index in 0..self.settings.units.len() {
            // A command waits for one unit's answers, not for all.
            while let Ok(order) = orders.arriving.try_recv() {
                self.carry_out(session, link, order).await?;
            }
            self.read(session, link, index).await?;
        }
        Ok(())
    }

    /// Reads a unit and says what came of it. An error says that the link is lost.
    async fn read(&self, session: &Session, link: &mut Link<'_>, index: usize) -> Result<(), LinkError> {
        let unit = &self.settings.units[index];
        let mut answers: Vec<Answer> = Vec::with_capacity(unit.table.blocks.len());
        let mut refused: Vec<String> = Vec::new();
        for block in &unit.table.blocks {
            match link.read(unit.number, *block).await {
                Ok(words) => answers.push(Ok(words)),
                Err(Failed::Lost(error)) => return Err(error),
                Err(Failed::Unreachable(cause) | Failed::HungUp(cause)) => {
                    return self.says(session, index, State::Unreachable(cause)).await;
                }
                Err(failed) => {
                    refused.push(format!("{}: {}", block.name(), failed.text()));
                    answers.push(Err(failed.text()));
                }
            }
        }
        let state = if refused.is_empty() { State::Online } else { State::Failing(refused.join("; ")) };
        self.says(session, index, state).await?;
        let payload = decode::payload(&unit.table, &answers);
        self.take(session, unit, &unit.topic, &payload).await
    }

    /// Says so, if it is news.
    async fn says(&self, session: &Session, index: usize, state: State) -> Result<(), LinkError> {
        if state.is_news(self.states.lock()[index].as_ref()) {
            let unit = &self.settings.units[index];
            self.take(session, unit, &unit.state_topic, state.payload().as_bytes()).await?;
            self.states.lock()[index] = Some(state);
        }
        Ok(())
    }

    /// Nobody is reached any more.
    async fn lost(&self, session: &Session, error: LinkError) -> Result<(), LinkError> {
        let cause = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        for index in 0..self.settings.units.len() {
            self.says(session, index, State::Unreachable(cause.clone())).await?;
        }
        Err(error)
    }

    async fn take(
        &self,
        session: &Session,
        unit: &Unit,
        topic: &Topic,
        payload: &[u8],
    ) -> Result<(), LinkError> {
        let inbound = |_| Inbound {
            topic: topic.clone(),
            device: unit.device.clone(),
            time: None,
            content_type: ContentType::JSON,
            attributes: Attributes::new().with("modbus.unit", unit.number.to_string()),
            payload: payload.to_vec().into(),
        };
        match hand_over(session, &[], inbound).await? {
            true => Ok(()),
            // The session stops: whoever runs this is dropped.
            false => std::future::pending().await,
        }
    }

    /// An error says that the link is lost.
    async fn carry_out(&self, session: &Session, link: &mut Link<'_>, order: Order) -> Result<(), LinkError> {
        let command = &order.command;
        let units = &self.settings.units;
        let index = units.iter().position(|unit| unit.device.as_ref() == Some(&command.device));
        let Some(index) = index else {
            order.done(Err(CommandError::Reject("no unit is that device".to_owned())));
            return Ok(());
        };
        let unit = &units[index];
        match command::wanted(&command.name, &command.payload, &unit.table, self.settings.raw_writes) {
            Err(error) => order.done(Err(CommandError::Reject(error.to_string()))),
            Ok(Wanted::Read) => {
                let read = self.read(session, link, index).await;
                let retry = |error: &LinkError| Err(CommandError::Retry(error.to_string()));
                order.done(read.as_ref().map_or_else(retry, |()| Ok(())));
                return read;
            }
            Ok(Wanted::Write(writes)) => {
                order.sent();
                for write in &writes {
                    match link.write(unit.number, write).await {
                        Ok(()) => {}
                        Err(Failed::Lost(error)) => {
                            order.done(Err(CommandError::Retry(error.to_string())));
                            return Err(error);
                        }
                        Err(failed) => {
                            let error =
                                if failed.is_for_now() { CommandError::Retry } else { CommandError::Reject };
                            order.done(Err(error(failed.text())));
                            return Ok(());
                        }
                    }
                }
                order.done(Ok(()));
            }
        }
        Ok(())
    }
}
