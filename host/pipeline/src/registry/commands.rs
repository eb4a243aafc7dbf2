//! Commands for devices, from their order to their end; and what resources should be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use sandbar_reading::{Attributes, ContentType, DeliveryId, Message, Refused, Target, Timestamp, Topic};
use sandbar_store::{CommandDue, CommandRow, CommandState, NewCommand, Resource, StoreError};

use super::{DeviceEvent, Registry, is_same, twin};
use crate::queries::Correlation;

/// How many commands may wait for a device when somebody orders one more, who is told.
const WAITING_MAX: usize = 256;

/// For how long a command that is to reach a desired value may be on its way; the next arrival sends another one.
const DESIRED_WITHIN: Duration = Duration::from_secs(60);

/// How many expired commands are ended at once, about.
const EXPIRED_MAX: usize = 64;

/// How long after its time is over the answer to a query may still be looked for.
const LATE: Duration = Duration::from_millis(100);

/// A command that somebody orders.
#[derive(Clone, Debug)]
pub struct Order {
    pub device: Box<str>,
    /// The command's name.
    pub name: Topic,
    pub content_type: ContentType,
    pub payload: Bytes,
    /// Not to be sent, or answered, after that.
    pub within: Option<Duration>,
    /// Refused if the device cannot be reached now.
    pub at_once: bool,
}

/// Why there is no such command.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandProblem {
    #[error("there is no device `{0}`")]
    UnknownDevice(Box<str>),
    #[error("no ingress reaches the device `{0}` now")]
    Unreachable(Box<str>),
    #[error("{most} commands wait for the device `{device}` already")]
    TooMany { device: Box<str>, most: usize },
    #[error("the device `{0}` did not answer in time")]
    Unanswered(Box<str>),
    #[error("the device `{device}` did not take it: {cause}")]
    Failed { device: Box<str>, cause: String },
    #[error("the device `{0}` is connected")]
    Connected(Box<str>),
    #[error("there is no such command")]
    UnknownCommand,
    #[error("it has ended already, or is being sent")]
    Ended,
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<StoreError> for CommandProblem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::UnknownCommand,
            StoreError::Stale => Self::Ended,
            error => Self::Refused(error.into()),
        }
    }
}

/// A command as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    pub row: CommandRow,
    /// The device has it, which need not be written yet.
    pub is_sent: bool,
}

impl Registry {
    /// Puts a command into the outbox.
    pub async fn order(&self, order: Order) -> Result<DeliveryId, CommandProblem> {
        self.check(&order)?;
        let (id, committed) = self.store.put_command(self.new_command(order, false, None))?;
        committed.await?;
        Ok(id)
    }

    /// The same, and waits for what the device answers.
    pub async fn ask(
        self: &Arc<Self>,
        order: Order,
        within: Duration,
        correlation: Correlation,
    ) -> Result<DeliveryId, CommandProblem> {
        let order = Order { within: Some(within), at_once: true, ..order };
        self.check(&order)?;
        let registry = Arc::clone(self);
        // To its end, also when whoever asked has gone.
        let asking = tokio::spawn(async move { registry.asked(order, within, correlation).await });
        asking.await.unwrap_or_else(|_| Err(Refused::Stopping.into()))
    }

    async fn asked(
        &self,
        order: Order,
        within: Duration,
        correlation: Correlation,
    ) -> Result<DeliveryId, CommandProblem> {
        let device = order.device.clone();
        let (id, committed) = self.store.put_command(self.new_command(order, true, None))?;
        // Before the commit: the device, or its driver's refusal, may be faster than this task.
        let mut awaiting = self.devices.queries().expect(id, &device, correlation);
        let failed = self.devices.failed(id);
        committed.await?;
        let answer = tokio::select! {
            answer = awaiting.answer() => answer,
            () = tokio::time::sleep(within) => None,
            cause = failed => return Err(CommandProblem::Failed { device, cause }),
        };
        let Some(answer) = answer else {
            let late = Some("no answer in time".to_owned());
            // It may have ended by itself at this very moment.
            let _ = self.end(&device, id, CommandState::Expired, late).await;
            return Err(CommandProblem::Unanswered(device));
        };
        self.store.command_answered(&device, id, (answer.content_type, answer.payload)).await?;
        Ok(id)
    }

    fn check(&self, order: &Order) -> Result<(), CommandProblem> {
        let device = &order.device;
        let reachable = self.devices.ingress_of(device).is_some();
        if !reachable && !self.knows(device) {
            return Err(CommandProblem::UnknownDevice(device.clone()));
        }
        if !reachable && order.at_once {
            return Err(CommandProblem::Unreachable(device.clone()));
        }
        if self.store.queued_count(&Target::Device(device.clone()), WAITING_MAX)? >= WAITING_MAX {
            return Err(CommandProblem::TooMany { device: device.clone(), most: WAITING_MAX });
        }
        Ok(())
    }

    fn new_command(&self, order: Order, asks: bool, desired: Option<Box<str>>) -> NewCommand {
        let Order { device, name, content_type, payload, within, .. } = order;
        let message = Message {
            topic: name,
            device: Some(device.clone()),
            content_type,
            attributes: Attributes::new(),
            payload,
        };
        NewCommand {
            device,
            message,
            expires: within.map(|within| self.clock.now().after(within)),
            asks,
            desired,
        }
    }

    pub fn command(&self, device: &str, id: DeliveryId) -> Result<Ordered, CommandProblem> {
        let row = self.store.command(device, id)?.ok_or(CommandProblem::UnknownCommand)?;
        Ok(self.ordered(row))
    }

    /// The newest first, behind `cursor`.
    pub fn commands(
        &self,
        device: &str,
        cursor: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<Ordered>, CommandProblem> {
        let rows = self.store.commands(device, cursor, limit, &|_| true)?;
        Ok(rows.into_iter().map(|row| self.ordered(row)).collect())
    }

    fn ordered(&self, row: CommandRow) -> Ordered {
        let is_sent = row.state == CommandState::Queued && self.devices.is_sent(row.id);
        Ordered { is_sent: is_sent || row.state == CommandState::Sent, row }
    }

    /// A command that is on its way to the device cannot be taken back.
    pub async fn cancel(&self, device: &str, id: DeliveryId) -> Result<Ordered, CommandProblem> {
        if self.devices.is_carrying(id) {
            return Err(CommandProblem::Ended);
        }
        self.end(device, id, CommandState::Cancelled, None).await?;
        self.command(device, id)
    }

    async fn end(
        &self,
        device: &str,
        id: DeliveryId,
        state: CommandState,
        cause: Option<String>,
    ) -> Result<(), StoreError> {
        self.store.end_command(device, id, state, cause).await?;
        self.deliveries.look_again_at(&Target::Device(device.into()));
        Ok(())
    }

    pub(super) async fn expire_commands(&self) {
        let mut last = None;
        loop {
            last = self.expire_some(last.as_ref()).await;
            if last.is_none() {
                return;
            }
        }
    }

    /// Of those behind `last`. The last one that was looked at, if there may be more: those that only a clock that was
    /// set says are over do not hide what is behind them. If the store fails, the next look ends them.
    async fn expire_some(&self, last: Option<&CommandDue>) -> Option<CommandDue> {
        let mut due = self.store.commands_due(last, EXPIRED_MAX).ok()?;
        let over: Vec<_> =
            due.iter().filter(|(expires, device, id)| self.is_over(*expires, device, *id)).collect();
        let ending = over.iter().map(|(_, device, id)| {
            let cause = Some("its time was over".to_owned());
            self.store.end_command(device, *id, CommandState::Expired, cause)
        });
        // One commit takes them all.
        let ended = join_all(ending).await;
        let devices: BTreeSet<_> = over.into_iter().map(|(_, device, _)| device.clone()).collect();
        for device in devices {
            self.deliveries.look_again_at(&Target::Device(device));
        }
        let is_full = due.len() == EXPIRED_MAX && ended.iter().all(Result::is_ok);
        due.pop().filter(|(expires, ..)| is_full && self.is_late(*expires))
    }

    fn is_over(&self, expires: Timestamp, device: &str, id: DeliveryId) -> bool {
        if !self.is_late(expires) {
            return false;
        }
        let command = match self.store.command(device, id) {
            Ok(command) => command,
            Err(_) if self.store.stats().fault.is_some() => return false,
            // Its row is damaged: it would be looked at for ever.
            Err(_) => None,
        };
        let leapt: Duration = match command {
            Some(command) => self.leaps.lock().since(command.created).map(|leap| leap.by).sum(),
            None => Duration::ZERO,
        };
        self.is_late(expires.after(leapt))
    }

    /// A query's own wait ends it, and knows better.
    fn is_late(&self, expires: Timestamp) -> bool {
        expires.after(LATE) <= self.clock.now()
    }

    /// What a device's resources should be, by name.
    pub fn desired(&self, device: &str) -> Result<Vec<Resource>, StoreError> {
        self.store.desired(device)
    }

    /// A resource is to have this value, as JSON text; or no value any more.
    pub async fn desire(
        &self,
        device: &str,
        resource: &str,
        value: Option<Box<str>>,
    ) -> Result<(), CommandProblem> {
        if self.get(device).is_none() {
            return Err(CommandProblem::UnknownDevice(device.into()));
        }
        let takes_back = value.is_none();
        self.store.desire(device, resource, value).await?;
        let has_desired = self.store.has_desired(device)?;
        if let Some(record) = self.known.lock().devices.get_mut(device) {
            record.has_desired = has_desired;
        }
        if takes_back {
            self.supersede(device, resource).await?;
        } else {
            self.reconcile(device, None).await?;
        }
        Ok(())
    }

    /// Of devices that have arrived.
    pub(super) async fn bring_desired(&self) {
        let mut arrived = std::mem::take(&mut self.known.lock().arrived);
        arrived.sort_unstable();
        arrived.dedup();
        for arrival in arrived {
            if self.reconcile(&arrival.device, arrival.since).await.is_err() {
                // The store fails; it is well when this is tried again.
                self.known.lock().arrived.push(arrival);
            }
        }
    }

    /// Commands what a reachable device's resources should be and, as far as it has told, are not. What was
    /// commanded since then need not be commanded again.
    async fn reconcile(&self, device: &str, since: Option<Timestamp>) -> Result<(), CommandProblem> {
        if self.devices.ingress_of(device).is_none() {
            return Ok(());
        }
        let reported = self.resources(device)?;
        for desired in self.store.desired(device)? {
            let is = reported.iter().find(|resource| resource.name == desired.name);
            if is.is_some_and(|is| is_same(&is.value, &desired.value)) {
                continue;
            }
            let told = |command: &CommandRow| {
                command.desired.as_ref() == Some(&desired.name)
                    && since.is_some_and(|since| command.created >= since)
            };
            if !self.store.commands(device, None, 1, &told)?.is_empty() {
                continue;
            }
            self.supersede(device, &desired.name).await?;
            let Ok(name) = desired.name.parse::<Topic>() else { continue };
            let (content_type, payload) = twin::payload(&desired.value);
            let order = Order {
                device: device.into(),
                name,
                content_type,
                payload,
                within: Some(DESIRED_WITHIN),
                at_once: false,
            };
            let command = self.new_command(order, false, Some(desired.name));
            self.store.put_command(command)?.1.await?;
        }
        Ok(())
    }

    /// A command for an earlier desired value of the resource, that was not sent yet, is taken back.
    async fn supersede(&self, device: &str, resource: &str) -> Result<(), CommandProblem> {
        let earlier =
            |command: &CommandRow| command.state.waits() && command.desired.as_deref() == Some(resource);
        for command in self.store.commands(device, None, WAITING_MAX, &earlier)? {
            match self.cancel(device, command.id).await {
                Ok(_) | Err(CommandProblem::Ended) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    /// Forgets a device that is not connected; what waits for it becomes dead letters.
    pub async fn remove(&self, device: &str) -> Result<(), CommandProblem> {
        {
            let known = self.known.lock();
            let record = known.devices.get(device);
            let record = record.ok_or_else(|| CommandProblem::UnknownDevice(device.into()))?;
            if record.life.is_held() {
                return Err(CommandProblem::Connected(device.into()));
            }
        }
        let target = Target::Device(device.into());
        self.store.discard_target(target.clone()).await?;
        self.deliveries.look_again_at(&target);
        self.known.lock().devices.remove(device);
        self.store.remove_device(device).await?;
        self.tell(|| DeviceEvent::Removed(device.into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::pin::pin;

    use sandbar_ingress::CommandError;
    use sandbar_reading::SystemClock;
    use sandbar_store::simulated::Simulated;
    use sandbar_store::{Committer, Store};

    use super::*;
    use crate::pipeline::{Options, Pipeline};
    use crate::registry::DeviceOptions;

    /// Who asked had not begun to listen, and waited its whole time.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_is_faster_than_who_asks_is_heard() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock));
        let (disk, modules) = (Arc::new(Simulated::new(1)), folder.path().to_owned());
        let store = Store::open(disk, modules, <_>::default(), clock.clone(), Committer::Task).unwrap();
        let devices = Some(DeviceOptions { max: 1, silence: None, silence_by_type: HashMap::new() });
        let pipeline = Pipeline::start(store, clock, Options { devices, ..Options::default() }).unwrap();
        let mut lamp = pipeline.intake().attach(&"coap".parse().unwrap(), "lamp");
        let order = Order {
            device: "lamp".into(),
            name: "on".parse().unwrap(),
            content_type: ContentType::TEXT,
            payload: "x".into(),
            within: None,
            at_once: true,
        };
        let registry = pipeline.registry().unwrap().clone();
        let mut asked = pin!(registry.asked(order, Duration::from_secs(60), Correlation::Next));
        assert!(futures::poll!(&mut asked).is_pending());
        lamp.next().await.unwrap().fail(CommandError::Reject("no".to_owned()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let problem = asked.await.unwrap_err();
        assert!(matches!(&problem, CommandProblem::Failed { cause, .. } if cause == "no"), "{problem:?}");
    }
}
