//! What is configured: by the file, and through the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandbar_reading::{Name, Timestamp};

use crate::candidates::{OnTrial, TrialEnded};
use crate::declared::Declared;
use crate::tables::{IngressTable, RouteTable, SinkTable};
use crate::trust::{Trust, Untrusted};
use crate::views::Version;
use crate::what::What;

/// Everything that should run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) sinks: BTreeMap<Name, Owned<SinkTable>>,
    pub(crate) ingresses: BTreeMap<Name, Owned<IngressTable>>,
    pub(crate) modules: BTreeMap<Name, Owned<Module>>,
    pub(crate) routes: BTreeMap<Name, Owned<RouteTable>>,
    /// Of the file; never kept in the store.
    pub(crate) secrets: BTreeMap<String, Revealed>,
    /// Of the file.
    pub(crate) trust: Trust,
}

/// A secret's text; never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Revealed(Arc<str>);

impl Revealed {
    pub(crate) fn new(text: String) -> Self {
        Self(text.into())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revealed(…)")
    }
}

/// Something configured, and who may change it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owned<T> {
    /// By the configuration file; else through the API.
    pub(crate) declared: bool,
    pub(crate) it: T,
}

/// A module: its versions, oldest first, and the one that is active.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Module {
    pub(crate) active: u32,
    pub(crate) versions: Vec<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) candidate: Option<OnTrial>,
    /// How the last trial ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<TrialEnded>,
}

impl Module {
    /// Beside the active one, as many old versions are kept.
    const VERSIONS_MAX: usize = 10;

    pub(crate) fn new() -> Self {
        Self { active: 0, versions: Vec::new(), candidate: None, ended: None }
    }

    pub(crate) fn version(&self, version: u32) -> Option<&Version> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// Makes it the one that handles readings.
    pub(crate) fn activate(&mut self, version: u32) {
        self.active = version;
        if let Some(known) = self.versions.iter_mut().find(|known| known.version == version) {
            known.never_active = false;
        }
    }

    /// Whether a version that was taken once may still be used.
    pub(crate) fn still_holds(&self, version: u32, trust: &Trust) -> Result<(), Untrusted> {
        let signed_by = self.version(version).and_then(|known| known.signed_by.as_deref());
        trust.still_holds(version, signed_by)
    }

    /// Of the active version.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.version(self.active).map(|version| version.digest.as_str())
    }

    /// Adds what was uploaded, under the next number; old versions make room.
    pub(crate) fn add(&mut self, uploaded: Version) -> &Version {
        let number = self.versions.last().map_or(1, |last| last.version + 1);
        self.versions.push(Version { version: number, never_active: true, ..uploaded });
        while self.versions.len() > Self::VERSIONS_MAX {
            let on_trial = self.candidate.map(|candidate| candidate.version);
            let is_unused = |version: &Version| {
                version.version != self.active
                    && version.version != number
                    && Some(version.version) != on_trial
            };
            let oldest = self.versions.iter().position(is_unused);
            self.versions.remove(oldest.unwrap_or(0));
        }
        self.versions.last().expect("one was just added")
    }
}

impl Wanted {
    /// Replaces everything that the file declares by what `declared` says; `modules` are its modules.
    /// What was made through the API under a declared name is the file's from now on.
    #[must_use]
    pub(crate) fn with_declared(mut self, declared: &Declared, modules: &BTreeMap<Name, Module>) -> Self {
        replace(&mut self.sinks, &declared.sinks);
        replace(&mut self.ingresses, &declared.ingresses);
        replace(&mut self.routes, &declared.routes);
        replace(&mut self.modules, modules);
        self.secrets.clone_from(&declared.secrets);
        self.trust.clone_from(&declared.trust);
        self
    }

    /// A version whose key is trusted no more is on trial no more.
    pub(crate) fn end_untrusted_trials(&mut self, now: Timestamp) {
        for module in self.modules.values_mut().map(|owned| &mut owned.it) {
            let Some(OnTrial { version, .. }) = module.candidate else { continue };
            if let Err(untrusted) = module.still_holds(version, &self.trust) {
                module.candidate = None;
                module.ended = Some(TrialEnded { version, time: now, why: untrusted.to_string() });
            }
        }
    }

    /// Whether there is such a thing, and if so whether the file declares it.
    pub(crate) fn declared(&self, what: What, name: &str) -> Option<bool> {
        match what {
            What::Sink => self.sinks.get(name).map(|owned| owned.declared),
            What::Ingress => self.ingresses.get(name).map(|owned| owned.declared),
            What::Module => self.modules.get(name).map(|owned| owned.declared),
            What::Route => self.routes.get(name).map(|owned| owned.declared),
            What::Reading
            | What::DeadLetter
            | What::Replay
            | What::Device
            | What::Resource
            | What::Command => None,
        }
    }

    /// The digest of the component that handles the route's readings; `None` without a module.
    pub(crate) fn digest_of(&self, route: &RouteTable) -> Option<&str> {
        self.modules.get(&route.module.as_ref()?.0)?.it.digest()
    }

    /// What is on trial in the route, and its digest.
    pub(crate) fn candidate_of(&self, route: &RouteTable) -> Option<(&OnTrial, &str)> {
        let module = &self.modules.get(&route.module.as_ref()?.0)?.it;
        let candidate = module.candidate.as_ref()?;
        Some((candidate, module.version(candidate.version)?.digest.as_str()))
    }

    /// Whether a version may be called. The active one may, whoever signed it: it handles readings until another one
    /// is activated.
    pub(crate) fn may_call(&self, module: &Module, version: u32) -> Result<(), Untrusted> {
        match version == module.active {
            true => Ok(()),
            false => module.still_holds(version, &self.trust),
        }
    }

    /// The number of the version that handles the route's readings; 0 without a module.
    pub(crate) fn version_of(&self, route: &RouteTable) -> u32 {
        let module = route.module.as_ref().and_then(|module| self.modules.get(&module.0));
        module.map_or(0, |module| module.it.active)
    }

    /// Every component that some version is.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &str> {
        let versions = self.modules.values().flat_map(|module| &module.it.versions);
        versions.map(|version| version.digest.as_str())
    }

    /// The routes that use a module.
    pub(crate) fn routes_with<'a>(&'a self, module: &'a Name) -> impl Iterator<Item = &'a Name> {
        let uses = move |route: &RouteTable| route.module.as_ref().is_some_and(|used| used.0 == *module);
        self.routes.iter().filter(move |(_, route)| uses(&route.it)).map(|(name, _)| name)
    }
}

fn replace<T: Clone>(all: &mut BTreeMap<Name, Owned<T>>, declared: &BTreeMap<Name, T>) {
    all.retain(|name, owned| !owned.declared && !declared.contains_key(name));
    let owned = |(name, it): (&Name, &T)| (name.clone(), Owned { declared: true, it: it.clone() });
    all.extend(declared.iter().map(owned));
}
