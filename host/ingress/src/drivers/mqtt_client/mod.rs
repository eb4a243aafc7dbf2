//! A client of a broker of someone else's (MQTT 3.1.1 and 5.0).

mod config;
mod decode;
mod exchange;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod kept;
mod outgoing;
#[cfg(test)]
mod tests;

use sandbar_mqtt_client::codec::{Packet, Subscribe, Unsubscribe};
use sandbar_mqtt_client::{Link, Session as Terms, reason};
use sandbar_reading::ConfigError;
use tokio::time::Instant;

pub(crate) use self::config::Config;
use self::config::Plan;
use self::exchange::Exchange;
use self::kept::Kept;
use crate::{Driver, LinkError, Session};

pub(crate) struct MqttClient {
    plan: Plan,
}

/// Room for a packet's topic and properties beside the payload of the largest reading.
const HEAD_MAX: usize = 256 << 10;

const SUBSCRIBE_ID: u16 = 65_535;
const UNSUBSCRIBE_ID: u16 = 65_534;

impl Driver for MqttClient {
    const NAME: &'static str = "mqtt-client";
    const EXAMPLE: &'static str = r#"
broker = { url = "mqtt://broker.example.com", client_id = "sandbar" }
filters = ["sensors/#"]
qos = 1
device = ["sensors/{device}/#"]
command_topic = "devices/{device}/commands/{command}"
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { plan: Plan::new(&config)? })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let plan = &self.plan;
        let terms = Terms {
            clean_start: plan.clean_start,
            expiry_s: if plan.clean_start { 0 } else { plan.session_expiry_s },
            receive_maximum: plan.window,
            packet_max: u32::try_from(session.reading_max() + HEAD_MAX).unwrap_or(u32::MAX),
        };
        let opening = Link::open(&plan.broker, terms);
        let (link, opened) = tokio::select! {
            () = session.stopped() => return Ok(()),
            opened = opening => opened.map_err(|error| LinkError::new("the broker", error))?,
        };
        let mut kept = Kept::read(&session)?;
        if !opened.session_present {
            kept.forget_session(&session).await?;
        }
        let mut exchange = Exchange::new(plan, session.clone(), link, &opened, kept);
        self.subscribe(&mut exchange, &session);
        let ended = self.converse(&mut exchange, &session).await;
        match ended {
            Ok(()) => exchange.finish().await,
            Err(_) => exchange.lost().await,
        }
        ended
    }
}

impl MqttClient {
    /// Until the session stops.
    async fn converse(&self, exchange: &mut Exchange<'_>, session: &Session) -> Result<(), LinkError> {
        loop {
            let deadline = exchange.subscribing;
            tokio::select! {
                () = session.stopped() => return Ok(()),
                step = exchange.step() => match step? {
                    Some(Packet::SubAck(answer)) if answer.packet_id == SUBSCRIBE_ID => {
                        self.check(&answer.codes)?;
                        exchange.keep_filters(self.filters()).await?;
                        exchange.subscribing = None;
                        session.ready();
                    }
                    Some(Packet::UnsubAck(UNSUBSCRIBE_ID)) | None => {}
                    Some(other) => {
                        let name = sandbar_mqtt_client::name(&other);
                        return Err(LinkError::ended(format!("the broker sent an unexpected {name}")));
                    }
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(LinkError::ended("the broker does not answer the subscription"));
                }
            }
        }
    }

    /// What the broker has subscribed for us is not asked for again: with 3.1.1 every subscription brings the
    /// retained messages once more.
    fn subscribe(&self, exchange: &mut Exchange<'_>, session: &Session) {
        let wanted = self.filters();
        if exchange.kept_filters() == wanted {
            return session.ready();
        }
        let gone: Vec<Box<str>> = exchange
            .kept_filters()
            .iter()
            .map(|(filter, _)| filter.clone())
            .filter(|filter| !wanted.iter().any(|(wanted, _)| wanted == filter))
            .collect();
        if !gone.is_empty() {
            exchange.send(&Packet::Unsubscribe(Unsubscribe { packet_id: UNSUBSCRIBE_ID, filters: gone }));
        }
        let filters = self.plan.filters.clone();
        exchange.send(&Packet::Subscribe(Subscribe { packet_id: SUBSCRIBE_ID, filters }));
        exchange.subscribing = Some(Instant::now() + self.plan.broker.timeout());
    }

    /// Each filter with its QoS, as they are kept.
    fn filters(&self) -> Vec<(Box<str>, u8)> {
        self.plan.filters.iter().map(|filter| (filter.filter.clone(), filter.qos.bits())).collect()
    }

    fn check(&self, codes: &[u8]) -> Result<(), LinkError> {
        let (asked, answered) = (self.plan.filters.len(), codes.len());
        if answered != asked {
            return Err(LinkError::ended(format!("the broker answers {answered} of {asked} subscriptions")));
        }
        for (filter, code) in self.plan.filters.iter().zip(codes) {
            if *code >= reason::FAILURE {
                let reason = reason::text(*code, None);
                let filter = &filter.filter;
                return Err(LinkError::ended(format!(
                    "the broker refuses to subscribe to {filter}: {reason}"
                )));
            }
        }
        Ok(())
    }
}
