//! Time as a value that is passed in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds since the Unix epoch, UTC. Text form: RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an RFC 3339 time between 1970 and 2262, such as 2026-01-31T12:00:00Z")]
pub struct TimestampError {
    text: String,
}

impl Timestamp {
    pub const MAX: Self = Self(i64::MAX as u64);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Zero when `earlier` is later: clocks jump.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)).min(Self::MAX.0))
    }

    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_nanosecond()).ok())
            .filter(|nanos| *nanos <= Self::MAX.0)
            .map(Self)
            .ok_or_else(|| TimestampError { text: text.to_owned() })
    }
}

/// Where the time comes from: the system, or a simulation.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_written_as_rfc_3339() {
        let time: Timestamp = "2026-11-20T21:40:00.000250Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-20T21:40:00.000250Z");
        assert_eq!("2026-11-20T22:40:00+01:00".parse::<Timestamp>().unwrap().millis(), time.millis());
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "yesterday", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_gives_no_negative_time() {
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(early.before(Duration::MAX).nanos(), 0);
    }
}
