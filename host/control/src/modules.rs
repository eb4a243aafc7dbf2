//! Modules: upload, activation, roll-back, removal.

use std::collections::HashMap;

use bytes::Bytes;
use sandbar_reading::Name;

use crate::candidates::CandidateInfo;
use crate::change::{Asked, By};
use crate::control::Control;
use crate::error::ControlError;
use crate::files::version_of;
use crate::grants::not_granted;
use crate::resources::{gone, may_edit};
use crate::running::Running;
use crate::views::{Blob, Item, ModuleInfo, Uploaded, Version};
use crate::wanted::{Module, Owned, Wanted};
use crate::what::What;

/// Bytes that a component may have.
pub const MODULE_MAX_BYTES: usize = 64 << 20;

impl Control {
    /// Sorted by name.
    pub fn modules(&self) -> Vec<ModuleInfo> {
        let running = self.running();
        running.wanted.modules.iter().map(|(name, module)| info(&running, name, module)).collect()
    }

    pub fn module(&self, name: &str) -> Result<ModuleInfo, ControlError> {
        let running = self.running();
        let found = running.wanted.modules.get_key_value(name);
        let not_found = || ControlError::NotFound { what: What::Module, name: name.to_owned() };
        found.map(|(name, module)| info(&running, name, module)).ok_or_else(not_found)
    }

    /// Checks, compiles and keeps a component as the module's next version. With `activate`, or if it is the
    /// first, every route that uses the module has it from its next reading on; if one of them cannot work
    /// with it, nothing is changed. The bytes of the active version are no new version.
    pub async fn upload(&self, name: Name, wasm: Bytes, activate: bool) -> Result<Uploaded, ControlError> {
        self.upload_signed(name, wasm, None, activate).await
    }

    /// The same with a signature of the bytes, which a host with trusted keys asks for.
    pub async fn upload_signed(
        &self,
        name: Name,
        wasm: Bytes,
        signature: Option<Vec<u8>>,
        activate: bool,
    ) -> Result<Uploaded, ControlError> {
        may_edit(&self.running().wanted, What::Module, &name)?;
        if wasm.len() > MODULE_MAX_BYTES {
            return Err(ControlError::TooLarge { size: wasm.len(), limit: MODULE_MAX_BYTES });
        }
        self.running().wanted.trust.check(&wasm, signature.as_deref())?;
        // Compiling takes long: other changes need not wait for it.
        let component = self.load(wasm.clone()).await?;
        self.one_by_one(move |control| async move {
            let digest = component.digest().to_owned();
            let mut wanted = Wanted::clone(&control.running().wanted);
            may_edit(&wanted, What::Module, &name)?;
            // The keys may be others than before it was compiled.
            let signed_by = wanted.trust.check(&wasm, signature.as_deref())?;
            let created = !wanted.modules.contains_key(&name);
            let fresh = || Owned { declared: false, it: Module::new() };
            let module = &mut wanted.modules.entry(name.clone()).or_insert_with(fresh).it;
            let same = module.version(module.active).filter(|active| active.digest == digest).cloned();
            let version = match same {
                Some(active) => active,
                None => module.add(Version { signed_by, ..version_of(&control.inner, &component) }).clone(),
            };
            if activate || created {
                module.activate(version.version);
                module.candidate = None;
            }
            let active = module.active == version.version;
            let not_granted = not_granted(&wanted, &name, &version);
            let asked = Asked {
                wanted,
                by: By::Api(Item { what: What::Module, name: name.clone() }),
                // Also for the same bytes: the store's may be damaged.
                blobs: vec![Blob { digest: digest.clone(), bytes: wasm }],
                components: HashMap::from([(digest, component)]),
            };
            control.change(asked).await?;
            Ok(Uploaded { name, version, active, created, not_granted })
        })
        .await
    }

    /// Makes another version the one that handles readings, for every route that uses the module or none.
    pub async fn activate(&self, name: Name, version: u32) -> Result<ModuleInfo, ControlError> {
        let edited = name.clone();
        self.edit(What::Module, edited, move |wanted, name| {
            let trust = wanted.trust.clone();
            let module = wanted.modules.get_mut(&name);
            let not_found = |name: String| ControlError::NotFound { what: What::Module, name };
            let module = &mut module.ok_or_else(|| not_found(name.to_string()))?.it;
            if module.version(version).is_none() {
                return Err(not_found(format!("{name}, version {version}")));
            }
            module.still_holds(version, &trust)?;
            module.activate(version);
            module.candidate = None;
            Ok(())
        })
        .await?;
        self.module(name.as_str())
    }

    /// Refused while a route uses it.
    pub async fn remove_module(&self, name: Name) -> Result<(), ControlError> {
        self.edit(What::Module, name, |wanted, name| gone(wanted.modules.remove(&name), What::Module, &name))
            .await
    }
}

fn info(running: &Running, name: &Name, module: &Owned<Module>) -> ModuleInfo {
    let wanted = &running.wanted;
    let compared = |route: &Name| Some((route.clone(), running.candidates.get(route)?.compared()));
    let candidate = module.it.candidate.map(|asked| CandidateInfo {
        asked,
        routes: wanted.routes_with(name).filter_map(compared).collect(),
    });
    let active = module.it.version(module.it.active);
    ModuleInfo {
        candidate,
        ended: module.it.ended.clone(),
        not_granted: active.map(|active| not_granted(wanted, name, active)).unwrap_or_default(),
        name: name.clone(),
        declared: module.declared,
        active: module.it.active,
        versions: module.it.versions.clone(),
        routes: wanted.routes_with(name).cloned().collect(),
    }
}
