//! One engine, one linker, one cache for all handlers of the host.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::bindings;
use crate::cache::Cache;
use crate::component::{self, Component, ComponentError};
use crate::engine::{self, InstanceMemory, Room};
use crate::fault::InitError;
use crate::handler::{Handler, Pool, Settings};
use crate::heap;
use crate::host::Host;
use crate::script;
use crate::ticker::Ticker;

/// Compiles components and makes handlers of them.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Clone, Debug)]
pub struct Options {
    /// Where compiled code is kept; made if it is not there.
    pub cache_dir: PathBuf,
    /// Bytes of compiled code to keep.
    pub cache_max: u64,
    /// Bytes that a component may have.
    pub module_max: usize,
}

impl Options {
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self { cache_dir: cache_dir.into(), cache_max: 1 << 30, module_max: 64 << 20 }
    }
}

/// The host cannot run components at all.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the directory for compiled code, {}", .path.display())]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("wasmtime: {0}")]
    Engine(String),
    #[error("no thread for the epochs")]
    Ticker(#[source] std::io::Error),
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    memory: InstanceMemory,
    linker: Linker<Host>,
    cache: Cache,
    module_max: usize,
    /// The component that runs scripts, once one was loaded.
    scripts: Mutex<Option<Component>>,
    pools: Mutex<Vec<Weak<Pool>>>,
}

impl Runtime {
    /// Takes address space for instances, as much as the machine has to spare.
    pub fn new(options: Options) -> Result<Self, RuntimeError> {
        let room = Room::here();
        let (engine, memory) = engine::start(room, &room.choices()).map_err(engine_error)?;
        let linker = linker(&engine).map_err(engine_error)?;
        let cache = Cache::open(options.cache_dir.clone(), &engine, options.cache_max)
            .map_err(|source| RuntimeError::Cache { path: options.cache_dir, source })?;
        let ticker = Ticker::start(engine.clone()).map_err(RuntimeError::Ticker)?;
        let (module_max, scripts, pools) = (options.module_max, Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { engine, ticker, memory, linker, cache, module_max, scripts, pools })))
    }

    /// How instances get their memory here.
    pub fn instance_memory(&self) -> InstanceMemory {
        self.0.memory
    }

    /// Checks and compiles; up to seconds of one processor if the code is not in the cache. Blocks.
    pub fn load(&self, wasm: &[u8]) -> Result<Component, ComponentError> {
        let (size, limit) = (wasm.len(), self.0.module_max);
        if size > limit {
            return Err(ComponentError::TooLarge { size, limit });
        }
        if let Some(text) = script::text(wasm) {
            let text = text.map_err(|_| ComponentError::NoText)?;
            return Ok(self.scripts()?.running(text, hex(&Sha256::digest(wasm)), size));
        }
        component::check_header(wasm)?;
        let digest = hex(&Sha256::digest(wasm));
        let cached = self.0.cache.load(&self.0.engine, &digest);
        let is_cached = cached.is_some();
        let code = match cached {
            Some(code) => code,
            None => {
                wasmtime::component::Component::from_binary(&self.0.engine, wasm).map_err(compile_error)?
            }
        };
        let component = Component::check(code, digest, size)?;
        self.0
            .linker
            .instantiate_pre(component.code())
            .map_err(|error| ComponentError::WrongImport(format!("{error:#}")))?;
        if is_cached {
            return Ok(component);
        }
        self.0.cache.store(component.code(), component.digest());
        self.0.reread(component)
    }

    /// The component that runs scripts; read once.
    fn scripts(&self) -> Result<Component, ComponentError> {
        let mut known = self.0.scripts.lock();
        if let Some(component) = &*known {
            return Ok(component.clone());
        }
        let places = script::places();
        let read = places.iter().find_map(|place| std::fs::read(place).ok());
        let missing = || {
            let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            ComponentError::NoScripts(format!("there is no {}", places.join(", no ")))
        };
        let component = self.load(&read.ok_or_else(missing)?)?;
        *known = Some(component.clone());
        Ok(component)
    }

    /// Links `component` for a route, makes one instance and calls `configure`: what cannot work is refused here.
    pub async fn handler(&self, component: &Component, mut settings: Settings) -> Result<Handler, InitError> {
        let (asked, most) = (settings.limits.memory, self.0.memory.memory_max());
        if asked > most {
            return Err(InitError::TooMuchMemory { asked, most });
        }
        if let Some(script) = component.script() {
            settings.config.insert(script::SETTING.to_owned(), script.to_owned());
        }
        let linked = self.0.linker.instantiate_pre(component.code()).expect("`load` has linked it before");
        let pool = Pool::new(Arc::clone(&self.0), linked, component, settings);
        pool.warm_up().await?;
        self.0.register(&pool);
        Ok(Handler::new(pool))
    }
}

impl Inner {
    /// What was just compiled, mapped from the cache: such pages the system can drop and read again. And the
    /// compiler's memory goes back to it.
    fn reread(&self, compiled: Component) -> Result<Component, ComponentError> {
        let (digest, size) = (compiled.digest().to_owned(), compiled.size());
        let component = match self.cache.load(&self.engine, &digest) {
            Some(code) => {
                drop(compiled);
                Component::check(code, digest, size)?
            }
            None => compiled,
        };
        heap::give_back();
        Ok(component)
    }

    fn register(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Drops the instances that wait for calls, of every handler. Tells whether there were any.
    pub(crate) fn drop_warm(&self) -> bool {
        let pools: Vec<_> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        let dropped: usize = pools.iter().map(|pool| pool.drop_warm()).sum();
        dropped > 0
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    bindings::Offered::add_to_linker::<_, wasmtime::component::HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn engine_error(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Engine(format!("{error:#}"))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn compile_error(error: wasmtime::Error) -> ComponentError {
    let text = format!("{error:#}");
    // Wasmtime has no type for what its allocator cannot hold.
    match text.contains("pooling allocator") || text.contains("exceeds the limit") {
        true => ComponentError::TooDemanding(text),
        false => ComponentError::Invalid(text),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
