//! The calls of one reading: of the active version, and of a candidate beside it or in its place.

use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Reading, StateWrite, TraceContext};
use sandbar_runtime::{Call, Fault, Handled, LogLevel, LogLine};
use sandbar_store::{Part, TracedCall, TracedLine};

use super::turn::{Context, Sorted, Unhandled};
use crate::candidate::{Candidate, Mode};
use crate::handlers::Sandbox;
use crate::lane_state::LaneState;
use crate::logs::Speaker;

/// The sandboxes that a turn has.
pub(crate) struct Hands<'a> {
    /// `None` for a route without a module.
    pub(crate) active: Option<&'a mut dyn Sandbox>,
    /// If there is one, and the lane is one of its.
    pub(crate) candidate: Option<(&'a Candidate, &'a mut dyn Sandbox)>,
}

/// What came of a reading's calls.
pub(crate) struct Called {
    /// Of the call that counts.
    pub(crate) result: Result<Taken, Unhandled>,
    pub(crate) calls: Vec<TracedCall>,
    /// The sandboxes that can be used again.
    pub(crate) active_usable: bool,
    pub(crate) candidate_usable: bool,
}

/// What a call put out, each on its way, and what it wrote.
pub(crate) struct Taken {
    pub(crate) sorted: Sorted,
    pub(crate) writes: Vec<StateWrite>,
}

/// How much of what a call logs stays with the reading.
const LINES_KEPT: usize = 20;
const LINE_KEPT: usize = 300;

impl Hands<'_> {
    pub(crate) fn has_module(&self) -> bool {
        self.active.is_some()
    }

    /// One attempt. What a canary fails at, the active version handles: nobody's reading is lost on a trial.
    pub(crate) async fn call(
        &mut self,
        context: &Context<'_>,
        reading: &Reading,
        state: &Arc<LaneState>,
        trace: Option<TraceContext>,
    ) -> Called {
        let mut calls = Vec::with_capacity(1);
        let mut candidate_usable = true;
        let mut canary_failed = None;
        if let Some((canary, sandbox)) = &mut self.candidate
            && let Mode::Canary { .. } = canary.mode
            && !canary.is_stopped()
        {
            let call = sandbox.handle(reading, state.clone(), context.now, trace).await;
            let mut traced = context.note(reading, canary.version, Part::Canary, &call);
            let Call { result, elapsed, .. } = call;
            candidate_usable = result.as_ref().err().is_none_or(is_usable_after);
            let taken = context.take(reading, result, trace, &mut traced);
            calls.push(traced);
            match taken {
                Ok(taken) => {
                    canary.handled(elapsed);
                    return Called { result: Ok(taken), calls, active_usable: true, candidate_usable };
                }
                Err(unhandled) => canary_failed = Some((unhandled, elapsed)),
            }
        }
        let Some(active) = &mut self.active else {
            let fault = Fault::NoRoom("the route has no module".to_owned());
            let result = Err(Unhandled::Fault(fault));
            return Called { result, calls, active_usable: false, candidate_usable };
        };
        let call = active.handle(reading, state.clone(), context.now, trace).await;
        let mut traced = context.note(reading, context.route.version, Part::Active, &call);
        let Call { result, elapsed, .. } = call;
        let active_usable = result.as_ref().err().is_none_or(is_usable_after);
        let mut shadowed = None;
        if let Some((shadow, sandbox)) = &mut self.candidate
            && shadow.mode == Mode::Shadow
            && !shadow.is_stopped()
            && counts(&result)
        {
            // It sees the state as the active version saw it: that one's writes come later.
            let call = sandbox.handle(reading, state.clone(), context.now, trace).await;
            shadowed = Some(context.note(reading, shadow.version, Part::Shadow, &call));
            candidate_usable = call.result.as_ref().err().is_none_or(is_usable_after);
            if counts(&call.result) {
                shadow.compare(reading.id, result.as_ref(), call.result.as_ref(), call.elapsed);
            }
        }
        let taken = context.take(reading, result, trace, &mut traced);
        calls.push(traced);
        calls.extend(shadowed);
        if let Some((candidate, _)) = &self.candidate {
            candidate.active(elapsed, taken.is_err());
            if let Some((unhandled, took)) = canary_failed.filter(|(unhandled, _)| unhandled.counts()) {
                let timed_out = matches!(unhandled, Unhandled::Fault(Fault::TimedOut { .. }));
                candidate.failed(reading.id, took, &unhandled.to_string(), timed_out, taken.is_ok());
            }
        }
        Called { result: taken, calls, active_usable, candidate_usable }
    }
}

/// Whether the call says anything about the handler.
fn counts(result: &Result<Handled, Fault>) -> bool {
    result.as_ref().err().is_none_or(Fault::is_the_handlers)
}

fn is_usable_after(fault: &Fault) -> bool {
    matches!(fault, Fault::Failure(_))
}

impl Context<'_> {
    /// A call has not succeeded before everything that it put out has somewhere to go.
    fn take(
        &self,
        reading: &Reading,
        result: Result<Handled, Fault>,
        trace: Option<TraceContext>,
        traced: &mut TracedCall,
    ) -> Result<Taken, Unhandled> {
        let Handled { outputs, writes } = result.map_err(Unhandled::Fault)?;
        let sorted = self.sort(reading, outputs, trace);
        let sorted = sorted.inspect_err(|unhandled| traced.fault = Some(unhandled.to_string()))?;
        Ok(Taken { sorted, writes })
    }

    /// A call's lines go to the host's log and to the route's; a part of them stays with the reading.
    pub(crate) fn note(&self, reading: &Reading, version: u32, part: Part, call: &Call) -> TracedCall {
        let speaker = Speaker { route: &self.route.name, reading: reading.id, version, part, time: self.now };
        if !call.logs.is_empty() {
            log(speaker, &call.logs);
            self.logs.add(speaker, &call.logs);
        }
        TracedCall {
            version,
            part,
            began: self.now.nanos(),
            micros: micros(call.elapsed),
            fault: call.result.as_ref().err().map(ToString::to_string),
            lines: call.logs.iter().take(LINES_KEPT).map(line).collect(),
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn line(line: &LogLine) -> TracedLine {
    let cut = line.message.floor_char_boundary(LINE_KEPT);
    TracedLine {
        level: line.level as u8,
        context: line.context.to_string(),
        message: line.message[..cut].to_owned(),
    }
}

fn log(speaker: Speaker<'_>, lines: &[LogLine]) {
    let Speaker { route, reading: id, version, part, .. } = speaker;
    for line in lines {
        let (context, message) = (&line.context, &line.message);
        // What a trial says is for those who look at the trial.
        let level = if part == Part::Active { line.level } else { line.level.min(LogLevel::Info) };
        match level {
            LogLevel::Critical | LogLevel::Error => {
                tracing::error!(target: "handler", %route, reading = %id, version, %context, "{message}");
            }
            LogLevel::Warn => {
                tracing::warn!(target: "handler", %route, reading = %id, version, %context, "{message}");
            }
            LogLevel::Info => {
                tracing::info!(target: "handler", %route, reading = %id, version, %context, "{message}");
            }
            LogLevel::Debug | LogLevel::Trace => {
                tracing::debug!(target: "handler", %route, reading = %id, version, %context, "{message}");
            }
        }
    }
}
