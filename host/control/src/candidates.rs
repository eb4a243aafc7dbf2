//! Versions on trial: a shadow or a canary beside the active version, promoted or given up on.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use sandbar_pipeline::{Candidate, Compared, ErrorLimit, Mode};
use sandbar_reading::{ConfigError, Name, Timestamp};
use sandbar_runtime::Component;
use tracing::{error, info, warn};

use crate::build;
use crate::control::{Control, Inner};
use crate::error::ControlError;
use crate::views::ModuleInfo;
use crate::wanted::{Module, Wanted};
use crate::what::What;

/// A version on trial, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OnTrial {
    pub version: u32,
    pub mode: TrialMode,
    /// It is given up on when it alone fails at more than this many hundredths of its readings …
    pub errors_percent: f64,
    /// … but not before it has had so many.
    pub errors_after: u64,
    #[serde(with = "crate::documents::nanos")]
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum TrialMode {
    Shadow,
    Canary { percent: f64 },
}

/// A trial that is over without the version having become the active one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TrialEnded {
    pub version: u32,
    #[serde(with = "crate::documents::nanos")]
    pub time: Timestamp,
    pub why: String,
}

/// A version on trial, and how it does on each route.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateInfo {
    pub asked: OnTrial,
    pub routes: Vec<(Name, Compared)>,
}

impl OnTrial {
    fn check(&self) -> Result<(), ConfigError> {
        let percent = |setting: &str, value: f64| match (0.0..=100.0).contains(&value) {
            true => Ok(()),
            false => Err(ConfigError::at(setting, "must be from 0 to 100")),
        };
        if let TrialMode::Canary { percent: share } = self.mode {
            percent("percent", share)?;
        }
        percent("errors_percent", self.errors_percent)
    }
}

impl Control {
    /// Puts a version of the module on trial, on every route that uses the module, in the place of one that is.
    pub async fn put_candidate(&self, name: Name, mut asked: OnTrial) -> Result<ModuleInfo, ControlError> {
        asked.check().map_err(ControlError::Invalid)?;
        asked.since = self.inner.clock.now();
        self.edit(What::Module, name.clone(), move |wanted, name| {
            let trust = wanted.trust.clone();
            let module = module_of(wanted, &name)?;
            if module.version(asked.version).is_none() {
                let name = format!("{name}, version {}", asked.version);
                return Err(ControlError::NotFound { what: What::Module, name });
            }
            module.still_holds(asked.version, &trust)?;
            if asked.version == module.active {
                return Err(ControlError::Conflict(format!("version {} is the active one", asked.version)));
            }
            (module.candidate, module.ended) = (Some(asked), None);
            Ok(())
        })
        .await?;
        self.module(name.as_str())
    }

    /// The version on trial becomes the active one.
    pub async fn promote(&self, name: Name) -> Result<ModuleInfo, ControlError> {
        self.edit(What::Module, name.clone(), |wanted, name| {
            let trust = wanted.trust.clone();
            let module = module_of(wanted, &name)?;
            let candidate = module.candidate.take().ok_or_else(|| no_candidate(&name))?;
            module.still_holds(candidate.version, &trust)?;
            module.activate(candidate.version);
            module.ended = None;
            Ok(())
        })
        .await?;
        self.module(name.as_str())
    }

    /// Ends a trial; the active version stays.
    pub async fn remove_candidate(&self, name: Name) -> Result<(), ControlError> {
        let now = self.inner.clock.now();
        self.edit(What::Module, name, move |wanted, name| {
            let module = module_of(wanted, &name)?;
            let candidate = module.candidate.take().ok_or_else(|| no_candidate(&name))?;
            let why = "by hand".to_owned();
            module.ended = Some(TrialEnded { version: candidate.version, time: now, why });
            Ok(())
        })
        .await
    }

    /// When a candidate stops by itself, its trial is over: on all routes, and after a restart.
    pub(crate) fn watch_candidates<'a>(&self, routes: impl Iterator<Item = &'a Name>) {
        let running = self.running();
        for route in routes {
            let Some(candidate) = running.candidates.get(route) else { continue };
            let Some(module) = running.wanted.routes.get(route).and_then(|table| table.it.module.clone())
            else {
                continue;
            };
            let (inner, version) = (Arc::downgrade(&self.inner), candidate.version);
            let mut stops = candidate.stops();
            drop(tokio::spawn(async move {
                let Ok(why) = stops.wait_for(Option::is_some).await.map(|why| why.clone()) else { return };
                if let (Some(inner), Some(why)) = (inner.upgrade(), why) {
                    Self { inner }.give_up(module.0, version, why).await;
                }
            }));
        }
    }

    /// A boxed future: its type would contain itself.
    fn give_up(self, name: Name, version: u32, why: String) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            warn!(module = %name, version, why, "the trial is over: the active version handles everything");
            let now = self.inner.clock.now();
            let ended = self
                .edit(What::Module, name.clone(), move |wanted, name| {
                    let module = module_of(wanted, &name)?;
                    if module.candidate.is_some_and(|candidate| candidate.version == version) {
                        module.candidate = None;
                        module.ended = Some(TrialEnded { version, time: now, why });
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = ended {
                // It handles nothing any more; a restart would try it once more.
                error!(module = %name, version, %error, "the end of the trial could not be written down");
            }
        })
    }
}

fn module_of<'a>(wanted: &'a mut Wanted, name: &Name) -> Result<&'a mut Module, ControlError> {
    let not_found = || ControlError::NotFound { what: What::Module, name: name.to_string() };
    wanted.modules.get_mut(name).map(|owned| &mut owned.it).ok_or_else(not_found)
}

fn no_candidate(name: &Name) -> ControlError {
    ControlError::Conflict(format!("no version of `{name}` is on trial"))
}

impl Inner {
    /// The candidate of a route's module, ready to be called.
    pub(crate) async fn build_candidate(
        &self,
        route: &Name,
        wanted: &Wanted,
        known: &HashMap<String, Component>,
    ) -> Result<Option<(Arc<Candidate>, Component)>, ConfigError> {
        let table = &wanted.routes[route].it;
        let Some((asked, digest)) = wanted.candidate_of(table) else { return Ok(None) };
        let at = |problem: String| ConfigError::at("module", format!("version {}: {problem}", asked.version));
        let component = match known.get(digest) {
            Some(component) => component.clone(),
            None => self.component(digest, None).await.map_err(at)?,
        };
        let mut settings = build::settings(route, table, &wanted.secrets)?;
        let mode = match asked.mode {
            TrialMode::Shadow => Mode::Shadow,
            TrialMode::Canary { percent } => Mode::Canary { percent },
        };
        if mode == Mode::Shadow {
            settings.permissions.http = settings.permissions.http.for_trial();
        }
        let handler = build::handler(&self.runtime, &component, settings).await;
        let handler = handler.map_err(|error| at(error.to_string()))?;
        let limit = ErrorLimit { percent: asked.errors_percent, after: asked.errors_after };
        let candidate = Candidate::new(asked.version, Arc::new(handler), mode, limit);
        info!(%route, version = asked.version, ?mode, "on trial");
        Ok(Some((Arc::new(candidate), component)))
    }
}
