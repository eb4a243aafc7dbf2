//! Devices: what is known of them, commands for them, and the connections that they come over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sandbar_ingress::{ConnectionEvent, ConnectionStatus, Session};
use sandbar_pipeline::{
    CommandProblem, Correlation, DeviceCounts, DeviceEvent, DeviceQuery, Order, Ordered, Registry, is_same,
};
use sandbar_reading::{DeliveryId, Name};
use sandbar_store::{DeviceRow, Resource};
use tokio::sync::broadcast;

use crate::control::{Control, Inner};
use crate::error::ControlError;
use crate::running::Running;
use crate::views::Page;
use crate::what::What;

/// All that is known of a device.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    pub device: DeviceRow,
    /// The ingress that reaches it now.
    pub reached_by: Option<Name>,
    /// The last values of its resources, by name.
    pub resources: Vec<Resource>,
    /// What they should be.
    pub desired: Vec<Resource>,
    /// Whether each of those was reported.
    pub reached: Vec<bool>,
}

impl Control {
    /// Behind `query.after`, by id.
    pub fn devices(&self, query: &DeviceQuery) -> Page<DeviceRow, Box<str>> {
        let mut items = self.registry().list(&DeviceQuery { limit: query.limit + 1, ..query.clone() });
        let more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = items.last().filter(|_| more).map(|last| last.id.clone());
        Page { items, next }
    }

    pub fn device_counts(&self) -> DeviceCounts {
        self.registry().counts()
    }

    /// What happens to devices from now on. Who is slow misses some.
    pub fn watch_devices(&self) -> broadcast::Receiver<DeviceEvent> {
        self.registry().watch()
    }

    /// Connections that are opened and closed from now on. Who is slow misses some.
    pub fn watch_connections(&self) -> broadcast::Receiver<ConnectionEvent> {
        self.inner.pipeline.connections().watch()
    }

    /// The type of the device that each connection speaks for, where it is known.
    pub fn device_kinds(&self, connections: &[ConnectionStatus]) -> HashMap<Box<str>, Box<str>> {
        let devices = connections.iter().filter_map(|connection| connection.peer.device.as_deref());
        self.registry().kinds_of(devices)
    }

    pub async fn device(&self, id: &str) -> Result<DeviceInfo, ControlError> {
        let device = self.registry().get(id).ok_or_else(|| no_device(id))?;
        let reached_by = self.inner.pipeline.devices().ingress_of(id);
        let (registry, id) = (self.registry().clone(), Box::<str>::from(id));
        let values = move || Ok((registry.resources(&id)?, registry.desired(&id)?));
        let (resources, desired) = self.ask(move |_| values()).await?;
        let is = |desired: &Resource| {
            let reported = resources.iter().find(|resource| resource.name == desired.name);
            reported.is_some_and(|reported| is_same(&reported.value, &desired.value))
        };
        let reached = desired.iter().map(is).collect();
        Ok(DeviceInfo { device, reached_by, resources, desired, reached })
    }

    /// Names a device and gives it labels; whether it is new. It need not have been heard of.
    pub fn put_device(
        &self,
        id: &str,
        name: Option<Box<str>>,
        kind: Option<Box<str>>,
        labels: Vec<(Box<str>, Box<str>)>,
    ) -> Result<(DeviceRow, bool), ControlError> {
        let put = self.registry().put(id, name, kind, labels);
        put.ok_or_else(|| {
            let max = self.device_counts().max;
            ControlError::Conflict(format!("there are {max} devices already, as many as devices.max allows"))
        })
    }

    /// Forgets a device that is not connected.
    pub async fn remove_device(&self, id: &str) -> Result<(), ControlError> {
        Ok(self.registry().remove(id).await?)
    }

    /// Puts a command into the outbox.
    pub async fn order(&self, order: Order) -> Result<Ordered, CommandProblem> {
        let device = order.device.clone();
        let id = self.registry().order(order).await?;
        self.registry().command(&device, id)
    }

    /// The same, and waits for what the device answers.
    pub async fn query_device(
        &self,
        order: Order,
        within: Duration,
        correlation: Correlation,
    ) -> Result<Ordered, CommandProblem> {
        let device = order.device.clone();
        let id = self.registry().ask(order, within, correlation).await?;
        self.registry().command(&device, id)
    }

    pub fn command(&self, device: &str, id: DeliveryId) -> Result<Ordered, CommandProblem> {
        self.registry().command(device, id)
    }

    /// The newest first, behind `cursor`.
    pub async fn commands(
        &self,
        device: &str,
        cursor: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Ordered, DeliveryId>, ControlError> {
        if self.registry().get(device).is_none() {
            return Err(no_device(device));
        }
        let mut items = self.registry().commands(device, cursor, limit + 1)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.row.id);
        Ok(Page { items, next })
    }

    /// Takes back a command that is not on its way to the device yet.
    pub async fn cancel_command(&self, device: &str, id: DeliveryId) -> Result<Ordered, CommandProblem> {
        self.registry().cancel(device, id).await
    }

    /// A resource is to have this value, as JSON text; or no value any more.
    pub async fn desire(
        &self,
        device: &str,
        resource: &str,
        value: Option<Box<str>>,
    ) -> Result<(), ControlError> {
        let problem = |problem| match problem {
            CommandProblem::UnknownCommand => {
                ControlError::NotFound { what: What::Resource, name: resource.to_owned() }
            }
            CommandProblem::Ended => ControlError::Conflict(format!(
                "it has {} desired values already, as many as there may be",
                sandbar_store::RESOURCES_MAX
            )),
            problem => problem.into(),
        };
        self.registry().desire(device, resource, value).await.map_err(problem)
    }

    /// Hands over what a listener of another crate takes, as an ingress of this name would, until the host stops.
    pub fn session(&self, ingress: Name) -> Session {
        Session::new(ingress, self.inner.intake.clone(), self.inner.sessions.child_token())
    }

    fn registry(&self) -> &Arc<Registry> {
        self.inner.pipeline.registry().expect("a host is started with one")
    }
}

impl Inner {
    /// Tells how devices are kept, and how long those of each ingress may be silent.
    pub(crate) fn set_device_options(&self, running: &Running) {
        let silence = |(name, owned): (&Name, &crate::wanted::Owned<crate::tables::IngressTable>)| {
            let seconds = owned.it.silence_s?;
            Some((name.clone(), Duration::from_secs(seconds.get())))
        };
        if let Some(registry) = self.pipeline.registry() {
            let by_ingress = running.wanted.ingresses.iter().filter_map(silence).collect();
            registry.set_options(running.declared.devices().options(), by_ingress);
        }
    }
}

fn no_device(id: &str) -> ControlError {
    ControlError::NotFound { what: What::Device, name: id.to_owned() }
}

impl From<CommandProblem> for ControlError {
    fn from(problem: CommandProblem) -> Self {
        match problem {
            CommandProblem::UnknownDevice(id) => no_device(&id),
            CommandProblem::UnknownCommand => {
                Self::NotFound { what: What::Command, name: "of this id".to_owned() }
            }
            CommandProblem::Refused(refused) => Self::Refused(refused),
            problem => Self::Conflict(problem.to_string()),
        }
    }
}
