//! A route, ready to be used: what it takes, who handles it, and where the output goes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Name, TopicFilter};

use crate::handlers::Handler;
use crate::key::Key;

/// Everything the pipeline needs to know of a route.
#[derive(Clone)]
pub struct Route {
    pub name: Name,
    pub filter: Filter,
    pub key: Key,
    /// Without one, readings go to the sinks as they are.
    pub handler: Option<Arc<dyn Handler>>,
    pub sinks: Vec<Name>,
    /// Who answers the reading's sender.
    pub reply: Replying,
    pub attempts: Attempts,
    /// How many readings may be handled at once, each of another key.
    pub concurrency: usize,
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
