//! One turn of a lane: its readings handled one after the other, and what is to be committed of it.

use std::sync::Arc;

use sandbar_ingress::Answer;
use sandbar_reading::{
    Attributes, Failure, Inbound, Lineage, Message, Name, Output, Reading, ReadingId, Scope, Target,
    Timestamp,
};
use sandbar_runtime::{Fault, LogLevel, LogLine};
use sandbar_store::{Accept, FailedAttempt, Lane, NewDelivery, Next, Outcome, Store, Waiting};

use super::lanes::{Ended, Turn};
use crate::backoff::backoff;
use crate::handlers::Sandbox;
use crate::intake::lanes_of;
use crate::lane_state::LaneState;
use crate::replies::Said;
use crate::route::{Attempts, Replying, Route};
use crate::router::Router;

/// What a turn came to: to be committed, then to be told.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) ended: Ended,
    pub(crate) said: Vec<(ReadingId, Said)>,
    /// The sandbox can be used again.
    pub(crate) sandbox_usable: bool,
}

/// What a turn needs beside its readings.
pub(crate) struct Context<'a> {
    pub(crate) route: &'a Route,
    pub(crate) router: &'a Router,
    pub(crate) store: &'a Store,
    pub(crate) depth_max: u8,
    pub(crate) now: Timestamp,
    /// 0.0..1.0
    pub(crate) random: f64,
}

/// Why a reading's attempt did not succeed.
enum Unhandled {
    Fault(Fault),
    /// The handler put out a command that no driver could understand.
    BadCommand(String),
    /// Its messages would go round for ever.
    TooDeep(String),
}

/// Handles what a turn holds until one fails, or `enough` says that others should have their turn.
pub(crate) async fn run(
    context: &Context<'_>,
    sandbox: Option<&mut dyn Sandbox>,
    turn: &Turn,
    enough: impl Fn() -> bool,
) -> Done {
    let mut done = Done::nothing(turn.lane.clone());
    let scope = Scope::Route { route: turn.lane.route.clone(), key: (*turn.lane.key).into() };
    let state = Arc::new(LaneState::new(context.store.clone(), scope));
    let mut sandbox = sandbox;
    for waiting in &turn.readings {
        let reading = &*waiting.reading;
        let result = match sandbox.as_deref_mut() {
            None => context.sort(reading, vec![Output::Message(as_message(reading))]),
            Some(sandbox) => {
                let call = sandbox.handle(reading, state.clone(), context.now).await;
                log(&turn.lane.route, reading, &call.logs);
                match call.result {
                    Err(fault) => {
                        done.sandbox_usable = matches!(fault, Fault::Failure(_));
                        Err(Unhandled::Fault(fault))
                    }
                    Ok(handled) => {
                        context.sort(reading, handled.outputs).inspect(|_| state.write(handled.writes))
                    }
                }
            }
        };
        match result {
            Ok(sorted) => done.add(context, reading, sorted),
            Err(unhandled) => {
                done.fail(context, waiting, &unhandled);
                break;
            }
        }
        if enough() {
            break;
        }
    }
    done.outcome.state = state.written();
    done
}

/// A reading's outputs, each on its way.
struct Sorted {
    deliveries: Vec<NewDelivery>,
    chained: Vec<Accept>,
    replies: Vec<Answer>,
}

impl Context<'_> {
    fn sort(&self, reading: &Reading, outputs: Vec<Output>) -> Result<Sorted, Unhandled> {
        let mut sorted = Sorted { deliveries: Vec::new(), chained: Vec::new(), replies: Vec::new() };
        for output in outputs {
            match output {
                Output::Reply(message) if self.route.reply == Replying::Handler => {
                    sorted.replies.push(Answer::Reply(message))
                }
                Output::Reply(_) => {}
                Output::Command(command) => {
                    let topic = command.name.parse().map_err(|error| {
                        Unhandled::BadCommand(format!("command `{}`: {error}", command.name))
                    })?;
                    let message = Message {
                        topic,
                        device: Some(command.device.clone()),
                        content_type: command.content_type,
                        attributes: Attributes::new(),
                        payload: command.payload,
                    };
                    let target = Target::Device(command.device);
                    sorted.deliveries.push(NewDelivery { target, reading: reading.id, message });
                }
                Output::Message(message) => self.send(reading, message, &mut sorted)?,
            }
        }
        Ok(sorted)
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
            },
            ended: Ended::Settled { handled: 0, attempts: 0, retry_at: None },
            said: Vec::new(),
            sandbox_usable: true,
        }
    }

    /// A turn for which no sandbox could be had.
    pub(crate) fn without_sandbox(context: &Context<'_>, turn: &Turn, fault: Fault) -> Self {
        let mut done = Self::nothing(turn.lane.clone());
        if let Some(head) = turn.readings.first() {
            done.fail(context, head, &Unhandled::Fault(fault));
        }
        done
    }

    fn add(&mut self, context: &Context<'_>, reading: &Reading, sorted: Sorted) {
        let goes_to = |sink: &Name| {
            sorted
                .deliveries
                .iter()
                .any(|delivery| matches!(&delivery.target, Target::Sink(to) if to == sink))
        };
        let answered_by_sink = matches!(&context.route.reply, Replying::Sink(sink) if goes_to(sink));
        self.outcome.handled.push(reading.id);
        self.outcome.deliveries.extend(sorted.deliveries);
        self.outcome.chained.extend(sorted.chained);
        if !answered_by_sink {
            self.said.push((reading.id, Said::Last(sorted.replies)));
        }
        self.ended = Ended::Settled { handled: self.outcome.handled.len(), attempts: 0, retry_at: None };
    }

    fn fail(&mut self, context: &Context<'_>, waiting: &Waiting, unhandled: &Unhandled) {
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
        Unhandled::Fault(fault) if !fault.is_the_handlers() => Verdict::NoAttempt,
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

/// A handler's lines go to the host's log, where the route and the reading can be told.
fn log(route: &Name, reading: &Reading, lines: &[LogLine]) {
    for line in lines {
        let id = reading.id;
        let (context, message) = (&line.context, &line.message);
        match line.level {
            LogLevel::Critical | LogLevel::Error => {
                tracing::error!(target: "handler", %route, reading = %id, %context, "{message}");
            }
            LogLevel::Warn => tracing::warn!(target: "handler", %route, reading = %id, %context, "{message}"),
            LogLevel::Info => tracing::info!(target: "handler", %route, reading = %id, %context, "{message}"),
            LogLevel::Debug | LogLevel::Trace => {
                tracing::debug!(target: "handler", %route, reading = %id, %context, "{message}");
            }
        }
    }
}
