//! The one place that retries links: it runs a driver's sessions one after the other, with backoff.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sandbar_reading::{Name, Timestamp, backoff, with_causes};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::registry::AnyDriver;
use crate::session::{Counts, Link};
use crate::{Figures, Intake, LinkError, Session};

/// Starts ingresses.
#[derive(Debug)]
pub struct Supervisor;

/// How long to wait between a link's failure and the next session.
#[derive(Clone, Copy, Debug)]
pub struct SupervisorOptions {
    /// After the first failure; doubles with each one after it.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Default for SupervisorOptions {
    fn default() -> Self {
        Self { backoff_min: Duration::from_millis(250), backoff_max: Duration::from_secs(30) }
    }
}

/// What an ingress is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Since when `state` is as it is.
    pub since: Timestamp,
    /// Where the driver listens, if it does.
    pub address: Option<SocketAddr>,
    /// What the last session that failed failed of; it stays while the next one runs.
    pub last_error: Option<LastError>,
    /// Sessions begun.
    pub sessions: u64,
    /// Readings accepted in all of them.
    pub accepted: u64,
    /// What the driver counts of its own.
    pub figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A session has begun, and its driver does not listen or is not connected yet.
    Starting,
    Running,
    /// The last session failed; the next one begins then.
    BackingOff {
        until: Timestamp,
    },
    /// It was told to stop, and has.
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// With its sources: `listening on 127.0.0.1:80: permission denied`.
    pub text: String,
    pub at: Timestamp,
}

/// An ingress that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Supervised {
    status: watch::Receiver<Status>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    task: AbortHandle,
}

impl Supervisor {
    /// Runs `driver` as the ingress `name`; must be called within a tokio runtime.
    pub fn start(
        name: Name,
        driver: Box<dyn AnyDriver>,
        intake: Arc<dyn Intake>,
        options: SupervisorOptions,
    ) -> Supervised {
        let stop = CancellationToken::new();
        let counts = Arc::<Counts>::default();
        let begun = Status {
            state: State::Starting,
            since: intake.now(),
            address: None,
            last_error: None,
            sessions: 0,
            accepted: 0,
            figures: Figures::new(),
        };
        let (status, watcher) = watch::channel(begun);
        let ingress = Ingress { name, driver, intake, options, status, stop: stop.clone() };
        let task = tokio::spawn(ingress.run(Arc::clone(&counts))).abort_handle();
        Supervised { status: watcher, counts, stop, task }
    }
}

impl Supervised {
    pub fn status(&self) -> Status {
        let status = self.status.borrow().clone();
        Status { accepted: self.counts.accepted(), figures: self.counts.figures(), ..status }
    }

    /// Resolves once the status is as `wanted` says.
    pub async fn wait_for(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        // The sender can only be gone with the state `Stopped`, which is then the answer.
        let _ = self.status.clone().wait_for(wanted).await;
        self.status()
    }

    /// Tells the session to stop, waits up to `grace` for it to finish what is in flight, then drops it.
    pub async fn stop(&self, grace: Duration) {
        self.stop.cancel();
        let mut status = self.status.clone();
        let stopped = async |status: &mut watch::Receiver<Status>| {
            let _ = status.wait_for(|status| status.state == State::Stopped).await;
        };
        if tokio::time::timeout(grace, stopped(&mut status)).await.is_err() {
            self.task.abort();
            stopped(&mut status).await;
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Ingress {
    name: Name,
    driver: Box<dyn AnyDriver>,
    intake: Arc<dyn Intake>,
    options: SupervisorOptions,
    status: watch::Sender<Status>,
    stop: CancellationToken,
}

/// How a session ended.
enum End {
    /// As it was told to.
    Stopped,
    Failed(LinkError),
    /// The driver has a bug.
    Panicked(String),
}

impl Ingress {
    async fn run(self, counts: Arc<Counts>) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let session = Session::counting(
                self.name.clone(),
                Arc::clone(&self.intake),
                self.stop.clone(),
                Arc::clone(&counts),
            );
            self.begin();
            let text = match self.session(session.clone()).await {
                End::Stopped => break,
                End::Failed(error) => with_causes(&error),
                End::Panicked(text) => {
                    error!(ingress = %self.name, driver = self.driver.driver(), panic = text, "bug in a driver");
                    format!("bug in the driver {}: {text}", self.driver.driver())
                }
            };
            failures = if session.accepted() > 0 { 1 } else { failures + 1 };
            let SupervisorOptions { backoff_min, backoff_max } = self.options;
            let wait = backoff(backoff_min, backoff_max, failures, rand::random());
            self.failed(text, failures, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn session(&self, session: Session) -> End {
        let mut link = session.link();
        let mut driver = AssertUnwindSafe(self.driver.run(session)).catch_unwind();
        loop {
            tokio::select! {
                end = &mut driver => return match end {
                    Ok(_) if self.stop.is_cancelled() => End::Stopped,
                    Ok(Ok(())) => End::Failed(LinkError::ended("the session ended by itself")),
                    Ok(Err(error)) => End::Failed(error),
                    Err(panic) => End::Panicked(panic_text(&*panic)),
                },
                Ok(()) = link.changed() => self.came_up(*link.borrow_and_update()),
            }
        }
    }

    fn begin(&self) {
        let now = self.intake.now();
        self.status.send_modify(|status| {
            status.sessions += 1;
            status.address = None;
            if status.state != State::Starting {
                (status.state, status.since) = (State::Starting, now);
            }
        });
    }

    fn came_up(&self, link: Link) {
        let Link::Up { address } = link else { return };
        let now = self.intake.now();
        self.status.send_modify(|status| {
            status.address = address.or(status.address);
            if status.state != State::Running {
                (status.state, status.since) = (State::Running, now);
                match status.address {
                    Some(address) => info!(ingress = %self.name, %address, "listening"),
                    None => info!(ingress = %self.name, "running"),
                }
            }
        });
    }

    /// Only the first failure of a row is a transition; the others are counted in the status.
    fn failed(&self, text: String, failures: u32, wait: Duration) {
        let at = self.intake.now();
        let again = wait.as_millis();
        self.status.send_modify(|status| {
            let changed = status.last_error.as_ref().is_none_or(|last| last.text != text);
            if failures == 1 || changed {
                warn!(ingress = %self.name, error = text, again_in_ms = again, "link lost");
            }
            status.address = None;
            (status.state, status.since) = (State::BackingOff { until: at.after(wait) }, at);
            status.last_error = Some(LastError { text, at });
        });
    }
}

/// Also when the task is aborted: who waits for the stop must learn of it.
impl Drop for Ingress {
    fn drop(&mut self) {
        let now = self.intake.now();
        self.status.send_modify(|status| {
            status.address = None;
            (status.state, status.since) = (State::Stopped, now);
        });
        info!(ingress = %self.name, "stopped");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests;
