//! What a reading is. No I/O, no async: every other crate of the host speaks in these types.

mod accept;
mod attributes;
mod causes;
mod config;
mod content_type;
mod filter;
mod framing;
mod id;
mod name;
mod octets;
mod output;
mod reading;
pub mod relay;
mod secret;
mod state;
mod time;
mod topic;
mod trace;

pub use accept::{Receipt, Refused};
pub use attributes::{Attributes, RESERVED_PREFIX};
pub use causes::with_causes;
pub use config::{ConfigError, settings};
pub use content_type::{ContentType, ContentTypeError};
pub use filter::{FilterError, TopicFilter, TopicTree};
pub use framing::{ByteOrder, Cutter, FrameError, Framing, LengthSize};
pub use id::{DeadLetterId, DeliveryId, IdError, IdGenerator, ReadingId};
pub use name::{Name, NameError};
pub use octets::Octets;
pub use output::{Command, Delivery, Failure, Message, Output, Target};
pub use reading::{Inbound, Lineage, Reading};
pub use secret::Secret;
pub use state::{Scope, StateWrite};
pub use time::{Clock, SystemClock, Timestamp, TimestampError};
pub use topic::{Topic, TopicError};
pub use trace::{Acceptance, Sampling, TRACEPARENT, TRACESTATE, TraceContext, attempt_span, offer_span};
