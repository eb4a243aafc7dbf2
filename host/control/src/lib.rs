//! What may be asked of a running host: modules, routes, ingresses, sinks, readings, the outbox, dead letters.
//!
//! Everything that changes what runs goes one way: what is wanted is compared with what runs (`plan.rs`), what
//! has to be is built (`change.rs`, everything that can fail fails there), and then it is swapped in
//! (`swap.rs`). The API and the command line can do nothing that is not here.

mod blobs;
mod broken;
mod build;
mod candidates;
mod change;
mod control;
mod declared;
mod devices;
mod documents;
mod error;
mod figures;
mod files;
mod grants;
mod kept_states;
mod lines;
mod mend;
mod modules;
mod nearest;
mod plan;
mod problem;
mod queries;
mod rates;
mod rehearsal;
mod replays;
mod resources;
mod running;
mod secrets;
mod start;
mod status;
mod swap;
pub mod tables;
#[cfg(test)]
mod tests;
mod token;
mod traces;
mod trial;
mod trust;
mod tryout;
mod views;
mod wanted;
mod what;

pub use candidates::{CandidateInfo, OnTrial, TrialEnded, TrialMode};
pub use control::{Control, Start};
pub use declared::{ConfigFile, Declared, config_schema};
pub use devices::DeviceInfo;
pub use error::{ControlError, StartError};
pub use figures::figures;
pub use grants::NotGranted;
pub use modules::MODULE_MAX_BYTES;
pub use problem::ConfigProblem;
pub use queries::{DeadLetterFilter, Kinds, OutboxQuery, kinds};
pub use rates::{Flow, Traffic};
pub use rehearsal::{Played, Rehearsal, RehearsalError};
pub use replays::{NewReplay, Replay, ReplayFailure, ReplayOf, ReplayState};
pub use secrets::HIDDEN;
pub use token::TOKEN_FILE;
pub use traces::{LogQuery, RouteVerdict, TraceInfo};
pub use tryout::{TRY_MAX, TriedReading, Try, TryCandidate, TryResult, TrySide};
pub use views::{
    Applied, Info, IngressInfo, IngressState, Item, ModuleInfo, Page, RouteInfo, RouteStatus, SinkInfo,
    SinkState, Status, Trial, TrialResult, Tried, Uploaded, Version,
};
pub use what::What;

// What of the crates below is seen through this one.
pub use sandbar_ingress::{
    Answer, Attachment, CommandError, CommandOffer, Connection, ConnectionEvent, ConnectionStatus,
    DeviceInfo as DeviceSays, Devices as DeviceConnections, LastError, Order as DeviceOrder, PeerInfo,
    Replies, Session, State as LinkState, Status as IngressStatus, TrafficStatus, orders,
};
pub use sandbar_pipeline::{
    Circuit, CommandProblem, Compared, Correlation, Counts, DEVICES_INGRESS, DeviceCounts, DeviceEvent,
    DeviceQuery, Difference, LABELS_MAX, LogRecord, Order, Ordered, OutletStatus, Seen, TEXT_MAX,
};
pub use sandbar_runtime::{Fault, Handled, HandlerStats, HttpAnswer, LogLevel, LogLine, heap, script};
pub use sandbar_store::{
    CommandRow, CommandState, DeadLetter, DeadLetterQuery, DeviceRow, Lane, Part, Presence, Queued,
    ReadingQuery, ReadingTrace, Resource, Stats, Subject, TracedCall, TracedEnd, TracedLine, TracedOffer,
};
pub use sandbar_telemetry::{Family, Histogram, Kind, Labels, Samples, Sent, TelemetryTable};

/// The ingress of readings of devices that connect as to IoT Cloud Connector.
pub const CLOUD_CONNECTOR_INGRESS: &str = "cloud-connector";

/// The ingress of readings that come in through the host's own API.
pub const API_INGRESS: &str = "api";

pub(crate) fn api_ingress() -> sandbar_reading::Name {
    API_INGRESS.parse().expect("it is a name")
}
