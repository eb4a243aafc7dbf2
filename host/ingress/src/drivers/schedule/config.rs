//! Settings of a schedule, and what is refused of them.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use sandbar_reading::{ConfigError, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::plan::{Missed, Plan};

/// Makes a reading at certain times: at a cron expression or an interval. What is to be done then is a handler's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// When: `0 7 * * MON-FRI` (minute, hour, day, month, weekday; six fields begin with seconds, seven end with
    /// years), or `@hourly`, `@daily` … Either this or `interval_ms`.
    #[serde(default)]
    pub(super) cron: Option<String>,
    /// The time zone of `cron`, such as `Europe/Zurich`: at 7 o'clock, in summer and in winter.
    #[serde(default = "utc")]
    pub(super) time_zone: String,
    /// Every so many milliseconds, at whole multiples of it since 1970 (UTC): 900000 is at :00, :15, :30 and :45.
    #[serde(default)]
    pub(super) interval_ms: Option<u64>,
    /// What becomes of the times at which the host did not run, or could not take more.
    #[serde(default)]
    pub(super) missed: MissedConfig,
    /// Milliseconds by which a reading may be late and not count as missed.
    #[serde(default = "late_max_ms")]
    pub(super) late_max_ms: u64,
    /// With `catch_up`: the most readings that are made up for at once, the latest ones.
    #[serde(default = "catch_up_max")]
    pub(super) catch_up_max: usize,
    /// Topic of the readings.
    #[serde(default = "topic")]
    pub(super) topic: String,
    /// Device of the readings.
    #[serde(default)]
    pub(super) device: Option<String>,
    /// Payload of the readings; `{time}` stands for the time that it was due (RFC 3339, UTC).
    #[serde(default = "payload")]
    pub(super) payload: String,
    /// Content type of the readings. The default is `application/json` if the payload is JSON, else `text/plain`.
    #[serde(default)]
    pub(super) content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MissedConfig {
    /// They are passed over.
    #[default]
    Skip,
    /// They are made up for, in order, each with the time that it was due.
    CatchUp,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn late_max_ms() -> u64 {
    60_000
}

fn catch_up_max() -> usize {
    100
}

fn topic() -> String {
    "schedule".to_owned()
}

fn payload() -> String {
    r#"{"time":"{time}"}"#.to_owned()
}

/// More would hold a restart up.
const CATCH_UP_MOST: usize = 10_000;

impl Config {
    pub(super) fn plan(&self) -> Result<Plan, ConfigError> {
        match (&self.cron, self.interval_ms) {
            (Some(cron), None) => {
                let plan = Plan::Cron { cron: Box::new(parse(cron)?), zone: zone(&self.time_zone)? };
                match plan.after(START) {
                    Some(_) => Ok(plan),
                    None => Err(ConfigError::at("cron", format!("`{cron}` never comes"))),
                }
            }
            (None, Some(0)) => Err(ConfigError::at("interval_ms", "must be above 0")),
            (None, Some(millis)) => Ok(Plan::Every(Duration::from_millis(millis))),
            _ => Err(ConfigError::at("cron", "set either this or `interval_ms`")),
        }
    }

    pub(super) fn missed(&self) -> Result<Missed, ConfigError> {
        match self.missed {
            MissedConfig::Skip => Ok(Missed::Skip { late_max: Duration::from_millis(self.late_max_ms) }),
            MissedConfig::CatchUp if (1..=CATCH_UP_MOST).contains(&self.catch_up_max) => {
                Ok(Missed::CatchUp { most: self.catch_up_max })
            }
            MissedConfig::CatchUp => {
                Err(ConfigError::at("catch_up_max", format!("must be 1 to {CATCH_UP_MOST}")))
            }
        }
    }
}

/// 2020: what comes, comes after it.
const START: Timestamp = Timestamp::from_millis(1_577_836_800_000);

fn parse(text: &str) -> Result<Cron, ConfigError> {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Optional)
        .build()
        .parse(text)
        .map_err(|error| ConfigError::at("cron", format!("`{text}`: {error}")))
}

fn zone(name: &str) -> Result<TimeZone, ConfigError> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|error| ConfigError::at("time_zone", error.to_string()))
}
