//! One turn of a lane: its readings handled one after the other, and what is to be committed of it.

use std::sync::Arc;
use std::time::Duration;

use sandbar_ingress::Answer;
use sandbar_reading::{
    Attributes, Failure, Inbound, Lineage, Message, Name, Output, Reading, ReadingId, Sampling, Scope,
    Target, Timestamp, TraceContext, attempt_span, backoff,
};
use sandbar_runtime::{Fault, LogLevel};
use sandbar_store::{
    Accept, FailedAttempt, Lane, NewDelivery, Next, Outcome, Part, Store, Trace, TracedCall, Waiting,
};
use sandbar_telemetry::Span;

use super::calls::{Called, Hands};
use super::lanes::{Ended, Turn};
use crate::intake::lanes_of;
use crate::lane_state::LaneState;
use crate::logs::{RouteLogs, Speaker};
use crate::replies::Said;
use crate::route::{Attempts, Replying, Route};
use crate::router::Router;
use crate::spans::{Attempt, pass_on};

/// What a turn came to: to be committed, then to be told.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) ended: Ended,
    pub(crate) said: Vec<(ReadingId, Said)>,
    /// The sandboxes can be used again: the active version's, and the candidate's.
    pub(crate) sandbox_usable: bool,
    pub(crate) candidate_usable: bool,
    /// What was taken by calls that used a sandbox up.
    pub(crate) wasted: Option<Duration>,
    /// Of what is recorded; they count once the outcome is committed.
    pub(crate) spans: Vec<Span>,
    /// What it put out and wrote, about.
    pub(crate) bytes: usize,
}

/// What a turn needs beside its readings.
pub(crate) struct Context<'a> {
    pub(crate) route: &'a Route,
    pub(crate) router: &'a Router,
    pub(crate) store: &'a Store,
    pub(crate) logs: &'a RouteLogs,
    pub(crate) depth_max: u8,
    pub(crate) now: Timestamp,
    /// 0.0..1.0
    pub(crate) random: f64,
    pub(crate) sampling: Sampling,
}

/// Why a reading's attempt did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhandled {
    #[error(transparent)]
    Fault(Fault),
    /// The handler put out a command that no driver could understand.
    #[error("{0}")]
    BadCommand(String),
    /// Its messages would go round for ever.
    #[error("{0}")]
    TooDeep(String),
}

impl Unhandled {
    /// Whether it says anything about the handler.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self, Self::Fault(fault) if !fault.is_the_handlers())
    }
}

/// Handles what a turn holds until one fails, or `enough`, asked with the bytes put out so far, says that others should
/// have their turn.
pub(crate) async fn run(
    context: &Context<'_>,
    mut hands: Hands<'_>,
    turn: &Turn,
    enough: impl Fn(usize) -> bool,
) -> Done {
    let mut done = Done::nothing(turn.lane.clone());
    let scope = Scope::Route { route: turn.lane.route.clone(), key: (*turn.lane.key).into() };
    let state = Arc::new(LaneState::new(context.store.clone(), scope));
    let mut began = context.now;
    for waiting in &turn.readings {
        let reading = &*waiting.reading;
        let attempt = context.attempt(waiting, began);
        let trace = attempt.map(|attempt| attempt.own);
        let (result, calls) = match hands.has_module() {
            false => (context.sort(reading, vec![Output::Message(as_message(reading))], trace), Vec::new()),
            true => {
                let called = hands.call(context, reading, &state, trace).await;
                let Called { result, calls, active_usable, candidate_usable } = called;
                (done.sandbox_usable, done.candidate_usable) = (active_usable, candidate_usable);
                if !active_usable || !candidate_usable {
                    done.wasted = Some(wasted(&calls));
                }
                let sorted = result.map(|taken| {
                    state.write(taken.writes);
                    taken.sorted
                });
                (sorted, calls)
            }
        };
        if let Some(attempt) = attempt {
            let error = result.as_ref().err().map(ToString::to_string);
            let span = attempt.ended(&context.route.name, reading, &calls, error);
            began = span.ended;
            done.spans.push(span);
        }
        match result {
            Ok(sorted) => done.add(context, reading, sorted, calls),
            Err(unhandled) => {
                done.fail(context, waiting, &unhandled, calls);
                break;
            }
        }
        if enough(done.bytes) || !done.sandbox_usable || !done.candidate_usable {
            break;
        }
    }
    done.outcome.prompt = context.route.reply.is_somebody();
    done.outcome.state = state.written();
    let written = done.outcome.state.iter().filter_map(|write| write.value.as_ref());
    done.bytes += written.map(|value| value.len()).sum::<usize>();
    done
}

/// A reading's outputs, each on its way.
pub(crate) struct Sorted {
    deliveries: Vec<NewDelivery>,
    chained: Vec<Accept>,
    replies: Vec<Answer>,
    /// Of all outputs, about.
    bytes: usize,
}

impl Sorted {
    /// Without the replies.
    pub(crate) fn into_parts(self) -> (Vec<NewDelivery>, Vec<Accept>) {
        (self.deliveries, self.chained)
    }
}

impl Context<'_> {
    /// `None` if it is not recorded.
    fn attempt(&self, waiting: &Waiting, began: Timestamp) -> Option<Attempt> {
        let reading = &*waiting.reading;
        let before = self.sampling.of(reading)?;
        let number = waiting.attempts + 1;
        let own = before.at(attempt_span(reading.id, self.route.name.as_str(), number));
        Some(Attempt { own, parent: before.span, number, began })
    }

    /// `trace`: the attempt's span, if it is recorded.
    pub(crate) fn sort(
        &self,
        reading: &Reading,
        outputs: Vec<Output>,
        trace: Option<TraceContext>,
    ) -> Result<Sorted, Unhandled> {
        let (deliveries, chained, replies) = (Vec::new(), Vec::new(), Vec::new());
        let mut sorted = Sorted { deliveries, chained, replies, bytes: 0 };
        for output in outputs {
            sorted.bytes += output.size();
            match output {
                Output::Reply(message) if self.route.reply == Replying::Handler => {
                    sorted.replies.push(Answer::Reply(message));
                }
                Output::Reply(_) => {}
                Output::Command(command) => {
                    let topic = command.name.parse().map_err(|error| {
                        Unhandled::BadCommand(format!("command `{}`: {error}", command.name))
                    })?;
                    let mut attributes = Attributes::new();
                    if trace.is_some() {
                        pass_on(reading, &mut attributes, trace);
                    }
                    let message = Message {
                        topic,
                        device: Some(command.device.clone()),
                        content_type: command.content_type,
                        attributes,
                        payload: command.payload,
                    };
                    let target = Target::Device(command.device);
                    sorted.deliveries.push(NewDelivery { target, reading: reading.id, message });
                }
                Output::Message(mut message) => {
                    pass_on(reading, &mut message.attributes, trace);
                    self.send(reading, message, &mut sorted)?;
                }
            }
        }
        Ok(sorted)
    }

    /// A clear word in the route's log, whatever limit was passed.
    fn say_failed(&self, reading: ReadingId, attempts: u32, cause: &str, next: Next) {
        let (version, part, time) = (self.route.version, Part::Active, self.now);
        let speaker = Speaker { route: &self.route.name, reading, version, part, time };
        let most = self.route.attempts.max;
        let (level, then) = match next {
            Next::RetryAt(due) => (LogLevel::Warn, format!("again at {due}")),
            Next::DeadLetter => (LogLevel::Error, "it is a dead letter".to_owned()),
        };
        self.logs.say(speaker, level, format!("attempt {attempts} of {most} failed: {cause}; {then}"));
    }

    fn send(&self, reading: &Reading, message: Message, sorted: &mut Sorted) -> Result<(), Unhandled> {
        let ingress = Name::of_route(&self.route.name);
        let inbound = as_inbound(&message);
        let lanes = lanes_of(self.router, &ingress, &inbound);
        if !lanes.is_empty() {
            if reading.lineage.depth >= self.depth_max {
                return Err(Unhandled::TooDeep(format!(
                    "a loop: its message on `{}` would go to route `{}` after passing through {} routes",
                    message.topic, lanes[0].route, self.depth_max
                )));
            }
            let lineage = Lineage { parent: Some(reading.id), depth: reading.lineage.depth + 1 };
            sorted.chained.push(Accept { ingress, inbound, lineage, lanes, keep: Vec::new() });
        }
        if let Some((last, others)) = self.route.sinks.split_last() {
            let mut queue = |sink: &Name, message| {
                let target = Target::Sink(sink.clone());
                sorted.deliveries.push(NewDelivery { target, reading: reading.id, message });
            };
            others.iter().for_each(|sink| queue(sink, message.clone()));
            queue(last, message);
        }
        Ok(())
    }
}

impl Done {
    fn nothing(lane: Lane) -> Self {
        Self {
            outcome: Outcome {
                lane,
                handled: Vec::new(),
                deliveries: Vec::new(),
                chained: Vec::new(),
                state: Vec::new(),
                failed: None,
                traces: Vec::new(),
                prompt: false,
            },
            ended: Ended::Settled { handled: 0, attempts: 0, retry_at: None },
            said: Vec::new(),
            sandbox_usable: true,
            candidate_usable: true,
            wasted: None,
            spans: Vec::new(),
            bytes: 0,
        }
    }

    /// A turn for which no sandbox could be had.
    pub(crate) fn without_sandbox(context: &Context<'_>, turn: &Turn, fault: Fault) -> Self {
        let mut done = Self::nothing(turn.lane.clone());
        if let Some(head) = turn.readings.first() {
            let version = context.route.version;
            let began = context.now.nanos();
            let fault_text = Some(fault.to_string());
            let call = TracedCall {
                version,
                part: Part::Active,
                began,
                micros: 0,
                fault: fault_text,
                lines: Vec::new(),
            };
            done.fail(context, head, &Unhandled::Fault(fault), vec![call]);
        }
        done
    }

    fn add(&mut self, context: &Context<'_>, reading: &Reading, sorted: Sorted, calls: Vec<TracedCall>) {
        let goes_to = |sink: &Name| {
            sorted
                .deliveries
                .iter()
                .any(|delivery| matches!(&delivery.target, Target::Sink(to) if to == sink))
        };
        let answered_by_sink = matches!(&context.route.reply, Replying::Sink(sink) if goes_to(sink));
        let (deliveries, chained) = (sorted.deliveries.len(), sorted.chained.len());
        self.outcome.traces.push(Trace { reading: reading.id, calls, deliveries, chained });
        self.outcome.handled.push(reading.id);
        self.bytes += sorted.bytes;
        self.outcome.deliveries.extend(sorted.deliveries);
        self.outcome.chained.extend(sorted.chained);
        if !answered_by_sink {
            self.said.push((reading.id, Said::Last(sorted.replies)));
        }
        self.ended = Ended::Settled { handled: self.outcome.handled.len(), attempts: 0, retry_at: None };
    }

    fn fail(
        &mut self,
        context: &Context<'_>,
        waiting: &Waiting,
        unhandled: &Unhandled,
        calls: Vec<TracedCall>,
    ) {
        let handled = self.outcome.handled.len();
        let attempts = waiting.attempts + 1;
        let (next, cause) = match judge(unhandled, attempts, &context.route.attempts, context) {
            Verdict::NoAttempt => {
                // What was handled before is committed; this one waits for the host, not for luck.
                let again_at = context.now.after(context.route.attempts.first_wait);
                self.ended = match handled {
                    0 => Ended::Unsettled { again_at },
                    _ => Ended::Settled { handled, attempts: waiting.attempts, retry_at: Some(again_at) },
                };
                return;
            }
            Verdict::Attempt(next, cause) => (next, cause),
        };
        let id = waiting.reading.id;
        context.say_failed(id, attempts, &cause, next);
        self.outcome.traces.push(Trace { reading: id, calls, deliveries: 0, chained: 0 });
        self.ended = match next {
            Next::RetryAt(due) => {
                self.said.push((id, Said::Retrying(cause.clone())));
                Ended::Settled { handled, attempts, retry_at: Some(due) }
            }
            Next::DeadLetter => {
                self.said.push((id, Said::Last(vec![Answer::Rejected(cause.clone())])));
                Ended::Settled { handled: handled + 1, attempts: 0, retry_at: None }
            }
        };
        self.outcome.failed = Some(FailedAttempt { reading: id, attempts, cause, next });
    }

    /// Nothing was handled and nothing failed: there is nothing to commit.
    pub(crate) fn is_nothing(&self) -> bool {
        self.outcome.handled.is_empty() && self.outcome.failed.is_none()
    }
}

/// The time of the calls that failed.
fn wasted(calls: &[TracedCall]) -> Duration {
    let failed = calls.iter().filter(|call| call.fault.is_some());
    failed.map(|call| Duration::from_micros(call.micros.into())).sum()
}

enum Verdict {
    Attempt(Next, String),
    /// The host had no state to show or no room for an instance: not the handler's fault, and no attempt.
    NoAttempt,
}

/// What follows from a failed attempt.
fn judge(unhandled: &Unhandled, attempts: u32, limits: &Attempts, context: &Context<'_>) -> Verdict {
    let again = || {
        if attempts >= limits.max.get() {
            return Next::DeadLetter;
        }
        Next::RetryAt(context.now.after(backoff(
            limits.first_wait,
            limits.longest_wait,
            attempts,
            context.random,
        )))
    };
    match unhandled {
        unhandled if !unhandled.counts() => Verdict::NoAttempt,
        Unhandled::Fault(Fault::Failure(Failure::Reject(cause))) => {
            Verdict::Attempt(Next::DeadLetter, format!("rejected: {cause}"))
        }
        Unhandled::Fault(fault) => Verdict::Attempt(again(), fault.to_string()),
        Unhandled::BadCommand(cause) => Verdict::Attempt(again(), cause.clone()),
        Unhandled::TooDeep(cause) => Verdict::Attempt(Next::DeadLetter, cause.clone()),
    }
}

/// What a route without a handler passes on.
fn as_message(reading: &Reading) -> Message {
    Message {
        topic: reading.topic.clone(),
        device: reading.device.clone(),
        content_type: reading.content_type.clone(),
        attributes: reading.attributes.clone(),
        payload: reading.payload.clone(),
    }
}

fn as_inbound(message: &Message) -> Inbound {
    Inbound {
        topic: message.topic.clone(),
        device: message.device.clone(),
        time: None,
        content_type: message.content_type.clone(),
        attributes: message.attributes.clone(),
        payload: message.payload.clone(),
    }
}
