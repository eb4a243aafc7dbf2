//! What could not be built when the host started, and how it is made to work later.

use std::collections::HashMap;

use bytes::Bytes;
use sandbar_reading::Name;
use sandbar_runtime::{Component, Handler};
use tracing::info;

use crate::build;
use crate::control::Inner;
use crate::plan::dangling_in;
use crate::running::Running;
use crate::wanted::Wanted;

impl Inner {
    /// Tries what was broken once more: what it lacked may be there now.
    pub(crate) async fn mend(&self) {
        let running = self.running.read().clone();
        for name in running.handlers.iter().filter(|(_, handler)| handler.is_err()).map(|(name, _)| name) {
            self.mend_route(name, &running).await;
        }
        for name in running.sinks.iter().filter(|(_, sink)| sink.is_err()).map(|(name, _)| name) {
            let table = &running.wanted.sinks[name].it;
            let sink = build::sink(table);
            if let Ok(sink) = &sink {
                self.pipeline.set_sink(name.clone(), sink.clone(), build::offering(&table.offering)).await;
                info!(sink = %name, "mended");
            }
            self.running.write().sinks.insert(name.clone(), sink.map_err(|error| error.to_string()));
        }
        for name in running.ingresses.iter().filter(|(_, ingress)| ingress.is_err()).map(|(name, _)| name) {
            let driver = build::driver(&running.wanted.ingresses[name].it);
            let ingress = driver.map(|driver| self.start_ingress(name.clone(), driver));
            let ingress = ingress.inspect(|_| info!(ingress = %name, "mended"));
            self.running.write().ingresses.insert(name.clone(), ingress.map_err(|error| error.to_string()));
        }
    }

    async fn mend_route(&self, name: &Name, running: &Running) {
        let handler = self.handler_of(name, &running.wanted, &running.components).await;
        let mended = handler.is_ok();
        let mut now = self.running.write();
        let handler = handler.map(|(handler, component)| {
            if let Some(component) = component {
                now.components.insert(component.digest().to_owned(), component);
            }
            handler
        });
        now.handlers.insert(name.clone(), handler);
        if let Some(route) = now.route(name).filter(|_| mended) {
            self.pipeline.set_routes(vec![route]);
            info!(route = %name, "mended");
        }
    }

    /// A handler for a route that may not work; the text says why it does not.
    pub(crate) async fn handler_of(
        &self,
        name: &Name,
        wanted: &Wanted,
        components: &HashMap<String, Component>,
    ) -> Result<(Option<Handler>, Option<Component>), String> {
        let table = &wanted.routes[name].it;
        if let Some(dangling) = dangling_in(name, table, wanted).into_iter().next() {
            return Err(dangling.error.to_string());
        }
        table.check().map_err(|error| error.to_string())?;
        let Some(module) = &table.module else { return Ok((None, None)) };
        let digest =
            wanted.digest_of(table).ok_or_else(|| format!("module `{}` has no active version", module.0))?;
        let component = match components.get(digest) {
            Some(component) => component.clone(),
            None => self
                .component(digest, None)
                .await
                .map_err(|problem| format!("module `{}`: {problem}", module.0))?,
        };
        let settings = build::settings(name, table, &wanted.secrets).map_err(|error| error.to_string())?;
        let handler = build::handler(&self.runtime, &component, settings).await;
        Ok((Some(handler.map_err(|error| error.to_string())?), Some(component)))
    }

    /// Compiles a component that is in the store, or in `fresh`. The text says why it cannot be had.
    pub(crate) async fn component(&self, digest: &str, fresh: Option<Bytes>) -> Result<Component, String> {
        let wasm = match fresh {
            Some(wasm) => wasm,
            None => {
                let stored = self.blob(digest).await;
                let stored = stored.map_err(|error| format!("its component cannot be read: {error}"))?;
                stored.ok_or("its component is not in the store")?
            }
        };
        let runtime = self.runtime.clone();
        let loaded = tokio::task::spawn_blocking(move || runtime.load(&wasm)).await;
        match loaded {
            Ok(loaded) => loaded.map_err(|error| error.to_string()),
            Err(error) => Err(format!("loading it failed: {error}")),
        }
    }
}
