//! The calls of one reading: of the active version, and of a candidate beside it or in its place.

use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Reading, TraceContext};
use sandbar_runtime::{Call, Fault, Handled, LogLevel, LogLine};
use sandbar_store::{Part, TracedCall, TracedLine};

use super::turn::Context;
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
    pub(crate) result: Result<Handled, Fault>,
    pub(crate) calls: Vec<TracedCall>,
    /// The sandboxes that can be used again.
    pub(crate) active_usable: bool,
    pub(crate) candidate_usable: bool,
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
        let mut canary_fault = None;
        if let Some((canary, sandbox)) = &mut self.candidate
            && let Mode::Canary { .. } = canary.mode
            && !canary.is_stopped()
        {
            let call = sandbox.handle(reading, state.clone(), context.now, trace).await;
            let took = call.elapsed;
            calls.push(context.note(reading, canary.version, Part::Canary, &call));
            match call.result {
                Ok(handled) => {
                    canary.handled(took);
                    return Called { result: Ok(handled), calls, active_usable: true, candidate_usable };
                }
                Err(fault) => {
                    candidate_usable = is_usable_after(&fault);
                    canary_fault = Some((fault, took));
                }
            }
        }
        let Some(active) = &mut self.active else {
            let fault = Fault::NoRoom("the route has no module".to_owned());
            return Called { result: Err(fault), calls, active_usable: false, candidate_usable };
        };
        let call = active.handle(reading, state.clone(), context.now, trace).await;
        calls.push(context.note(reading, context.route.version, Part::Active, &call));
        let active_usable = call.result.as_ref().err().is_none_or(is_usable_after);
        let Call { result, elapsed, .. } = call;
        if let Some((candidate, sandbox)) = &mut self.candidate {
            candidate.active(elapsed, result.is_err());
            match (candidate.mode, canary_fault) {
                (_, Some((fault, took))) => {
                    let timed_out = matches!(fault, Fault::TimedOut { .. });
                    candidate.failed(reading.id, took, &fault.to_string(), timed_out, result.is_ok());
                }
                (Mode::Shadow, None) if !candidate.is_stopped() && counts(&result) => {
                    // It sees the state as the active version saw it: that one's writes come later.
                    let call = sandbox.handle(reading, state.clone(), context.now, trace).await;
                    calls.push(context.note(reading, candidate.version, Part::Shadow, &call));
                    candidate.compare(reading.id, result.as_ref(), call.result.as_ref(), call.elapsed);
                    candidate_usable = call.result.as_ref().err().is_none_or(is_usable_after);
                }
                _ => {}
            }
        }
        Called { result, calls, active_usable, candidate_usable }
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
