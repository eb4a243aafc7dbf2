//! Handles journaled readings once more, with a version of one's choice. What comes of it is new: new deliveries,
//! new readings, and a state of the replay's own; each says which replay it is of.

use std::collections::HashMap;
use std::sync::Arc;

use sandbar_reading::{Attributes, Inbound, Name, Output, Reading, ReadingId, Scope, attempt_span};
use sandbar_runtime::Fault;
use sandbar_store::{Part, Replayed, Trace};
use sandbar_telemetry::Span;

use crate::dispatch::Context;
use crate::handlers::{Handler, Sandbox};
use crate::lane_state::LaneState;
use crate::pipeline::Pipeline;
use crate::route::Route;
use crate::spans::Attempt;

/// What says in a message or reading that it is of a replay, and of which.
pub const REPLAY_ATTRIBUTE: &str = "sandbar.replay";

/// A replay of a route's readings.
pub struct Replay<'a> {
    pub id: &'a str,
    pub route: &'a Route,
    pub handler: &'a Arc<dyn Handler>,
    pub version: u32,
    /// Whose state the handler sees: that of a route of this name, which there is not.
    pub state: Name,
    /// Whether devices get what the handler commands.
    pub commands: bool,
    /// Once so many bytes have been put out, what is left of the readings waits for another time.
    pub bytes_max: usize,
}

/// What came of some readings: to be committed.
pub struct ReplayDone {
    pub replayed: Replayed,
    /// How many of the readings it is of: the first ones.
    pub taken: usize,
    /// Those that were not handled, and why.
    pub failed: Vec<(ReadingId, String)>,
    /// Of what is recorded, once it is committed.
    pub spans: Vec<Span>,
}

impl Pipeline {
    /// Handles `readings` one after the other. A fault that is none of the handler's ends it: nothing is done then,
    /// and it may be tried again later.
    pub async fn replay(&self, replay: &Replay<'_>, readings: &[Reading]) -> Result<ReplayDone, Fault> {
        let router = self.router();
        let logs = self.logs_of(&replay.route.name);
        let context = Context {
            route: replay.route,
            router: &router,
            store: self.store(),
            logs: &logs,
            depth_max: self.depth_max(),
            now: self.now(),
            random: 0.0,
            sampling: self.sampling(),
        };
        let mut states: HashMap<String, Arc<LaneState>> = HashMap::new();
        let mut sandbox: Option<Box<dyn Sandbox>> = None;
        let mut done = ReplayDone {
            replayed: Replayed {
                route: replay.route.name.clone(),
                deliveries: Vec::new(),
                chained: Vec::new(),
                state: Vec::new(),
                traces: Vec::new(),
                dead_letters: Vec::new(),
                documents: Vec::new(),
            },
            taken: 0,
            failed: Vec::new(),
            spans: Vec::new(),
        };
        let mut bytes = 0;
        for reading in readings {
            let key = replay.route.key.of(&as_inbound(reading)).to_string();
            let state = states.entry(key).or_insert_with_key(|key| {
                let scope = Scope::Route { route: replay.state.clone(), key: key.as_str().into() };
                Arc::new(LaneState::new(self.store().clone(), scope))
            });
            if sandbox.is_none() {
                sandbox = Some(replay.handler.checkout().await?);
            }
            let Some(own) = sandbox.as_deref_mut() else { continue };
            let attempt = context.sampling.of(reading).map(|before| Attempt {
                own: before.at(attempt_span(reading.id, replay.id, 1)),
                parent: before.span,
                number: 1,
                began: self.now(),
            });
            let context_of_call = attempt.map(|attempt| attempt.own);
            let call = own.handle(reading, state.clone(), context.now, context_of_call).await;
            let traced = context.note(reading, replay.version, Part::Replay, &call);
            if let Some(attempt) = attempt {
                let error = traced.fault.clone();
                let traced = std::slice::from_ref(&traced);
                done.spans.push(attempt.ended(&replay.route.name, reading, traced, error));
            }
            let mut trace = Trace { reading: reading.id, calls: vec![traced], deliveries: 0, chained: 0 };
            if call.result.as_ref().err().is_some_and(|fault| !matches!(fault, Fault::Failure(_))) {
                sandbox = None;
            }
            match call.result {
                Err(fault) if !fault.is_the_handlers() => return Err(fault),
                Err(fault) => done.failed.push((reading.id, fault.to_string())),
                Ok(handled) => {
                    let outputs = replay.outputs(handled.outputs);
                    bytes += outputs.iter().map(Output::size).sum::<usize>();
                    match context.sort(reading, outputs, context_of_call) {
                        Err(unhandled) => done.failed.push((reading.id, unhandled.to_string())),
                        Ok(sorted) => {
                            let (mut deliveries, mut chained) = sorted.into_parts();
                            deliveries
                                .iter_mut()
                                .for_each(|delivery| mark(&mut delivery.message.attributes, replay));
                            chained
                                .iter_mut()
                                .for_each(|accept| mark(&mut accept.inbound.attributes, replay));
                            (trace.deliveries, trace.chained) = (deliveries.len(), chained.len());
                            done.replayed.deliveries.append(&mut deliveries);
                            done.replayed.chained.append(&mut chained);
                            state.write(handled.writes);
                        }
                    }
                }
            }
            done.replayed.traces.push(trace);
            done.taken += 1;
            if bytes >= replay.bytes_max {
                break;
            }
        }
        for (key, state) in states {
            let scope = Scope::Route { route: replay.state.clone(), key: key.into() };
            done.replayed.state.push((scope, state.written()));
        }
        Ok(done)
    }
}

impl Replay<'_> {
    /// Nobody waits for a reply any more.
    fn outputs(&self, outputs: Vec<Output>) -> Vec<Output> {
        let comes = |output: &Output| match output {
            Output::Message(_) => true,
            Output::Reply(_) => false,
            Output::Command(_) => self.commands,
        };
        outputs.into_iter().filter(comes).collect()
    }
}

fn mark(attributes: &mut Attributes, replay: &Replay<'_>) {
    attributes.add(REPLAY_ATTRIBUTE, replay.id);
}

/// What the key is found in.
pub fn as_inbound(reading: &Reading) -> Inbound {
    Inbound {
        topic: reading.topic.clone(),
        device: reading.device.clone(),
        time: Some(reading.time),
        content_type: reading.content_type.clone(),
        attributes: reading.attributes.clone(),
        payload: reading.payload.clone(),
    }
}
