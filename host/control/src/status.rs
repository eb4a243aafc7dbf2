//! How a host is doing.

use std::sync::Arc;

use sandbar_pipeline::OutletStatus;
use sandbar_reading::{Name, Target};

use crate::control::Control;
use crate::figures::figures;
use crate::running::Running;
use crate::views::{IngressState, RouteStatus, SinkState, Status};

impl Control {
    /// Cheap: nothing is read from the disk.
    pub fn status(&self) -> Status {
        let running = self.running();
        let outlets = self.inner.pipeline.outlets();
        let wanted = &running.wanted;
        Status {
            version: env!("CARGO_PKG_VERSION"),
            now: self.inner.clock.now(),
            started: self.inner.started,
            store: self.inner.store.stats(),
            modules: self.modules(),
            routes: wanted
                .routes
                .keys()
                .map(|name| (name.clone(), self.route_status(&running, name)))
                .collect(),
            ingresses: wanted
                .ingresses
                .keys()
                .map(|name| (name.clone(), Self::ingress_state(&running, name)))
                .collect(),
            sinks: wanted
                .sinks
                .keys()
                .map(|name| (name.clone(), self.sink_state(&running, &outlets, name)))
                .collect(),
            commands: outlets
                .iter()
                .filter(|outlet| matches!(outlet.target, Target::Device(_)))
                .cloned()
                .collect(),
            devices: self.inner.pipeline.devices().count(),
            connections: self.inner.pipeline.connections().count(),
            connections_opened: self.inner.pipeline.connections().opened(),
            telemetry: self.inner.telemetry.sent(),
            known: self.device_counts(),
            traffic: self.inner.traffic(),
        }
    }

    /// To the collector, as long as there is a host.
    pub(crate) fn report_figures(&self) {
        let (host, started) = (Arc::downgrade(&self.inner), self.inner.started);
        self.inner.telemetry.report(started, move || {
            let status = Self { inner: host.upgrade()? }.status();
            Some((status.now, figures(&status)))
        });
    }

    /// Why readings should not be sent here now; empty if they may be.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(fault) = self.inner.store.stats().fault {
            reasons.push(fault);
        }
        if self.inner.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            reasons.push("shutting down".to_owned());
        }
        reasons
    }

    pub(crate) fn route_status(&self, running: &Running, name: &Name) -> RouteStatus {
        let table = running.wanted.routes.get(name).map(|owned| &owned.it);
        let module = table.and_then(|table| table.module.as_ref()).map(|module| &module.0);
        let active = |module: &Name| running.wanted.modules.get(module).map_or(0, |owned| owned.it.active);
        let handler = running.handlers.get(name);
        RouteStatus {
            module: module.map(|module| (module.clone(), active(module))),
            counts: self.inner.pipeline.route_counts(name).unwrap_or_default(),
            handler: handler
                .and_then(|handler| handler.as_ref().ok()?.as_ref())
                .map(|handler| handler.stats()),
            broken: handler.and_then(|handler| handler.as_ref().err()).cloned(),
        }
    }

    pub(crate) fn ingress_state(running: &Running, name: &Name) -> IngressState {
        match running.ingresses.get(name) {
            Some(Ok(ingress)) => IngressState::Supervised(ingress.status()),
            Some(Err(cause)) => IngressState::Broken(cause.clone()),
            None => IngressState::Broken("not started".to_owned()),
        }
    }

    pub(crate) fn sink_state(&self, running: &Running, outlets: &[OutletStatus], name: &Name) -> SinkState {
        if let Some(Err(cause)) = running.sinks.get(name) {
            return SinkState::Broken(cause.clone());
        }
        let target = Target::Sink(name.clone());
        match outlets.iter().find(|outlet| outlet.target == target) {
            Some(outlet) => SinkState::Offered(outlet.clone()),
            None => SinkState::Broken("not started".to_owned()),
        }
    }
}
