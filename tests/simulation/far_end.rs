//! Sinks and devices: they take, refuse, are slow, hang, and say that they did not take what they took.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_ingress::{CommandError, Intake};
use sandbar_reading::{Delivery, DeliveryId, ReadingId};
use sandbar_sinks::{AnySink, Cause, DeliveryError, Progress};

use crate::script::text;
use crate::world::{World, name};

/// Something that reached a target, repeats included.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// `sink near`, `device d1`
    pub(crate) target: String,
    pub(crate) delivery: DeliveryId,
    /// A device is not told of which reading and count a command is.
    pub(crate) told: Option<Told>,
    pub(crate) label: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) reading: ReadingId,
    pub(crate) route: String,
    pub(crate) n: u64,
    pub(crate) epoch: u64,
}

impl Told {
    pub(crate) fn by(delivery: &Delivery) -> Self {
        let number = |name| delivery.message.attributes.get(name).and_then(|text| text.parse().ok());
        Self {
            reading: delivery.reading,
            route: delivery.route.to_string(),
            n: number("n").unwrap_or_default(),
            epoch: number("epoch").unwrap_or_default(),
        }
    }
}

pub(crate) struct Sink {
    pub(crate) world: World,
    pub(crate) name: &'static str,
}

/// How a sink takes one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Slow,
    Fails,
    /// Takes half, and says so.
    Half,
    /// Takes half, and says that it took nothing.
    Lies,
    /// Takes half and says nothing at all.
    Hangs,
}

impl AnySink for Sink {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn deliver<'a>(
        &'a self,
        batch: &'a [Delivery],
        _: &'a Progress,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(self.offered(batch))
    }
}

impl Sink {
    async fn offered(&self, batch: &[Delivery]) -> Result<(), DeliveryError> {
        let (world, target) = (&self.world, format!("sink {}", self.name));
        let _alone = world.alone(target.clone());
        if batch.is_empty() || batch.len() > world.plan.offering.batch_max {
            world.wrong(format!("{target}: a batch of {}", batch.len()));
        }
        let mood = self.mood();
        world.trace(|| format!("{target}: offered {}, {mood:?}", batch.len()));
        if mood == Mood::Slow {
            tokio::time::sleep(world.millis_below(1500)).await;
        }
        let most = match mood {
            Mood::Well | Mood::Slow => batch.len(),
            Mood::Fails => 0,
            Mood::Half | Mood::Lies | Mood::Hangs => batch.len() / 2,
        };
        for (at, delivery) in batch[..most].iter().enumerate() {
            if world.never_takes(self.name, text(&delivery.message.payload), delivery.id) {
                return Err(DeliveryError::Reject { rejected: at, cause: Cause::new("scripted") });
            }
            self.take(&target, delivery);
        }
        let failed =
            |delivered| DeliveryError::Retry { delivered, after: None, cause: Cause::new("scripted") };
        match mood {
            Mood::Well | Mood::Slow => Ok(()),
            Mood::Half => Err(failed(most)),
            Mood::Fails | Mood::Lies => Err(failed(0)),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn mood(&self) -> Mood {
        if self.world.is_mended() {
            return Mood::Well;
        }
        match self.world.below(100) {
            0..50 => Mood::Well,
            50..60 => Mood::Slow,
            60..75 => Mood::Fails,
            75..85 => Mood::Half,
            85..95 => Mood::Lies,
            _ => Mood::Hangs,
        }
    }

    fn take(&self, target: &str, delivery: &Delivery) {
        let label = text(&delivery.message.payload).to_owned();
        self.world.trace(|| format!("{target}: took {} {label}", delivery.id));
        self.world.memory.lock().taken.push(Taken {
            target: target.to_owned(),
            delivery: delivery.id,
            told: Some(Told::by(delivery)),
            label,
        });
    }
}

/// A device's session, which comes and goes.
pub(crate) async fn device(world: World, intake: Arc<dyn Intake>, device: String) {
    loop {
        let mut attachment = intake.attach(&name("peers"), &device);
        while let Some(offer) = attachment.next().await {
            let label = text(&offer.command.payload).to_owned();
            let mood = if world.is_mended() { 0 } else { world.below(100) };
            world.trace(|| format!("device {device}: offered {} {label}, {mood}", offer.id));
            if (80..90).contains(&mood) {
                tokio::time::sleep(world.millis_below(500)).await;
            }
            if world.never_takes(&device, &label, offer.id) {
                offer.fail(CommandError::Reject("scripted".to_owned()));
                continue;
            }
            if !(70..80).contains(&mood) {
                let (target, delivery) = (format!("device {device}"), offer.id);
                world.memory.lock().taken.push(Taken { target, delivery, told: None, label });
            }
            match mood {
                0..60 | 80..90 => offer.acknowledge(),
                60..80 => offer.fail(CommandError::Retry("scripted".to_owned())),
                90..95 => drop(offer),
                // It leaves without a word.
                _ => break,
            }
        }
        drop(attachment);
        tokio::time::sleep(Duration::from_millis(1) + world.millis_below(2000)).await;
    }
}
