//! The way of a reading: intake → journal → router → dispatch → outbox → delivery.
//!
//! The store is told everything first; what is here in memory is a window on it that may be lost at any time.

mod candidate;
mod delivery;
mod devices;
mod dispatch;
mod handlers;
mod intake;
mod jitter;
mod key;
mod lane_state;
mod logs;
mod own_host;
mod pipeline;
mod places;
mod queries;
mod registry;
mod replay;
mod replies;
mod route;
mod router;
mod spans;
mod tail;
mod unloadable;

pub use candidate::{Candidate, Compared, Difference, ErrorLimit, Mode, difference};
pub use delivery::{Circuit, Offering, OutletStatus};
pub use devices::Devices;
pub use dispatch::{Counts, Window};
pub use handlers::{Handler, Sandbox};
pub use key::{Key, KeyError};
pub use logs::LogRecord;
pub use pipeline::{Options, Pipeline};
pub use queries::Correlation;
pub use registry::{
    CommandProblem, DEVICES_INGRESS, DeviceCounts, DeviceEvent, DeviceOptions, DeviceQuery, LABELS_MAX,
    Order, Ordered, Registry, TEXT_MAX, is_same,
};
pub use replay::{REPLAY_ATTRIBUTE, Replay, ReplayDone, as_inbound};
pub use route::{Attempts, Filter, Replying, Route};
pub use router::Router;
pub use tail::{LEFT_OUT_ATTRIBUTE, Seen};
