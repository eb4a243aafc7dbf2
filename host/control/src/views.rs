//! What is shown of a running host.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sandbar_ingress::Status as IngressStatus;
use sandbar_pipeline::{Counts, DeviceCounts, OutletStatus};
use sandbar_reading::{Inbound, Name, Output, StateWrite, Timestamp};
use sandbar_runtime::{Fault, HandlerStats, LogLine};
use sandbar_store::Stats;
use sandbar_telemetry::Sent;
use serde_json::Value;

use crate::candidates::{CandidateInfo, TrialEnded};
use crate::grants::NotGranted;
use crate::rates::Traffic;
use crate::tables::Scalar;
use crate::what::What;

/// A module and its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleInfo {
    pub name: Name,
    /// It comes from the configuration file.
    pub declared: bool,
    /// The version that handles readings.
    pub active: u32,
    /// Oldest first.
    pub versions: Vec<Version>,
    /// The routes that use it.
    pub routes: Vec<Name>,
    /// The version that is on trial.
    pub candidate: Option<CandidateInfo>,
    /// How the last trial ended, if the version did not become the active one.
    pub ended: Option<TrialEnded>,
    /// What the active version imports and its routes do not grant.
    pub not_granted: Vec<NotGranted>,
}

impl ModuleInfo {
    pub fn version(&self, version: u32) -> Option<&Version> {
        self.versions.iter().find(|known| known.version == version)
    }
}

/// One upload of a module.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Counts up from 1.
    pub version: u32,
    /// SHA-256 of the component, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    #[serde(with = "crate::documents::nanos")]
    pub uploaded: Timestamp,
    /// What the component imports.
    pub imports: Vec<String>,
    /// The trusted key that has signed it, in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// It has not been the one that handles readings so far; of versions from before this was written down nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_active: bool,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub name: Name,
    pub version: Version,
    pub active: bool,
    /// The module was not there before.
    pub created: bool,
    /// What the version imports and the module's routes do not grant.
    pub not_granted: Vec<NotGranted>,
}

/// A configured thing: its table as JSON, without its secrets, and how it is doing.
#[derive(Clone, Debug)]
pub struct Info<S> {
    pub name: Name,
    /// It comes from the configuration file.
    pub declared: bool,
    /// With [`HIDDEN`](crate::HIDDEN) in the place of secrets.
    pub table: Value,
    pub status: S,
}

pub type RouteInfo = Info<RouteStatus>;
pub type IngressInfo = Info<IngressState>;
pub type SinkInfo = Info<SinkState>;

/// How a route is doing.
#[derive(Clone, Debug)]
pub struct RouteStatus {
    /// Its module and the version that handles its readings.
    pub module: Option<(Name, u32)>,
    /// Since the start.
    pub counts: Counts,
    /// Of the handler since it was made: at the start, or when the module or the route changed.
    pub handler: Option<HandlerStats>,
    /// Why nothing is handled: readings wait until it is mended.
    pub broken: Option<String>,
}

/// How an ingress is doing.
#[derive(Clone, Debug)]
pub enum IngressState {
    Supervised(IngressStatus),
    /// It could not be built when the host started.
    Broken(String),
}

/// How a sink is doing.
#[derive(Clone, Debug)]
pub enum SinkState {
    Offered(OutletStatus),
    /// It could not be built when the host started: deliveries wait until it is mended.
    Broken(String),
}

/// Everything at a glance.
#[derive(Clone, Debug)]
pub struct Status {
    /// Of Sandbar.
    pub version: &'static str,
    pub now: Timestamp,
    pub started: Timestamp,
    pub store: Stats,
    pub modules: Vec<ModuleInfo>,
    pub routes: Vec<(Name, RouteStatus)>,
    pub ingresses: Vec<(Name, IngressState)>,
    pub sinks: Vec<(Name, SinkState)>,
    /// Devices that commands were, or are, on their way to.
    pub commands: Vec<OutletStatus>,
    /// Devices that a session reaches.
    pub devices: usize,
    /// That drivers have open now.
    pub connections: usize,
    /// Since the start.
    pub connections_opened: u64,
    /// Spans for a collector, if there is one.
    pub telemetry: Option<Sent>,
    /// Devices that the registry has.
    pub known: DeviceCounts,
    /// Over connections.
    pub traffic: Traffic,
}

impl Status {
    pub fn uptime(&self) -> Duration {
        self.now.since(self.started)
    }
}

/// Something that a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub what: What,
    pub name: Name,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.name)
    }
}

/// What a change did, or would do. Sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub added: Vec<Item>,
    pub changed: Vec<Item>,
    pub removed: Vec<Item>,
    /// Settings that changed and take effect at the next start: `host.depth_max`.
    pub at_next_start: Vec<String>,
}

impl Applied {
    pub fn is_nothing(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.at_next_start.is_empty()
    }
}

/// A reading to try a module on: nothing of it is committed.
#[derive(Clone, Debug)]
pub struct Trial {
    pub module: Name,
    /// The active one, unless said otherwise.
    pub version: Option<u32>,
    /// The route whose configuration, limits, permissions and committed state the handler sees.
    pub route: Option<Name>,
    /// Instead of the route's.
    pub config: Option<BTreeMap<String, Scalar>>,
    pub reading: Inbound,
}

/// What a trial came to.
#[derive(Debug)]
pub struct TrialResult {
    pub result: Result<Tried, Fault>,
    /// Also of a trial that failed.
    pub logs: Vec<LogLine>,
    pub elapsed: Duration,
}

/// What the handler would have put out and written.
#[derive(Debug)]
pub struct Tried {
    pub outputs: Vec<Output>,
    pub writes: Vec<StateWrite>,
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    /// Go on behind this one, if there may be more.
    pub next: Option<C>,
}

/// A component's bytes and what they are called.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}
