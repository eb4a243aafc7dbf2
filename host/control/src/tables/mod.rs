//! The tables of `sandbar.toml`, which are the API's JSON too. Their doc comments are the reference.

mod devices;
mod route;
mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use sandbar_reading::{ConfigError, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::devices::{CloudConnectorTable, CompatTable, DevicesTable};
pub use self::route::{
    AttemptsTable, ContentRange, ContentRangeError, HttpTable, IngressName, LimitsTable, PermissionsTable,
    Reply, RouteTable,
};
pub use self::text::{List, Scalar, Text};

/// The host itself. Changes of it take effect at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostTable {
    /// Where everything that lasts is kept; relative to this file.
    pub data_dir: PathBuf,
    /// The most bytes of payload that a reading may have. A handler sees it whole: its memory must have room for it.
    pub reading_max_bytes: usize,
    /// Payloads of more bytes have files of their own, beside the journal: in the data directory's folder
    /// `store.payloads`.
    pub inline_max_bytes: usize,
    /// How long the journal keeps readings that are handled.
    pub journal_hours: u32,
    /// How large the journal may become, in MiB, with about what each reading takes beside its payload; readings that
    /// are not handled yet are kept beyond it.
    pub journal_mib: u32,
    /// How much is kept of how readings were handled, for `sandbar trace`, in MiB; 0 keeps nothing.
    pub trace_mib: u32,
    /// How much is kept of readings and deliveries that were given up on, in MiB: of more, the oldest are discarded,
    /// which is logged. 0 is no limit.
    pub dead_letters_mib: u32,
    /// How many routes a message may pass through before it is taken for a loop.
    pub depth_max: u8,
    /// Memory for what is read from the store, in MiB.
    pub store_cache_mib: u32,
}

impl Default for HostTable {
    fn default() -> Self {
        Self {
            data_dir: "sandbar-data".into(),
            reading_max_bytes: 16 << 20,
            inline_max_bytes: 64 << 10,
            journal_hours: 168,
            journal_mib: 256,
            trace_mib: 32,
            dead_letters_mib: 1024,
            depth_max: 8,
            store_cache_mib: 4,
        }
    }
}

impl HostTable {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let above = |setting: &str, value: u64| match value {
            0 => Err(ConfigError::at(setting, "must be above 0")),
            _ => Ok(()),
        };
        above("reading_max_bytes", self.reading_max_bytes as u64)?;
        above("journal_hours", self.journal_hours.into())?;
        above("journal_mib", self.journal_mib.into())?;
        above("depth_max", self.depth_max.into())?;
        above("store_cache_mib", self.store_cache_mib.into())?;
        if !(1024..=8 << 20).contains(&self.inline_max_bytes) {
            return Err(ConfigError::at("inline_max_bytes", "must be from 1024 to 8388608"));
        }
        if self.reading_max_bytes > 1 << 30 {
            return Err(ConfigError::at("reading_max_bytes", "must be at most 1073741824"));
        }
        Ok(())
    }
}

/// The HTTP API. Changes of it take effect at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiTable {
    /// Where it listens.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// What a request must present as its bearer token; by default one is made at the first start and kept in
    /// the data directory, in the file `token`.
    pub token: Option<Secret>,
}

impl Default for ApiTable {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)), token: None }
    }
}

/// Who may provide modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrustTable {
    /// Ed25519 public keys in base 64: 32 bytes, or what is between the lines of a PEM file. If there are any, a
    /// component is taken only with a signature of its bytes by one of them: in the header `Sandbar-Signature`,
    /// or for a module from a file in `FILE.sig`.
    pub keys: Vec<String>,
}

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IngressTable {
    /// The driver: what protocol or device it is. What it has kept, such as sessions or what it has read already, stays
    /// for 30 days after the ingress is removed, and goes when the ingress gets another driver.
    pub driver: String,
    /// Seconds without a word after which a device that speaks through this ingress is lost, also while it is
    /// connected. Without it, `devices.silence_s` counts for those that are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_s: Option<NonZeroU64>,
    /// The driver's own settings.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkTable {
    /// What kind of sink it is.
    pub kind: String,
    /// How deliveries are offered to it.
    #[serde(default)]
    pub offering: OfferingTable,
    /// The sink's own settings.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// How deliveries are offered to a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OfferingTable {
    /// The most deliveries offered at once.
    pub batch_max: usize,
    /// The most bytes offered at once; a larger delivery is offered alone.
    pub batch_bytes: usize,
    /// The wait after the first failure; it doubles with each one after it.
    pub first_wait_ms: u64,
    /// No wait is longer.
    pub longest_wait_ms: u64,
    /// An offer that takes longer has failed. Where the host stops or the sink is changed it has 3 seconds at most,
    /// and what was not taken is offered again.
    pub timeout_ms: u64,
    /// A delivery that is older becomes a dead letter when it fails, and the sink has failed for an hour.
    pub give_up_after_hours: u64,
}

impl Default for OfferingTable {
    fn default() -> Self {
        Self {
            batch_max: 100,
            batch_bytes: 4 << 20,
            first_wait_ms: 500,
            longest_wait_ms: 60_000,
            timeout_ms: 60_000,
            give_up_after_hours: 168,
        }
    }
}

impl OfferingTable {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let above = |setting: &str, value: u64| match value {
            0 => Err(ConfigError::at(format!("offering.{setting}"), "must be above 0")),
            _ => Ok(()),
        };
        above("batch_max", self.batch_max as u64)?;
        above("batch_bytes", self.batch_bytes as u64)?;
        above("first_wait_ms", self.first_wait_ms)?;
        above("longest_wait_ms", self.longest_wait_ms)?;
        above("timeout_ms", self.timeout_ms)?;
        above("give_up_after_hours", self.give_up_after_hours)
    }
}

/// A module that comes from a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleTable {
    /// The component, or a script in JavaScript (`.js`); relative to this file. A reload takes it over when its content has changed.
    pub file: PathBuf,
}
