//! A handler that counts the readings of each key in its state, puts the count out, and fails as scripted.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_pipeline::{Handler, Sandbox};
use sandbar_reading::{
    Attributes, Command, ContentType, Failure, Message, Output, Reading, StateWrite, Timestamp, TraceContext,
};
use sandbar_runtime::{Call, Fault, Handled, StateUnavailable, StateView};

use crate::script::{Fate, label};
use crate::world::World;

#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) world: World,
    pub(crate) route: &'static str,
    /// Where its messages go: `<topic>/<device>`.
    pub(crate) topic: &'static str,
    /// Told in every message; another one for a route that was removed and added.
    pub(crate) epoch: u64,
}

struct Instance {
    handler: Scripted,
    used_up: bool,
}

/// What the handler counts in.
pub(crate) const COUNTER: &str = "n";

/// A state that expires, and until when it is there.
const PASSING: &str = "passing";
const UNTIL: &str = "until";

impl Handler for Scripted {
    fn checkout(&self) -> BoxFuture<'_, Result<Box<dyn Sandbox>, Fault>> {
        Box::pin(async move {
            if !self.world.is_mended() && self.world.chance(4) {
                return Err(Fault::NoRoom("scripted".to_owned()));
            }
            Ok(Box::new(Instance { handler: self.clone(), used_up: false }) as Box<dyn Sandbox>)
        })
    }
}

impl Sandbox for Instance {
    fn handle<'a>(
        &'a mut self,
        reading: &'a Reading,
        state: Arc<dyn StateView>,
        now: Timestamp,
        _: Option<TraceContext>,
    ) -> BoxFuture<'a, Call> {
        Box::pin(async move {
            let (world, route) = (self.handler.world.clone(), self.handler.route);
            if self.used_up {
                world.wrong(format!("{route}: a sandbox is used after a fault"));
            }
            let result = self.handler.handle(reading, &*state, now).await;
            self.used_up = matches!(&result, Err(fault) if !matches!(fault, Fault::Failure(_)));
            world.trace(|| {
                let said = result.as_ref().map(|_| "handled").map_err(Fault::code);
                format!("{route}: {} {} {said:?}", reading.id, label(reading))
            });
            Call { result, logs: Vec::new(), elapsed: Duration::ZERO }
        })
    }
}

impl Scripted {
    async fn handle(
        &self,
        reading: &Reading,
        state: &dyn StateView,
        now: Timestamp,
    ) -> Result<Handled, Fault> {
        let (world, route, label) = (&self.world, self.route, label(reading));
        let _alone = world.alone(format!("route {route}, key `{}`", self.key(reading)));
        let call = {
            let mut memory = world.memory.lock();
            if world.plan.forgets() {
                memory.seen.insert(reading.id, reading.clone());
            }
            let calls = memory.calls.entry((route, reading.id)).or_default();
            *calls += 1;
            *calls
        };
        let failed = |traps| match traps {
            true => Fault::Trap { cause: "scripted".to_owned() },
            false => Fault::Failure(Failure::Retry("scripted".to_owned())),
        };
        match world.script.fate(route, reading) {
            Fate::Slow(wait) => tokio::time::sleep(wait).await,
            Fate::FailsFirst { calls, traps } if call <= calls => return Err(failed(traps)),
            Fate::NoRoomFirst { calls } if call <= calls => return Err(Fault::NoRoom("scripted".to_owned())),
            Fate::Rejected => return Err(Fault::Failure(Failure::Reject("scripted".to_owned()))),
            Fate::Exhausted { traps } => return Err(failed(traps)),
            _ => {}
        }
        let unavailable = |_| Fault::StateUnavailable("scripted".to_owned());
        let before = state.get(COUNTER, now).map_err(unavailable)?;
        let n = before.map_or(0, |value| number(&value)) + 1;
        self.check_expiry(state, now).map_err(unavailable)?;
        let until = now.after(world.script.expires_after(route, label));
        let write = |name: &str, value: u64, expires| StateWrite {
            name: name.into(),
            value: Some(value.to_string().into()),
            expires,
        };
        let writes =
            vec![write(COUNTER, n, None), write(UNTIL, until.nanos(), None), write(PASSING, n, Some(until))];
        Ok(Handled { outputs: self.outputs(reading, label, n), writes })
    }

    /// What expires is there until then, and not longer.
    fn check_expiry(&self, state: &dyn StateView, now: Timestamp) -> Result<(), StateUnavailable> {
        let world = &self.world;
        let Some(until) = state.get(UNTIL, now)? else { return Ok(()) };
        let until = Timestamp::from_nanos(number(&until));
        let is_there = state.get(PASSING, now)?.is_some();
        // A clock that jumps back brings nothing back.
        if world.plan.is_steady() && (is_there && until <= now || !is_there && until > world.clock().now()) {
            world.wrong(format!(
                "{}: a state that expires at {until} is there at {now}: {is_there}",
                self.route
            ));
        }
        Ok(())
    }

    fn outputs(&self, reading: &Reading, label: &str, n: u64) -> Vec<Output> {
        let device: Box<str> = reading.device.clone().expect("every reading has a device");
        let message = Message {
            topic: format!("{}/{device}", self.topic).parse().expect("it is a topic"),
            device: Some(device.clone()),
            content_type: ContentType::TEXT,
            attributes: Attributes::new().with("n", n.to_string()).with("epoch", self.epoch.to_string()),
            payload: reading.payload.clone(),
        };
        let mut outputs = vec![Output::Message(message.clone())];
        if self.route == "count" && self.world.script.commands(label) {
            outputs.push(Output::Command(Command {
                device,
                name: "set".into(),
                content_type: ContentType::TEXT,
                payload: reading.payload.clone(),
            }));
        }
        if self.route == "count" && self.world.plan.reply {
            outputs.push(Output::Reply(message));
        }
        outputs
    }

    fn key(&self, reading: &Reading) -> String {
        key(&self.world, self.route, reading)
    }
}

/// The reading's key in a route, as `host.rs` sets the routes.
pub(crate) fn key(world: &World, route: &str, reading: &Reading) -> String {
    match route {
        "passing" => reading.topic.to_string(),
        "again" if world.plan.again_alone => String::new(),
        _ => reading.device.as_deref().unwrap_or_default().to_owned(),
    }
}

pub(crate) fn number(value: &[u8]) -> u64 {
    crate::script::text(value).parse().expect("the handler wrote a number")
}
