//! The heartbeat that lets a guest be interrupted: it only beats while something runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// A guest runs at most this long before it yields to others, and its time limit is exact to this.
const TICK: Duration = Duration::from_millis(2);

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stopping: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("epochs".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.beat(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Beats at least until the guard is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        // Either the thread sees the count above before it sleeps, or this sees that it sleeps.
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared.running)
    }
}

impl Shared {
    fn beat(&self, engine: &Engine) {
        while !self.stopping.load(Ordering::SeqCst) {
            std::thread::park_timeout(TICK);
            engine.increment_epoch();
            if self.running.load(Ordering::SeqCst) == 0 {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.stopping.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic; and if it did, there is nothing left to tell it to.
            let _ = thread.join();
        }
    }
}

pub(crate) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
