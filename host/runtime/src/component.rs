//! What may be uploaded: a component of our world. Refused before it runs, with the reason.

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower};

use crate::convert::{ConfigureParams, ConfigureResult, HandleParams, HandleResult};
use crate::signature::describe;

/// A compiled component that exports what a handler exports and imports nothing unknown.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    digest: String,
    size: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    /// What the component is to run, if it is the one that runs scripts.
    script: Option<Box<str>>,
    code: wasmtime::component::Component,
    configure: ComponentExportIndex,
    handle: ComponentExportIndex,
}

/// Why a component is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    #[error("{size} bytes are more than the {limit} that a module may have")]
    TooLarge { size: usize, limit: usize },
    #[error("this is not WebAssembly: it does not begin with `\\0asm`")]
    NotWasm,
    #[error(
        "this is a core module, not a component: run `sandbar componentize`, or your language's tool for components"
    )]
    CoreModule,
    #[error("this is not a valid component: {0}")]
    Invalid(String),
    #[error("it does not export `{name}`; a handler exports `{name}: {expected}`")]
    MissingExport { name: &'static str, expected: &'static str },
    #[error(
        "its export `{name}` has another type than a handler's.\nexpected: {expected}\n   found: {found}"
    )]
    WrongExport { name: &'static str, expected: &'static str, found: String },
    #[error("it imports `{name}`, which nobody offers here{}", nearest.as_ref().map(|near| format!("; the nearest is `{near}`")).unwrap_or_default())]
    UnknownImport { name: String, nearest: Option<String> },
    #[error("it imports something that is offered otherwise: {0}")]
    WrongImport(String),
    #[error("it needs more than an instance can have on this machine: {0}")]
    TooDemanding(String),
    #[error("the script is not UTF-8 text")]
    NoText,
    #[error(
        "scripts cannot be run here: {0}. `make guests` builds the component that runs them; SANDBAR_GUESTS names its folder"
    )]
    NoScripts(String),
}

impl ComponentError {
    /// Stable, for the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotWasm => "not_wasm",
            Self::CoreModule => "core_module",
            Self::Invalid(_) => "invalid_component",
            Self::MissingExport { .. } => "missing_export",
            Self::WrongExport { .. } => "wrong_export",
            Self::UnknownImport { .. } => "unknown_import",
            Self::WrongImport(_) => "wrong_import",
            Self::TooDemanding(_) => "too_demanding",
            Self::NoText => "not_utf8",
            Self::NoScripts(_) => "no_scripts",
        }
    }
}

impl Component {
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Bytes of its WebAssembly.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Interfaces and functions, such as `wasi:cli/environment@0.2.3`.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    pub fn exports(&self) -> &[String] {
        &self.0.exports
    }

    /// This component, which runs scripts, as the module that a script is.
    pub(crate) fn running(&self, script: &str, digest: String, size: usize) -> Self {
        let Inner { imports, exports, code, configure, handle, .. } = &*self.0;
        let (imports, exports, code) = (imports.clone(), exports.clone(), code.clone());
        let script = Some(script.into());
        Self(Arc::new(Inner {
            digest,
            size,
            imports,
            exports,
            script,
            code,
            configure: *configure,
            handle: *handle,
        }))
    }

    pub(crate) fn script(&self) -> Option<&str> {
        self.0.script.as_deref()
    }

    pub(crate) fn code(&self) -> &wasmtime::component::Component {
        &self.0.code
    }

    pub(crate) fn configure(&self) -> &ComponentExportIndex {
        &self.0.configure
    }

    pub(crate) fn handle(&self) -> &ComponentExportIndex {
        &self.0.handle
    }

    /// Checks exports and the names of imports; their types are checked when it is linked.
    pub(crate) fn check(
        code: wasmtime::component::Component,
        digest: String,
        size: usize,
    ) -> Result<Self, ComponentError> {
        let engine = code.engine();
        let ty = code.component_type();
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let exports = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        if let Some(name) = imports.iter().find(|name| !is_offered(name)) {
            return Err(ComponentError::UnknownImport { name: name.clone(), nearest: nearest(name) });
        }
        let configure = export::<ConfigureParams, ConfigureResult>(&code, engine, "configure", CONFIGURE)?;
        let handle = export::<HandleParams<'_>, HandleResult>(&code, engine, "handle", HANDLE)?;
        Ok(Self(Arc::new(Inner { digest, size, imports, exports, script: None, code, configure, handle })))
    }
}

/// What the first bytes tell, without compiling.
pub(crate) fn check_header(wasm: &[u8]) -> Result<(), ComponentError> {
    const MODULE: [u8; 4] = [1, 0, 0, 0];
    let Some(rest) = wasm.strip_prefix(b"\0asm") else { return Err(ComponentError::NotWasm) };
    match rest.starts_with(&MODULE) {
        true => Err(ComponentError::CoreModule),
        false => Ok(()),
    }
}

/// The exports of `wit/handler.wit`, with their types written out.
const CONFIGURE: &str = "func() -> result<_, string>";
const HANDLE: &str = "func(reading: record { id: string, ingress: string, topic: string, device: option<string>, \
     time: u64, content-type: string, attributes: list<tuple<string, string>>, payload: list<u8> }) \
     -> result<list<variant { \
     message(record { topic: string, device: option<string>, content-type: string, \
     attributes: list<tuple<string, string>>, payload: list<u8> }), \
     reply(record { topic: string, device: option<string>, content-type: string, \
     attributes: list<tuple<string, string>>, payload: list<u8> }), \
     command(record { device: string, name: string, content-type: string, payload: list<u8> }) }>, \
     variant { reject(string), retry(string) }>";

fn export<P, R>(
    code: &wasmtime::component::Component,
    engine: &Engine,
    name: &'static str,
    expected: &'static str,
) -> Result<ComponentExportIndex, ComponentError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let ty = code.component_type();
    let found = ty.get_export(engine, name).map(|export| export.ty);
    let found = match found {
        Some(ComponentItem::ComponentFunc(function)) if fits::<P, R>(&ty, &function) => {
            return code.get_export_index(None, name).ok_or(ComponentError::MissingExport { name, expected });
        }
        Some(ComponentItem::ComponentFunc(function)) => describe(&function),
        Some(ComponentItem::ComponentInstance(_)) => "an interface".to_owned(),
        Some(_) => "not a function".to_owned(),
        None => return Err(ComponentError::MissingExport { name, expected }),
    };
    Err(ComponentError::WrongExport { name, expected, found })
}

fn fits<P, R>(ty: &wasmtime::component::types::Component, function: &ComponentFunc) -> bool
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    !function.async_() && function.typecheck::<P, R>(&ty.instance_type()).is_ok()
}

/// Every interface that the linker has: ours, and WASI 0.2. What a route does not permit is there too, and says no.
const OFFERED: &[&str] = &[
    "sandbar:handler/types@0.1.0",
    "sandbar:handler/state@0.1.0",
    "sandbar:handler/http@0.1.0",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:http/types@0.2.12",
    "wasi:http/outgoing-handler@0.2.12",
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/random@0.2.12",
    "wasi:sockets/instance-network@0.2.12",
    "wasi:sockets/ip-name-lookup@0.2.12",
    "wasi:sockets/network@0.2.12",
    "wasi:sockets/tcp-create-socket@0.2.12",
    "wasi:sockets/tcp@0.2.12",
    "wasi:sockets/udp-create-socket@0.2.12",
    "wasi:sockets/udp@0.2.12",
];

/// Versions that stand in for each other share a track, as in semantic versioning: `0.2` of `0.2.3`.
fn track(name: &str) -> (&str, &str) {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    let (first, second) = (dots.next(), dots.next());
    let end = match version {
        exact if exact.contains('-') => exact.len(),
        _ if version.starts_with("0.0.") => version.len(),
        _ if version.starts_with("0.") => second.unwrap_or(version.len()),
        _ => first.unwrap_or(version.len()),
    };
    (interface, &version[..end])
}

fn is_offered(name: &str) -> bool {
    OFFERED.iter().any(|offered| track(offered) == track(name))
}

/// The offered name that is most like `name`, if it is like it at all.
fn nearest(name: &str) -> Option<String> {
    let interface = track(name).0;
    let distance = |offered: &&&str| edits(interface, track(offered).0);
    let best = OFFERED.iter().min_by_key(distance)?;
    (distance(&best) <= interface.len() / 2).then(|| (*best).to_owned())
}

/// How many characters differ (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_versions_stand_in_for_each_other() {
        for name in [
            "wasi:io/poll@0.2.0",
            "wasi:io/poll@0.2.99",
            "wasi:http/outgoing-handler@0.2.3",
            "sandbar:handler/state@0.1.7",
        ] {
            assert!(is_offered(name), "{name}");
        }
        for name in [
            "wasi:io/poll@0.3.0",
            "wasi:io/poll",
            "wasi:http/incoming-handler@0.2.0",
            "wasi:logging/logging@0.1.0",
        ] {
            assert!(!is_offered(name), "{name}");
        }
    }

    #[test]
    fn names_what_was_probably_meant() {
        assert_eq!(nearest("sandbar:handler/stat@0.1.0").unwrap(), "sandbar:handler/state@0.1.0");
        assert_eq!(nearest("wasi:io/poll@0.3.0").unwrap(), "wasi:io/poll@0.2.12");
        assert_eq!(nearest("env"), None);
    }
}
