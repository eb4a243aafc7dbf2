//! What is done with a reading, as spans of its trace. Pure.

use std::time::Duration;

use sandbar_reading::{
    Attributes, Delivery, Inbound, Name, Reading, ReadingId, Sampling, TRACEPARENT, TRACESTATE, Target,
    Timestamp, TraceContext, offer_span,
};
use sandbar_store::{Part, TracedCall};
use sandbar_telemetry::{Span, SpanKind};

/// An inbound that is on its way to the journal.
pub(crate) struct Arrival {
    sampling: Sampling,
    before: Option<TraceContext>,
    state: Option<Box<str>>,
    began: Timestamp,
    attributes: Vec<(&'static str, sandbar_telemetry::Value)>,
    name: String,
}

impl Arrival {
    /// `None` if nothing is recorded.
    pub(crate) fn of(sampling: Sampling, ingress: &Name, inbound: &Inbound, now: Timestamp) -> Option<Self> {
        let before = TraceContext::of(&inbound.attributes);
        if !sampling.is_on() || before.is_some_and(|before| !before.sampled) {
            return None;
        }
        let mut attributes = vec![
            ("sandbar.ingress", ingress.as_str().into()),
            ("sandbar.topic", inbound.topic.as_str().into()),
            ("messaging.message.body.size", inbound.payload.len().into()),
        ];
        attributes.extend(inbound.device.as_deref().map(|device| ("sandbar.device", device.into())));
        let state = state(&inbound.attributes);
        Some(Self { sampling, before, state, began: now, attributes, name: format!("accept {ingress}") })
    }

    /// It is on the disk.
    pub(crate) fn accepted(mut self, id: ReadingId, now: Timestamp) -> Option<Span> {
        let acceptance = self.sampling.acceptance(id, self.before)?;
        self.attributes.push(("sandbar.reading", id.to_string().into()));
        Some(Span {
            context: acceptance.own,
            parent: acceptance.parent,
            state: self.state,
            name: self.name,
            kind: SpanKind::Consumer,
            began: self.began,
            ended: now,
            attributes: self.attributes,
            error: None,
        })
    }
}

/// What a reading came with beside its trace.
fn state(attributes: &Attributes) -> Option<Box<str>> {
    attributes.get(TRACESTATE).map(Into::into)
}

/// An attempt at a reading that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) own: TraceContext,
    pub(crate) parent: u64,
    /// Counted from 1.
    pub(crate) number: u32,
    pub(crate) began: Timestamp,
}

impl Attempt {
    /// It took as long as its calls; `error` says why it came to nothing.
    pub(crate) fn ended(
        self,
        route: &Name,
        reading: &Reading,
        calls: &[TracedCall],
        error: Option<String>,
    ) -> Span {
        let micros = calls.iter().map(|call| u64::from(call.micros)).sum();
        let mut attributes = vec![
            ("sandbar.route", route.as_str().into()),
            ("sandbar.reading", reading.id.to_string().into()),
            ("sandbar.attempt", self.number.into()),
        ];
        let deciding = calls.iter().rev().find(|call| call.part != Part::Shadow);
        attributes.extend(deciding.map(|call| ("sandbar.version", call.version.into())));
        for call in calls.iter().filter(|call| matches!(call.part, Part::Canary | Part::Shadow)) {
            let key = if call.part == Part::Canary { "sandbar.canary" } else { "sandbar.shadow" };
            let outcome = call.fault.as_deref().unwrap_or("handled");
            attributes.push((key, format!("version {}: {outcome}", call.version).into()));
        }
        Span {
            context: self.own,
            parent: Some(self.parent),
            state: state(&reading.attributes),
            name: format!("handle {route}"),
            kind: SpanKind::Internal,
            began: self.began,
            ended: self.began.after(Duration::from_micros(micros)),
            attributes,
            error,
        }
    }
}

/// Ties a message to the trace of the reading that it came of: at `attempt`, if that is recorded, else as the
/// reading came. What a handler says itself is left alone.
pub(crate) fn pass_on(reading: &Reading, attributes: &mut Attributes, attempt: Option<TraceContext>) {
    let came_with = reading.attributes.get(TRACEPARENT);
    match (attempt, attributes.get(TRACEPARENT), came_with) {
        (Some(own), None, _) => attributes.set(TRACEPARENT, own.to_string()),
        (Some(own), Some(said), Some(came_with)) if said == came_with => {
            attributes.set(TRACEPARENT, own.to_string());
        }
        (None, None, Some(came_with)) => attributes.add(TRACEPARENT, came_with),
        _ => {}
    }
    if let Some(state) = reading.attributes.get(TRACESTATE)
        && attributes.get(TRACESTATE).is_none()
    {
        attributes.add(TRACESTATE, state);
    }
}

/// An offer of a delivery that is recorded.
pub(crate) struct Offer {
    own: TraceContext,
    parent: u64,
    attempt: u32,
    began: Timestamp,
}

impl Offer {
    /// What follows it at the far end follows this offer. `attempts`: those before.
    pub(crate) fn begin(
        sampling: Sampling,
        target: &Target,
        delivery: &mut Delivery,
        attempts: u32,
        now: Timestamp,
    ) -> Option<Self> {
        let before = TraceContext::of(&delivery.message.attributes);
        let before = before.filter(|before| sampling.is_on() && before.sampled)?;
        let what = match target {
            Target::Sink(_) => "deliver",
            Target::Device(_) => "command",
        };
        let own = before.at(offer_span(delivery.id, what, attempts + 1));
        delivery.message.attributes.set(TRACEPARENT, own.to_string());
        Some(Self { own, parent: before.span, attempt: attempts + 1, began: now })
    }

    pub(crate) fn ended(
        self,
        target: &Target,
        delivery: &Delivery,
        now: Timestamp,
        error: Option<String>,
    ) -> Span {
        let (key, whom) = match target {
            Target::Sink(name) => ("sandbar.sink", name.as_str()),
            Target::Device(device) => ("sandbar.device", &**device),
        };
        let attributes = vec![
            (key, whom.into()),
            ("sandbar.route", delivery.route.as_str().into()),
            ("sandbar.reading", delivery.reading.to_string().into()),
            ("sandbar.delivery", delivery.id.to_string().into()),
            ("sandbar.attempt", self.attempt.into()),
        ];
        Span {
            context: self.own,
            parent: Some(self.parent),
            state: state(&delivery.message.attributes),
            name: format!("deliver {whom}"),
            kind: SpanKind::Producer,
            began: self.began,
            ended: now,
            attributes,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{ContentType, Lineage};

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn reading(attributes: Attributes) -> Reading {
        Reading {
            id: ReadingId::from_u128(5),
            ingress: "web".parse().unwrap(),
            topic: "t".parse().unwrap(),
            device: None,
            time: Timestamp::from_millis(1),
            content_type: ContentType::TEXT,
            attributes,
            payload: "x".into(),
            lineage: Lineage::default(),
        }
    }

    #[test]
    fn a_message_follows_the_attempt_it_came_of() {
        let own = TraceContext::parse(GIVEN).unwrap().at(7);
        let came = reading(Attributes::new().with(TRACEPARENT, GIVEN).with(TRACESTATE, "a=b"));
        let passed = |mut attributes: Attributes, attempt| {
            pass_on(&came, &mut attributes, attempt);
            assert_eq!(attributes.get(TRACESTATE), Some("a=b"));
            attributes.get(TRACEPARENT).map(str::to_owned)
        };
        assert_eq!(passed(Attributes::new(), Some(own)), Some(own.to_string()));
        // A handler that copies all attributes has not said anything.
        assert_eq!(passed(came.attributes.clone(), Some(own)), Some(own.to_string()));
        assert_eq!(passed(Attributes::new(), None).as_deref(), Some(GIVEN));
        assert_eq!(
            passed(Attributes::new().with(TRACEPARENT, "its own"), Some(own)).as_deref(),
            Some("its own")
        );
    }

    #[test]
    fn nothing_is_added_where_nothing_is_recorded() {
        let mut attributes = Attributes::new();
        pass_on(&reading(Attributes::new()), &mut attributes, None);
        assert!(attributes.is_empty());
    }
}
