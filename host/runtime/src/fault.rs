//! Why a call came to nothing.

use std::time::Duration;

use sandbar_reading::Failure;
use wasmtime::{Trap, WasmBacktrace};

/// What a call failed of. [`Fault::is_the_handlers`] tells whether the attempt counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The handler said so itself.
    #[error(transparent)]
    Failure(Failure),
    /// With the topmost functions of the guest.
    #[error("trapped: {cause}")]
    Trap { cause: String },
    #[error("took longer than its {} ms", limit.as_millis())]
    TimedOut { limit: Duration },
    #[error("needs more than its {limit} bytes of memory")]
    OutOfMemory { limit: usize },
    #[error("too much output: {problem}")]
    TooMuchOutput { problem: String },
    #[error("output {index}: {field}: {problem}")]
    InvalidOutput { index: usize, field: &'static str, problem: String },
    /// A fresh instance could not be made ready: `configure` refused the configuration or faulted.
    #[error("configure: {0}")]
    Init(String),
    #[error("state cannot be read: {0}")]
    StateUnavailable(String),
    /// The host has no room for another instance now.
    #[error("no room for an instance: {0}")]
    NoRoom(String),
}

impl Fault {
    pub(crate) const CODES: [&'static str; 10] = [
        "rejected",
        "retry",
        "trap",
        "timed_out",
        "out_of_memory",
        "too_much_output",
        "invalid_output",
        "configure",
        "state_unavailable",
        "no_room",
    ];

    /// Stable, for metrics and the API.
    pub fn code(&self) -> &'static str {
        Self::CODES[self.index()]
    }

    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Failure(Failure::Reject(_)) => 0,
            Self::Failure(Failure::Retry(_)) => 1,
            Self::Trap { .. } => 2,
            Self::TimedOut { .. } => 3,
            Self::OutOfMemory { .. } => 4,
            Self::TooMuchOutput { .. } => 5,
            Self::InvalidOutput { .. } => 6,
            Self::Init(_) => 7,
            Self::StateUnavailable(_) => 8,
            Self::NoRoom(_) => 9,
        }
    }

    /// Whether the handler is to blame. If not, the same reading is tried again without counting the attempt.
    pub fn is_the_handlers(&self) -> bool {
        !matches!(self, Self::StateUnavailable(_) | Self::NoRoom(_))
    }
}

/// Why a component cannot serve a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The handler's own words about its configuration.
    #[error("{0}")]
    Refused(String),
    /// It did not get that far.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A limit that this host cannot give.
    #[error("a memory limit of {asked} bytes: on this machine an instance can have {most}")]
    TooMuchMemory { asked: usize, most: usize },
}

/// The guest ran past its deadline; raised at an epoch.
#[derive(Debug, thiserror::Error)]
#[error("out of time")]
pub(crate) struct OutOfTime;

/// The state could not be read; raised by an import.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StateLost(pub(crate) String);

/// What wasmtime's error means, given the limits in force and whether memory was refused.
pub(crate) fn classify(
    error: &wasmtime::Error,
    time: Duration,
    memory: usize,
    memory_refused: bool,
    border_bytes: usize,
) -> Fault {
    if error.is::<OutOfTime>() || matches!(error.downcast_ref(), Some(Trap::Interrupt)) {
        return Fault::TimedOut { limit: time };
    }
    if let Some(StateLost(cause)) = error.downcast_ref() {
        return Fault::StateUnavailable(cause.clone());
    }
    // A guest that is refused memory ends itself in its own way: `unreachable`, a panic, an exit.
    if memory_refused {
        return Fault::OutOfMemory { limit: memory };
    }
    let root = error.root_cause().to_string();
    // Wasmtime keeps this error's type to itself.
    if root.contains("fuel allocated for hostcalls") {
        return Fault::TooMuchOutput { problem: format!("more than {border_bytes} bytes at once") };
    }
    Fault::Trap { cause: describe(error, root) }
}

/// The cause, and the topmost named functions: `unreachable, in panic_abort < my_handler < handle`.
fn describe(error: &wasmtime::Error, root: String) -> String {
    const FRAMES: usize = 5;
    const NAME: usize = 120;
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => root,
    };
    let names: Vec<String> = error
        .downcast_ref::<WasmBacktrace>()
        .map(|backtrace| {
            let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
            names.take(FRAMES).map(|name| name.chars().take(NAME).collect()).collect()
        })
        .unwrap_or_default();
    match names.is_empty() {
        true => cause,
        false => format!("{cause}, in {}", names.join(" < ")),
    }
}
