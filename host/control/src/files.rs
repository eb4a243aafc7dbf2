//! The modules that the configuration file declares, as versions.

use std::collections::{BTreeMap, HashMap};

use sandbar_reading::{ConfigError, Name};
use sandbar_runtime::Component;
use sandbar_store::Digest;

use crate::control::Inner;
use crate::declared::{Declared, ModuleFile};
use crate::error::ControlError;
use crate::trust::Trust;
use crate::views::{Blob, Version};
use crate::wanted::{Module, Wanted};
use crate::what::What;

/// A module with the content of its file as the active version.
pub(crate) struct Read {
    pub(crate) module: Module,
    /// If the content is not the active version's already.
    pub(crate) component: Option<Component>,
    /// If the store has to take it.
    pub(crate) blob: Option<Blob>,
}

/// The text says why the file is of no use.
pub(crate) async fn read(
    inner: &Inner,
    file: ModuleFile,
    before: Option<&Module>,
    trust: &Trust,
) -> Result<Read, String> {
    let embedded = matches!(file, ModuleFile::Embedded(_));
    let content = tokio::task::spawn_blocking(move || {
        let wasm = file.read().map_err(|error| match &file {
            ModuleFile::At(path) => format!("{} cannot be read: {error}", path.display()),
            ModuleFile::Embedded(_) => error.to_string(),
        })?;
        Ok::<_, String>((Digest::of(&wasm).to_string(), wasm, file.signature()))
    });
    let (digest, wasm, signature) = content.await.map_err(|error| error.to_string())??;
    let signed_by = match embedded {
        true => None,
        false => trust.check(&wasm, signature.as_deref()).map_err(|untrusted| untrusted.to_string())?,
    };
    if let Some(before) = before.filter(|before| before.digest() == Some(digest.as_str())) {
        let is_there = matches!(inner.blob(&digest).await, Ok(Some(_)));
        let blob = (!is_there).then_some(Blob { digest, bytes: wasm });
        return Ok(Read { module: before.clone(), component: None, blob });
    }
    let component = inner.component(&digest, Some(wasm.clone())).await?;
    let mut module = before.cloned().unwrap_or_else(Module::new);
    let version = module.add(Version { signed_by, ..version_of(inner, &component) }).version;
    module.activate(version);
    Ok(Read { module, component: Some(component), blob: Some(Blob { digest, bytes: wasm }) })
}

/// All modules of `declared`; one that cannot be had is a problem of the file.
pub(crate) async fn read_all(
    inner: &Inner,
    declared: &Declared,
    before: &Wanted,
) -> Result<Files, ControlError> {
    let mut files = Files::default();
    for (name, file) in &declared.modules {
        let before = before.modules.get(name).map(|owned| &owned.it);
        let read = read(inner, file.clone(), before, &declared.trust).await.map_err(|problem| {
            let setting = format!("{}.file", What::Module.table(name));
            ControlError::Problem(declared.problem(ConfigError::at(setting, problem)))
        })?;
        files.modules.insert(name.clone(), read.module);
        files.components.extend(read.component.map(|component| (component.digest().to_owned(), component)));
        files.blobs.extend(read.blob);
    }
    Ok(files)
}

/// What all module files together are.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) modules: BTreeMap<Name, Module>,
    pub(crate) components: HashMap<String, Component>,
    pub(crate) blobs: Vec<Blob>,
}

/// A version that has no number yet.
pub(crate) fn version_of(inner: &Inner, component: &Component) -> Version {
    Version {
        version: 0,
        digest: component.digest().to_owned(),
        size: component.size() as u64,
        uploaded: inner.clock.now(),
        imports: component.imports().to_vec(),
        signed_by: None,
        never_active: false,
    }
}
