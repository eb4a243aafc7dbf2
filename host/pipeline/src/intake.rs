//! Takes what drivers decoded: finds the lanes it waits in, and hands it to the store.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use sandbar_ingress::{Accepted, Attachment, Connections, DeviceNote, Hold, Intake, Publications, Replies};
use sandbar_reading::{Clock, Inbound, Lineage, Name, Refused, Scope, StateWrite, Timestamp};
use sandbar_store::{Accept, Lane, Store};
use sandbar_telemetry::Telemetry;

use crate::delivery::Deliveries;
use crate::devices::Devices;
use crate::own_host::Outward;
use crate::registry::Registry;
use crate::replies::Awaited;
use crate::route::Replying;
use crate::router::Router;
use crate::spans::Arrival;

/// The pipeline's front door.
pub(crate) struct Door {
    pub(crate) store: Store,
    pub(crate) router: Arc<ArcSwap<Router>>,
    pub(crate) awaited: Arc<Awaited>,
    pub(crate) devices: Devices,
    pub(crate) outward: Outward,
    pub(crate) connections: Connections,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reading_max: usize,
    /// A pipeline may be without one.
    pub(crate) registry: Option<Arc<Registry>>,
    pub(crate) telemetry: Telemetry,
}

/// One lane for every route that takes `inbound`.
pub(crate) fn lanes_of(router: &Router, ingress: &Name, inbound: &Inbound) -> Vec<Lane> {
    let lane = |route: &&Arc<crate::Route>| Lane { route: route.name.clone(), key: route.key.of(inbound) };
    router.matches(ingress, inbound).iter().map(lane).collect()
}

impl Door {
    async fn take_traced(
        &self,
        ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> Result<Accepted, Refused> {
        let arrival = Arrival::of(self.telemetry.sampling(), &ingress, &inbound, self.clock.now());
        let accepted = self.take(ingress, inbound, keep).await?;
        let span = arrival.and_then(|arrival| arrival.accepted(accepted.receipt.id(), self.clock.now()));
        if let Some(span) = span {
            self.telemetry.record(span);
        }
        Ok(accepted)
    }

    /// What answers a command is a reading like any other.
    async fn take(
        &self,
        ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> Result<Accepted, Refused> {
        let answering = self.devices.queries().answered(&inbound);
        let accepted = self.journal(ingress, inbound, keep).await?;
        if let Some(answering) = answering {
            self.devices.queries().settle(answering);
        }
        Ok(accepted)
    }

    async fn journal(
        &self,
        ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> Result<Accepted, Refused> {
        let router = self.router.load_full();
        let lanes = lanes_of(&router, &ingress, &inbound);
        let of_lane = |lane: &Lane| router.route(lane.route.as_str()).map(|route| &route.reply);
        let routes = lanes.iter().filter(|lane| of_lane(lane).is_some_and(Replying::is_somebody)).count();
        let accept = Accept { ingress, inbound, lineage: Lineage::default(), lanes, keep };
        if routes == 0 {
            let receipt = self.store.accept(accept)?.committed.await?;
            return Ok(Accepted { receipt, replies: None });
        }
        let by_sink = |lane: &&Lane| matches!(of_lane(lane), Some(Replying::Sink(_)));
        let by_sink = accept.lanes.iter().filter(by_sink).map(|lane| lane.route.clone()).collect();
        let (answers, replies) = Replies::channel();
        let journaling = self.store.accept(accept)?;
        // Before the commit: its handler may be faster than this task.
        self.awaited.expect(journaling.id, answers, routes, by_sink);
        match journaling.committed.await {
            Ok(receipt) => Ok(Accepted { receipt, replies: Some(replies) }),
            Err(refused) => {
                self.awaited.forget(journaling.id);
                Err(refused)
            }
        }
    }
}

impl Intake for Door {
    fn accept(
        &self,
        ingress: Name,
        inbound: Inbound,
        keep: Vec<StateWrite>,
    ) -> BoxFuture<'_, Result<Accepted, Refused>> {
        match self.telemetry.sampling().is_on() {
            true => Box::pin(self.take_traced(ingress, inbound, keep)),
            false => Box::pin(self.take(ingress, inbound, keep)),
        }
    }

    fn keep(&self, ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(self.store.keep(Scope::Ingress(ingress), keep))
    }

    fn keep_patiently(&self, ingress: Name, keep: Vec<StateWrite>) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(self.store.keep_patiently(Scope::Ingress(ingress), keep))
    }

    fn kept(&self, ingress: &Name, name: &str) -> Result<Option<Bytes>, Refused> {
        Ok(self.store.state(&Scope::Ingress(ingress.clone()), name)?)
    }

    fn kept_names(&self, ingress: &Name, prefix: &str) -> Result<Vec<Box<str>>, Refused> {
        Ok(self.store.state_names(&Scope::Ingress(ingress.clone()), prefix)?)
    }

    fn each_kept(
        &self,
        ingress: &Name,
        prefix: &str,
        each: &mut dyn FnMut(&str, &[u8]),
    ) -> Result<(), Refused> {
        Ok(self.store.each_state(&Scope::Ingress(ingress.clone()), prefix, each)?)
    }

    fn attach(&self, ingress: &Name, device: &str) -> Attachment {
        let attachment = self.devices.attach(ingress, device, self.hold(ingress, device));
        self.deliveries.reachable(device);
        if let Some(registry) = &self.registry {
            registry.reachable(device);
        }
        attachment
    }

    fn hold(&self, ingress: &Name, device: &str) -> Hold {
        self.registry.as_ref().map(|registry| registry.hold(ingress, device)).unwrap_or_default()
    }

    fn note(&self, ingress: &Name, device: &str, note: DeviceNote) {
        if let Some(registry) = &self.registry {
            registry.note(ingress, device, note);
        }
    }

    fn publications(&self, ingress: &Name) -> Publications {
        self.outward.publications(ingress)
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn reading_max(&self) -> usize {
        self.reading_max
    }
}
