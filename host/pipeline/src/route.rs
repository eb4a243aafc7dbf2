//! A route, ready to be used: what it takes, who handles it, and where the output goes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{ContentType, Name, Reading, TopicFilter};

use crate::candidate::Candidate;
use crate::handlers::Handler;
use crate::key::Key;
use crate::registry::DEVICES_INGRESS;

/// Everything the pipeline needs to know of a route.
#[derive(Clone)]
pub struct Route {
    pub name: Name,
    pub filter: Filter,
    pub key: Key,
    /// Without one, readings go to the sinks as they are.
    pub handler: Option<Arc<dyn Handler>>,
    /// The module's version that the handler is; 0 without a module.
    pub version: u32,
    /// A version on trial beside the handler.
    pub candidate: Option<Arc<Candidate>>,
    pub sinks: Vec<Name>,
    /// Who answers the reading's sender.
    pub reply: Replying,
    pub attempts: Attempts,
    /// How many readings may be handled at once, each of another key.
    pub concurrency: usize,
    /// How many readings of one key are handled before what they came to is committed.
    pub batch: usize,
}

/// Who answers the sender of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replying {
    #[default]
    Nobody,
    /// The handler, with its replies.
    Handler,
    /// The far end of a sink, with what it says to the message that the reading became.
    Sink(Name),
}

impl Replying {
    pub(crate) fn is_somebody(&self) -> bool {
        *self != Self::Nobody
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Which readings a route takes: those that every part agrees to. An empty list agrees to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Also `route/<name>`, for the messages of that route.
    pub ingresses: Vec<Name>,
    pub topics: Vec<TopicFilter>,
    pub devices: Vec<Box<str>>,
    /// Ranges: `image/*`.
    pub content_types: Vec<Box<str>>,
}

/// What a filter objects to, but for topics and devices: a router finds its routes by those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    OwnMessage,
    Presence,
    Ingress,
    ContentType,
}

impl Filter {
    /// That a device came or went is for routes that say so: by the ingress, or by a topic that begins with its name.
    /// As with topics that begin with `$`, a wildcard alone does not.
    fn names_presence(&self) -> bool {
        let names = |topic: &TopicFilter| topic.as_str().split('/').next() == Some(DEVICES_INGRESS);
        !self.ingresses.is_empty() || self.topics.iter().any(names)
    }

    /// Whatever the topic and the device are.
    pub(crate) fn objects(
        &self,
        route: &Name,
        ingress: &Name,
        content_type: &ContentType,
    ) -> Option<Objection> {
        if ingress.chained_from() == Some(route.as_str()) {
            return Some(Objection::OwnMessage);
        }
        if ingress.as_str() == DEVICES_INGRESS && !self.names_presence() {
            return Some(Objection::Presence);
        }
        if !self.ingresses.is_empty() && !self.ingresses.contains(ingress) {
            return Some(Objection::Ingress);
        }
        let takes =
            self.content_types.is_empty() || self.content_types.iter().any(|range| content_type.is_in(range));
        (!takes).then_some(Objection::ContentType)
    }

    /// Why a route of this name does not take a reading; `None` if it takes it.
    pub fn objection(&self, route: &Name, reading: &Reading) -> Option<String> {
        let quoted = |all: Vec<&str>| all.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
        let objection = self.objects(route, &reading.ingress, &reading.content_type);
        match objection {
            Some(Objection::OwnMessage) => return Some("it is a message of the route itself".to_owned()),
            Some(Objection::Presence) => {
                return Some(format!(
                    "that a device came or went is for routes that name the ingress `{DEVICES_INGRESS}`, \
                     or a topic that begins so"
                ));
            }
            Some(Objection::Ingress) => {
                let wanted = quoted(self.ingresses.iter().map(Name::as_str).collect());
                return Some(format!("it came in through `{}`, not through {wanted}", reading.ingress));
            }
            Some(Objection::ContentType) | None => {}
        }
        if !self.topics.is_empty() && !self.topics.iter().any(|topic| topic.matches(&reading.topic)) {
            let wanted = quoted(self.topics.iter().map(TopicFilter::as_str).collect());
            return Some(format!("its topic `{}` does not match {wanted}", reading.topic));
        }
        let device = reading.device.as_deref();
        if !self.devices.is_empty() && !self.devices.iter().any(|wanted| Some(&**wanted) == device) {
            let wanted = quoted(self.devices.iter().map(|device| &**device).collect());
            return Some(match device {
                Some(device) => format!("its device `{device}` is not {wanted}"),
                None => format!("it is about no device, and not about {wanted}"),
            });
        }
        objection.map(|_| {
            let wanted = quoted(self.content_types.iter().map(|range| &**range).collect());
            format!("its content type `{}` is not {wanted}", reading.content_type)
        })
    }
}

/// How often a failing reading is tried, and how long the waits are: they double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    pub max: NonZeroU32,
    pub first_wait: Duration,
    pub longest_wait: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            max: NonZeroU32::new(5).expect("5 is not 0"),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
        }
    }
}
