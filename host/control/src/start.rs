//! Starts a host: opens the store, resumes what it has, applies what is declared, starts the drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar_pipeline::Pipeline;
use sandbar_reading::{Clock, Name, Target, with_causes};
use sandbar_runtime::Runtime;
use sandbar_store::{Committer, Disk, Medium, Store, StoreError};
use sandbar_telemetry::Telemetry;
use tracing::{error, warn};

use crate::build;
use crate::control::{Control, Inner, Start};
use crate::declared::Declared;
use crate::documents::{self, Known};
use crate::error::StartError;
use crate::files;
use crate::plan::{dangling, dangling_in};
use crate::problem::ConfigProblem;
use crate::running::Running;
use crate::tables::HostTable;
use crate::token;
use crate::wanted::{Module, Owned, Wanted};
use crate::what::What;

impl Control {
    /// Starts a host; needs a tokio runtime. What the file declares must work, but for modules: a route
    /// whose module cannot be had is broken until it is mended, and so is what was made through the API and
    /// does not work any more. Their readings and deliveries wait.
    pub async fn start(start: Start) -> Result<Self, StartError> {
        let disk = Disk::new(start.data_dir.join("store"));
        Self::start_on(Arc::new(disk), start).await
    }

    /// With the store's file on `medium`.
    pub(crate) async fn start_on(medium: Arc<dyn Medium>, start: Start) -> Result<Self, StartError> {
        let Start { data_dir, declared, clock } = start;
        make_private(&data_dir)
            .map_err(|error| StartError::Storage(format!("cannot make {}: {error}", data_dir.display())))?;
        let token = token_of(&declared, &data_dir)?;
        let store = open_store(medium, &data_dir, declared.host(), clock.clone()).await?;
        let runtime = Runtime::new(sandbar_runtime::Options {
            module_max: crate::MODULE_MAX_BYTES,
            ..sandbar_runtime::Options::new(data_dir.join("code"))
        })
        .map_err(|error| StartError::Runtime(with_causes(&error)))?;
        let telemetry = Telemetry::start(declared.telemetry())
            .map_err(|error| StartError::Problem(declared.problem(error.within("telemetry"))))?;
        let options = sandbar_pipeline::Options {
            reading_max: declared.host().reading_max_bytes,
            depth_max: declared.host().depth_max,
            telemetry: telemetry.clone(),
            devices: Some(declared.devices().options()),
            ..sandbar_pipeline::Options::default()
        };
        let pipeline = Pipeline::start(store.clone(), clock.clone(), options).map_err(storage)?;
        let declared = Arc::new(declared);
        let inner = Arc::new(Inner {
            intake: pipeline.intake(),
            store,
            runtime,
            pipeline,
            telemetry,
            started: clock.now(),
            clock,
            token,
            running: parking_lot::RwLock::new(Running::nothing(declared.clone())),
            changing: tokio::sync::Mutex::default(),
            leaving: tokio::sync::RwLock::default(),
            stopping: false.into(),
            trying: tokio::sync::Semaphore::new(2),
            cancelled: parking_lot::Mutex::default(),
            replaying: parking_lot::Mutex::default(),
            sessions: tokio_util::sync::CancellationToken::new(),
            rates: crate::rates::Rates::default(),
        });
        inner.sample_rates();
        let control = Self { inner };
        if let Err(error) = control.inner.resume(declared).await {
            // The next start must find the store free.
            control.stop(Duration::ZERO).await;
            return Err(error);
        }
        let routes: Vec<_> = control.running().candidates.keys().cloned().collect();
        control.watch_candidates(routes.iter());
        control.resume_replays();
        control.report_figures();
        Ok(control)
    }
}

impl Inner {
    async fn resume(&self, declared: Arc<Declared>) -> Result<(), StartError> {
        let stored = documents::read(&self.store).map_err(storage)?;
        let known = Known::read(&self.store).map_err(storage)?;
        let modules = self.declared_modules(&declared, &stored).await?;
        let mut wanted = stored.clone().with_declared(&declared, &modules);
        keep_used_modules(&stored, &mut wanted);
        wanted.end_untrusted_trials(self.clock.now());
        for dangling in dangling(&wanted) {
            if declared.routes.contains_key(&dangling.route) {
                let error = dangling.error.within(&What::Route.table(&dangling.route));
                return Err(StartError::Problem(declared.problem(error)));
            }
        }
        let mut changes = documents::changes(&stored, &wanted);
        self.discard_gone(&known, &wanted).await?;
        let now_known = known.with_routes([&wanted]);
        if known != now_known {
            changes.push(now_known.change());
        }
        let mut is_written = true;
        if !changes.is_empty() {
            // A full disk must not keep the host from delivering what it has: the next change writes it again.
            if let Err(error) = self.store.put_documents(changes).await {
                warn!(%error, "the configuration could not be written down");
                is_written = false;
            }
        }
        let mut running = Running { wanted: Arc::new(wanted), ..Running::nothing(declared.clone()) };
        self.start_sinks(&mut running).await?;
        self.start_routes(&mut running).await;
        self.drop_states(&running.wanted, &running.wanted.ingresses.keys().collect::<Vec<_>>()).await;
        self.start_ingresses(&mut running)?;
        let wanted = running.wanted.clone();
        *self.running.write() = running;
        // Else what is written down still needs them.
        if is_written {
            self.tidy_up(&stored, &wanted).await;
        }
        Ok(())
    }

    /// The modules that the file declares, each with its file's content as the active version.
    async fn declared_modules(
        &self,
        declared: &Declared,
        stored: &Wanted,
    ) -> Result<BTreeMap<Name, Module>, StartError> {
        let mut modules = BTreeMap::new();
        for (name, file) in &declared.modules {
            let before = stored.modules.get(name).map(|owned| &owned.it);
            let read = files::read(self, file.clone(), before, &declared.trust).await;
            let module = match read {
                Ok(read) => {
                    if let Some(blob) = read.blob {
                        self.put_blob(blob).await.map_err(storage)?;
                    }
                    read.module
                }
                Err(problem) => {
                    error!(module = %name, problem, "a declared module cannot be had");
                    before.cloned().unwrap_or_else(Module::new)
                }
            };
            modules.insert(name.clone(), module);
        }
        Ok(modules)
    }

    /// What waits for routes that are no longer configured becomes dead letters, also for those that nobody remembers.
    async fn discard_gone(&self, known: &Known, wanted: &Wanted) -> Result<(), StartError> {
        let waiting = self.store.routes_waiting().map_err(storage)?;
        let waiting = waiting.iter().map(ToString::to_string);
        let names: BTreeSet<String> = known.routes.iter().cloned().chain(waiting).collect();
        for gone in names.iter().filter(|name| !wanted.routes.contains_key(name.as_str())) {
            let Ok(name) = gone.parse::<Name>() else { continue };
            warn!(route = gone, "no longer configured: what waits for it becomes dead letters");
            if let Err(error) = self.store.discard_route(name).await {
                warn!(route = gone, %error, "could not be discarded now; the next start tries again");
            }
        }
        Ok(())
    }

    async fn start_sinks(&self, running: &mut Running) -> Result<(), StartError> {
        let wanted = running.wanted.clone();
        for target in self.store.targets().map_err(storage)? {
            let Target::Sink(name) = &target else { continue };
            if !wanted.sinks.contains_key(name) {
                warn!(sink = %name, "no longer configured: what is queued for it becomes dead letters");
                if let Err(error) = self.store.discard_target(target).await {
                    warn!(%error, "could not be discarded now; the next start tries again");
                }
            }
        }
        for (name, Owned { declared, it }) in &wanted.sinks {
            let sink = build::sink(it);
            match &sink {
                Ok(sink) => {
                    self.pipeline.set_sink(name.clone(), sink.clone(), build::offering(&it.offering)).await;
                }
                Err(error) if *declared => {
                    return Err(problem(running, error.clone().within(&What::Sink.table(name))));
                }
                Err(error) => error!(sink = %name, %error, "broken: deliveries wait until it is mended"),
            }
            running.sinks.insert(name.clone(), sink.map_err(|error| error.to_string()));
        }
        Ok(())
    }

    async fn start_routes(&self, running: &mut Running) {
        let wanted = running.wanted.clone();
        for name in wanted.routes.keys() {
            let handler = self.handler_of(name, &wanted, &running.components).await;
            let handler = handler.map(|(handler, component)| {
                if let Some(component) = component {
                    running.components.insert(component.digest().to_owned(), component);
                }
                handler
            });
            if let Err(cause) = &handler {
                error!(route = %name, cause, "broken: readings wait until it is mended");
            }
            running.handlers.insert(name.clone(), handler);
            match self.build_candidate(name, &wanted, &running.components).await {
                Ok(Some((candidate, component))) => {
                    running.components.insert(component.digest().to_owned(), component);
                    running.candidates.insert(name.clone(), candidate);
                }
                Ok(None) => {}
                Err(error) => error!(route = %name, %error, "not on trial: it does not start"),
            }
        }
        let routes = wanted.routes.keys().filter_map(|name| running.route(name)).collect();
        self.pipeline.set_routes(routes);
    }

    fn start_ingresses(&self, running: &mut Running) -> Result<(), StartError> {
        let wanted = running.wanted.clone();
        let mut drivers = Vec::new();
        for (name, Owned { declared, it }) in &wanted.ingresses {
            match build::driver(it) {
                Ok(driver) => drivers.push((name.clone(), driver)),
                Err(error) if *declared => {
                    return Err(problem(running, error.within(&What::Ingress.table(name))));
                }
                Err(error) => {
                    error!(ingress = %name, %error, "broken: it takes nothing until it is mended");
                    running.ingresses.insert(name.clone(), Err(error.to_string()));
                }
            }
        }
        self.set_device_options(running);
        for (name, driver) in drivers {
            running.ingresses.insert(name.clone(), Ok(self.start_ingress(name, driver)));
        }
        Ok(())
    }
}

/// A module that came from a file, which no longer declares it, stays while routes of the API use it.
fn keep_used_modules(stored: &Wanted, wanted: &mut Wanted) {
    let missing: BTreeSet<Name> = wanted
        .routes
        .iter()
        .flat_map(|(name, route)| dangling_in(name, &route.it, wanted))
        .filter(|dangling| dangling.missing.what == What::Module)
        .map(|dangling| dangling.missing.name)
        .collect();
    for name in missing {
        if let Some(module) = stored.modules.get(&name) {
            warn!(module = %name, "the file no longer declares it; it stays for the routes that use it");
            wanted.modules.insert(name, Owned { declared: false, it: module.it.clone() });
        }
    }
}

fn problem(running: &Running, error: sandbar_reading::ConfigError) -> StartError {
    StartError::Problem(running.declared.problem(error))
}

/// The store's file has secrets in it.
fn make_private(data_dir: &Path) -> io::Result<()> {
    match fs::metadata(data_dir) {
        Ok(_) => Ok(()),
        Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(data_dir),
    }
}

fn token_of(declared: &Declared, data_dir: &Path) -> Result<String, StartError> {
    if let Some(token) = &declared.api().token {
        let token = token.resolve("api.token", |path| fs::read_to_string(path));
        return token.map_err(|error| StartError::Problem(declared.problem(error)));
    }
    token::read_or_make(data_dir, rand::random()).map_err(|error| {
        let path = data_dir.join(token::TOKEN_FILE);
        StartError::Storage(format!("cannot read or make {}: {error}", path.display()))
    })
}

async fn open_store(
    medium: Arc<dyn Medium>,
    data_dir: &Path,
    host: &HostTable,
    clock: Arc<dyn Clock>,
) -> Result<Store, StartError> {
    let modules = data_dir.join("modules");
    let options = sandbar_store::Options {
        cache_bytes: (host.store_cache_mib as usize) << 20,
        retention: sandbar_store::Retention {
            age: Some(Duration::from_secs(u64::from(host.journal_hours) * 3600)),
            bytes: Some(u64::from(host.journal_mib) << 20),
        },
        inline_max: host.inline_max_bytes,
        trace_bytes: u64::from(host.trace_mib) << 20,
        dead_letter_bytes: Some(u64::from(host.dead_letters_mib) << 20).filter(|most| *most > 0),
        ..sandbar_store::Options::default()
    };
    let opened =
        tokio::task::spawn_blocking(move || Store::open(medium, modules, options, clock, Committer::Thread))
            .await;
    let opened = opened.map_err(|error| StartError::Storage(error.to_string()))?;
    opened.map_err(|error| StartError::Storage(with_causes(&error)))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn storage(error: StoreError) -> StartError {
    StartError::Storage(error.to_string())
}

impl From<ConfigProblem> for StartError {
    fn from(problem: ConfigProblem) -> Self {
        Self::Problem(problem)
    }
}
