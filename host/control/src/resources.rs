//! Routes, ingresses and sinks: what is there, and changes of it, from the file or through the API.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use sandbar_reading::{ConfigError, Name};
use serde::Serialize;
use serde_json::{Value, json};

use crate::change::{Asked, By};
use crate::control::Control;
use crate::declared::Declared;
use crate::error::ControlError;
use crate::files;
use crate::secrets;
use crate::tables::{CompatTable, IngressTable, RouteTable, SinkTable};
use crate::views::{Applied, Info, IngressInfo, Item, RouteInfo, SinkInfo};
use crate::wanted::{Owned, Wanted};
use crate::what::What;

impl Control {
    /// Makes what runs what the file declares, all of it or nothing. What was made through the API stays,
    /// unless the file has something of the same name: then it is the file's from now on.
    pub async fn apply(&self, declared: Declared) -> Result<Applied, ControlError> {
        self.one_by_one(move |control| async move {
            let declared = Arc::new(declared);
            let before = control.running();
            let asked = control.asked_by(declared.clone()).await?;
            let plan = control.change(asked).await?;
            Ok(Applied { at_next_start: at_next_start(&before.declared, &declared), ..plan.applied() })
        })
        .await
    }

    /// What [`apply`](Self::apply) would do.
    pub async fn check(&self, declared: &Declared) -> Result<Applied, ControlError> {
        let declared = Arc::new(declared.clone());
        let before = self.running();
        let asked = self.asked_by(declared.clone()).await?;
        let plan = self.would_change(asked).await?;
        Ok(Applied { at_next_start: at_next_start(&before.declared, &declared), ..plan.applied() })
    }

    /// Reads the file that was applied last once more, and applies it.
    pub async fn reload(&self) -> Result<Applied, ControlError> {
        let running = self.running();
        let file = running.declared.file();
        if file.as_os_str().is_empty() {
            return Err(ControlError::Conflict(
                "the host was started without a configuration file".to_owned(),
            ));
        }
        let declared = Declared::load(file).map_err(ControlError::Problem)?;
        self.apply(declared.given_as(&running.declared)).await
    }

    /// What the file would do if its text were this. Paths in it are relative to the file's folder.
    pub async fn check_text(&self, text: &str) -> Result<Applied, ControlError> {
        let running = self.running();
        let file = match running.declared.file() {
            none if none.as_os_str().is_empty() => Path::new("sandbar.toml"),
            file => file,
        };
        let declared = Declared::parse(text, file).map_err(ControlError::Problem)?;
        self.check(&declared.given_as(&running.declared)).await
    }

    async fn asked_by(&self, declared: Arc<Declared>) -> Result<Asked, ControlError> {
        let before = self.running();
        let files = files::read_all(&self.inner, &declared, &before.wanted).await?;
        let mut wanted = Wanted::clone(&before.wanted).with_declared(&declared, &files.modules);
        wanted.end_untrusted_trials(self.inner.clock.now());
        Ok(Asked { wanted, by: By::File(declared), blobs: files.blobs, components: files.components })
    }

    /// What runs, as the file would declare it, without secrets: `{host, api, ingress: {name: …}, …}`.
    pub fn config(&self) -> Value {
        let running = self.running();
        let (declared, wanted) = (&running.declared, &running.wanted);
        let modules = wanted.modules.iter().map(|(name, module)| {
            (name.to_string(), json!({ "active": module.it.active, "digest": module.it.digest() }))
        });
        json!({
            "host": declared.host(),
            "api": { "listen": declared.api().listen, "token": secrets::HIDDEN },
            "devices": declared.devices(),
            "compat": compat(declared.compat()),
            "ingress": tables(&wanted.ingresses, ingress_table),
            "sink": tables(&wanted.sinks, sink_table),
            "module": modules.collect::<Value>(),
            "route": tables(&wanted.routes, table),
            "secret": wanted.secrets.keys().map(|name| (name.clone(), Value::from(secrets::HIDDEN))).collect::<Value>(),
        })
    }

    /// The faces of other programs that there are to be.
    pub fn compat(&self) -> CompatTable {
        self.running().declared.compat().clone()
    }

    pub fn routes(&self) -> Vec<RouteInfo> {
        let running = self.running();
        let info = |(name, owned): (&Name, &Owned<RouteTable>)| Info {
            name: name.clone(),
            declared: owned.declared,
            table: table(&owned.it),
            status: self.route_status(&running, name),
        };
        running.wanted.routes.iter().map(info).collect()
    }

    pub fn ingresses(&self) -> Vec<IngressInfo> {
        let running = self.running();
        let info = |(name, owned): (&Name, &Owned<IngressTable>)| Info {
            name: name.clone(),
            declared: owned.declared,
            table: ingress_table(&owned.it),
            status: Self::ingress_state(&running, name),
        };
        running.wanted.ingresses.iter().map(info).collect()
    }

    pub fn sinks(&self) -> Vec<SinkInfo> {
        let running = self.running();
        let outlets = self.inner.pipeline.outlets();
        let info = |(name, owned): (&Name, &Owned<SinkTable>)| Info {
            name: name.clone(),
            declared: owned.declared,
            table: sink_table(&owned.it),
            status: self.sink_state(&running, &outlets, name),
        };
        running.wanted.sinks.iter().map(info).collect()
    }

    pub fn route(&self, name: &str) -> Result<RouteInfo, ControlError> {
        one(self.routes(), What::Route, name)
    }

    pub fn ingress(&self, name: &str) -> Result<IngressInfo, ControlError> {
        one(self.ingresses(), What::Ingress, name)
    }

    pub fn sink(&self, name: &str) -> Result<SinkInfo, ControlError> {
        one(self.sinks(), What::Sink, name)
    }

    /// Makes or replaces a route; true if it was not there before.
    pub async fn put_route(&self, name: Name, table: RouteTable) -> Result<bool, ControlError> {
        table.check().map_err(ControlError::Invalid)?;
        self.edit(What::Route, name, |wanted, name| Ok(insert(&mut wanted.routes, name, table))).await
    }

    /// Makes or replaces an ingress; true if it was not there before.
    pub async fn put_ingress(&self, name: Name, table: IngressTable) -> Result<bool, ControlError> {
        self.running().declared.may_be_an_ingress(name.as_str()).map_err(ControlError::Invalid)?;
        refuse_hidden(&Value::Object(table.settings.clone()), &secrets::driver_schema(&table.driver))?;
        self.edit(What::Ingress, name, |wanted, name| Ok(insert(&mut wanted.ingresses, name, table))).await
    }

    /// Makes or replaces a sink; true if it was not there before.
    pub async fn put_sink(&self, name: Name, table: SinkTable) -> Result<bool, ControlError> {
        refuse_hidden(&Value::Object(table.settings.clone()), &secrets::sink_schema(&table.kind))?;
        self.edit(What::Sink, name, |wanted, name| Ok(insert(&mut wanted.sinks, name, table))).await
    }

    /// What waits for it becomes dead letters; its state is gone.
    pub async fn remove_route(&self, name: Name) -> Result<(), ControlError> {
        self.edit(What::Route, name, |wanted, name| gone(wanted.routes.remove(&name), What::Route, &name))
            .await
    }

    /// What it accepted stays.
    pub async fn remove_ingress(&self, name: Name) -> Result<(), ControlError> {
        self.edit(What::Ingress, name, |wanted, name| {
            gone(wanted.ingresses.remove(&name), What::Ingress, &name)
        })
        .await
    }

    /// What is queued for it becomes dead letters.
    pub async fn remove_sink(&self, name: Name) -> Result<(), ControlError> {
        self.edit(What::Sink, name, |wanted, name| gone(wanted.sinks.remove(&name), What::Sink, &name)).await
    }

    /// A change of one thing through the API.
    pub(crate) async fn edit<T: Send + 'static>(
        &self,
        what: What,
        name: Name,
        edit: impl FnOnce(&mut Wanted, Name) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.one_by_one(move |control| async move {
            let mut wanted = Wanted::clone(&control.running().wanted);
            may_edit(&wanted, what, &name)?;
            let made = edit(&mut wanted, name.clone())?;
            let by = By::Api(Item { what, name });
            control.change(Asked { wanted, by, blobs: Vec::new(), components: HashMap::new() }).await?;
            Ok(made)
        })
        .await
    }
}

/// What the file declares can only be changed there.
pub(crate) fn may_edit(wanted: &Wanted, what: What, name: &Name) -> Result<(), ControlError> {
    match wanted.declared(what, name.as_str()) {
        Some(true) => Err(ControlError::Declared { what, name: name.clone() }),
        _ => Ok(()),
    }
}

/// True if there was none.
fn insert<T>(tables: &mut BTreeMap<Name, Owned<T>>, name: Name, it: T) -> bool {
    tables.insert(name, Owned { declared: false, it }).is_none()
}

pub(crate) fn gone<T>(removed: Option<T>, what: What, name: &Name) -> Result<(), ControlError> {
    removed.map(drop).ok_or_else(|| ControlError::NotFound { what, name: name.to_string() })
}

fn one<S>(all: Vec<Info<S>>, what: What, name: &str) -> Result<Info<S>, ControlError> {
    let found = all.into_iter().find(|info| info.name.as_str() == name);
    found.ok_or_else(|| ControlError::NotFound { what, name: name.to_owned() })
}

fn tables<T>(all: &BTreeMap<Name, Owned<T>>, show: fn(&T) -> Value) -> Value {
    all.iter().map(|(name, owned)| (name.to_string(), show(&owned.it))).collect()
}

fn table(table: &impl Serialize) -> Value {
    serde_json::to_value(table).expect("tables have text keys and no failing parts")
}

fn ingress_table(ingress: &IngressTable) -> Value {
    let mut shown = table(ingress);
    secrets::hide(&mut shown, &secrets::driver_schema(&ingress.driver));
    shown
}

fn sink_table(sink: &SinkTable) -> Value {
    let mut shown = table(sink);
    secrets::hide(&mut shown, &secrets::sink_schema(&sink.kind));
    shown
}

/// Without its secrets.
fn compat(table: &CompatTable) -> Value {
    let Some(connector) = &table.cloud_connector else { return json!({}) };
    let mut shown = json!({
        "listen": connector.listen,
        "query_timeout_ms": connector.query_timeout_ms,
        "connections_max": connector.connections_max,
        "ping_interval_ms": connector.ping_interval_ms,
    });
    if connector.token.is_some() {
        shown["token"] = secrets::HIDDEN.into();
    }
    json!({ "cloud_connector": shown })
}

/// What was shown, sent back: the secret in it would be lost.
fn refuse_hidden(table: &Value, schema: &Value) -> Result<(), ControlError> {
    secrets::find_hidden(table, schema).map_or(Ok(()), |setting| {
        let problem = "this stands for a secret that is not shown: send the secret itself";
        Err(ControlError::Invalid(ConfigError::at(setting, problem)))
    })
}

/// The host's own settings that differ: they are read at the start.
fn at_next_start(old: &Declared, new: &Declared) -> Vec<String> {
    let (host, api) = (table(old.host()), old.api());
    let changed = table(new.host());
    let differs = |setting: &&String| changed.get(setting.as_str()) != host.get(setting.as_str());
    let settings = host.as_object().map(|host| host.keys().collect::<Vec<_>>()).unwrap_or_default();
    let mut settings: Vec<_> =
        settings.into_iter().filter(differs).map(|setting| format!("host.{setting}")).collect();
    settings.extend((api.listen != new.api().listen).then(|| "api.listen".to_owned()));
    settings.extend((api.token != new.api().token).then(|| "api.token".to_owned()));
    settings.extend((old.telemetry() != new.telemetry()).then(|| "telemetry".to_owned()));
    settings
}
